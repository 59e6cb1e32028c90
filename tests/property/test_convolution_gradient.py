"""Gradients of convolutions and pools: slopes as decomposed, and the native ones equal to those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_engine import api
from walle_support.gradients import assert_gradients, gradient_session

type Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Conv:
    """A convolution between an input and a loss; all of image, weights and bias are chosen."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    batch: int = 2
    ins: int = 3
    outs: int = 4
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, ...] = ()
    group: int = 1
    bias: bool = True

    @property
    def borders(self) -> tuple[int, ...]:
        return self.pads or (0,) * 2 * len(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        rank = len(self.size)
        spatial = (
            (n + self.borders[i] + self.borders[rank + i] - (k - 1) * self.dilation - 1) // self.stride + 1
            for i, (n, k) in enumerate(zip(self.size, self.kernel, strict=True))
        )
        return (self.batch, self.group * self.outs, *spatial)

    def inputs(self, dtype: type[np.floating[Any]]) -> dict[str, Array]:
        random = np.random.default_rng(self.ins)
        shapes: dict[str, Sequence[int]] = {
            "x": (self.batch, self.group * self.ins, *self.size),
            "w": (self.group * self.outs, self.ins, *self.kernel),
        }
        if self.bias:
            shapes["b"] = (self.group * self.outs,)
        numbers = {name: random.standard_normal(shape) for name, shape in shapes.items()}
        numbers["w"] /= np.sqrt(self.ins * np.prod(self.kernel))  # so that results are around 1
        return {name: value.astype(dtype) for name, value in numbers.items()}

    def nodes(self, builder: api.GraphBuilder) -> list[str]:
        rank = len(self.size)
        # A smooth step on both sides: the image is no graph input, and its gradient comes from something.
        builder.node("Tanh", ["x"], ["t"])
        builder.node(
            "Conv", ["t", "w", "b"] if self.bias else ["t", "w"], ["u"], name="conv", group=self.group,
            strides=[self.stride] * rank, dilations=[self.dilation] * rank, pads=list(self.borders),
        )  # fmt: skip
        builder.node("Sigmoid", ["u"], ["y"])
        return ["y"]

    def session(self, inputs: dict[str, Array], **how: Any) -> api.Session:
        return gradient_session(self.nodes, inputs, {"y": self.shape}, list(inputs), **how)


@pytest.mark.parametrize(
    "conv",
    [
        _Conv((5, 6), (3, 2)),
        _Conv((6, 7), (3, 3), stride=2, pads=(1, 1, 1, 1)),
        _Conv((7, 8), (2, 3), stride=3, pads=(0, 2, 1, 0)),  # what the last step leaves out
        _Conv((6, 7), (2, 2), stride=2, dilation=2, pads=(0, 1, 2, 1), group=2),
        _Conv((5, 5), (1, 1), stride=2, group=3, ins=1, bias=False),
        _Conv((9,), (4,), stride=2, pads=(3, 1)),
        _Conv((4, 3, 4), (2, 3, 2), pads=(1, 0, 1, 0, 1, 0)),
    ],
    ids=str,
)
def test_gradients_of_convolutions_are_slopes(conv: _Conv) -> None:
    inputs = conv.inputs(np.float64)
    assert_gradients(conv.session(inputs), inputs, list(inputs))


def _assert_equal(conv: _Conv, bound: float, **how: Any) -> set[str]:
    """Compare with the decomposition; return what ran natively."""
    inputs = conv.inputs(np.float32)
    right = conv.session(inputs, search="reference", claims=False).run(inputs)
    session = conv.session(inputs, **how)
    got = session.run(inputs)
    for name, value in right.items():
        want = np.asarray(value)
        # A sum of numbers around 1 is that exact in proportion to what it could have been.
        scale = max(float(np.linalg.norm(want)), float(np.sqrt(want.size)))
        assert np.linalg.norm(np.asarray(got[name]) - want) <= bound * scale, name
    return {step["function"] for step in session.explain()["steps"] if step["command"] == "claim"}


@st.composite
def _convs(draw: st.DrawFn) -> _Conv:
    rank = draw(st.integers(1, 2))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    dilation = draw(st.integers(1, 2))
    depthwise = draw(st.booleans())
    return _Conv(
        tuple((k - 1) * dilation + draw(st.integers(1, 20)) for k in kernel),
        kernel,
        batch=draw(st.integers(1, 3)),
        ins=1 if depthwise else draw(st.sampled_from([1, 3, 8, 33])),
        outs=1 if depthwise else draw(st.sampled_from([1, 5, 32, 40])),
        stride=draw(st.integers(1, 3)),
        dilation=dilation,
        pads=tuple(draw(st.integers(0, kernel[i % rank])) for i in range(2 * rank)),
        group=draw(st.sampled_from([1, 7, 64, 70])) if depthwise else draw(st.integers(1, 2)),
        bias=draw(st.booleans()),
    )


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(_convs(), st.integers(1, 3), st.sampled_from(["highest", "high"]))
def test_native_gradients_equal_those_of_the_decomposition(conv: _Conv, threads: int, precision: str) -> None:
    _assert_equal(conv, 2e-5, threads=threads, precision=precision)


@pytest.mark.of_cpu
@pytest.mark.optimised("claims", "isa")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("conv", "back"),
    [
        (_Conv((28, 28), (3, 3), ins=64, outs=64, pads=(1, 1, 1, 1)), "conv_winograd"),
        (_Conv((14, 14), (3, 3), ins=64, outs=96, dilation=2, pads=(2, 2, 2, 2)), "conv"),
        (_Conv((29, 28), (3, 3), ins=40, outs=64, stride=2, pads=(1, 1, 1, 1)), "conv_transpose"),
        (_Conv((15, 14), (3, 3), ins=32, outs=32, group=2, pads=(1, 1, 1, 1)), "conv"),
        (_Conv((15, 14), (3, 3), ins=1, outs=1, group=70, pads=(1, 1, 1, 1)), "conv_depthwise"),
        (_Conv((15, 14), (5, 3), ins=1, outs=1, group=70, stride=2), "depthwise_image_gradient"),
    ],
    ids=str,
)
def test_the_way_back_runs_natively(conv: _Conv, back: str, threads: int) -> None:
    functions = _assert_equal(conv, 1e-5, threads=threads)
    assert any(function.endswith("filter_gradient") for function in functions)
    assert any(function.startswith(back) for function in functions)
    _assert_equal(conv, 0.05, threads=threads, precision="medium")


