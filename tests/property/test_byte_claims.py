"""Operators on bytes, run natively, give the very bytes of their decomposition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from walle_engine import api
from walle_shared.errors import ModelError

Array = np.ndarray[Any, Any]

SEEDS = st.integers(0, 9999)
THREADS = st.integers(1, 3)
BYTES = st.sampled_from([np.uint8, np.int8])


def _bytes(rng: np.random.Generator, dtype: Any, *shape: int) -> Array:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if rng.integers(4) == 0:  # what saturates where sums are too narrow
        return rng.choice(np.array([low, high], dtype), shape)
    return rng.integers(low, high, shape, dtype, endpoint=True)


def _check(
    op: str, inputs: list[Array | None], variable: tuple[int, ...], threads: int, claim: str, **attrs: Any
) -> None:
    """Run one node with its claim and without; inputs that do not vary are constants."""
    builder = api.GraphBuilder(op)
    feeds: dict[str, Array] = {}
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(inputs)]
    dtypes = {"uint8": "U8", "int8": "I8", "float32": "F32", "int32": "I32"}
    for i, value in enumerate(inputs):
        if value is None:
            continue
        if i in variable:
            builder.input(names[i], dtypes[str(value.dtype)], value.shape)
            feeds[names[i]] = value
        else:
            builder.weight(names[i], value)
    builder.node(op, names, ["y"], **attrs)
    builder.output("y")
    model = builder.finish()
    session = model.session(threads=threads)
    got = np.asarray(session.run(feeds)["y"])
    steps = [step["candidate"] for step in session.explain()["steps"]]
    assume(any(step.startswith(claim) for step in steps))  # a tiny call may cost less decomposed
    want = np.asarray(model.session(claims=False).run(feeds)["y"])
    np.testing.assert_array_equal(got, want)


@st.composite
def _layers(draw: st.DrawFn) -> dict[str, Any]:
    kernel = [draw(st.integers(1, 4)), draw(st.integers(1, 4))]
    return {
        "seed": draw(SEEDS), "threads": draw(THREADS), "group": draw(st.sampled_from([1, 1, 2])),
        "channels": draw(st.sampled_from([1, 3, 4, 8, 20, 36, 64])), "filters": draw(st.integers(1, 40)),
        "image": [draw(st.integers(5, 12)), draw(st.integers(5, 12))], "kernel": kernel,
        "items": draw(st.integers(1, 2)), "x": draw(BYTES), "w": draw(BYTES), "y": draw(BYTES),
        "bias": draw(st.sampled_from([None, "i4", "f4"])), "limits": draw(st.booleans()),
        "off_centre": draw(st.booleans()),
        "strides": draw(st.sampled_from([[1, 1], [2, 2], [1, 2]])),
        "dilations": draw(st.sampled_from([[1, 1], [1, 1], [2, 1]])),
        "pads": [draw(st.integers(0, min(2, k))) for k in (*kernel, *kernel)],
    }  # fmt: skip


def _parameters(rng: np.random.Generator, case: dict[str, Any], filters: int, w: Array) -> list[Array | None]:
    """Scales and zero points of a layer, in QLinearConv's order, without the image and its zero point."""
    zero = np.asarray(128 if case["w"] is np.uint8 else 0, case["w"])
    per_filter = bool(rng.integers(2))
    scale = rng.uniform(0.001, 0.02, filters if per_filter else ()).astype("f4")
    bias: Array | None = None
    if case["bias"] == "i4":
        bias = rng.integers(-9000, 9000, filters).astype("i4")
    elif case["bias"] == "f4":
        bias = rng.uniform(-3, 3, filters).astype("f4")
    y_zero = np.asarray(_bytes(rng, case["y"], 1)[0])
    return [w, scale, np.broadcast_to(zero, scale.shape).copy(), np.float32(0.11), y_zero, bias]


def _limits(case: dict[str, Any]) -> dict[str, float]:
    return {"min": -1.5, "max": 6.0} if case["limits"] else {}


@pytest.mark.optimised("claims")
@settings(max_examples=60, deadline=None)
@given(_layers())
def test_convolutions(case: dict[str, Any]) -> None:
    rng = np.random.default_rng(case["seed"])
    group = case["group"] if case["channels"] % 4 == 0 else 1
    channels, filters = case["channels"] * group, case["filters"] * group
    dilations = case["dilations"] if case["channels"] % 4 == 0 else [1, 1]
    x = _bytes(rng, case["x"], case["items"], channels, *case["image"])
    w = _bytes(rng, case["w"], filters, case["channels"], *case["kernel"])
    x_zero = np.asarray(_bytes(rng, case["x"], 1)[0])
    if channels == 1 or case["channels"] == 1:
        group = 1  # more would be depthwise
        w, x = w[:, :1], x[:, :1]
    rest = _parameters(rng, case, filters, w)
    if case["off_centre"]:  # what is left of weights without their zero point still fits a byte
        assert rest[1] is not None
        rest[0] = w // np.asarray(4, w.dtype)
        rest[2] = _bytes(rng, case["w"], *rest[1].shape) // np.asarray(4, w.dtype)
    window = {
        "group": group, "strides": case["strides"], "pads": case["pads"], "dilations": dilations
    }  # fmt: skip
    try:
        _check("QLinearConv", [x, np.float32(0.03), x_zero, *rest], (0,), case["threads"], "byte_conv",
               **window, **_limits(case))  # fmt: skip
    except ModelError:
        return  # the window is larger than the image


