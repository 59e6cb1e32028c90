"""Giving elements other places and shapes."""

from __future__ import annotations

from collections.abc import Sequence

from walle_engine._native import (
    Array,
    arange,
    asarray,
    broadcast_shapes,
    broadcast_to,
    concat,
    cumulative_sum,
    flip,
    permute_dims,
    reshape,
    take,
)

__all__ = [
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "concat",
    "expand_dims",
    "flip",
    "moveaxis",
    "permute_dims",
    "repeat",
    "reshape",
    "roll",
    "squeeze",
    "stack",
    "tile",
    "unstack",
]


def _axis(axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise IndexError(f"there is no axis {axis} in an array of {ndim} dims")
    return axis % ndim


def _axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    axes = tuple(_axis(one, ndim) for one in ((axis,) if isinstance(axis, int) else axis))
    if len(set(axes)) != len(axes):
        raise ValueError(f"an axis is named twice in {axis}")
    return axes


def broadcast_arrays(*arrays: Array) -> list[Array]:
    """Stretch arrays to the shape they have together; read-only views."""
    shape = broadcast_shapes(*(x.shape for x in arrays))
    return [broadcast_to(x, shape) for x in arrays]


def expand_dims(x: Array, /, *, axis: int | Sequence[int] = 0) -> Array:
    """Put a dim of one element at ``axis`` of the result."""
    added = (axis,) if isinstance(axis, int) else tuple(axis)
    ndim = x.ndim + len(added)
    places = set(_axes(added, ndim))
    sizes = iter(x.shape)
    return x[tuple(None if i in places else slice(next(sizes)) for i in range(ndim))]


def squeeze(x: Array, /, axis: int | Sequence[int] | None = None) -> Array:
    """Drop dims of one element."""
    axes = (
        _axes(axis, x.ndim) if axis is not None else tuple(i for i, size in enumerate(x.shape) if size == 1)
    )
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"squeeze() drops dims of one element; shape {x.shape} has others at {axis}")
    return x[tuple(0 if i in axes else slice(None) for i in range(x.ndim))]


def moveaxis(x: Array, source: int | Sequence[int], destination: int | Sequence[int], /) -> Array:
    """Move axes to other places; the others keep their order."""
    sources, tos = _axes(source, x.ndim), _axes(destination, x.ndim)
    if len(sources) != len(tos):
        raise ValueError("moveaxis() takes as many destinations as sources")
    order = [axis for axis in range(x.ndim) if axis not in sources]
    for to, axis in sorted(zip(tos, sources, strict=True)):
        order.insert(to, axis)
    return permute_dims(x, tuple(order))


def repeat(x: Array, repeats: int | Array, /, *, axis: int | None = None) -> Array:
    """Repeat each element, or each slice along ``axis``, so many times."""
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = _axis(axis, x.ndim)
    counts = asarray(repeats)
    if counts.dtype.kind not in "iu":
        raise TypeError(f"repeat() takes integers, not {counts.dtype}")
    if counts.size and bool((counts < 0).any()):
        raise ValueError("repeat() takes counts of 0 or more")
    size = x.shape[axis]
    if counts.ndim == 0 or counts.shape == (1,):
        count = int(counts.item())
        indices = broadcast_to(arange(size).reshape(-1, 1), (size, count)).reshape(-1)
        return take(x, indices, axis=axis)
    if counts.shape != (size,):
        raise ValueError(f"repeat() takes one count, or one of each of {size} elements, not {counts.shape}")
    # Where each run of equal indices begins, add one: the running sum is the index.
    ends = cumulative_sum(counts.astype("int64"))
    total = int(ends[-1].item()) if size else 0
    steps = [0] * (total + 1)
    for end in ends.tolist():
        steps[end] += 1
    indices = cumulative_sum(asarray(steps[:total], dtype="int64"))
    return take(x, indices, axis=axis)


def roll(x: Array, /, shift: int | Sequence[int], *, axis: int | Sequence[int] | None = None) -> Array:
    """Shift elements along axes; what leaves at one end comes in at the other."""
    if axis is None:
        if not isinstance(shift, int):
            raise TypeError("roll() without an axis takes one shift")
        return roll(x.reshape(-1), shift, axis=0).reshape(x.shape)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    shifts = (shift,) * len(axes) if isinstance(shift, int) else tuple(shift)
    if len(shifts) != len(axes):
        raise ValueError("roll() takes one shift, or as many as axes")
    for one, by in zip(axes, shifts, strict=True):
        place = _axis(one, x.ndim)
        size = x.shape[place]
        cut = -by % size if size else 0
        if cut:
            key = (slice(None),) * place
            x = concat([x[(*key, slice(cut, None))], x[(*key, slice(None, cut))]], axis=place)
    return x.copy()


def stack(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
    """Join arrays of one shape along a new axis."""
    if not arrays:
        raise ValueError("stack() needs one array or more")
    return concat([expand_dims(x, axis=axis) for x in arrays], axis=_axis(axis, arrays[0].ndim + 1))


def tile(x: Array, repetitions: Sequence[int], /) -> Array:
    """Repeat the whole array along each axis so many times."""
    counts = (repetitions,) if isinstance(repetitions, int) else tuple(repetitions)
    ndim = max(x.ndim, len(counts))
    shape = (1,) * (ndim - x.ndim) + x.shape
    counts = (1,) * (ndim - len(counts)) + counts
    x = x.reshape(shape)
    for axis, count in enumerate(counts):
        if count != 1:
            x = concat([x] * count, axis=axis) if count else x[(slice(None),) * axis + (slice(0),)]
    return x.copy()


def unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    """Take an array apart along an axis."""
    place = _axis(axis, x.ndim)
    return tuple(x[(slice(None),) * place + (i,)] for i in range(x.shape[place]))
