"""Products of arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

from walle_engine._native import Array, asarray, conj, matmul, permute_dims, reshape
from walle_engine._native import sum as _sum

__all__ = ["matmul", "matrix_transpose", "tensordot", "vecdot"]


def matrix_transpose(x: Array, /) -> Array:
    """Return a view with the last two dimensions exchanged."""
    return x.mT


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Sum the products along one axis; of complex numbers, the first are conjugated."""
    a, b = asarray(x1), asarray(x2)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("vecdot() takes arrays of one dimension or more")
    if axis >= 0 or axis < -min(a.ndim, b.ndim):
        raise ValueError(f"vecdot() takes an axis from {-min(a.ndim, b.ndim)} to -1, not {axis}")
    if a.shape[axis] != b.shape[axis]:
        raise ValueError(
            f"vecdot(): axis {axis} has {a.shape[axis]} elements, and {b.shape[axis]} in the second"
        )
    products = conj(a) * b
    return _sum(products, axis=axis, dtype=products.dtype)


def tensordot(x1: Array, x2: Array, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Array:
    """Sum the products along several axes: so many last and first ones, or those named in pairs."""
    a, b = asarray(x1), asarray(x2)
    if isinstance(axes, int):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise ValueError(f"tensordot() sums over 0 to {min(a.ndim, b.ndim)} axes, not {axes}")
        first, second = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        first, second = ([axis % x.ndim for axis in given] for x, given in zip((a, b), axes, strict=True))
    if [a.shape[i] for i in first] != [b.shape[i] for i in second]:
        raise ValueError(f"tensordot(): shapes {a.shape} and {b.shape} differ in the axes summed over")
    left = [i for i in range(a.ndim) if i not in first]
    right = [i for i in range(b.ndim) if i not in second]
    summed = math.prod(a.shape[i] for i in first)
    left_shape, right_shape = tuple(a.shape[i] for i in left), tuple(b.shape[i] for i in right)
    rows = reshape(permute_dims(a, (*left, *first)), (math.prod(left_shape), summed))
    columns = reshape(permute_dims(b, (*second, *right)), (summed, math.prod(right_shape)))
    return reshape(matmul(rows, columns), (*left_shape, *right_shape))
