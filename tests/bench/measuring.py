"""Interleaved timing: contestants take turns within one run, so a noisy neighbour hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from walle_engine.bench.driver import Samples

__all__ = ["Samples", "interleave"]


def interleave(
    contestants: Mapping[str, Callable[[], object]], *, turns: int = 9, turn_s: float = 0.15
) -> dict[str, Samples]:
    """Time each contestant in round-robin turns.

    Args:
        contestants: name to a callable that does one unit of work.
        turns: how often each has its turn.
        turn_s: about how long a turn lasts; calls per turn are calibrated once.
    """
    calls = {name: _calls_for(work, turn_s) for name, work in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, work in contestants.items():
            times[name].append(_time(work, calls[name]))
    return {name: Samples(tuple(values)) for name, values in times.items()}


def _time(work: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - start) / calls


def _calls_for(work: Callable[[], object], turn_s: float) -> int:
    work()  # warm up
    once = max(_time(work, 3), 1e-9)
    return max(1, round(turn_s / once))
