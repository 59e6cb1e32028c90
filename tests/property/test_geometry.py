"""Composites of random shapes: the decomposition equals NumPy's answer, claims and fusing on or off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_engine import api

Array = np.ndarray[Any, Any]


def _run(
    op: str, inputs: dict[str, Array], weights: dict[str, Array], attrs: dict[str, Any], **kw: Any
) -> Array:
    builder = api.GraphBuilder(op)
    for name, value in inputs.items():
        builder.input(name, "F32", value.shape)
    for name, value in weights.items():
        builder.weight(name, value)
    builder.node(op, [*inputs, *weights], ["y"], **attrs)
    builder.output("y")
    return np.asarray(builder.finish().session(**kw).run(inputs)["y"])


def _windows(x: Array, kernel: Any, stride: Any, dilation: Any, pads: Any, fill: float) -> Array:
    """``[N, C, OH, OW, KH, KW]``."""
    padded = np.pad(x, [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])], constant_values=fill)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


@st.composite
def _window_cases(draw: st.DrawFn) -> dict[str, Any]:
    kernel = [draw(st.integers(1, 3)) for _ in range(2)]
    dilation = [draw(st.integers(1, 2)) for _ in range(2)]
    # Less padding than the window reaches, so that every window sees some input.
    pads = [draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)]
    size = [(k - 1) * d + 1 + draw(st.integers(0, 5)) for k, d in zip(kernel, dilation, strict=True)]
    return {
        "kernel": kernel, "dilation": dilation, "pads": pads, "size": size,
        "stride": [draw(st.integers(1, 3)) for _ in range(2)],
        "batch": draw(st.integers(1, 2)), "group": draw(st.integers(1, 3)),
        "ins": draw(st.integers(1, 3)), "outs": draw(st.integers(1, 4)), "seed": draw(st.integers(0, 99)),
    }  # fmt: skip


def _attrs(case: dict[str, Any]) -> dict[str, Any]:
    return {"strides": case["stride"], "dilations": case["dilation"], "pads": case["pads"]}


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(_window_cases(), st.booleans())
def test_convolution_equals_the_direct_sum(case: dict[str, Any], fuse: bool) -> None:
    rng = np.random.default_rng(case["seed"])
    # Small whole numbers: every order of summation gives the same float32.
    x = rng.integers(-4, 5, (case["batch"], case["ins"] * case["group"], *case["size"])).astype(np.float32)
    w = rng.integers(-4, 5, (case["outs"] * case["group"], case["ins"], *case["kernel"])).astype(np.float32)
    b = rng.integers(-4, 5, w.shape[0]).astype(np.float32)
    seen = _windows(x, case["kernel"], case["stride"], case["dilation"], case["pads"], 0)
    grouped = seen.reshape(seen.shape[0], case["group"], case["ins"], *seen.shape[2:])
    kernels = w.reshape(case["group"], case["outs"], case["ins"], *case["kernel"])
    want = np.einsum("ngcyxij,gocij->ngoyx", grouped, kernels).reshape(seen.shape[0], -1, *seen.shape[2:4])
    got = _run("Conv", {"x": x}, {"w": w, "b": b}, {**_attrs(case), "group": case["group"]}, fuse=fuse)
    np.testing.assert_array_equal(got, want + b[:, None, None])


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(_window_cases(), st.booleans())
def test_pooling_equals_the_direct_reduction(case: dict[str, Any], claims: bool) -> None:
    rng = np.random.default_rng(case["seed"])
    x = rng.integers(-4, 5, (case["batch"], case["ins"], *case["size"])).astype(np.float32)
    attrs = {**_attrs(case), "kernel_shape": case["kernel"]}
    parameters = (case["kernel"], case["stride"], case["dilation"], case["pads"])
    want = _windows(x, *parameters, -np.inf).max((4, 5))
    seen = np.isfinite(want)  # dilated windows may fall between padding and input altogether
    got = _run("MaxPool", {"x": x}, {}, attrs, claims=claims)
    np.testing.assert_array_equal(got[seen], want[seen])
    total = _windows(x, *parameters, 0).sum((4, 5))
    count = _windows(np.ones_like(x), *parameters, 0).sum((4, 5))
    got = _run("AveragePool", {"x": x}, {}, attrs)
    np.testing.assert_allclose(got[seen], (total / np.maximum(count, 1))[seen], rtol=1e-6)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.integers(1, 3), max_size=2), st.integers(1, 40), st.integers(1, 40), st.integers(1, 300),
    st.booleans(), st.booleans(), st.sampled_from(["model", "reference"]),
)  # fmt: skip
def test_products_equal_numpy(
    batch: list[int], m: int, n: int, k: int, left_shared: bool, constant: bool, search: str
) -> None:
    rng = np.random.default_rng(m * n + k)
    a = rng.integers(-3, 4, (m, k) if left_shared else (*batch, m, k)).astype(np.float32)
    b = rng.integers(-3, 4, (*batch, k, n)).astype(np.float32)
    inputs, weights = ({"a": a}, {"b": b}) if constant else ({"a": a, "b": b}, {})
    got = _run("MatMul", inputs, weights, {}, search=search)
    np.testing.assert_array_equal(got, np.matmul(a, b))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_reductions_over_any_axes_equal_numpy(shape: list[int], data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    keep = data.draw(st.booleans())
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    got = _run("ReduceSum", {"x": x}, {}, {"axes": axes, "keepdims": int(keep)})
    np.testing.assert_array_equal(got, x.sum(tuple(axes), keepdims=keep))
