"""Sorting, searching and sets of ``walle_task.matrix`` beside NumPy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from walle_task import matrix

REALS = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)] + [
    "float32",
    "float64",
    "bool",
]
type Numbers = np.ndarray[Any, Any]


@st.composite
def arrays(draw: st.DrawFn, dtypes: list[str] | None = None, min_dims: int = 1) -> Numbers:
    """Few and many equal elements, extreme ones, NaN and both zeros."""
    dtype = np.dtype(draw(st.sampled_from(dtypes or REALS)))
    shape = draw(
        hnp.array_shapes(min_dims=min_dims, max_dims=3, min_side=0, max_side=12)
        | st.sampled_from([(70,), (300,), (2, 140)])
    )
    elements: Any = hnp.from_dtype(dtype, allow_nan=True) if dtype.kind != "c" else None
    if draw(st.booleans()):
        some: list[Any] = [0, 1, 2, 100] + (
            [-0.0, -1.5, float("nan"), float("inf"), float("-inf")] if dtype.kind in "fc" else []
        )
        elements = st.sampled_from(some).map(lambda x: dtype.type(x))
    x = draw(hnp.arrays(dtype, shape, elements=elements))
    return np.flip(x) if draw(st.booleans()) else x


def bits(x: Any) -> Numbers:
    """What tells -0 from 0; all NaN alike."""
    found = np.asarray(x)
    if found.dtype.kind != "f":
        return found
    return np.where(np.isnan(found), np.nan, found).view(f"u{found.itemsize}")


@given(data=st.data(), x=arrays(), descending=st.booleans(), stable=st.booleans())
def test_sorts_are_stable(data: st.DataObject, x: Numbers, descending: bool, stable: bool):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    ours = matrix.asarray(x)
    order = matrix.argsort(ours, axis=axis, descending=descending, stable=stable)
    if descending:  # the rising order of the reverse, reversed
        backwards = np.argsort(np.flip(x, axis=axis), axis=axis, kind="stable")
        want = np.flip(x.shape[axis] - 1 - backwards, axis=axis)
    else:
        want = np.argsort(x, axis=axis, kind="stable")
    np.testing.assert_array_equal(np.asarray(order), want)
    result = np.asarray(matrix.sort(ours, axis=axis, descending=descending, stable=stable))
    assert result.dtype == x.dtype
    np.testing.assert_array_equal(bits(result), bits(np.take_along_axis(x, np.asarray(order), axis=axis)))
    if not descending:
        np.testing.assert_array_equal(result, np.sort(x, axis=axis))


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32", "uint64", "uint16"])
@pytest.mark.parametrize("kind", ["random", "few", "sorted", "organ", "equal"])
def test_long_lines_are_shared_among_threads(dtype: str, kind: str):
    n = 100_003
    rng = np.random.default_rng(1)
    x = {
        "random": lambda: rng.standard_normal(n) * 1e4,
        "few": lambda: rng.integers(0, 5, n),
        "sorted": lambda: np.arange(n),
        "organ": lambda: np.minimum(np.arange(n), np.arange(n)[::-1]),
        "equal": lambda: np.full(n, 7),
    }[kind]().astype(np.float64)
    x = np.abs(x).astype(dtype) if dtype.startswith("u") else x.astype(dtype)
    np.testing.assert_array_equal(np.asarray(matrix.sort(matrix.asarray(x))), np.sort(x))
    np.testing.assert_array_equal(np.asarray(matrix.argsort(matrix.asarray(x))), np.argsort(x, kind="stable"))


@given(
    x=arrays(["int8", "int64", "uint64", "float32", "float64"]),
    side=st.sampled_from(["left", "right"]),
    shuffled=st.booleans(),
)
def test_searchsorted(x: Numbers, side: Any, shuffled: bool):
    line = x.reshape(-1)
    values = line[::2]
    if shuffled:
        sorter = np.argsort(line, kind="stable")
        got = matrix.searchsorted(
            matrix.asarray(line), matrix.asarray(values), side=side, sorter=matrix.asarray(sorter)
        )
        np.testing.assert_array_equal(
            np.asarray(got), np.searchsorted(line, values, side=side, sorter=sorter)
        )
    else:
        line = np.sort(line)
        got = matrix.searchsorted(matrix.asarray(line), matrix.asarray(values), side=side)
        np.testing.assert_array_equal(np.asarray(got), np.searchsorted(line, values, side=side))


@given(x=arrays([*REALS, "complex64", "complex128"], min_dims=0))
def test_sets(x: Numbers):
    ours = matrix.unique_all(matrix.asarray(x))
    values, first, inverse, counts = (np.asarray(part) for part in ours)
    want, want_first, want_inverse, want_counts = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    np.testing.assert_array_equal(values, want)
    assert values.dtype == x.dtype
    assert inverse.shape == x.shape
    np.testing.assert_array_equal(counts, want_counts)
    np.testing.assert_array_equal(first, want_first)
    np.testing.assert_array_equal(inverse, want_inverse.reshape(x.shape))
    for function, parts in (("unique_counts", (0, 3)), ("unique_inverse", (0, 2))):
        found = getattr(matrix, function)(matrix.asarray(x))
        for one, part in zip(found, parts, strict=True):
            np.testing.assert_array_equal(np.asarray(one), (values, first, inverse, counts)[part])
    np.testing.assert_array_equal(np.asarray(matrix.unique_values(matrix.asarray(x))), values)


@given(data=st.data(), x=arrays([*REALS, "complex64"]))
def test_nonzero_and_counts(data: st.DataObject, x: Numbers):
    ours = matrix.asarray(x)
    for got, want in zip(matrix.nonzero(ours), np.nonzero(x), strict=True):
        np.testing.assert_array_equal(np.asarray(got), want)
    axis = data.draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    keep = data.draw(st.booleans())
    got = np.asarray(matrix.count_nonzero(ours, axis=axis, keepdims=keep))
    np.testing.assert_array_equal(got, np.count_nonzero(x, axis=axis, keepdims=keep))


@given(data=st.data(), x=arrays(["int16", "uint8", "float64"]))
def test_differences(data: st.DataObject, x: Numbers):
    axis, n = data.draw(st.integers(-x.ndim, x.ndim - 1)), data.draw(st.integers(0, 3))
    x = np.where(np.isnan(x) | np.isinf(x), 0, x).astype(x.dtype)
    before = x if data.draw(st.booleans()) else None
    ours = matrix.asarray(x)
    got = matrix.diff(ours, axis=axis, n=n, prepend=None if before is None else ours)
    how: dict[str, Any] = {} if before is None or n == 0 else {"prepend": before}
    with np.errstate(over="ignore"):
        want = np.diff(x, axis=axis, n=n, **how)
    if n or before is None:
        np.testing.assert_array_equal(np.asarray(got), want)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match=r"sort.*one dim or more"):
        matrix.sort(matrix.asarray(1.0))
    with pytest.raises(TypeError, match=r"argsort.*complex numbers have no order"):
        matrix.argsort(matrix.asarray([1j]))
    with pytest.raises(IndexError):
        matrix.sort(matrix.asarray([1.0]), axis=1)
    with pytest.raises(ValueError, match="'left' or 'right', not 'top'"):
        matrix.searchsorted(matrix.asarray([1]), matrix.asarray([1]), side="top")
    with pytest.raises(ValueError, match="sorter has 7 at place 0; places are 0 to 0"):
        matrix.searchsorted(matrix.asarray([1]), matrix.asarray([1]), sorter=matrix.asarray([7]))
    with pytest.raises(ValueError, match="one dim or more"):
        matrix.nonzero(matrix.asarray(1))
    with pytest.raises(ValueError, match="0 times or more, not -1"):
        matrix.diff(matrix.asarray([1]), n=-1)
