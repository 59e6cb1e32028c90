"""Rewrites: they fold what they may, keep the result, and leave alone what they must."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from walle_engine.convert.draft import Draft
from walle_engine.convert.loading import load
from walle_engine.convert.rewrites import rewrite

type SaveModel = Callable[..., Path]

RNG = np.random.default_rng(3)
NORM = {
    "gain": RNG.uniform(0.5, 2, 4).astype(np.float32),
    "shift": RNG.standard_normal(4).astype(np.float32),
    "mean": RNG.standard_normal(4).astype(np.float32),
    "variance": RNG.uniform(0.5, 2, 4).astype(np.float32),
}
CONV = {
    "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "c": RNG.standard_normal(4).astype(np.float32),
}


def batch_norm(**attributes: Any) -> onnx.NodeProto:
    return helper.make_node("BatchNormalization", ["a", *NORM], ["y"], "norm", epsilon=1e-3, **attributes)


def evaluate(draft: Draft, inputs: dict[str, Any]) -> Any:
    """Run a draft on ONNX's reference evaluator."""
    float_type = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(n.op, n.inputs, n.outputs, n.name, **n.attrs) for n in draft.nodes],
        "draft",
        [helper.make_tensor_value_info(value.name, float_type, value.shape) for value in draft.inputs],
        [helper.make_tensor_value_info(value.name, float_type, value.shape) for value in draft.outputs],
        [numpy_helper.from_array(array, name) for name, array in draft.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return ReferenceEvaluator(model).run(None, inputs)[0]


@pytest.mark.parametrize("bias", [[], ["c"]], ids=["no bias", "bias"])
def test_batch_norm_folds_into_a_convolution(save_model: SaveModel, bias: list[str]) -> None:
    nodes = [helper.make_node("Conv", ["x", "w", *bias], ["a"], "conv", pads=[1, 1, 1, 1]), batch_norm()]
    path = save_model(nodes, {"x": ["N", 3, 5, 5]}, {"y": ["N", 4, 5, 5]}, {**CONV, **NORM})
    x = {"x": RNG.standard_normal((2, 3, 5, 5)).astype(np.float32)}
    draft = load(path).draft
    assert rewrite(draft) == {"batch_norm_into_conv": 1}
    assert [node.op for node in draft.nodes] == ["Conv"]
    assert len(draft.weights) == 2
    expected = ReferenceEvaluator(str(path)).run(None, x)[0]
    np.testing.assert_allclose(evaluate(draft, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transposed", [0, 1])
def test_batch_norm_folds_into_a_dense_layer(save_model: SaveModel, transposed: int) -> None:
    weight = RNG.standard_normal((4, 3) if transposed else (3, 4)).astype(np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w", "c"], ["a"], "fc", transB=transposed), batch_norm()]
    path = save_model(nodes, {"x": ["N", 3]}, {"y": ["N", 4]}, {"w": weight, "c": CONV["c"], **NORM})
    x = {"x": RNG.standard_normal((2, 3)).astype(np.float32)}
    draft = load(path).draft
    assert rewrite(draft) == {"batch_norm_into_gemm": 1}
    expected = ReferenceEvaluator(str(path)).run(None, x)[0]
    np.testing.assert_allclose(evaluate(draft, x), expected, rtol=1e-5, atol=1e-5)


def test_a_shared_weight_is_not_spoilt_for_its_other_user(save_model: SaveModel) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "one"),
        batch_norm(),
        helper.make_node("Conv", ["x", "w"], ["z"], "two"),
    ]
    path = save_model(nodes, {"x": [1, 3, 5, 5]}, {"y": [1, 4, 3, 3], "z": [1, 4, 3, 3]}, {**CONV, **NORM})
    draft = load(path).draft
    assert rewrite(draft) == {"batch_norm_into_conv": 1}
    np.testing.assert_array_equal(draft.weights["w"], CONV["w"])


LAYER = helper.make_node("Conv", ["x", "w"], ["a"])


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([LAYER], {"y": None, "a": None}),
        ([LAYER, helper.make_node("Neg", ["a"], ["n"])], {"y": None, "n": None}),
        ([helper.make_node("Conv", ["x", "v"], ["a"])], {"y": None}),
        ([helper.make_node("Relu", ["x"], ["a"])], {"y": None}),
    ],
    ids=["also an output", "another user", "weight not constant", "no layer before"],
)
def test_where_it_must_not_fold(
    save_model: SaveModel, nodes: list[onnx.NodeProto], outputs: dict[str, None]
) -> None:
    shape = [1, 3, 5, 5] if nodes[0].op_type == "Conv" else [1, 4, 5, 5]
    shapes = {name: ["a0", "a1", "a2", "a3"] for name in outputs}
    inputs = {"x": shape, "v": [4, 3, 3, 3]}
    draft = load(save_model([*nodes, batch_norm()], inputs, shapes, {**CONV, **NORM})).draft
    assert rewrite(draft) == {}
    assert draft.nodes[-1].op == "BatchNormalization"


def test_nodes_nobody_needs_go_away(save_model: SaveModel) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Add", ["x", "unused"], ["z"])]
    draft = load(save_model(nodes, {"x": [1]}, {"y": [1]}, {"unused": np.ones(1, np.float32)})).draft
    rewrite(draft)
    assert [node.op for node in draft.nodes] == ["Relu"]
    assert draft.weights == {}


def test_outputs_nobody_uses_are_omitted(save_model: SaveModel) -> None:
    nodes = [helper.make_node("Dropout", ["x"], ["y", "mask"])]
    draft = load(save_model(nodes, {"x": [1]}, {"y": [1]})).draft
    rewrite(draft)
    assert draft.nodes[0].outputs == ("y",)
