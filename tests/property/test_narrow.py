"""What 'medium' stores as bfloat16 between convolutions changes results no more than rounding does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_engine import api

Array = np.ndarray[Any, Any]

LAYERS = st.sampled_from(
    ["1x1", "3x3", "strided", "grouped", "depthwise", "pool", "residual", "join", "sigmoid"]
)


class _Net:
    """Layers one after the other over one image; an addition takes the input of the layer before it."""

    def __init__(self, channels: int, side: int, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.builder = api.GraphBuilder("net")
        self.shape = [1, channels, side, side + 1]
        self.feeds = {"x": self._values(*self.shape)}
        self.builder.input("x", "F32", self.shape)
        self.last, self.count = "x", 0

    def _values(self, *shape: int) -> Array:
        return self.random.normal(0, 1, shape).astype(np.float32)

    def _name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def _node(self, op: str, inputs: list[str], **attrs: Any) -> str:
        out = self._name()
        self.builder.node(op, inputs, [out], **attrs)
        return out

    def _conv(self, source: str, filters: int, kernel: int, stride: int = 1, group: int = 1) -> str:
        channels, pad = self.shape[1], kernel // 2
        weights, bias = self._name(), self._name()
        scale = np.float32((channels // group * kernel * kernel) ** -0.5)
        self.builder.weight(weights, self._values(filters, channels // group, kernel, kernel) * scale)
        self.builder.weight(bias, self._values(filters))
        out = self._node(
            "Conv", [source, weights, bias], strides=[stride, stride], pads=[pad] * 4, group=group,
            kernel_shape=[kernel, kernel],
        )  # fmt: skip
        self.shape = [1, filters, *(-(-size // stride) for size in self.shape[2:])]
        return self._node("Relu", [out]) if self.random.random() < 0.5 else out

    def add(self, layer: str, filters: int) -> None:
        channels = self.shape[1]
        if layer == "pool":
            if min(self.shape[2:]) < 3:
                return
            out = self._node("MaxPool", [self.last], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
            self.shape[2:] = [(size - 1) // 2 + 1 for size in self.shape[2:]]
        elif layer == "residual":
            out = self._node("Add", [self._conv(self.last, channels, 3), self.last])
        elif layer == "join":
            parts = [self._conv(self.last, channels, kernel) for kernel in (1, 3)]
            out = self._node("Concat", parts, axis=1)
            self.shape[1] *= 2
        elif layer == "sigmoid":
            out = self._node("Sigmoid", [self.last])
        elif layer == "depthwise":
            out = self._conv(self.last, channels, 3, group=channels)
        elif layer == "grouped":
            out = self._conv(self.last, channels, 3, group=2 if channels % 2 == 0 else 1)
        else:
            out = self._conv(self.last, filters, 1 if layer == "1x1" else 3, 2 if layer == "strided" else 1)
        self.last = out

    def finish(self) -> api.Model:
        self.builder.output(self.last)
        return self.builder.finish()


def _run(session: api.Session, net: _Net) -> Array:
    return np.asarray(session.run(net.feeds)[net.last])


def _stored(session: api.Session) -> list[str]:
    """How the results of convolutions and pools lie, in order."""
    return [step["out"]["dtype"] for step in session.explain()["steps"] if step["command"] == "claim"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(LAYERS, st.sampled_from([1, 16, 31, 40, 64])), min_size=1, max_size=6),
    st.sampled_from([2, 7, 32, 48]), st.integers(3, 17), st.integers(0, 99), st.integers(1, 2),
)  # fmt: skip
def test_networks(layers: list[tuple[str, int]], channels: int, side: int, seed: int, threads: int) -> None:
    net = _Net(channels, side, seed)
    for layer, filters in layers:
        net.add(layer, filters)
    model = net.finish()
    want = _run(model.session(precision="highest"), net)
    wide = model.session(precision="medium", fuse=False)
    narrow = model.session(precision="medium", threads=threads)
    got = _run(narrow, net)
    # 2^-8 for each rounding of a layer's terms, as a rule much less; small sums of large terms weigh more
    allowed = 2.0**-8 * 2 * len(layers) * (np.linalg.norm(want) + np.sqrt(want.size))
    assert np.linalg.norm(got - want) <= allowed
    assert np.linalg.norm(_run(wide, net) - want) <= allowed


def _bottleneck() -> _Net:
    net = _Net(64, 28, 0)
    for layer, filters in [("1x1", 96), ("depthwise", 0), ("1x1", 64), ("1x1", 48), ("1x1", 32)]:
        net.add(layer, filters)
    return net


@pytest.mark.optimised("claims", "fuse", "isa", "merge", "vertical", "horizontal")
def test_what_lies_between_convolutions_is_narrow() -> None:
    if not {kernel.isa for kernel in api.kernels() if kernel.available} & {"neonbf16", "avx512bf16", "amx"}:
        pytest.skip("this CPU has no bfloat16 products")
    net = _bottleneck()
    model = net.finish()
    medium, high = (model.session(precision=precision) for precision in ("medium", "high"))
    for session in (medium, high):
        _run(session, net)
    assert _stored(medium) == ["BF16"] * 4 + ["F32"]
    assert set(_stored(high)) == {"F32"}


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_what_an_iteration_makes_for_itself_stays_wide(op: str) -> None:
    """A recurrent cell that is no claim is a loop, whose body computes in float32."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    random = np.random.default_rng(0)
    builder = api.GraphBuilder(op)
    builder.input("x", "F32", (5, 2, 8))
    for name, depth in (("w", 8), ("r", 16)):
        values = random.normal(0, depth**-0.5, (1, gates * 16, depth)).astype(np.float32)
        builder.weight(name, values)
    builder.node(op, ["x", "w", "r"], ["y"], hidden_size=16)
    builder.output("y")
    model, feeds = builder.finish(), {"x": random.normal(0, 1, (5, 2, 8)).astype(np.float32)}
    want = np.asarray(model.session(precision="highest").run(feeds)["y"])
    got = np.asarray(model.session(precision="medium", claims=False).run(feeds)["y"])
    assert np.linalg.norm(got - want) <= 0.02 * np.linalg.norm(want)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e30, 1e-40])
