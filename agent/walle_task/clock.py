"""The time, as a run may see it: the device's, or in a simulation one that every run of it repeats.

In a simulation (``walle-agent task run``, a release's simulation, :func:`walle_task.testing.fake_host`) a run
begins when its last event happened, and each reading moves the clock on by a microsecond: the same run reads
the same times again, and a loop that waits for time to pass ends.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from walle_task.context import RunContext, current

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["mono_ns", "monotonic", "now", "wall_ms"]

_READING_NS = 1_000
_NS_PER_MS = 1_000_000


def now() -> datetime:
    """The date and time, in UTC; may jump where the user sets the clock."""
    from datetime import UTC, datetime  # on first use: most tasks get by with milliseconds

    return datetime.fromtimestamp(_wall_ns() / 1e9, UTC)


def wall_ms() -> int:
    """Milliseconds since 1970, as events have them; may jump."""
    return _wall_ns() // _NS_PER_MS


def monotonic() -> float:
    """Seconds from an arbitrary start that never go back: for durations."""
    return mono_ns() / 1e9


def mono_ns() -> int:
    """Nanoseconds that never go back, on the same clock as ``Event.mono_ns``."""
    context = current()
    if context.simulation is None:
        return time.monotonic_ns()
    return context.simulation.mono_ns + _passed_ns(context)


def _wall_ns() -> int:
    context = current()
    if context.simulation is None:
        return time.time_ns()
    return context.simulation.wall_ms * _NS_PER_MS + _passed_ns(context)


def _passed_ns(context: RunContext) -> int:
    context.clock_readings += 1
    return context.clock_readings * _READING_NS