@pytest.mark.optimised("claims")
@settings(max_examples=40, deadline=None)
@given(_layers())
def test_depthwise_convolutions(case: dict[str, Any]) -> None:
    rng = np.random.default_rng(case["seed"])
    channels = 2 + int(rng.integers(1, 150))
    kernel = [3, 3] if case["limits"] else case["kernel"]
    x = _bytes(rng, case["x"], case["items"], channels, *case["image"])
    w = _bytes(rng, case["w"], channels, 1, *kernel)
    rest = _parameters(rng, case, channels, w)
    x_zero = np.asarray(_bytes(rng, case["x"], 1)[0])
    pads = [min(p, k - 1) for p, k in zip(case["pads"], [*kernel, *kernel], strict=True)]
    _check("QLinearConv", [x, np.float32(0.03), x_zero, *rest], (0,), case["threads"], "byte_depthwise",
           group=channels, strides=case["strides"], pads=pads, **_limits(case))  # fmt: skip


@pytest.mark.optimised("claims")
@settings(max_examples=40, deadline=None)
@given(_layers(), st.integers(1, 40), st.integers(1, 90))
def test_products(case: dict[str, Any], rows: int, k: int) -> None:
    rng = np.random.default_rng(case["seed"])
    a, a_zero = _bytes(rng, case["x"], rows, k), np.asarray(_bytes(rng, case["x"], 1)[0])
    turned = bool(rng.integers(2))
    b = _bytes(rng, case["w"], *((case["filters"], k) if turned else (k, case["filters"])))
    rest = _parameters(rng, case, case["filters"], b)
    _check("QLinearMatMul", [a, np.float32(0.03), a_zero, *rest], (0,), case["threads"], "byte_matmul",
           transB=int(turned), **_limits(case))  # fmt: skip
    if not turned:
        _check("MatMulInteger", [a, b, a_zero, rest[2]], (0, 2), case["threads"], "byte_matmul")


@pytest.mark.optimised("claims")
@settings(max_examples=40, deadline=None)
@given(SEEDS, THREADS, BYTES, BYTES, st.integers(1, 70), st.integers(1, 9))
def test_sums_means_and_maxima(seed: int, threads: int, a: Any, y: Any, channels: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, channels, side, side)
    x, other = _bytes(rng, a, *shape), _bytes(rng, y, *shape)
    zeros = [np.asarray(_bytes(rng, dtype, 1)[0]) for dtype in (a, y, y)]
    scales = [np.float32(scale) for scale in (0.02, 0.05, 0.04)]
    operands = [x, scales[0], zeros[0], other, scales[1], zeros[1], scales[2], zeros[2]]
    _check("QLinearAdd", operands, (0, 3), threads, "byte_add", min=-1.0)
    _check(
        "QLinearGlobalAveragePool", [x, scales[0], zeros[0], scales[1], zeros[1]], (0,), threads, "byte_mean"
    )
    _check("MaxPool", [x], (0,), threads, "byte_max_pool", kernel_shape=[2, 3], pads=[1, 1, 1, 1])


@pytest.mark.optimised("claims")
@settings(max_examples=40, deadline=None)
@given(SEEDS, THREADS, BYTES, st.integers(1, 3000))
def test_conversions(seed: int, threads: int, dtype: Any, n: int) -> None:
    rng = np.random.default_rng(seed)
    x, zero = (rng.integers(-999, 999, n) / 8).astype("f4"), np.asarray(_bytes(rng, dtype, 1)[0])
    _check("QuantizeLinear", [x, np.float32(0.25), zero], (0,), threads, "quantise")
    _check("DequantizeLinear", [_bytes(rng, dtype, n), np.float32(0.37), zero], (0,), threads, "dequantise")


@pytest.mark.parametrize("group", [1, 8])
def test_a_zero_point_of_floats_is_left_to_the_decomposition(group: int) -> None:
    rng = np.random.default_rng(7)
    builder = api.GraphBuilder("QLinearConv")
    builder.input("x", "U8", (1, 8, 12, 12))
    inputs = [np.float32(0.03), np.uint8(99), rng.integers(-128, 128, (8, 8 // group, 3, 3), np.int8),
              np.float32(0.01), np.float32(3), np.float32(0.11), np.uint8(120)]  # fmt: skip
    for i, value in enumerate(inputs):
        builder.weight(f"x{i}", np.asarray(value))
    builder.node("QLinearConv", ["x", *(f"x{i}" for i in range(len(inputs)))], ["y"], group=group)
    builder.output("y")
    model = builder.finish()
    x = {"x": rng.integers(0, 256, (1, 8, 12, 12), np.uint8)}
    session = model.session()
    got, want = (np.asarray(s.run(x)["y"]) for s in (session, model.session(claims=False)))
    np.testing.assert_array_equal(got, want)
    assert not any(step["candidate"].startswith("byte_") for step in session.explain()["steps"])
