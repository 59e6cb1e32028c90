"""Random numbers as NumPy's ``Generator`` draws them: PCG64, seeded by NumPy's ``SeedSequence``.

The same seed gives the same uniform numbers, int64 integers, permutations and choices as
``numpy.random.default_rng``, bit by bit, and normal and exponential ones that agree to about 13 digits. A
generator that gets no seed takes one from the ``random`` of the standard library: seeding that repeats it.
"""

from __future__ import annotations

import math
import random as _standard
from collections.abc import Sequence
from typing import Any

from walle_engine import _native
from walle_engine._native import Array, asarray, astype, exp, log, sqrt, take
from walle_task.matrix.statistical import cumulative_sum

__all__ = ["Generator", "default_rng"]

type Size = int | Sequence[int] | None

_UNIFORM, _NORMAL, _EXPONENTIAL = 0, 1, 2
_WORD = 1 << 32


def _words(seed: int | Sequence[int]) -> list[int]:
    """A seed as words of 32 bits, the lowest first."""
    if not isinstance(seed, int):
        return [word for part in seed for word in _words(int(part))]
    if seed < 0:
        raise ValueError(f"a seed must not be negative, and {seed} is")
    words = [seed % _WORD]
    while seed >= _WORD:
        seed //= _WORD
        words.append(seed % _WORD)
    return words


