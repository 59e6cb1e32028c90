"""Finding elements and choosing among them."""

from __future__ import annotations

from collections.abc import Sequence

from walle_engine._native import Array, argmax, argmin, asarray, nonzero, searchsorted, sum, where

__all__ = ["argmax", "argmin", "count_nonzero", "nonzero", "searchsorted", "where"]


def count_nonzero(x: Array, /, *, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
    """Return how many elements are not 0, in all or along axes."""
    return sum(asarray(x) != 0, axis=axis, dtype="int64", keepdims=keepdims)
