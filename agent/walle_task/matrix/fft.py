"""Fourier transforms: the extension ``fft`` of the array API standard, and NumPy's two-dimensional names.

Any length is quick, and those with small prime factors most of all. Integers are transformed as float64;
float32 and complex64 stay single.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from walle_engine import _native
from walle_engine._native import Array, arange, asarray, astype, concat
from walle_task.matrix.manipulation import roll

__all__ = [
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfftn",
    "rfft",
    "rfftfreq",
    "rfftn",
]

type Norm = Literal["backward", "ortho", "forward"]

_COMPLEX, _REAL, _REAL_INVERSE = 0, 1, 2
_SINGLE = ("float32", "complex64")


def _factor(function: str, n: int, norm: str, forward: bool) -> float:
    """What results are multiplied by: one way or the other, or both, divides by n."""
    if norm not in ("backward", "ortho", "forward"):
        raise ValueError(f"{function}() takes norm 'backward', 'ortho' or 'forward', not {norm!r}")
    if norm == "ortho":
        return 1 / math.sqrt(n)
    return 1.0 / n if (norm == "forward") == forward else 1.0


def _length(function: str, n: int | None, default: int) -> int:
    wanted = default if n is None else n
    if wanted < 1:
        raise ValueError(f"{function}(): there is no transform of {wanted} points")
    return wanted


def _numbers(function: str, x: object, *, real: bool = False) -> Array:
    found = asarray(x)
    if found.ndim == 0:
        raise ValueError(f"{function}() takes an array of one dim or more")
    kind = found.dtype.kind
    if real:
        if kind == "c":
            raise TypeError(f"{function}() takes real numbers, not {found.dtype}")
        return found if kind == "f" else astype(found, "float64")
    single = found.dtype.name in _SINGLE
    return astype(found, "complex64" if single else "complex128", copy=False)


def fft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Return the transform along an axis, of its first n elements or of zeros behind them."""
    a = _numbers("fft", x)
    points = _length("fft", n, a.shape[axis])
    return _native.fft(a, _COMPLEX, points, axis, -1, _factor("fft", points, norm, True))


def ifft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Return the inverse transform along an axis."""
    a = _numbers("ifft", x)
    points = _length("ifft", n, a.shape[axis])
    return _native.fft(a, _COMPLEX, points, axis, 1, _factor("ifft", points, norm, False))


def rfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Return the first half of the transform of real numbers; the rest are conjugates."""
    a = _numbers("rfft", x, real=True)
    points = _length("rfft", n, a.shape[axis])
    return _native.fft(a, _REAL, points, axis, -1, _factor("rfft", points, norm, True))


def irfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Return the real numbers whose transform begins with x; n is even unless given."""
    a = _numbers("irfft", x)
    points = _length("irfft", n, 2 * (a.shape[axis] - 1))
    return _native.fft(a, _REAL_INVERSE, points, axis, 1, _factor("irfft", points, norm, False))


def hfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Return the real transform of numbers that x begins and whose second half are conjugates."""
    a = _numbers("hfft", x)
    points = _length("hfft", n, 2 * (a.shape[axis] - 1))
    return _native.fft(a, _REAL_INVERSE, points, axis, -1, _factor("hfft", points, norm, True))


def ihfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Return the first half of the inverse transform of real numbers."""
    a = _numbers("ihfft", x, real=True)
    points = _length("ihfft", n, a.shape[axis])
    return _native.fft(a, _REAL, points, axis, 1, _factor("ihfft", points, norm, False))


# ---- Several axes ----


def _axes(
    function: str, x: Array, s: Sequence[int] | None, axes: Sequence[int] | None
) -> list[tuple[int, int | None]]:
    """Pairs of an axis and how many points it gets."""
    if axes is None:
        chosen = list(range(x.ndim if s is None else len(s)))
        chosen = [axis + x.ndim - len(chosen) for axis in chosen]
    else:
        chosen = list(axes)
    if s is not None and len(s) != len(chosen):
        raise ValueError(f"{function}(): s has {len(s)} numbers for {len(chosen)} axes")
    if any(not -x.ndim <= axis < x.ndim for axis in chosen):
        raise IndexError(f"{function}(): axes {tuple(chosen)} of an array of {x.ndim} dims")
    if len({axis % x.ndim for axis in chosen}) != len(chosen):
        raise ValueError(f"{function}(): axes {tuple(chosen)} name one axis twice")
    return [(axis, None if s is None else s[i]) for i, axis in enumerate(chosen)]


def fftn(
    x: Array,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: Norm = "backward",
) -> Array:
    """Return the transform along several axes."""
    result = _numbers("fftn", x)
    for axis, points in reversed(_axes("fftn", result, s, axes)):
        result = fft(result, n=points, axis=axis, norm=norm)
    return result


def ifftn(
    x: Array,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: Norm = "backward",
) -> Array:
    """Return the inverse transform along several axes."""
    result = _numbers("ifftn", x)
    for axis, points in reversed(_axes("ifftn", result, s, axes)):
        result = ifft(result, n=points, axis=axis, norm=norm)
    return result


def rfftn(
    x: Array,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: Norm = "backward",
) -> Array:
    """Return the transform of real numbers along several axes; the last of them is halved."""
    result = _numbers("rfftn", x, real=True)
    pairs = _axes("rfftn", result, s, axes)
    if not pairs:
        raise ValueError("rfftn() takes at least one axis")
    axis, points = pairs.pop()
    result = rfft(result, n=points, axis=axis, norm=norm)
    for axis, points in reversed(pairs):
        result = fft(result, n=points, axis=axis, norm=norm)
    return result


def irfftn(
    x: Array,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: Norm = "backward",
) -> Array:
    """Return the real numbers whose transform along several axes is x, the last of them halved."""
    result = _numbers("irfftn", x)
    pairs = _axes("irfftn", result, s, axes)
    if not pairs:
        raise ValueError("irfftn() takes at least one axis")
    last_axis, last_points = pairs.pop()
    for axis, points in pairs:
        result = ifft(result, n=points, axis=axis, norm=norm)
    return irfft(result, n=last_points, axis=last_axis, norm=norm)


def fft2(x: Array, /, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1)) -> Array:
    """Return the transform along the last two axes."""
    return fftn(x, s=s, axes=axes)


def ifft2(x: Array, /, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1)) -> Array:
    """Return the inverse transform along the last two axes."""
    return ifftn(x, s=s, axes=axes)


# ---- Frequencies ----


def _frequencies(places: Array, n: int, d: float, dtype: object) -> Array:
    return astype(places / (n * d), "float64" if dtype is None else dtype, copy=False)


def fftfreq(n: int, /, *, d: float = 1.0, dtype: object = None, device: str | None = None) -> Array:
    """Return the frequencies of a transform of n points, d apart: those of the second half are negative."""
    points = _length("fftfreq", n, n)
    places = concat([arange((points + 1) // 2, device=device), arange(-(points // 2), 0)])
    return _frequencies(places, points, d, dtype)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: object = None, device: str | None = None) -> Array:
    """Return the frequencies of rfft() of n points, d apart."""
    points = _length("rfftfreq", n, n)
    return _frequencies(arange(points // 2 + 1, device=device), points, d, dtype)


def _shift(x: Array, axes: int | Sequence[int] | None, back: bool) -> Array:
    a = asarray(x)
    chosen = range(a.ndim) if axes is None else (axes,) if isinstance(axes, int) else axes
    by = [-(a.shape[axis] // 2) if back else a.shape[axis] // 2 for axis in chosen]
    return roll(a, tuple(by), axis=tuple(chosen)) if by else a


def fftshift(x: Array, /, *, axes: int | Sequence[int] | None = None) -> Array:
    """Move frequency 0 to the middle."""
    return _shift(x, axes, False)


def ifftshift(x: Array, /, *, axes: int | Sequence[int] | None = None) -> Array:
    """Undo fftshift()."""
    return _shift(x, axes, True)
