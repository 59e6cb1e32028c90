"""Making arrays."""

from __future__ import annotations

from walle_engine._native import (
    Array,
    DType,
    arange,
    asarray,
    broadcast_to,
    dtypes,
    empty,
    from_dlpack,
    full,
    ones,
    where,
    zeros,
)

__all__ = [
    "arange",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "full",
    "full_like",
    "linspace",
    "meshgrid",
    "ones",
    "ones_like",
    "tril",
    "triu",
    "zeros",
    "zeros_like",
]


def empty_like(x: Array, /, *, dtype: object = None, device: str | None = None) -> Array:
    """Make an array like another, with undefined elements."""
    return empty(x.shape, dtype=dtype or x.dtype, device=device)


def zeros_like(x: Array, /, *, dtype: object = None, device: str | None = None) -> Array:
    """Make an array of zeros like another."""
    return zeros(x.shape, dtype=dtype or x.dtype, device=device)


def ones_like(x: Array, /, *, dtype: object = None, device: str | None = None) -> Array:
    """Make an array of ones like another."""
    return ones(x.shape, dtype=dtype or x.dtype, device=device)


def full_like(x: Array, /, fill_value: complex, *, dtype: object = None, device: str | None = None) -> Array:
    """Make an array of one number like another array."""
    return full(x.shape, fill_value, dtype=dtype or x.dtype, device=device)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: object = None,
    device: str | None = None,
) -> Array:
    """Make a matrix of zeros with ones on diagonal ``k``."""
    columns = n_rows if n_cols is None else n_cols
    result = zeros((n_rows, columns), dtype=dtype, device=device)
    first, count = (0, k) if k >= 0 else (-k, 0), min(n_rows + min(k, 0), columns - max(k, 0))
    if count > 0:
        rows = arange(first[0], first[0] + count)
        result[rows, rows + k] = 1
    return result


def linspace(
    start: complex,
    stop: complex,
    /,
    num: int,
    *,
    dtype: object = None,
    device: str | None = None,
    endpoint: bool = True,
) -> Array:
    """Make ``num`` numbers evenly spaced from ``start`` to ``stop``; without ``endpoint``, up to it."""
    if num < 0:
        raise ValueError(f"linspace() makes 0 numbers or more, not {num}")
    parts = num - 1 if endpoint else num
    is_complex = isinstance(start, complex) or isinstance(stop, complex)
    steps = arange(num, dtype=dtypes["complex128" if is_complex else "float64"])
    delta = stop - start
    # As NumPy: dividing the span first is exact more often, but for spans too small to divide.
    step = delta / parts if parts > 0 else delta
    result = steps * step + start if step != 0 else steps / max(parts, 1) * delta + start
    if endpoint and num > 1:
        result[-1] = stop
    return asarray(result, dtype=dtype if dtype is not None else result.dtype, device=device)


def meshgrid(*arrays: Array, indexing: str = "xy") -> tuple[Array, ...]:
    """Make coordinate arrays of the grid that one-dimensional arrays span."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"indexing is 'xy' or 'ij', not {indexing!r}")
    if any(x.ndim > 1 for x in arrays):
        raise ValueError("meshgrid() takes arrays of one dimension")
    if len({x.dtype.name for x in arrays}) > 1:
        raise ValueError("meshgrid() takes arrays of one dtype")
    count = len(arrays)
    places = list(range(count))
    if indexing == "xy" and count > 1:
        places[0], places[1] = 1, 0
    shape = [0] * count
    for x, place in zip(arrays, places, strict=True):
        shape[place] = x.size
    grids: list[Array] = []
    for x, place in zip(arrays, places, strict=True):
        row = [1] * count
        row[place] = -1
        grids.append(broadcast_to(x.reshape(tuple(row)), tuple(shape)).copy())
    return tuple(grids)


def _below(x: Array, k: int) -> Array:
    """Where an element is on diagonal ``k`` or below."""
    if x.ndim < 2:
        raise ValueError(f"tril() and triu() take two dimensions or more, not {x.ndim}")
    rows, columns = x.shape[-2:]
    return arange(rows).reshape(-1, 1) >= arange(columns) - k


def _zero(dtype: DType) -> Array:
    return zeros((), dtype=dtype)


def tril(x: Array, /, *, k: int = 0) -> Array:
    """Keep what is on diagonal ``k`` of the last two dimensions or below; zeros elsewhere."""
    return where(_below(x, k), x, _zero(x.dtype))


def triu(x: Array, /, *, k: int = 0) -> Array:
    """Keep what is on diagonal ``k`` of the last two dimensions or above; zeros elsewhere."""
    return where(_below(x, k - 1), _zero(x.dtype), x)
