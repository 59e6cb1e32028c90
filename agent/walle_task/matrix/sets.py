"""Arrays as sets. Values come in order; every NaN is a value of its own, and -0 equals 0."""

from __future__ import annotations

from typing import NamedTuple

from walle_engine import _native
from walle_engine._native import Array, asarray, concat, ones, reshape, sort, take

__all__ = ["unique", "unique_all", "unique_counts", "unique_inverse", "unique_values"]


class UniqueAll(NamedTuple):
    """Values, the place of the first of each, which value each element has, and how many each has."""

    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class UniqueCounts(NamedTuple):
    """Values, and how many elements have each."""

    values: Array
    counts: Array


class UniqueInverse(NamedTuple):
    """Values, and which of them each element has."""

    values: Array
    inverse_indices: Array


def unique_all(x: Array, /) -> UniqueAll:
    """Return the different values and all that is known of them."""
    found = asarray(x)
    flat = reshape(found, (-1,)) if found.size else reshape(found, (0,))
    first, inverse, counts = _native.unique(flat)
    return UniqueAll(take(flat, first, axis=0), first, reshape(inverse, found.shape), counts)


def unique_counts(x: Array, /) -> UniqueCounts:
    """Return the different values and how many elements have each."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Array, /) -> UniqueInverse:
    """Return the different values, and which of them each element has."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Array, /) -> Array:
    """Return the different values."""
    found = asarray(x)
    if found.dtype.kind == "c" or found.size < 2:
        return unique_all(found).values
    values = sort(reshape(found, (-1,)))  # quicker than their places
    return values[concat([ones(1, dtype="bool"), values[1:] != values[:-1]])]


unique = unique_values  # NumPy's name
