"""Reading ONNX files: what is translated, and what is refused with which cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from walle_engine import wmodel
from walle_engine.convert import convert, drafting
from walle_engine.convert.loading import load, translate
from walle_engine.convert.support import Missing
from walle_shared.errors import ModelError, StorageError, UnsupportedError

type SaveModel = Callable[..., Path]

ADD_W = helper.make_node("Add", ["x", "w"], ["y"])
RELU = helper.make_node("Relu", ["x"], ["y"], "relu")


def test_names_shapes_and_attributes(save_model: SaveModel) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "fc", transB=1, alpha=0.5)
    path = save_model([node], {"x": ["N", 3]}, {"y": ["N", 2]}, {"w": np.ones((2, 3), np.float32)})
    loaded = load(path)
    draft = loaded.draft
    assert (loaded.opset, loaded.untranslated) == (21, ())
    assert draft.inputs[0].shape == ("N", 3)
    assert draft.nodes[0].attrs == {"transB": 1, "alpha": 0.5}
    assert draft.weights["w"].shape == (2, 3)


def test_nodes_without_a_name_get_one_of_their_own(save_model: SaveModel) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"], "twin"),
        helper.make_node("Relu", ["b"], ["y"], "twin"),
    ]
    names = [node.name for node in load(save_model(nodes, {"x": [1]}, {"y": [1]})).draft.nodes]
    assert names == ["Relu_0", "twin", "Relu_2"]


def test_an_unnamed_dim_gets_a_name_of_its_own(save_model: SaveModel) -> None:
    path = save_model([RELU], {"x": ["N", None]}, {"y": ["N", None]})  # type: ignore[list-item]
    assert load(path).draft.inputs[0].shape == ("N", "x.1")


def test_a_declared_size_below_zero_is_an_unknown_one(save_model: SaveModel) -> None:
    """onnx's inference would end the process on the Slice."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Slice", ["s", "from", "to"], ["t"]),
        helper.make_node("Reshape", ["x", "t"], ["y"]),
    ]
    bounds = {"from": np.int64([0]), "to": np.int64([1])}
    path = save_model(nodes, {"x": [-1]}, {"y": [-1]}, bounds)
    model = onnx.load(path)
    model.graph.value_info.append(helper.make_tensor_value_info("s", onnx.TensorProto.INT64, [-1]))
    draft = translate(model).draft
    assert draft.inputs[0].shape == ("x.0",)


def test_constants_become_weights(save_model: SaveModel) -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], value=numpy_helper.from_array(np.float32([[1, 2]]))),
        helper.make_node("Constant", [], ["b"], value_float=2.5),
        helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0]),
        helper.make_node("Sum", ["x", "a", "b", "c"], ["y"]),
    ]
    weights = load(save_model(nodes, {"x": [1, 2]}, {"y": [1, 2]})).draft.weights
    assert {name: value.tolist() for name, value in weights.items()} == {"a": [[1, 2]], "b": 2.5, "c": [1, 2]}


def test_constants_of_text_stay_nodes(save_model: SaveModel) -> None:
    words = numpy_helper.from_array(np.array([["a"], ["b"]], object))
    nodes = [
        helper.make_node("Constant", [], ["s"], "list", value_strings=["hello", "world"]),
        helper.make_node("Constant", [], ["t"], "matrix", value=words),
        RELU,
    ]
    draft = load(save_model(nodes, {"x": [1]}, {"y": [1]})).draft
    assert [(node.op, dict(node.attrs)) for node in draft.nodes] == [
        ("Constant", {"value_strings": ["hello", "world"]}),
        ("Constant", {"value_strings": ["a", "b"]}),
        ("Reshape", {}),
        ("Relu", {}),
    ]
    assert draft.weights[draft.nodes[2].inputs[1]].tolist() == [2, 1]


def sparse(places: list[int], shape: list[int], dims: list[int]) -> onnx.SparseTensorProto:
    values = helper.make_tensor("thin", onnx.TensorProto.FLOAT, [2], [2.0, 3.0])
    return helper.make_sparse_tensor(
        values, helper.make_tensor("p", onnx.TensorProto.INT64, dims, places), shape
    )


@pytest.mark.parametrize(
    ("places", "dims", "shape", "dense"),
    [
        ([0, 2], [2], [3], [2, 0, 3]),
        ([0, 1, 1, 0], [2, 2], [2, 2], [[0, 2], [3, 0]]),
    ],
)
def test_a_sparse_constant_gets_its_zeros(
    save_model: SaveModel, places: list[int], dims: list[int], shape: list[int], dense: Any
) -> None:
    constant = helper.make_node("Constant", [], ["t"], "thin", sparse_value=sparse(places, shape, dims))
    nodes = [constant, helper.make_node("Add", ["x", "t"], ["y"])]
    draft = load(save_model(nodes, {"x": shape}, {"y": shape})).draft
    np.testing.assert_array_equal(draft.weights["t"], np.array(dense, np.float32))


