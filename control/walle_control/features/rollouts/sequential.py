"""Evidence that may be looked at after every observation: e-values of a stream of hits and misses.

An observation is a *hit* or a *miss*. The null hypothesis says that the odds of a hit are at most ``odds``
(they may differ from one observation to the next, but must be known before it). Against it stand alternatives
in which these odds are multiplied by a ratio; the e-value is the average of their likelihood ratios. Under
the null its expectation never exceeds 1, whenever one stops looking, so by Ville's inequality it ever reaches
``1/alpha`` with a probability of at most ``alpha``. Nothing here knows devices or time.

Sources: Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic statistics and safe anytime-valid inference" (2023);
    for the
log-rank form, in which the odds are the sizes of the two groups still at risk: ter Schure, Pérez-Ortiz, Ly,
Grünwald, "The anytime-valid logrank test" (2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

#: Ratios by which the odds may be worse, from barely to hopeless, evenly on a logarithmic scale.
WORSE: Final = tuple(1.5 * 1.6**step for step in range(8))

#: The same the other way round: how much better than the null it may be.
BETTER: Final = tuple(1 / ratio for ratio in WORSE)


class OddsTest:
    """Collects evidence against "the odds of a hit are at most so much" (for ``BETTER``: at least).

    Args:
        ratios: the alternatives, all above 1 or all below 1; each has the same weight.
    """

    def __init__(self, ratios: Sequence[float] = WORSE) -> None:
        if not ratios or not (min(ratios) > 1 or (0 < max(ratios) < 1 and min(ratios) > 0)):
            raise ValueError("ratios must be all above 1, or all between 0 and 1")
        self._ratios = tuple(ratios)
        self._logs = [0.0] * len(ratios)
        self._peak = 0.0

    def observe(self, hits: int, misses: int, odds: float) -> None:
        """Add observations made under the same null odds (above 0, finite)."""
        if not 0 < odds < math.inf:
            raise ValueError(f"odds must be above 0 and finite, not {odds}")
        base = math.log1p(odds)
        for at, ratio in enumerate(self._ratios):
            spread = math.log1p(odds * ratio) - base
            self._logs[at] += hits * math.log(ratio) - (hits + misses) * spread
        self._peak = max(self._peak, self.log_e)

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value as it stands."""
        highest = max(self._logs)
        return highest + math.log(sum(math.exp(each - highest) for each in self._logs) / len(self._logs))

    @property
    def peak(self) -> float:
        """The highest ``log_e`` there was: evidence that was enough once stays enough."""
        return self._peak


def log_e_of_rate(hits: int, total: int, rate: float, ratios: Sequence[float] = WORSE) -> float:
    """The log e-value of so many hits against "their rate is at most ``rate``" (0 < rate < 1)."""
    test = OddsTest(ratios)
    test.observe(hits, total - hits, rate / (1 - rate))
    return test.log_e


def rate_interval(hits: int, total: int, alpha: float = 0.05) -> tuple[float, float]:
    """Between which rates so many hits leave the true one, however often one looks, but for ``alpha``.

    The rates that neither test rejects: below lies what ``WORSE`` refutes, above what ``BETTER`` does.
    """
    if total == 0:
        return 0.0, 1.0
    enough, seen = math.log(2 / alpha), hits / total

    def border(outer: float, ratios: Sequence[float]) -> float:
        inner = min(max(seen, 1e-9), 1 - 1e-9)
        if log_e_of_rate(hits, total, outer, ratios) < enough:
            return outer  # nothing is refuted on this side
        for _ in range(40):
            middle = (inner + outer) / 2
            if log_e_of_rate(hits, total, middle, ratios) < enough:
                inner = middle
            else:
                outer = middle
        return outer

    low = border(1e-12, WORSE) if hits else 0.0
    high = border(1 - 1e-12, BETTER) if hits < total else 1.0
    return (0.0 if low <= 1e-12 else low), (1.0 if high >= 1 - 1e-12 else high)
