"""Products and convolutions are as exact as the session's precision says, over random shapes and options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from walle_engine import api

Array = np.ndarray[Any, Any]

#: Largest error of an element over the sum of its terms' magnitudes: float32 sums of up to 2000 terms; two
#: parts of bfloat16 for each factor, or Winograd's way; one part, which rounds either factor by up to 2^-8.
BOUNDS: dict[api.Precision, float] = {"highest": 2e-6, "high": 2.0**-15 + 2e-6, "medium": 2.0**-7 + 2e-5}

SEEDS = st.integers(0, 99)
THREADS = st.integers(1, 3)


def _values(seed: int, *shape: int) -> Array:
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(np.float32)


def _check(
    builder: api.GraphBuilder, feeds: dict[str, Array], want: Array, size: Array, threads: int
) -> None:
    """Run in every precision; ``size`` is the sum of magnitudes behind each element."""
    builder.output("y")
    model = builder.finish()
    for precision, bound in BOUNDS.items():
        session = model.session(precision=precision, threads=threads)
        error = np.abs(session.run(feeds)["y"] - want) / (size + 1e-30)
        assert error.max(initial=0) <= bound, precision


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 80), st.integers(1, 300), st.integers(1, 3),
    st.booleans(), st.booleans(), SEEDS, THREADS,
)  # fmt: skip
def test_products(
    m: int, n: int, k: int, batch: int, constant: bool, bias: bool, seed: int, threads: int
) -> None:
    a, b, c = _values(seed, batch, m, k), _values(seed, k, n), _values(seed, n)
    builder = api.GraphBuilder("product")
    builder.input("a", "F32", a.shape)
    feeds = {"a": a}
    if constant:
        builder.weight("b", b)
    else:
        builder.input("b", "F32", b.shape)
        feeds["b"] = b
    builder.weight("c", c)
    builder.node("MatMul", ["a", "b"], ["p"])
    builder.node(*(("Add", ["p", "c"]) if bias else ("Identity", ["p"])), ["s"])
    builder.node("Relu", ["s"], ["y"])
    added = c if bias else 0
    want = np.maximum(np.matmul(a.astype(np.float64), b) + added, 0)
    size = np.matmul(np.abs(a).astype(np.float64), np.abs(b)) + np.abs(added)
    _check(builder, feeds, want, size, threads)


def _convolve(x: Array, w: Array, stride: int, pad: int, group: int) -> Array:
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    kernel = w.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]
    parts = [
        np.einsum("nchwij,fcij->nfhw", part, filters)
        for part, filters in zip(np.split(windows, group, 1), np.split(w, group, 0), strict=True)
    ]
    return np.concatenate(parts, 1)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([1, 3, 5, 31, 32, 48]), st.sampled_from([1, 7, 33, 64]), st.sampled_from([1, 3, 5]),
    st.integers(1, 2), st.integers(0, 2), st.integers(1, 2), st.integers(1, 2), st.integers(5, 14),
    st.booleans(), SEEDS, THREADS,
)  # fmt: skip
@example(3, 64, 3, 1, 2, 1, 1, 8, False, 49, 1)  # corners of few terms, where tiles would lose most
@example(8, 64, 3, 1, 1, 1, 1, 10, False, 10, 1)
def test_convolutions(
    channels: int, filters: int, kernel: int, stride: int, pad: int, group: int, items: int, side: int,
    residual: bool, seed: int, threads: int,
) -> None:  # fmt: skip
    x = _values(seed, items, group * channels, side, side + 1)
    w, bias = _values(seed, group * filters, channels, kernel, kernel), _values(seed, group * filters)
    want = _convolve(x, w, stride, pad, group) + bias[:, None, None]
    size = _convolve(np.abs(x), np.abs(w), stride, pad, group) + np.abs(bias)[:, None, None]
    builder = api.GraphBuilder("convolution")
    builder.input("x", "F32", x.shape)
    builder.weight("w", w)
    builder.weight("b", bias)
    feeds = {"x": x}
    builder.node(
        "Conv", ["x", "w", "b"], ["p"], strides=[stride, stride], pads=[pad] * 4, group=group,
        kernel_shape=[kernel, kernel],
    )  # fmt: skip
    added = _values(seed, *want.shape)
    if residual:
        builder.input("r", "F32", added.shape)
        builder.node("Add", ["p", "r"], ["y"])
        feeds["r"] = added
    else:
        builder.node("Identity", ["p"], ["y"])
    _check(builder, feeds, want + added * residual, size + np.abs(added) * residual, threads)


def _product(a: Array, b: Array) -> api.Model:
    builder = api.GraphBuilder("product")
    builder.input("a", "F32", a.shape)
    builder.weight("b", b)
    builder.node("MatMul", ["a", "b"], ["y"])
    builder.output("y")
    return builder.finish()


def test_medium_is_bfloat16() -> None:
    """Where the CPU multiplies bfloat16 faster, 'medium' does, and only it."""
    a, b = _values(0, 64, 256), _values(1, 256, 128)
    model = _product(a, b)
    if not {kernel.isa for kernel in api.kernels() if kernel.available} & {"neonbf16", "avx512bf16", "amx"}:
        pytest.skip("this CPU has no bfloat16 products")
    for precision in BOUNDS:
        session = model.session(precision=precision)
        session.run({"a": a})
        chosen = {step["candidate"] for step in session.explain()["steps"]}
        assert any("bf16x1" in name for name in chosen) == (precision == "medium")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e38, 1e-40])
def test_special_values_pass(value: float) -> None:
    """One odd element leaves other rows as they are, and makes of its own what float32 makes."""
    a, b = _values(0, 20, 70), np.abs(_values(1, 70, 33)) / 64
    a[7, 11] = value
    model = _product(a, b)
    want = np.matmul(a, b)
    for precision in BOUNDS:
        got = model.session(precision=precision).run({"a": a})["y"]
        np.testing.assert_allclose(got, want, rtol=0.02, atol=0.1)