def test_a_sparse_constant_too_large_with_its_zeros(save_model: SaveModel, tmp_path: Path) -> None:
    huge = [1 << 20, 1 << 20]
    constant = helper.make_node("Constant", [], ["t"], "thin", sparse_value=sparse([0, 2], huge, [2]))
    nodes = [constant, helper.make_node("ReduceSum", ["t"], ["y"], keepdims=0)]
    with pytest.raises(UnsupportedError, match=r"Constant of sparse_value .* store it as a dense tensor"):
        convert(save_model(nodes, {}, {"y": []}), tmp_path / "m.wmodel")


def test_old_opsets_are_brought_up(save_model: SaveModel) -> None:
    # Until opset 13 Squeeze had its axes as an attribute; now they are an input.
    path = save_model(
        [helper.make_node("Squeeze", ["x"], ["y"], axes=[0])], {"x": [1, 3]}, {"y": [3]}, opset=11
    )
    loaded = load(path)
    assert loaded.opset == 11
    squeeze = next(node for node in loaded.draft.nodes if node.op == "Squeeze")
    assert len(squeeze.inputs) == 2
    assert "axes" not in squeeze.attrs


def test_newer_opsets_are_taken_where_they_mean_the_same(save_model: SaveModel) -> None:
    path = save_model([RELU], {"x": [1]}, {"y": [1]}, opset=22)
    assert load(path).draft.nodes[0].op == "Relu"


def test_local_functions_are_inlined(save_model: SaveModel) -> None:
    body = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Neg", ["r"], ["b"])]
    function = helper.make_function("custom", "NegRelu", ["a"], ["b"], body, [helper.make_opsetid("", 21)])
    node = helper.make_node("NegRelu", ["x"], ["y"], domain="custom")
    path = save_model([node], {"x": [1]}, {"y": [1]}, functions=[function])
    assert [node.op for node in load(path).draft.nodes] == ["Relu", "Neg"]


def test_foreign_domains_are_listed(save_model: SaveModel) -> None:
    nodes = [helper.make_node("Magic", ["x"], ["m"], "trick", domain="custom"), RELU]
    (missing,) = load(save_model(nodes, {"x": [1]}, {"y": [1]})).untranslated
    assert (missing.domain, missing.what, missing.node) == ("custom", "Magic", "trick")


def test_bodies_are_carried_and_their_constants_hoisted(save_model: SaveModel) -> None:
    def branch(factor: float) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("Mul", ["x", "w"], ["n"])],
            "branch",
            [],
            [helper.make_tensor_value_info("n", onnx.TensorProto.FLOAT, [1])],
            [numpy_helper.from_array(np.float32([factor]), "w")],
        )

    then, otherwise = branch(2), branch(3)
    node = helper.make_node("If", ["c"], ["y"], "choice", then_branch=then, else_branch=otherwise)
    draft = load(save_model([node], {"x": [1]}, {"y": [1]}, {"c": np.array(True)})).draft
    draft.prune()
    (choice,) = draft.nodes
    bodies = [choice.attrs["then_branch"], choice.attrs["else_branch"]]
    factors = []
    for body in bodies:
        assert isinstance(body, wmodel.Graph)
        assert [value.name for value in body.outputs] == ["n"]
        (mul,) = body.nodes
        assert mul.inputs[0] == "x"
        factors.append(draft.weights[mul.inputs[1]].tolist())
    assert factors == [[2], [3]]
    graph = draft.to_graph()
    assert wmodel.Graph.from_json(graph.to_json()) == graph


def test_a_body_that_hands_out_a_constant_hands_out_a_copy(save_model: SaveModel) -> None:
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["n"], value_floats=[1.0])],
        "branch",
        [],
        [helper.make_tensor_value_info("n", onnx.TensorProto.FLOAT, [1])],
    )
    node = helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch, else_branch=branch)
    draft = load(save_model([node], {"x": [1]}, {"y": [1]}, {"c": np.array(True)})).draft
    body = draft.nodes[0].attrs["then_branch"]
    assert isinstance(body, wmodel.Graph)
    assert [(inner.op, inner.outputs) for inner in body.nodes] == [("Identity", ("n",))]
    assert body.nodes[0].inputs[0] in draft.weights


def test_external_data_is_found_beside_the_model(save_model: SaveModel, tmp_path: Path) -> None:
    weight = np.arange(300, dtype=np.float32)
    path = save_model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [300]}, {"y": [300]}, {"w": weight})
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert load(path).draft.weights["w"].tolist() == weight.tolist()
    (tmp_path / "w.bin").unlink()
    with pytest.raises((ModelError, StorageError), match=r"w\.bin"):
        load(path)


def test_files_that_are_no_models(tmp_path: Path, save_model: SaveModel) -> None:
    with pytest.raises(StorageError, match="no such file"):
        load(tmp_path / "missing.onnx")
    with pytest.raises(StorageError, match=r"has no config\.json"):
        load(tmp_path)
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="not an ONNX model"):
        load(junk)
    broken = save_model([helper.make_node("Relu", ["nobody"], ["y"])], {"x": [1]}, {"y": [1]})
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        load(broken)