@pytest.mark.of_cpu
@pytest.mark.optimised("claims", "isa")
@pytest.mark.parametrize("held", ["w", "b", "x"])
def test_what_is_held_is_not_differentiated(held: str) -> None:
    conv = _Conv((14, 14), (3, 3), ins=32, outs=32, pads=(1, 1, 1, 1))
    inputs = conv.inputs(np.float32)
    value = inputs.pop(held)

    def nodes(builder: api.GraphBuilder) -> list[str]:
        builder.weight(held, value)
        return conv.nodes(builder)

    for how in ({"threads": 2}, {"search": "reference", "claims": False}):
        session = gradient_session(nodes, inputs, {"y": conv.shape}, list(inputs), **how)
        results = session.run(inputs)
        whole = conv.session({**inputs, held: value}, search="reference", claims=False)
        right = whole.run({**inputs, held: value})
        for name in results:
            np.testing.assert_allclose(np.asarray(results[name]), np.asarray(right[name]), atol=2e-4)


@pytest.mark.of_cpu
@pytest.mark.optimised("claims")
def test_gradients_of_gradients_of_convolutions() -> None:
    conv = _Conv((6, 5), (3, 2), stride=2, pads=(1, 0, 0, 1), group=2)
    inputs = conv.inputs(np.float64)

    def nodes(builder: api.GraphBuilder) -> list[str]:
        conv.nodes(builder)
        builder.node("ReduceSum", ["y"], ["sum"], keepdims=0)
        builder.node("Gradient", ["w", "sum"], ["slope"])
        builder.node("Sigmoid", ["slope"], ["bend"])
        return ["bend"]

    shape = inputs["w"].shape
    session = gradient_session(nodes, inputs, {"bend": shape}, list(inputs))
    assert_gradients(session, inputs, list(inputs))
    single = {name: value.astype(np.float32) for name, value in inputs.items()}
    got = gradient_session(nodes, single, {"bend": shape}, list(single)).run(single)
    right = session.run(inputs)
    for name in got:
        np.testing.assert_allclose(np.asarray(got[name]), np.asarray(right[name]), rtol=1e-3, atol=1e-4)