def test_special_values_pass(value: float) -> None:
    """An odd element makes what it makes in float32, and leaves all it does not reach alone."""
    net = _Net(32, 9, 0)
    for layer in ("1x1", "depthwise", "pool", "1x1"):
        net.add(layer, 32)
    model = net.finish()
    net.feeds["x"][0, 3, 4, 4] = np.nan
    apart = np.isfinite(_run(model.session(precision="highest"), net))  # from what the element reaches
    net.feeds["x"][0, 3, 4, 4] = value
    want, got = (_run(model.session(precision=precision), net) for precision in ("highest", "medium"))
    usual = np.isfinite(want) & (np.abs(want) < 1e20) & (apart | (np.abs(value) < 1))
    assert usual.any()
    assert apart.any()
    assert np.array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got[usual], want[usual], rtol=0.05, atol=0.2)


def test_what_lies_within_a_loop_stays_float32() -> None:
    """Nothing but a loop's body reads that, so the body's commands have to be asked."""
    random = np.random.default_rng(0)
    builder = api.GraphBuilder("lstm")
    builder.input("x", "F32", (6, 4, 3))
    for name, shape in (("w", (1, 28, 3)), ("r", (1, 28, 7))):
        builder.weight(name, random.normal(0, 0.5, shape).astype(np.float32))
    builder.node("LSTM", ["x", "w", "r"], ["y", "h", "c"], hidden_size=7, clip=0.5)
    builder.output("y")
    model, x = builder.finish(), random.normal(0, 1, (6, 4, 3)).astype(np.float32)
    found = [
        np.asarray(model.session(precision=precision, claims=False).run({"x": x})["y"])
        for precision in ("highest", "medium")
    ]
    np.testing.assert_allclose(found[1], found[0], atol=0.03)
