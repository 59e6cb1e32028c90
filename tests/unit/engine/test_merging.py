"""Merging on whole networks: same results whichever way, fewer bytes moved, and the figures that say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from walle_engine import api
from walle_support.networks import Network, small

_NETWORKS = dict(small())
_MOVING = ("shufflenet_v2", "bert", "din")  # the others hardly move anything, so little is left to save
_KINDS: dict[str, dict[str, Any]] = {
    "none": {"merge": False},
    "views": {"vertical": False, "horizontal": False, "verify": True},
    "vertical": {"horizontal": False, "verify": True},
    "horizontal": {"vertical": False, "verify": True},
    "all": {"verify": True},
}


def _run(network: Network, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    session = network.load().session(**settings)
    outputs = {name: np.asarray(value) for name, value in session.run(network.inputs).items()}
    merging: dict[str, Any] = session.explain()["merging"]
    return outputs, merging


@pytest.mark.slow
@pytest.mark.parametrize("name", _NETWORKS)
def test_merging_keeps_every_bit(name: str) -> None:
    # Without claims no layout moves, so sums keep their order.
    want, _ = _run(_NETWORKS[name], claims=False, **_KINDS["none"])
    for settings in _KINDS.values():
        got, _ = _run(_NETWORKS[name], claims=False, **settings)
        for output, value in got.items():
            np.testing.assert_array_equal(value, want[output])


@pytest.mark.slow
@pytest.mark.optimised("merge", "vertical", "horizontal")
@pytest.mark.parametrize("name", _NETWORKS)
def test_a_network_computes_the_same_however_its_rasters_are_merged(name: str) -> None:
    network = _NETWORKS[name]
    want, before = _run(network, **_KINDS["none"])
    assert before["before"] == before["after"]
    rasters, moved = {}, {}
    for kind, settings in _KINDS.items():
        got, merging = _run(network, **settings)
        for output, value in got.items():
            if kind in (
                "vertical",
                "all",
            ):  # layouts move past reductions, whose sums then take another order
                np.testing.assert_allclose(value, want[output], rtol=1e-6, atol=1e-6)
            else:
                np.testing.assert_array_equal(value, want[output])
        assert merging["before"] == before["before"]
        rasters[kind], moved[kind] = merging["after"]["rasters"], merging["after"]["bytes"]
    assert rasters["all"] <= rasters["vertical"] <= rasters["views"] <= rasters["none"]
    assert rasters["horizontal"] <= rasters["views"]
    assert moved["all"] <= moved["vertical"] <= moved["views"] <= moved["none"]
    if name in _MOVING:
        assert rasters["views"] < rasters["none"]
        assert moved["views"] < moved["none"]


@pytest.mark.optimised("merge", "vertical", "horizontal")
def test_vertical_and_horizontal_merging_are_counted() -> None:
    _, merging = _run(_NETWORKS["shufflenet_v2"])
    assert merging["composed"] > 0
    assert merging["aliases"] > 0
    _, merging = _run(_NETWORKS["din"])
    assert merging["shared"] > 0


def _graph(build: Any) -> api.Model:
    builder = api.GraphBuilder("operands")
    builder.input("x", "F32", (16, 16))
    build(builder)
    builder.output("y")
    return builder.finish()


def _squared_by_transposed(builder: api.GraphBuilder) -> None:
    builder.node("Transpose", ["x"], ["t"], perm=[1, 0])
    builder.node("MatMul", ["x", "t"], ["y"])


def _sum_with_transposed_blocks(builder: api.GraphBuilder) -> None:
    """Both operands lie in one tensor that dies here, walked in different orders."""
    builder.weight("shape", np.array([4, 4, 16], np.int64))
    builder.weight("back", np.array([16, 16], np.int64))
    builder.node("Neg", ["x"], ["n"])
    builder.node("Reshape", ["n", "shape"], ["r"])
    builder.node("Transpose", ["r"], ["t"], perm=[1, 0, 2])
    builder.node("Reshape", ["t", "back"], ["b"])
    builder.node("Add", ["n", "b"], ["s"])
    builder.node("Relu", ["s"], ["y"])


def _part_times_expanded(builder: api.GraphBuilder) -> None:
    for name, values in {"from": [3], "to": [4], "axes": [0], "shape": [5, 16, 16]}.items():
        builder.weight(name, np.array(values, np.int64))
    builder.node("Slice", ["x", "from", "to", "axes"], ["part"])
    builder.node("Expand", ["part", "shape"], ["wide"])
    builder.node("Mul", ["wide", "x"], ["y"])


@pytest.mark.optimised("merge", "vertical")
@pytest.mark.parametrize(
    ("build", "reference", "rasters"),
    [
        (_squared_by_transposed, lambda x: x @ x.T, 0),
        (
            _sum_with_transposed_blocks,
            lambda x: np.maximum(-x - x.reshape(4, 4, 16).transpose(1, 0, 2).reshape(16, 16), 0),
            0,
        ),
        (_part_times_expanded, lambda x: np.broadcast_to(x[3] * x, (5, 16, 16)), 0),
    ],
)
def test_operands_walked_by_steps_need_no_raster(build: Any, reference: Any, rasters: int) -> None:
    x = np.random.default_rng(0).integers(-4, 5, (16, 16)).astype(np.float32)
    model = _graph(build)
    for settings in _KINDS.values():
        session = model.session(**settings)
        np.testing.assert_array_equal(np.asarray(session.run({"x": x})["y"]), reference(x))
    merging = session.explain()["merging"]
    assert merging["after"]["rasters"] == rasters
    assert merging["operands"] == 1
