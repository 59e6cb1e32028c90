"""Which nodes run on the device: the cut against every assignment, under invented figures of the device."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from walle_engine import _native, api

pytestmark = pytest.mark.skipif(
    not api.devices(), reason="no OpenCL device: a driver such as pocl-opencl-icd makes one of the processor"
)

_SIZE = 64
_NODES = 7
_BYTES = 4 * _SIZE * _SIZE


@pytest.fixture(autouse=True)
def _figures() -> Iterator[None]:
    yield
    _native.reset_parameters()


def _believe(**figures: float) -> None:
    _native.reset_parameters()
    for name, value in figures.items():
        _native.set_parameter(f"device.{api.devices()[0].identity}.{name}", value)


def _graph(rng: np.random.Generator) -> tuple[api.Model, list[tuple[int, ...]], list[int]]:
    """A random graph of products and functions; per node what it reads (-1: the input), and the outputs."""
    builder = api.GraphBuilder("random")
    builder.input("v-1", "F32", (_SIZE, _SIZE))
    builder.weight("w", rng.standard_normal((_SIZE, _SIZE)).astype(np.float32) / 8)
    reads: list[tuple[int, ...]] = []
    for node in range(_NODES):
        before = [int(value) for value in rng.integers(-1, node, 2)]
        kind = rng.integers(0, 4)
        if kind == 0:
            reads.append((before[0],))
            builder.node("MatMul", [f"v{before[0]}", "w"], [f"v{node}"], name=f"n{node}")
        elif kind == 1:
            reads.append((before[0],))
            builder.node("Tanh", [f"v{before[0]}"], [f"v{node}"], name=f"n{node}")
        else:
            reads.append(tuple(before))
            builder.node(
                "MatMul" if kind == 2 else "Add", [f"v{i}" for i in before], [f"v{node}"], name=f"n{node}"
            )
    read = {value for values in reads for value in values}
    outputs = [node for node in range(_NODES) if node not in read]
    for node in outputs:
        builder.output(f"v{node}")
    return builder.finish(), reads, outputs


def _cost(
    placing: dict[str, Any], reads: list[tuple[int, ...]], outputs: list[int], away: tuple[bool, ...]
) -> float:
    """Milliseconds: every node where it is, and every value once for all readers in the other place."""
    total = 0.0
    for row, on_device in zip(placing["nodes"], away, strict=True):
        total += row["device_ms"] if on_device else row["cpu_ms"]
    to_ms = placing["copy_ms"] + _BYTES / placing["to_bytes_per_ns"] * 1e-6
    from_ms = placing["copy_ms"] + _BYTES / placing["from_bytes_per_ns"] * 1e-6
    for value in range(-1, _NODES):
        readers = {away[node] for node in range(_NODES) if value in reads[node]}
        readers |= {False} if value in outputs else set()
        written = value >= 0 and away[value]
        if not written and True in readers:
            total += to_ms
        if written and False in readers:
            total += from_ms
    return total


@pytest.mark.parametrize("seed", range(6))
def test_no_assignment_costs_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, reads, outputs = _graph(rng)
    _believe(
        products=float(rng.uniform(5, 500)), bandwidth=float(rng.uniform(5, 200)),
        launch=float(rng.uniform(100, 3000)), to_rate=float(rng.uniform(1, 40)),
        copy=float(rng.uniform(100, 5000)), from_rate=float(rng.uniform(1, 40)),
    )  # fmt: skip
    session = model.session(backend="auto")
    session.prepare({"v-1": np.zeros((_SIZE, _SIZE), np.float32)})
    placing = session.explain()["placing"]
    chosen = tuple(row["on_device"] for row in placing["nodes"])
    least = min(
        _cost(placing, reads, outputs, away) for away in itertools.product((False, True), repeat=_NODES)
    )
    assert _cost(placing, reads, outputs, chosen) == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize(("products", "expected"), [(1e6, True), (1e-3, False)])
def test_the_better_place_is_chosen(products: float, expected: bool) -> None:
    _believe(products=products, bandwidth=1e6, launch=1.0, to_rate=1e6, copy=1.0, from_rate=1e6)
    model, _, outputs = _graph(np.random.default_rng(3))
    x = np.random.default_rng(0).standard_normal((_SIZE, _SIZE)).astype(np.float32)
    session = model.session(backend="auto")
    session.prepare({"v-1": x})
    placing = session.explain()["placing"]
    products_on = {row["on_device"] for row in placing["nodes"] if row["op"] == "MatMul"}
    assert products_on == {expected}
    got, want = session.run({"v-1": x}), model.session(backend="cpu").run({"v-1": x})
    for node in outputs:
        np.testing.assert_allclose(
            np.asarray(got[f"v{node}"]), np.asarray(want[f"v{node}"]), rtol=1e-4, atol=1e-4
        )


def test_the_first_run_does_not_wait() -> None:
    """It is the CPU's; a prepared session has the device's program."""
    _believe(products=1e6, bandwidth=1e6, launch=1.0, to_rate=1e6, copy=1.0, from_rate=1e6)
    builder = api.GraphBuilder("product")
    builder.input("x", "F32", (256, 256))
    builder.weight("w", np.eye(256, dtype=np.float32))
    builder.node("MatMul", ["x", "w"], ["y"], name="product")
    builder.output("y")
    x = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    session = builder.finish().session(backend="auto")
    np.testing.assert_allclose(np.asarray(session.run({"x": x})["y"]), x, rtol=1e-5)
    assert {step["place"] for step in session.explain()["steps"]} == {"cpu"}
    session.prepare({"x": x})
    assert {step["place"] for step in session.explain()["steps"]} == {"opencl"}
    np.testing.assert_allclose(np.asarray(session.run({"x": x})["y"]), x, rtol=1e-5)
