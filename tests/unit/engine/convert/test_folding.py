"""Constant folding: every row against ONNX's reference evaluator, and where it must not fold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from walle_engine.convert.folding import FOLDED_MAX_BYTES, FOLDERS, fold_constants
from walle_engine.convert.loading import load
from walle_shared.errors import ModelError

type SaveModel = Callable[..., Path]

I64 = np.int64
F = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Identity", [F], {}),
    ("Cast", [F], {"to": "I64"}),
    ("Gather", [F, np.array([[0, 2], [1, -1]], I64)], {"axis": 1}),
    ("Concat", [F, F], {"axis": 1}),
    ("Unsqueeze", [F, np.array([0, 3], I64)], {}),
    ("Squeeze", [F[None, :, :, None], np.array([0, -1], I64)], {}),
    ("Squeeze", [F[None]], {}),
    ("Slice", [F, *(np.array(pair, I64) for pair in ([-1, 0], [-100, 3], [0, 1], [-1, 2]))], {}),
    ("Slice", [F, np.array([1], I64), np.array([2**62], I64)], {}),
    ("Reshape", [F, np.array([0, 2, -1], I64)], {}),
    ("Transpose", [F], {}),
    ("Transpose", [F[None]], {"perm": [2, 0, 1]}),
    ("Add", [F, F[0]], {}),
    ("Sub", [F, F[:, :1]], {}),
    ("Mul", [F, F], {}),
    ("Div", [F, F + 0.5], {}),
    ("Div", [np.array([7, -7, 7, -7], I64), np.array([2, 2, -2, -2], I64)], {}),
    ("Neg", [F], {}),
    ("Sqrt", [abs(F)], {}),
    ("Equal", [F, F[0]], {}),
    ("Where", [F > 0, F, -F], {}),
    ("ConstantOfShape", [np.array([2, 3], I64)], {"value": np.array([7], np.int32)}),
    ("ConstantOfShape", [np.array([2, 3], I64)], {}),
]  # fmt: skip


def test_every_row_has_a_case() -> None:
    assert {op for op, _, _ in CASES} == set(FOLDERS)


@pytest.mark.parametrize(("op", "inputs", "attributes"), CASES, ids=[case[0] for case in CASES])
def test_rows_agree_with_the_reference(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    tensors = {n: numpy_helper.from_array(v) for n, v in attributes.items() if isinstance(v, np.ndarray)}
    names = [f"i{n}" for n in range(len(inputs))]
    onnx_types = {"to": onnx.TensorProto.INT64} if op == "Cast" else {}
    node = helper.make_node(op, names, ["y"], **{**attributes, **tensors, **onnx_types})
    expected = ReferenceEvaluator(node).run(None, dict(zip(names, inputs, strict=True)))[0]
    actual = np.asarray(FOLDERS[op](inputs, attributes))
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


def test_shape_arithmetic_on_a_fixed_shape_disappears(save_model: SaveModel) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "minus"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    weights = {"zero": np.array([0], I64), "minus": np.array([-1], I64)}
    draft = load(save_model(nodes, {"x": [2, 3, 4]}, {"y": [2, 12]}, weights)).draft
    assert fold_constants(draft) == 3
    assert [node.op for node in draft.nodes] == ["Reshape"]
    assert draft.weights["to"].tolist() == [2, -1]


def test_the_fixed_part_of_a_shape_folds_too(save_model: SaveModel) -> None:
    nodes = [helper.make_node("Shape", ["x"], ["s"], start=1), helper.make_node("Expand", ["b", "s"], ["y"])]
    path = save_model(nodes, {"x": ["N", 3]}, {"y": [3]}, {"b": np.ones(1, np.float32)})
    draft = load(path).draft
    assert fold_constants(draft) == 1
    assert draft.weights["s"].tolist() == [3]


def test_a_symbolic_shape_stays(save_model: SaveModel) -> None:
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Expand", ["x", "s"], ["y"])]
    draft = load(save_model(nodes, {"x": ["N", 3]}, {"y": ["N", 3]})).draft
    assert fold_constants(draft) == 0


def test_a_large_fill_is_left_to_the_session(save_model: SaveModel) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("Add", ["c", "x"], ["y"])]
    count = FOLDED_MAX_BYTES // 4 + 1
    draft = load(save_model(nodes, {"x": [1]}, {"y": [count]}, {"s": np.array([count], I64)})).draft
    assert fold_constants(draft) == 0
    assert [node.op for node in draft.nodes] == ["ConstantOfShape", "Add"]


def test_folding_does_not_blow_up_the_file(save_model: SaveModel) -> None:
    side = int(np.sqrt(FOLDED_MAX_BYTES / 4)) + 1
    weights = {"a": np.ones((side, 1), np.float32), "b": np.ones((1, side), np.float32)}
    nodes = [helper.make_node("Add", ["a", "b"], ["big"]), helper.make_node("Add", ["x", "big"], ["y"])]
    draft = load(save_model(nodes, {"x": [side, side]}, {"y": [side, side]}, weights)).draft
    assert fold_constants(draft) == 0


def test_impossible_constants_name_the_node(save_model: SaveModel) -> None:
    nodes = [
        helper.make_node("Div", ["a", "b"], ["q"], "quotient"),
        helper.make_node("Reshape", ["x", "q"], ["y"]),
    ]
    weights = {"a": np.array([4], I64), "b": np.array([0], I64)}
    draft = load(save_model(nodes, {"x": [4]}, {"y": [4]}, weights)).draft
    with pytest.raises(ModelError, match="Div 'quotient' cannot be applied to its constants") as caught:
        fold_constants(draft)
    assert (caught.value.op, caught.value.node) == ("Div", "quotient")


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Add", ["column", "row"], {}),
        ("Where", ["yes", "column", "row"], {}),
        ("Gather", ["column", "places"], {"axis": 1}),
        ("Concat", ["column"] * 64, {"axis": 0}),
    ],
)
def test_small_constants_that_would_make_a_large_one_stay(
    save_model: SaveModel, op: str, inputs: list[str], attributes: dict[str, Any]
) -> None:
    long = 1 << 16
    weights = {
        "column": np.zeros((long, 1), np.float32),
        "row": np.zeros((1, long), np.float32),
        "yes": np.ones((1, 1), bool),
        "places": np.zeros(long, I64),
    }
    nodes = [helper.make_node(op, inputs, ["t"], **attributes), helper.make_node("Neg", ["t"], ["y"])]
    draft = load(save_model(nodes, {"x": [1]}, {"y": ["a", "b"]}, weights)).draft
    assert fold_constants(draft) == 0  # and it was not computed either, which would take 16 GiB


def test_whole_numbers_wrap(save_model: SaveModel) -> None:
    nodes = [helper.make_node("Mul", ["big", "big"], ["t"]), helper.make_node("Neg", ["t"], ["y"])]
    path = save_model(nodes, {}, {"y": []}, {"big": np.int64(2**40)}, dtype=onnx.TensorProto.INT64)
    draft = load(path).draft
    assert fold_constants(draft) == 2
    assert draft.weights["y"] == 0