class Generator:
    """A stream of random numbers; NumPy's names and arguments."""

    def __init__(self, seed: int | Sequence[int] | None = None) -> None:
        self._random = _native.Random(_words(_standard.getrandbits(128) if seed is None else seed))

    def _fill(self, kind: int, size: Size, shift: float = 0.0, scale: float = 1.0) -> Any:
        """Fill an array; without a size, give a number."""
        if size is None:
            return float(self._random.fill(kind, (), shift, scale))
        return self._random.fill(kind, size, shift, scale)

    def random(self, size: Size = None, dtype: object = "float64") -> Any:
        """Draw from [0, 1)."""
        name = getattr(dtype, "name", dtype)
        if name == "float32":
            found = self._random.fill_float32(() if size is None else size)
            return float(found) if size is None else found
        if name not in ("float64", float):
            raise TypeError(f"random() draws float64 or float32, not {name}")
        return self._fill(_UNIFORM, size)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Size = None) -> Any:
        """Draw from [low, high)."""
        if not math.isfinite(high - low):
            raise OverflowError(f"uniform(): the range from {low} to {high} is not finite")
        return self._fill(_UNIFORM, size, low, high - low)

    def standard_normal(self, size: Size = None) -> Any:
        """Draw from the normal distribution of mean 0 and deviation 1."""
        return self._fill(_NORMAL, size)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Size = None) -> Any:
        """Draw from a normal distribution."""
        if not scale >= 0:
            raise ValueError(f"normal(): scale must not be negative, and {scale} is")
        return self._fill(_NORMAL, size, loc, scale)

    def lognormal(self, mean: float = 0.0, sigma: float = 1.0, size: Size = None) -> Any:
        """Draw numbers whose logarithms are normal."""
        drawn = self.normal(mean, sigma, size)
        return exp(drawn) if isinstance(drawn, Array) else math.exp(drawn)

    def standard_exponential(self, size: Size = None) -> Any:
        """Draw from the exponential distribution of mean 1."""
        return self._fill(_EXPONENTIAL, size)

    def exponential(self, scale: float = 1.0, size: Size = None) -> Any:
        """Draw from an exponential distribution of that mean."""
        if not scale >= 0:
            raise ValueError(f"exponential(): scale must not be negative, and {scale} is")
        return self._fill(_EXPONENTIAL, size, 0.0, scale)

    def rayleigh(self, scale: float = 1.0, size: Size = None) -> Any:
        """Draw from a Rayleigh distribution."""
        drawn = self.standard_exponential(size)
        return scale * (sqrt(2 * drawn) if isinstance(drawn, Array) else math.sqrt(2 * drawn))

    def gumbel(self, loc: float = 0.0, scale: float = 1.0, size: Size = None) -> Any:
        """Draw from a Gumbel distribution."""
        drawn = 1 - self._fill(_UNIFORM, () if size is None else size)
        found = loc - scale * log(-log(drawn))
        return float(found) if size is None else found

    def integers(
        self,
        low: int,
        high: int | None = None,
        size: Size = None,
        dtype: object = "int64",
        endpoint: bool = False,
    ) -> Any:
        """Draw integers from low on, below high (from 0 on below low where there is no high)."""
        if high is None:
            low, high = 0, low
        most = high if endpoint else high - 1
        if most < low:
            raise ValueError(f"integers(): there is none from {low} to {most}")
        if low < -(1 << 63) or most >= 1 << 63:
            raise ValueError(f"integers(): {low} to {most} is beyond int64")
        found = self._random.integers(low, most - low, () if size is None else size)
        return int(found) if size is None else astype(found, dtype, copy=False)

    def permutation(self, x: int | Array, axis: int = 0) -> Array:
        """Return the integers below x, or the elements of x along an axis, in random order."""
        if isinstance(x, int):
            return self._random.shuffled(x, 1, True)
        a = asarray(x)
        return take(a, self._random.shuffled(a.shape[axis], 1, True), axis=axis)

    def shuffle(self, x: Array, axis: int = 0) -> None:
        """Bring the elements of x along an axis in random order, in place."""
        x[...] = self.permutation(x, axis)

    def choice(
        self,
        a: int | Array,
        size: Size = None,
        replace: bool = True,
        p: Array | Sequence[float] | None = None,
        axis: int = 0,
        shuffle: bool = True,
    ) -> Any:
        """Draw from the integers below a, or the elements of a: again and again, or each at most once."""
        count = a if isinstance(a, int) else asarray(a).shape[axis]
        shape = () if size is None else (size,) if isinstance(size, int) else tuple(size)
        wanted = math.prod(shape)
        if count < 1 and wanted:
            raise ValueError("choice(): there is nothing to choose from")
        if p is not None:
            places = self._weighted(count, wanted, replace, asarray(p, dtype="float64"))
        elif replace:
            places = self._random.integers(0, count - 1, (wanted,)) if wanted else _native.arange(0)
        else:
            places = self._once(count, wanted, shuffle)
        if not isinstance(a, int):
            chosen = take(asarray(a), places, axis=axis)
            return chosen.reshape(*chosen.shape[:axis], *shape, *chosen.shape[axis + 1 :])
        return int(places[0]) if size is None else places.reshape(*shape)

    def _once(self, count: int, wanted: int, shuffle: bool) -> Array:
        if wanted > count:
            raise ValueError(f"choice() cannot draw {wanted} of {count} without replacement")
        if count > 10000 and wanted > count // (50 if shuffle else 20):
            first = count - wanted
            return self._random.shuffled(count, first if first > 1 else 1, False)[first:]
        seen: set[int] = set()
        chosen = []
        for place in range(count - wanted, count):  # Floyd's: all subsets are as likely
            drawn = int(self._random.integers(0, place, ()))
            chosen.append(place if drawn in seen else drawn)
            seen.add(chosen[-1])
        places = asarray(chosen, dtype="int64")
        return take(places, self._random.shuffled(wanted, 1, False), axis=0) if shuffle and wanted else places

    def _weighted(self, count: int, wanted: int, replace: bool, p: Array) -> Array:
        if p.shape != (count,):
            raise ValueError(f"choice(): p has shape {p.shape}, and there are {count} to choose from")
        if not bool(_native.all(p >= 0)) or abs(float(_native.sum(p)) - 1) > 1e-8:
            raise ValueError("choice(): p must be probabilities that add up to 1")
        if not replace and int(_native.sum(p > 0, dtype="int64")) < wanted:
            raise ValueError(f"choice(): fewer than {wanted} have a probability above 0")
        if replace:
            return self._by_weight(p, wanted)
        places: list[int] = []
        rest = p.copy()
        while len(places) < wanted:
            for place in self._by_weight(rest / _native.sum(rest), wanted - len(places)).tolist():
                if place not in places:
                    places.append(place)
            rest[asarray(places)] = 0
        return asarray(places, dtype="int64")

    def _by_weight(self, p: Array, wanted: int) -> Array:
        bounds = cumulative_sum(p)
        return _native.searchsorted(
            bounds / bounds[-1], self._random.fill(_UNIFORM, (wanted,), 0.0, 1.0), side="right"
        )


def default_rng(seed: int | Sequence[int] | None = None) -> Generator:
    """Return a generator; without a seed, one that the standard library's ``random`` seeds."""
    return Generator(seed)
