"""Which range of numbers a quantised tensor covers, found from what was seen of it.

What is kept of a tensor does not grow with the data: its smallest and largest number, and ``BINS`` counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from walle_shared.errors import ModelError

type Array = np.ndarray[Any, Any]
type Method = Literal["minmax", "kl", "percentile"]

BINS = 2048
PERCENTILE = 99.99
UNTOLD = 1e-4  # share of a distribution that codes may not tell of, spread over its bins
KL_STRIDE = 8  # bins between two thresholds that are tried: a 256th of the largest number seen


@dataclass
class Observer:
    """What is remembered of one tensor.

    Args:
        name: of the tensor.
        low: smallest number seen.
        high: largest.
        counts: how many numbers fell into each part of the range ``counted``.
        counted: the range.
        magnitudes: count magnitudes instead, from 0 on.
    """

    name: str
    low: float = np.inf
    high: float = -np.inf
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    counted: tuple[float, float] = (0.0, 0.0)
    magnitudes: bool = False

    def see_range(self, x: Array) -> None:
        """Widen the range to hold ``x``.

        Raises:
            ModelError: if ``x`` has a number that is not finite.
        """
        low, high = float(x.min(initial=np.inf)), float(x.max(initial=-np.inf))
        if x.size and not (np.isfinite(low) and np.isfinite(high)):
            raise ModelError(
                f"value {self.name!r} of the float model is not finite on the given data: "
                "leave out the samples, or the layer, that make it so"
            )
        self.low, self.high = min(self.low, low), max(self.high, high)

    def start_counting(self, method: Method) -> None:
        """Fix the range that is counted in; all data are to be seen a second time."""
        self.magnitudes = method == "kl"
        self.counted = (0.0, max(abs(self.low), abs(self.high))) if self.magnitudes else (self.low, self.high)

    def count(self, x: Array) -> None:
        """Count the numbers of ``x``."""
        if x.size and self.counted[0] < self.counted[1]:
            seen = np.abs(x) if self.magnitudes else x
            self.counts += np.histogram(seen, BINS, self.counted)[0]


@dataclass(frozen=True)
class Range:
    """What a quantised tensor covers; holds 0, which must have a code of its own."""

    low: float
    high: float

    @classmethod
    def of(cls, low: float, high: float) -> Range:
        """Return the range, widened to hold 0."""
        return cls(min(low, 0.0), max(high, 0.0))

    def joined(self, other: Range) -> Range:
        """Return the range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


def range_of(
    observer: Observer, method: Method, *, percentile: float = PERCENTILE, levels: int = 256
) -> Range:
    """Choose the range for what an observer saw.

    Args:
        observer: has seen all data, and counted them unless the method is ``"minmax"``.
        method: ``"minmax"`` covers all; ``"percentile"`` leaves out the same share of the largest and of the
            smallest; ``"kl"`` cuts magnitudes where the distribution of codes says most of that of numbers.
        percentile: of numbers that are covered on either side.
        levels: how many codes there are.
    """
    if observer.low > observer.high:  # nothing was seen: an empty tensor
        return Range(0.0, 0.0)
    choose = _CHOICES[method]
    low, high = choose(observer, percentile, levels)
    return Range.of(max(low, observer.low), min(high, observer.high))


def _minmax(observer: Observer, percentile: float, levels: int) -> tuple[float, float]:
    del percentile, levels
    return observer.low, observer.high


def _by_percentile(observer: Observer, percentile: float, levels: int) -> tuple[float, float]:
    del levels
    low, high = observer.counted
    total = observer.counts.sum()
    if not total:
        return observer.low, observer.high
    cumulated = np.cumsum(observer.counts) / total
    outside = 1 - percentile / 100
    width = (high - low) / BINS
    first = int(np.searchsorted(cumulated, outside, side="right"))
    last = int(np.searchsorted(cumulated, 1 - outside, side="left"))
    return low + first * width, low + (min(last, BINS - 1) + 1) * width


def _by_divergence(observer: Observer, percentile: float, levels: int) -> tuple[float, float]:
    del percentile
    largest = observer.counted[1]
    signed = observer.low < 0 < observer.high
    codes = levels // 2 if signed else levels
    cut = best_cut(observer.counts, codes) * largest / BINS
    return -cut, cut


_CHOICES: dict[str, Callable[[Observer, float, int], tuple[float, float]]] = {
    "minmax": _minmax,
    "percentile": _by_percentile,
    "kl": _by_divergence,
}
METHODS = tuple(_CHOICES)


def best_cut(counts: Array, codes: int) -> int:
    """Return after how many bins to cut a histogram of magnitudes, so that ``codes`` codes say most of it.

    Source: S. Migacz, 8-bit inference with TensorRT, GTC 2017: of all cuts the one where the distribution
    with what lies beyond it moved into its last bin has the least Kullback-Leibler divergence from that
    distribution as the codes tell it. The first bin is given what the second has: zeros, of which a rectifier
    makes many, have a code of their own whatever the cut, and would hide all else.
    """
    counts = counts.astype(np.float64)
    counts[0] = counts[1]
    if not counts.any():
        return len(counts)
    beyond = counts.sum() - np.cumsum(counts)
    cuts = range(codes, len(counts) + 1, KL_STRIDE)
    divergences = [_divergence(counts[:cut], beyond[cut - 1], codes) for cut in cuts]
    return cuts[int(np.argmin(divergences))]


def _divergence(inside: Array, beyond: float, codes: int) -> float:
    """Of the distribution cut there from what codes tell of it."""
    told = _told(inside, codes)
    true = inside.copy()
    true[-1] += beyond
    if not told.any():
        return np.inf
    p = true / true.sum()
    q = np.maximum(told / told.sum(), UNTOLD / len(told))  # a last bin may hold only what lies beyond
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / q[some])))


def _told(inside: Array, codes: int) -> Array:
    """Each code's share, spread evenly over those of its bins that are not empty."""
    starts = np.arange(codes) * len(inside) // codes
    totals = np.add.reduceat(inside, starts)
    filled = np.add.reduceat((inside > 0).astype(np.float64), starts)
    mean = np.divide(totals, filled, out=np.zeros(codes), where=filled > 0)
    lengths = np.diff(np.append(starts, len(inside)))
    return np.where(inside > 0, np.repeat(mean, lengths), 0.0)
