"""Truth of many elements at once, and their differences."""

from __future__ import annotations

from walle_engine._native import Array, all, any, asarray, broadcast_to, concat

__all__ = ["all", "any", "diff"]


def diff(
    x: Array,
    /,
    *,
    axis: int = -1,
    n: int = 1,
    prepend: Array | None = None,
    append: Array | None = None,
) -> Array:
    """Return each element less the one before along an axis, n times over."""
    a = asarray(x)
    if a.ndim == 0:
        raise ValueError("diff() takes an array of one dim or more")
    if n < 0:
        raise ValueError(f"diff() is taken 0 times or more, not {n}")
    if not -a.ndim <= axis < a.ndim:
        raise IndexError(f"diff(): axis {axis} of an array of {a.ndim} dims")
    at = axis % a.ndim
    parts = [_piece(prepend, a, at), a, _piece(append, a, at)]
    result = concat([part for part in parts if part is not None], axis=at) if prepend is not append else a
    later, sooner = [slice(None)] * a.ndim, [slice(None)] * a.ndim
    later[at], sooner[at] = slice(1, None), slice(None, -1)
    for _ in range(n):
        if result.dtype.kind == "b":
            result = result[tuple(later)] != result[tuple(sooner)]
        else:
            result = result[tuple(later)] - result[tuple(sooner)]
    return result


def _piece(piece: Array | None, x: Array, axis: int) -> Array | None:
    """What is joined to x; a single number suits all lines."""
    if piece is None:
        return None
    found = asarray(piece)
    return broadcast_to(found, (*x.shape[:axis], 1, *x.shape[axis + 1 :])) if found.ndim == 0 else found
