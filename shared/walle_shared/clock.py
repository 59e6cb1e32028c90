"""The clock everything receives rather than calls, so that time can be virtual in tests."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for people and signatures, monotonic time for durations and deadlines."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump."""
        ...

    def mono_ns(self) -> int:
        """Nanoseconds that never go back within one boot."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def mono_ns(self) -> int:
        """Nanoseconds of ``CLOCK_MONOTONIC``."""
        return time.monotonic_ns()


class FixedClock:
    """A clock that stands still until told to move; for tests and simulation."""

    def __init__(self, wall_ms: int = 1_700_000_000_000, mono_ns: int = 0) -> None:
        self._wall_ms = wall_ms
        self._mono_ns = mono_ns

    def wall_ms(self) -> int:
        """The set wall time."""
        return self._wall_ms

    def mono_ns(self) -> int:
        """The set monotonic time."""
        return self._mono_ns

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._wall_ms += round(seconds * 1_000)
        self._mono_ns += round(seconds * 1_000_000_000)
