"""The operator Gradient: what it refuses and by what name, and gradients of gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from walle_engine import api
from walle_shared.errors import ModelError
from walle_support.gradients import assert_gradients, gradient_session

type Array = np.ndarray[Any, Any]


def _run(nodes: Callable[[api.GraphBuilder], None], outputs: list[str], **inputs: Array) -> dict[str, Array]:
    builder = api.GraphBuilder("gradient")
    for name, value in inputs.items():
        builder.input(name, {"f": "F64", "i": "I64"}[value.dtype.kind], value.shape)
    nodes(builder)
    for name in outputs:
        builder.output(name)
    results = builder.finish().session().run(inputs)
    return {name: np.asarray(value) for name, value in results.items()}


def _cube(builder: api.GraphBuilder) -> None:
    builder.node("Mul", ["x", "x"], ["square"])
    builder.node("Mul", ["square", "x"], ["cube"])
    builder.node("ReduceSum", ["cube"], ["loss"], keepdims=0)


X = np.array([1.0, -2.0, 0.5])


def test_a_gradient_has_a_gradient() -> None:
    def nodes(builder: api.GraphBuilder) -> None:
        _cube(builder)
        builder.node("Gradient", ["x", "loss"], ["slope"])
        builder.node("ReduceSum", ["slope"], ["sum"], keepdims=0)
        builder.node("Gradient", ["x", "sum"], ["bend"])

    results = _run(nodes, ["slope", "bend"], x=X)
    np.testing.assert_allclose(results["slope"], 3 * X**2)
    np.testing.assert_allclose(results["bend"], 6 * X)


@pytest.mark.parametrize("hidden", [2, 6])  # a product in each iteration, one behind the loop
def test_a_recurrence_has_a_second_gradient(hidden: int) -> None:
    """The loop that a gradient made, and the tape it put into the first, are differentiated in turn."""
    rng = np.random.default_rng(0)
    shapes = ((3, 1, 2), (1, hidden, 2), (1, hidden, hidden))
    x, w, r = (0.5 * rng.standard_normal(shape) for shape in shapes)

    def nodes(builder: api.GraphBuilder) -> None:
        builder.node("RNN", ["x", "w", "r"], ["y"], hidden_size=hidden)
        builder.node("ReduceSumSquare", ["y"], ["loss"], keepdims=0)
        builder.node("Gradient", ["r", "loss"], ["slope"])
        builder.node("ReduceSumSquare", ["slope"], ["sum"], keepdims=0)
        builder.node("Gradient", ["r", "sum"], ["bend"])

    bend = _run(nodes, ["bend"], x=x, w=w, r=r)["bend"]
    way, step = rng.standard_normal(r.shape), 1e-6
    ahead, behind = (_run(nodes, ["sum"], x=x, w=w, r=r + s * way)["sum"] for s in (step, -step))
    assert float(np.sum(bend * way)) == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-5)


@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_matrix_that_all_iterations_multiply_by(op: str, gates: int, batch: int) -> None:
    rng = np.random.default_rng(batch)
    shapes = {
        "x": (4, batch, 5), "w": (2, gates * 7, 5), "r": (2, gates * 7, 7), "b": (2, 2 * gates * 7),
        "h": (2, batch, 7),
    }  # fmt: skip
    inputs = {name: 0.3 * rng.standard_normal(shape) for name, shape in shapes.items()}

    def nodes(builder: api.GraphBuilder) -> list[str]:
        names = ["x", "w", "r", "b", "", "h"]
        builder.node(op, names, ["y", "last"], hidden_size=7, direction="bidirectional")
        return ["y", "last"]

    outputs = {"y": (4, 2, batch, 7), "last": (2, batch, 7)}
    for chosen in (list(inputs), ["r"]):
        session = gradient_session(nodes, inputs, outputs, chosen)
        assert_gradients(session, inputs, chosen)


def test_of_values_between_and_of_the_loss_itself() -> None:
    def nodes(builder: api.GraphBuilder) -> None:
        _cube(builder)
        builder.node("Gradient", ["square", "x", "x", "loss", "loss"], ["a", "b", "c", "d"])

    results = _run(nodes, ["a", "b", "c", "d"], x=X)
    np.testing.assert_allclose(results["a"], X)
    np.testing.assert_allclose(results["b"], 3 * X**2)
    np.testing.assert_array_equal(results["b"], results["c"])
    assert results["d"] == 1


def test_what_the_loss_does_not_depend_on_gets_zeros() -> None:
    def nodes(builder: api.GraphBuilder) -> None:
        _cube(builder)
        builder.node("Gradient", ["x", "other", "loss"], ["a", "b"])

    results = _run(nodes, ["a", "b"], x=X, other=np.ones((2, 2)))
    np.testing.assert_array_equal(results["b"], np.zeros((2, 2)))


def test_a_sum_over_nothing_depends_on_nothing() -> None:
    def nodes(builder: api.GraphBuilder) -> None:
        builder.node("MatMul", ["x", "w"], ["y"])
        builder.node("ReduceSum", ["y"], ["loss"], keepdims=0)
        builder.node("Gradient", ["x", "w", "loss"], ["a", "b"])

    with pytest.raises(ModelError, match="does not depend on any"):
        _run(nodes, ["a", "b"], x=np.zeros((0, 3)), w=np.ones((3, 2)))


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (["x", "cube"], ["a"], "must be the loss, one number"),
        (["x", "count"], ["a"], "must be the loss, one number"),
        (["count", "loss"], ["a"], "input 0 has no float type"),
        (["held", "loss"], ["a"], "input 0 is a constant"),
        (["x", "x", "loss"], ["a"], "an output for every input but the loss"),
        (["other", "loss"], ["a"], "does not depend on any"),
        (["", "loss"], ["a"], "input 0"),
    ],
)
def test_what_cannot_be_is_refused(inputs: list[str], outputs: list[str], message: str) -> None:
    def nodes(builder: api.GraphBuilder) -> None:
        _cube(builder)
        builder.weight("held", np.ones(3))
        builder.node("Gradient", inputs, outputs, name="here")

    with pytest.raises(ModelError, match=message) as caught:
        _run(nodes, ["a"], x=X, other=np.ones(2), count=np.array(1))
    assert (caught.value.op, caught.value.node) == ("Gradient", "here")


@pytest.mark.parametrize("group", [1, 2])
def test_of_images_whose_columns_are_multiplied_side_by_side(group: int) -> None:
    """Where positions are fewer than taps, what the filters bring back is one product for all images."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 8, 4, 3)), rng.standard_normal((5 * group, 8 // group, 3, 3))

    def nodes(builder: api.GraphBuilder) -> None:
        builder.node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], group=group)
        builder.node("ReduceSumSquare", ["y"], ["loss"], keepdims=0)
        builder.node("Gradient", ["x", "loss"], ["slope"])

    slope = _run(nodes, ["slope"], x=x, w=w)["slope"]
    for _ in range(3):
        way, step = rng.standard_normal(x.shape), 1e-6
        ahead, behind = (_run(nodes, ["loss"], x=x + s * way, w=w)["loss"] for s in (step, -step))
        assert float(np.sum(slope * way)) == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-6)
