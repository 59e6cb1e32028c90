"""NumPy's names for what the standard names otherwise: one table."""

from __future__ import annotations

from typing import Any

from walle_engine._native import Array, cbrt, exp2
from walle_task.matrix import creation, dtypes, elementwise, manipulation, statistical

__all__ = [
    "absolute",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "array",
    "ascontiguousarray",
    "atleast_1d",
    "atleast_2d",
    "bitwise_not",
    "cbrt",
    "concatenate",
    "conjugate",
    "copy",
    "cumprod",
    "cumsum",
    "exp2",
    "fabs",
    "fix",
    "invert",
    "issubdtype",
    "left_shift",
    "mod",
    "ndarray",
    "negative",
    "ndim",
    "power",
    "ravel",
    "right_shift",
    "rint",
    "shape",
    "size",
    "swapaxes",
    "transpose",
    "true_divide",
    "hstack",
    "vstack",
    "average",
    "isclose",
    "allclose",
    "array_equal",
    "nan_to_num",
    "ptp",
]

ndarray = Array

absolute = fabs = elementwise.abs
arccos = elementwise.acos
arccosh = elementwise.acosh
arcsin = elementwise.asin
arcsinh = elementwise.asinh
arctan = elementwise.atan
arctan2 = elementwise.atan2
arctanh = elementwise.atanh
bitwise_not = invert = elementwise.bitwise_invert
conjugate = elementwise.conj
fix = elementwise.trunc
left_shift = elementwise.bitwise_left_shift
mod = elementwise.remainder
negative = elementwise.negative
power = elementwise.pow
right_shift = elementwise.bitwise_right_shift
rint = elementwise.round
true_divide = elementwise.divide
concatenate = manipulation.concat


def array(obj: Any, dtype: object = None, *, copy: bool = True) -> Array:
    """Make an array of numbers, sequences or a buffer: a copy, unless told otherwise."""
    return creation.asarray(obj, dtype=dtype, copy=True if copy else None)


def ascontiguousarray(obj: Any, dtype: object = None) -> Array:
    """Make an array whose elements lie together."""
    x = creation.asarray(obj, dtype=dtype)
    return x.reshape(x.shape) if memoryview(x).c_contiguous else x.copy()


def copy(x: Any) -> Array:
    """Return a dense copy."""
    return creation.asarray(x, copy=True)


def cumsum(x: Array, axis: int | None = None, dtype: object = None) -> Array:
    """Running sums; of all elements in a row where no axis is named."""
    return (
        statistical.cumulative_sum(x, axis=axis, dtype=dtype)
        if axis is not None
        else statistical.cumulative_sum(creation.asarray(x).reshape(-1), dtype=dtype)
    )


def cumprod(x: Array, axis: int | None = None, dtype: object = None) -> Array:
    """Running products; of all elements in a row where no axis is named."""
    return (
        statistical.cumulative_prod(x, axis=axis, dtype=dtype)
        if axis is not None
        else statistical.cumulative_prod(creation.asarray(x).reshape(-1), dtype=dtype)
    )


def transpose(x: Array, axes: tuple[int, ...] | None = None) -> Array:
    """Return a view with the axes in another order: the opposite one where none is given."""
    return x.T if axes is None else manipulation.permute_dims(x, axes)


def swapaxes(x: Array, axis1: int, axis2: int) -> Array:
    """Return a view with two axes exchanged."""
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return manipulation.permute_dims(x, tuple(order))


def ravel(x: Array) -> Array:
    """Return all elements in a row; a view where that can be."""
    return creation.asarray(x).reshape(-1)


def shape(x: Any) -> tuple[int, ...]:
    """Return the sizes, outermost first."""
    return creation.asarray(x).shape


def size(x: Any) -> int:
    """Return the number of elements."""
    return creation.asarray(x).size


def ndim(x: Any) -> int:
    """Return the number of dimensions."""
    return creation.asarray(x).ndim


def atleast_1d(x: Any) -> Array:
    """Return an array of one dim or more."""
    found = creation.asarray(x)
    return found.reshape(1) if found.ndim == 0 else found


def atleast_2d(x: Any) -> Array:
    """Return an array of two dims or more."""
    found = atleast_1d(x)
    return manipulation.expand_dims(found) if found.ndim == 1 else found


def hstack(arrays: list[Array]) -> Array:
    """Join arrays side by side: along the second axis, or the only one."""
    parts = [atleast_1d(x) for x in arrays]
    return manipulation.concat(parts, axis=0 if parts[0].ndim == 1 else 1)


def vstack(arrays: list[Array]) -> Array:
    """Join arrays one below the other."""
    return manipulation.concat([atleast_2d(x) for x in arrays], axis=0)


def issubdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind, by the standard's names of kinds."""
    return dtypes.isdtype(dtype, kind)


def average(x: Array, axis: int | None = None, weights: Array | None = None) -> Array:
    """Return the mean, each element counted as much as it weighs."""
    if weights is None:
        return statistical.mean(x, axis=axis)
    return statistical.sum(x * weights, axis=axis) / statistical.sum(
        manipulation.broadcast_to(weights, x.shape), axis=axis
    )


def ptp(x: Array, axis: int | None = None) -> Array:
    """Return the distance from the smallest element to the largest."""
    return statistical.max(x, axis=axis) - statistical.min(x, axis=axis)


def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, *, equal_nan: bool = False) -> Array:
    """Where two arrays are as good as equal: |a - b| <= atol + rtol * |b|, or the same infinity."""
    x, y = creation.asarray(a), creation.asarray(b)
    near = elementwise.abs(x - y) <= atol + rtol * elementwise.abs(y)
    result = (near & elementwise.isfinite(y)) | (x == y)
    return result | (elementwise.isnan(x) & elementwise.isnan(y)) if equal_nan else result


def allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, *, equal_nan: bool = False) -> bool:
    """Whether two arrays are as good as equal everywhere."""
    return bool(isclose(a, b, rtol, atol, equal_nan=equal_nan).all())


def array_equal(a: Any, b: Any) -> bool:
    """Whether two arrays have one shape and equal elements."""
    x, y = creation.asarray(a), creation.asarray(b)
    return x.shape == y.shape and bool((x == y).all())


def nan_to_num(x: Array, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Array:
    """Put numbers in the place of NaN and of infinities."""
    if x.dtype.kind not in "fc":
        return x.copy()
    limits = dtypes.finfo(x.dtype)
    high = limits.max if posinf is None else posinf
    low = limits.min if neginf is None else neginf
    result = x.copy()
    result[elementwise.isnan(x)] = nan
    infinite = elementwise.isinf(x)
    result[infinite & (elementwise.real(x) > 0)] = high
    result[infinite & (elementwise.real(x) < 0)] = low
    return result
