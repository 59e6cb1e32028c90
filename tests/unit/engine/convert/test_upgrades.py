"""Old forms of operators in their newest: the nodes that come out, and the same answers as ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.defs
import pytest
from onnx import TensorProto, helper, numpy_helper

from walle_engine.convert import convert
from walle_engine.convert.loading import load
from walle_engine.convert.scopes import Scope
from walle_engine.convert.upgrades import UPGRADES, upgrade
from walle_shared.errors import UnsupportedError

type SaveModel = Callable[..., Path]


def _ops_and_inputs(path: Path) -> tuple[list[str], dict[str, list[Any]]]:
    """The ops of the upgraded model, and the constants among the inputs of each by value name."""
    draft = load(path, {schema.name: 64 for schema in onnx.defs.get_all_schemas()}).draft
    constants = {
        node.op: [draft.weights[name].tolist() if name in draft.weights else name for name in node.inputs]
        for node in draft.nodes
    }
    return [node.op for node in draft.nodes], constants


@pytest.mark.parametrize(
    ("opset", "op", "attrs", "inputs"),
    [
        (6, "Clip", {"min": -1.0, "max": 2.0}, ["x", -1, 2]),
        (6, "Clip", {"max": 2.0}, ["x", "", 2]),
        (11, "ReduceSum", {"axes": [1]}, ["x", [1]]),
        (13, "ReduceMax", {"axes": [0]}, ["x", [0]]),
        (11, "Unsqueeze", {"axes": [0]}, ["x", [0]]),
        (9, "Slice", {"starts": [1], "ends": [2], "axes": [0]}, ["x", [1], [2], [0]]),
        (9, "Slice", {"starts": [1], "ends": [2]}, ["x", [1], [2]]),
        (11, "Split", {"split": [1, 1]}, ["x", [1, 1]]),
        (2, "Pad", {"pads": [0, 1, 0, 1], "value": 3.0}, ["x", [0, 1, 0, 1], 3]),
        (1, "Pad", {"paddings": [0, 1, 0, 1]}, ["x", [0, 1, 0, 1]]),
        (9, "TopK", {"k": 2}, ["x", [2]]),
        (1, "Reshape", {"shape": [3, 2]}, ["x", [3, 2]]),
        (7, "Dropout", {"ratio": 0.25, "is_test": 1}, ["x", 0.25]),
        (1, "Relu", {"consumed_inputs": [0]}, ["x"]),
        (17, "DFT", {"axis": 1, "onesided": 1}, ["x", "", 1]),
    ],
)
def test_attributes_become_inputs(opset: int, op: str, attrs: Mapping[str, Any], inputs: list[Any]) -> None:
    scope = Scope({"x": helper.make_tensor_type_proto(TensorProto.FLOAT, [2, 3])}, {"x", "y"})
    *constants, node = upgrade([helper.make_node(op, ["x"], ["y"], **attrs)], opset, scope)
    values = {made.output[0]: numpy_helper.to_array(made.attribute[0].t).tolist() for made in constants}
    assert [values.get(name, name) for name in node.input] == inputs
    kept = {attribute.name for attribute in node.attribute}
    assert kept == set(attrs) & {"onesided"}


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_softmax_over_several_dims(save_model: SaveModel, tmp_path: Path, op: str, axis: int) -> None:
    node = helper.make_node(op, ["x"], ["y"], axis=axis)
    path = save_model([node], {"x": ["N", 3, 4]}, {"y": ["N", 3, 4]}, opset=11)
    assert convert(path, tmp_path / "m.wmodel").check is not None


def test_one_sided_broadcasting(save_model: SaveModel) -> None:
    node = helper.make_node("Add", ["x", "b"], ["y"], axis=1, broadcast=1)
    path = save_model([node], {"x": [2, 3, 4]}, {"y": [2, 3, 4]}, {"b": np.ones(3, np.float32)}, opset=6)
    ops, constants = _ops_and_inputs(path)
    assert ops == ["Unsqueeze", "Add"]
    assert constants["Unsqueeze"][1] == [1]


def test_one_sided_broadcasting_of_the_last_dims_needs_nothing(save_model: SaveModel) -> None:
    node = helper.make_node("Mul", ["x", "b"], ["y"], broadcast=1)
    path = save_model([node], {"x": [2, 3]}, {"y": [2, 3]}, {"b": np.ones(3, np.float32)}, opset=6)
    assert _ops_and_inputs(path)[0] == ["Mul"]


def test_a_slope_per_channel(save_model: SaveModel) -> None:
    node = helper.make_node("PRelu", ["x", "s"], ["y"])
    path = save_model(
        [node], {"x": [1, 3, 4, 4]}, {"y": [1, 3, 4, 4]}, {"s": np.ones(3, np.float32)}, opset=6
    )
    ops, constants = _ops_and_inputs(path)
    assert ops == ["Unsqueeze", "PRelu"]
    assert constants["Unsqueeze"][1] == [1, 2]


@pytest.mark.parametrize("opset", [7, 9])
def test_upsample_becomes_resize(save_model: SaveModel, opset: int) -> None:
    scales = [1.0, 1.0, 2.0, 2.0]
    old = opset == 7
    node = helper.make_node(
        "Upsample", ["x"] if old else ["x", "s"], ["y"], **({"scales": scales} if old else {})
    )
    weights = {} if old else {"s": np.array(scales, np.float32)}
    path = save_model([node], {"x": [1, 1, 2, 2]}, {"y": [1, 1, 4, 4]}, weights, opset=opset)
    draft = load(path, {"Resize": 1}).draft
    (resize,) = draft.nodes
    assert resize.op == "Resize"
    assert resize.inputs[:2] == ("x", "")
    assert draft.weights[resize.inputs[2]].tolist() == scales
    assert resize.attrs == {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def _scan_of_a_batch(lengths: str, **attrs: Any) -> onnx.NodeProto:
    """Running sums over [batch, time, 2], as opset 8 had it."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("s", "x", "t", "y")]
    nodes = [helper.make_node("Add", ["s", "x"], ["t"]), helper.make_node("Identity", ["t"], ["y"])]
    body = helper.make_graph(nodes, "sum", value[:2], value[2:])
    inputs = [lengths, "start", "seen"]
    return helper.make_node("Scan", inputs, ["end", "sums"], "scan", body=body, num_scan_inputs=1, **attrs)


