"""Random inputs for a model: for the converter's check and for trying a model out. Needs NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from walle_engine import wmodel
from walle_shared.errors import ModelError

__all__ = ["SYMBOL_SIZES", "Sample", "random_array", "samples"]

type Array = np.ndarray[Any, Any]
type Sample = Mapping[str, Array]

SYMBOL_SIZES = (1, 3)
INTEGERS_BELOW = 2  # because most integer inputs index something, and of token types there are two


def samples(inputs: Sequence[wmodel.Value], sizes: Mapping[str, int], seed: int) -> Iterator[Sample]:
    """Yield random inputs; one sample where every dim is known, else one for each of ``SYMBOL_SIZES``.

    Raises:
        ModelError: if the type of an input says too little to make one.
    """
    rng = np.random.default_rng(seed)
    dims = (dim for value in inputs for dim in value.shape or ())
    open_dims = any(isinstance(dim, str) and dim not in sizes for dim in dims)
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

    Raises:
        ModelError: if the input is no tensor of numbers of known rank.
    """
    if value.shape is None or value.dtype not in wmodel.DTYPE_BYTES:
        raise ModelError(
            f"input {value.name!r} is no tensor of numbers of known rank, so no random one can be made: "
            "convert without the check"
        )
    shape = [dim if isinstance(dim, int) else sizes.get(dim, default) for dim in value.shape]
    dtype = wmodel.numpy_dtype(value.dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        return rng.integers(0, INTEGERS_BELOW, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)