@st.composite
def _turned(draw: st.DrawFn) -> dict[str, Any]:
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    dilation = draw(st.integers(1, 2))
    stride = draw(st.sampled_from([1, 1, 2]))
    return {
        "kernel": kernel, "dilation": dilation, "stride": stride,
        "size": [draw(st.integers(1, 15)) for _ in range(2)],
        "pads": [draw(st.integers(0, (kernel[i % 2] - 1) * dilation // 2)) for i in range(4)],
        "batch": draw(st.integers(1, 3)), "group": draw(st.integers(1, 2)),
        "ins": draw(st.sampled_from([1, 9, 40])), "outs": draw(st.sampled_from([1, 3, 17])),
        "bias": draw(st.booleans()), "threads": draw(st.integers(1, 2)),
    }  # fmt: skip


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(_turned())
def test_transposed_convolutions_by_weights_that_vary(case: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    shapes = {
        "x": (case["batch"], case["group"] * case["ins"], *case["size"]),
        "w": (case["group"] * case["ins"], case["outs"], *case["kernel"]),
        "b": (case["group"] * case["outs"],),
    }
    inputs = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    inputs = inputs if case["bias"] else {name: inputs[name] for name in ("x", "w")}
    builder = api.GraphBuilder("turned")
    for name, value in inputs.items():
        builder.input(name, "F32", value.shape)
    builder.node(
        "ConvTranspose", list(inputs), ["y"], strides=[case["stride"]] * 2, group=case["group"],
        dilations=[case["dilation"]] * 2, pads=case["pads"],
    )  # fmt: skip
    builder.output("y")
    model = builder.finish()
    want = np.asarray(model.session(search="reference", claims=False).run(inputs)["y"])
    got = np.asarray(model.session(threads=case["threads"]).run(inputs)["y"])
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * (case["ins"] * 16 + 8))


@st.composite
def _pools(draw: st.DrawFn) -> dict[str, Any]:
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    dilation = draw(st.integers(1, 2))
    return {
        "shape": (
            draw(st.integers(1, 3)), draw(st.sampled_from([1, 5, 64, 70])),
            *((k - 1) * dilation + draw(st.integers(1, 15)) for k in kernel),
        ),
        "attrs": {
            "kernel_shape": kernel, "strides": [draw(st.integers(1, 3)) for _ in range(2)],
            "dilations": [dilation] * 2, "pads": [draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)],
            "ceil_mode": draw(st.integers(0, 1)),
        },
        "threads": draw(st.integers(1, 3)), "last": draw(st.booleans()),
    }  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(_pools())
def test_gradients_of_pools_equal_those_of_the_decomposition(case: dict[str, Any]) -> None:
    # Numbers of few values: of equals, the first has all.
    x = np.random.default_rng(0).integers(-3, 3, case["shape"]).astype(np.float32)
    builder = api.GraphBuilder("pool")
    builder.input("x", "F32", x.shape)
    channels = x.shape[1]
    if case["last"]:  # a neighbour that wants its tensors channels last
        builder.weight("w", np.eye(channels, dtype=np.float32)[:, :, None, None])
        builder.node("Conv", ["x", "w"], ["t"])
    builder.node("MaxPool", ["t" if case["last"] else "x"], ["y"], **case["attrs"])
    builder.node("Mul", ["y", "y"], ["square"])
    builder.node("ReduceSum", ["square"], ["loss"], keepdims=0)
    builder.node("Gradient", ["x", "loss"], ["slope"])
    builder.output("slope")
    model = builder.finish()
    want = model.session(search="reference", claims=False).run({"x": x})["slope"]
    got = model.session(threads=case["threads"]).run({"x": x})["slope"]
    np.testing.assert_array_equal(np.asarray(got), np.asarray(want))
