"""Layouts are chosen for the graph as a whole: a convolution is claimed where turning its tensors pays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from walle_engine import _native, api

Array = NDArray[np.float32]
SIDE, FEW, MANY = 48, 4, 256


@pytest.fixture(autouse=True)
def standard_parameters() -> Iterator[None]:
    yield
    _native.reset_parameters()


class _Chain:
    """Pointwise convolutions one after another, with what stands between them."""

    def __init__(self, channels: int) -> None:
        self.rng = np.random.default_rng(3)
        self.builder = api.GraphBuilder("chain")
        self.builder.input("x", "F32", [1, channels, SIDE, SIDE])
        self.inputs = {"x": self.rng.standard_normal((1, channels, SIDE, SIDE), np.float32)}
        self.last, self.channels, self.count = self.op("Relu", "x"), channels, 0

    def op(self, op: str, *inputs: str) -> str:
        name = f"{op.lower()}_of_{'_'.join(inputs)}"
        self.builder.node(op, list(inputs), [name], name=name)
        return name

    def conv(self, filters: int) -> None:
        weight = self.rng.standard_normal((filters, self.channels, 1, 1), np.float32)
        self.builder.weight(f"w{self.count}", weight)
        name = f"conv{self.count}"
        self.builder.node("Conv", [self.last, f"w{self.count}"], [name], name=name)
        self.last, self.channels, self.count = name, filters, self.count + 1

    def steps(self, **settings: Any) -> list[dict[str, Any]]:
        """Of the session, once its results are those of the plain kernels."""
        self.builder.output(self.last)
        model = self.builder.finish()
        session = model.session(threads=1, **settings)
        got = np.asarray(session.run(self.inputs)[self.last])
        want = np.asarray(model.session(search="reference").run(self.inputs)[self.last])
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3 * float(np.abs(want).max()))
        planned: list[dict[str, Any]] = session.explain()["steps"]
        return planned


def _commands(steps: list[dict[str, Any]], op: str) -> list[str]:
    return [step["command"] for step in steps if step["op"] == op]


@pytest.mark.optimised("isa", "claims")
def test_a_lone_convolution_is_not_turned_twice_for_little() -> None:
    chain = _Chain(FEW)
    chain.conv(MANY)
    assert _commands(chain.steps(), "Conv") == ["matmul"]


@pytest.mark.optimised("isa", "claims", "merge", "vertical", "fuse")
def test_convolutions_in_a_row_share_what_turning_costs() -> None:
    chain = _Chain(MANY // 4)
    for _ in range(5):
        chain.conv(MANY // 4)
        chain.last = chain.op("Relu", chain.last)
    commands = [step["command"] for step in chain.steps()]
    assert [command for command in commands if command != "unary"] == ["raster", *["claim"] * 5, "raster"]


@pytest.mark.optimised("isa", "claims")
@pytest.mark.parametrize(("bytes_per_ns", "want"), [(1e6, ["raster", "claim", "raster"]), (1e-3, ["matmul"])])
def test_what_turning_costs_decides(bytes_per_ns: float, want: list[str]) -> None:
    _native.set_parameter("turn", bytes_per_ns)
    chain = _Chain(MANY)
    chain.conv(MANY)
    assert _commands(chain.steps(), "Conv") == want


@pytest.mark.optimised("isa", "claims")
def test_one_reader_that_needs_channels_first_does_not_turn_the_others() -> None:
    _native.set_parameter("turn", 1e-2)  # only the whole row together is worth it
    chain = _Chain(MANY)
    for _ in range(3):
        chain.conv(MANY)
    chain.builder.node("Softmax", [chain.last], ["shares"], name="softmax", axis=3)
    chain.last = chain.op("Add", "shares", chain.last)
    chain.conv(MANY)
    functions = {step["command"] for step in chain.steps() if step["op"] == "Conv"}
    assert functions == {"matmul"}
