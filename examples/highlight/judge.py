"""How good decisions and highlights are, against the truth that the generator knows. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

type Span = tuple[int, int, int]
"""Item, first tick, last tick."""

#: How much of two spans must be shared, of all that either covers, for them to be the same highlight.
SHARED = 0.5


@dataclass(frozen=True)
class Quality:
    """Counts of what was found rightly, found wrongly, and missed."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """Of what was found, the share that is right."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 0.0

    @property
    def recall(self) -> float:
        """Of what there is, the share that was found."""
        return self.right / (self.right + self.missed) if self.right + self.missed else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def __add__(self, other: Quality) -> Quality:
        return Quality(self.right + other.right, self.wrong + other.wrong, self.missed + other.missed)


NOTHING = Quality(0, 0, 0)


def of_spans(found: Iterable[Span], true: Sequence[Span]) -> Quality:
    """Judge highlights; each of the truth is found once at most, and only with its own item."""
    left = list(true)
    right = wrong = 0
    for span in sorted(found, key=lambda span: span[1]):
        best = max(left, key=lambda other: shared(span, other), default=None)
        if best is not None and best[0] == span[0] and shared(span, best) >= SHARED:
            left.remove(best)
            right += 1
        else:
            wrong += 1
    return Quality(right, wrong, len(left))


def shared(one: Span, other: Span) -> float:
    """Ticks that both cover, as a share of those that either does."""
    both = min(one[2], other[2]) - max(one[1], other[1]) + 1
    either = max(one[2], other[2]) - min(one[1], other[1]) + 1
    return max(both, 0) / either


def of_ticks(decided: Iterable[bool], true: Iterable[bool]) -> Quality:
    """Judge decisions one by one."""
    right = wrong = missed = 0
    for said, is_so in zip(decided, true, strict=True):
        right += said and is_so
        wrong += said and not is_so
        missed += is_so and not said
    return Quality(right, wrong, missed)


def best_threshold(scores: Sequence[float], true: Sequence[bool], decided: Quality = NOTHING) -> float:
    """From which score on to accept, so that F1 is highest, with what was decided otherwise counted in."""

    def f1(at: float) -> float:
        return (of_ticks([score >= at for score in scores], true) + decided).f1

    return max(_candidates(scores), key=f1)


def band(scores: Sequence[float], middle: float, share: float) -> tuple[float, float]:
    """Two scores below and above ``middle`` with this share of all scores between them, half on each side."""
    ordered = sorted(scores)
    at = bisect_left(ordered, middle)
    half, last = round(share * len(ordered) / 2), len(ordered) - 1
    low, high = (ordered[min(max(place, 0), last)] for place in (at - half, at + half))
    return min(low, middle), max(high, middle)


def _candidates(scores: Sequence[float]) -> list[float]:
    """A hundred scores, evenly many between them."""
    ordered = sorted(scores)
    return sorted({ordered[round(part / 100 * (len(ordered) - 1))] for part in range(101)})