def test_a_scan_over_a_batch_becomes_one_round_another() -> None:
    types = {
        "start": helper.make_tensor_type_proto(TensorProto.FLOAT, [3, 2]),
        "seen": helper.make_tensor_type_proto(TensorProto.FLOAT, [3, 4, 2]),
    }
    (outer,) = upgrade([_scan_of_a_batch("")], 8, Scope(types, set(types)))
    attributes = {attribute.name: attribute for attribute in outer.attribute}
    assert list(outer.input) == ["start", "seen"]
    assert attributes["num_scan_inputs"].i == 2
    (inner,) = attributes["body"].g.node
    assert inner.op_type == "Scan"
    dims = [[dim.dim_value for dim in info.type.tensor_type.shape.dim] for info in attributes["body"].g.input]
    assert dims == [[2], [4, 2]]


@pytest.mark.parametrize(("lengths", "attrs"), [("lengths", {}), ("", {"directions": [1]})])
def test_scans_over_uneven_batches_are_refused(lengths: str, attrs: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="Scan 'scan' is of an old form"):
        upgrade([_scan_of_a_batch(lengths, **attrs)], 8, Scope({}, set()))


def test_forms_without_a_new_one_are_refused(save_model: SaveModel) -> None:
    node = helper.make_node("Tile", ["x", "tiles", "axis"], ["y"], "old")
    path = save_model([node], {"x": [2, 3], "tiles": [], "axis": []}, {"y": [2, 3]}, opset=1)
    with pytest.raises(UnsupportedError, match="Tile 'old' is of an old form") as caught:
        load(path)
    assert (caught.value.op, caught.value.node) == ("Tile", "old")


def test_every_row_is_of_a_known_operator_and_version() -> None:
    known = {(schema.name, schema.since_version) for schema in onnx.defs.get_all_schemas_with_history()}
    for row in UPGRADES:
        versions = [since for name, since in known if name == row.op]
        assert any(since < row.since for since in versions), f"{row.op} has no form before {row.since}"
