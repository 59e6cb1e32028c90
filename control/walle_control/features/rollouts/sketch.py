"""Quantiles of a stream in little memory, with a bound on their relative error, that can be merged.

Values fall into buckets that grow by a constant factor, so that any value of a bucket is within ``accuracy``
of its middle; a quantile is the middle of the bucket that holds it. Two sketches of the same accuracy are
merged by adding their counts: the result is the sketch of both streams, in whatever order they came.

Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
    guarantees" (2019).
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import accumulate

#: Values below this are all the same: a nanosecond, in milliseconds.
SMALLEST = 1e-6


class QuantileSketch:
    """Counts of values above 0 by bucket; smaller ones share one bucket.

    Args:
        accuracy: the relative error of a quantile, at the most.
    """

    def __init__(self, accuracy: float = 0.01) -> None:
        if not 0 < accuracy < 1:
            raise ValueError(f"accuracy must be above 0 and below 1, not {accuracy}")
        self.accuracy = accuracy
        self._gamma = (1 + accuracy) / (1 - accuracy)
        self._log_gamma = math.log(self._gamma)
        self._counts: Counter[int] = Counter()
        self.count = 0

    def add(self, value: float) -> None:
        """Count a value (finite; what is below ``SMALLEST`` counts as that)."""
        self._counts[math.ceil(math.log(max(value, SMALLEST)) / self._log_gamma)] += 1
        self.count += 1

    def merge(self, other: QuantileSketch) -> None:
        """Count all that another sketch has counted.

        Raises:
            ValueError: it has another accuracy.
        """
        if other.accuracy != self.accuracy:
            raise ValueError(f"sketches of accuracy {self.accuracy} and {other.accuracy} do not merge")
        self._counts.update(other._counts)
        self.count += other.count

    def quantile(self, part: float) -> float | None:
        """A value that ``part`` of the values do not exceed (0.5: the lower median); None before one."""
        if not self.count:
            return None
        rank = max(1, math.ceil(part * self.count))
        buckets = sorted(self._counts)
        sums = accumulate(self._counts[bucket] for bucket in buckets)
        bucket = next(bucket for bucket, below in zip(buckets, sums, strict=True) if below >= rank)
        return 2 * self._gamma**bucket / (self._gamma + 1)