def test_contradicting_types_are_refused(save_model: SaveModel) -> None:
    path = save_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [2, 3]}, {"y": [2, 2]},
                      {"w": np.ones((4, 2), np.float32)})  # fmt: skip
    with pytest.raises(ModelError, match="contradict"):
        load(path)


def test_kinds_of_inputs(save_model: SaveModel) -> None:
    path = save_model(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": [1]}, {"y": [1]}, dtype=onnx.TensorProto.STRING
    )
    draft = load(path).draft
    assert draft.inputs == [wmodel.Value("x", "STRING", (1,))]
    model = onnx.load(path)
    many = helper.make_sequence_type_proto(helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
    for info in (model.graph.input[0], model.graph.output[0]):
        info.type.CopyFrom(helper.make_optional_type_proto(many))
    assert translate(model).draft.inputs == [wmodel.Value("x", "F32", None, "optional")]
    for info in (model.graph.input[0], model.graph.output[0]):
        info.type.CopyFrom(many)
    assert translate(model).draft.inputs == [wmodel.Value("x", "F32", None, "sequence")]


def test_kinds_we_have_not_are_listed(save_model: SaveModel) -> None:
    model = onnx.load(save_model([RELU], {"x": [1]}, {"y": [1]}))
    odd = helper.make_sparse_tensor_type_proto(onnx.TensorProto.FLOAT, [1])
    model.graph.input.append(helper.make_value_info("odd", odd))
    assert translate(model).untranslated == (
        Missing("value of type sparse_tensor_type", "odd", hint="hand in and out tensors instead"),
    )


def test_attributes_that_say_the_default_are_dropped(save_model: SaveModel) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], alpha=1.0, beta=0.5, transA=0, transB=1)
    path = save_model([node], {"x": ["N", 3]}, {"y": ["N", 2]}, {"w": np.ones((2, 3), np.float32)})
    assert load(path).draft.nodes[0].attrs == {"beta": 0.5, "transB": 1}


def test_a_cast_names_its_target(save_model: SaveModel) -> None:
    to_half = helper.make_node("Cast", ["x"], ["h"], "narrow", to=onnx.TensorProto.FLOAT16)
    back = helper.make_node("Cast", ["h"], ["y"], "widen", to=onnx.TensorProto.FLOAT)
    nodes = load(save_model([to_half, back], {"x": [1]}, {"y": [1]})).draft.nodes
    assert [node.attrs["to"] for node in nodes] == ["F16", "F32"]


def test_names_that_are_no_text_are_refused(save_model: SaveModel) -> None:
    path = save_model([helper.make_node("Relu", ["x"], ["y"], "marker")], {"x": [1]}, {"y": [1]})
    path.write_bytes(path.read_bytes().replace(b"marker", b"mark\xff\xfe"))
    with pytest.raises(ModelError, match="a name is no text"):
        load(path)


@pytest.mark.parametrize("place", ["/etc/hostname", "../outside.bin"])
def test_data_outside_the_folder_are_not_read(save_model: SaveModel, tmp_path: Path, place: str) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(4))
    model = onnx.load(save_model([RELU], {"x": [1]}, {"y": [1]}, {"w": np.zeros(1, np.float32)}))
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    path = tmp_path / "inner" / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"outside|external|not a valid"):
        load(path)


def test_data_that_were_not_loaded_are_not_looked_for(
    save_model: SaveModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(save_model([ADD_W], {"x": [1]}, {"y": [1]}, {"w": np.zeros(1, np.float32)}))
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.bin").write_bytes(bytes(4))
    with pytest.raises(ModelError, match="were not loaded"):
        translate(model)


def test_a_tensor_of_another_size_than_its_shape(save_model: SaveModel) -> None:
    model = onnx.load(save_model([ADD_W], {"x": [1]}, {"y": [1]}, {"w": np.zeros(1, np.float32)}))
    model.graph.initializer[0].raw_data = bytes(3)
    with pytest.raises(ModelError, match="'w' is malformed"):
        translate(model)


def test_a_long_vector_is_not_followed_element_by_element(save_model: SaveModel) -> None:
    nodes = [helper.make_node("Add", ["x", "x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    draft = load(save_model(nodes, {"x": [1 << 40]}, {"y": [1 << 40]})).draft  # else memory would run out
    assert draft.values["a"].shape == (1 << 40,)


def test_sparse_constants_share_one_limit(
    save_model: SaveModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafting, "DENSE_MAX_BYTES", 1000)
    constants = [
        helper.make_node("Constant", [], [f"t{i}"], f"thin{i}", sparse_value=sparse([0, 2], [200], [2]))
        for i in range(3)
    ]
    nodes = [*constants, helper.make_node("Sum", ["x", "t0", "t1", "t2"], ["y"])]
    with pytest.raises(UnsupportedError, match=r"(?s)2 of the model's nodes.* thin1, thin2"):
        convert(save_model(nodes, {"x": [200]}, {"y": [200]}), tmp_path / "m.wmodel")
