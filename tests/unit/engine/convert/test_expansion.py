"""Operators without a row in the engine, by ONNX's own definition of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from walle_engine import api, wmodel
from walle_engine.convert.loading import load
from walle_engine.convert.support import supported_ops

type SaveModel = Callable[..., Path]


def _run_without(path: Path, x: np.ndarray, *ops: str) -> tuple[list[str], np.ndarray]:
    """Convert as if the engine lacked ``ops``, and run."""
    supported = {name: outputs for name, outputs in supported_ops().items() if name not in ops}
    draft = load(path, supported).draft
    draft.prune()
    model = api.load_bytes(wmodel.to_bytes(draft.to_graph(), draft.weights_to_store()))
    (y,) = model.session().run({"x": x}).values()
    return [node.op for node in draft.nodes], np.asarray(y)


X = np.array([[-2, -0.5, 0.5, 3]], np.float32)


def test_a_function_with_its_attributes_and_defaults(save_model: SaveModel) -> None:
    def alpha_of(**attrs: float) -> tuple[list[str], np.ndarray]:
        node = helper.make_node("LeakyRelu", ["x"], ["y"], **attrs)
        return _run_without(save_model([node], {"x": [1, 4]}, {"y": [1, 4]}), X, "LeakyRelu")

    for attrs, alpha in (({"alpha": 0.5}, 0.5), ({}, 0.01)):
        ops, y = alpha_of(**attrs)
        assert "LeakyRelu" not in ops
        np.testing.assert_allclose(y, np.where(X < 0, alpha * X, X), rtol=1e-6)


def test_a_function_that_depends_on_types_within_one(save_model: SaveModel) -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], axis=-1)
    path = save_model([node], {"x": ["N", 4]}, {"y": ["N", 4]})
    ops, y = _run_without(path, X, "Softmax")
    assert "Exp" in ops
    assert "Softmax" not in ops
    np.testing.assert_allclose(y.sum(), 1, rtol=1e-6)


def test_values_of_two_expansions_do_not_meet(save_model: SaveModel) -> None:
    nodes = [
        helper.make_node("Elu", ["x"], ["a"], alpha=1.0),
        helper.make_node("Elu", ["a"], ["y"], alpha=2.0),
    ]
    _, y = _run_without(save_model(nodes, {"x": [1, 4]}, {"y": [1, 4]}), X, "Elu")
    once = np.where(X < 0, np.exp(X) - 1, X)
    np.testing.assert_allclose(y, np.where(once < 0, 2 * (np.exp(once) - 1), once), rtol=1e-5)


def test_an_operator_in_a_body_is_expanded_too(save_model: SaveModel) -> None:
    branch = helper.make_graph(
        [helper.make_node("LeakyRelu", ["x"], ["n"])],
        "branch",
        [],
        [helper.make_tensor_value_info("n", TensorProto.FLOAT, [1, 4])],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    path = save_model([node], {"x": [1, 4]}, {"y": [1, 4]}, {"c": np.array(True)})
    known = {**supported_ops(), "If": 1}
    del known["LeakyRelu"]
    body = load(path, known).draft.nodes[0].attrs["then_branch"]
    assert isinstance(body, wmodel.Graph)
    ops = [inner.op for inner in body.nodes]
    assert "LeakyRelu" not in ops
    assert "Where" in ops


def test_an_operator_without_a_definition_stays(save_model: SaveModel) -> None:
    node = helper.make_node("Multinomial", ["x"], ["y"], "dice")
    path = save_model([node], {"x": [1, 4]}, {}, dtype=TensorProto.FLOAT)
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1]))
    onnx.save(model, path)
    assert [n.op for n in load(path).draft.nodes] == ["Multinomial"]
