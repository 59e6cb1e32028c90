"""Random inputs for a model: for the converter's check and for trying a model out. Needs NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from walle_engine import wmodel

__all__ = ["SYMBOL_SIZES", "Sample", "random_array", "samples"]

type Array = np.ndarray[Any, Any]
type Sample = Mapping[str, Array]

SYMBOL_SIZES = (1, 3)
INTEGERS_BELOW = 4  # small, because most integer inputs index something


def samples(inputs: Sequence[wmodel.Value], sizes: Mapping[str, int], seed: int) -> Iterator[Sample]:
    """Yield random inputs; one sample where every dim is known, else one for each of ``SYMBOL_SIZES``."""
    rng = np.random.default_rng(seed)
    open_dims = any(isinstance(dim, str) and dim not in sizes for value in inputs for dim in value.shape)
    for default in SYMBOL_SIZES if open_dims else SYMBOL_SIZES[:1]:
        yield {value.name: random_array(value, sizes, default, rng) for value in inputs}


def random_array(
    value: wmodel.Value, sizes: Mapping[str, int], default: int, rng: np.random.Generator
) -> Array:
    """Return a random tensor for an input.

    Args:
        value: the input.
        sizes: sizes of symbolic dims by name.
        default: the size of a symbolic dim not in ``sizes``.
        rng: where numbers come from: standard normal, small non-negative integers, or booleans.
    """
    shape = [dim if isinstance(dim, int) else sizes.get(dim, default) for dim in value.shape]
    dtype = wmodel.numpy_dtype(value.dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        return rng.integers(0, INTEGERS_BELOW, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)
