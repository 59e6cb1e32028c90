"""The throughput of a crowd of sessions: every run counts, each session has a thread of its own."""

from __future__ import annotations

import threading
from typing import Any

from bench_engine_sessions import throughput
from walle_support.networks import din


class _Session:
    """Counts its runs, and in which threads they were."""

    def __init__(self) -> None:
        self.runs = 0
        self.threads: set[int] = set()

    def run(self, inputs: object) -> None:
        self.runs += 1
        self.threads.add(threading.get_ident())


def test_throughput_counts_the_runs_of_all_sessions() -> None:
    crowd: list[Any] = [_Session() for _ in range(3)]
    rate = throughput(crowd, din(items=20), 0.02)
    runs = sum(session.runs for session in crowd)
    assert 0 < rate <= runs / 0.02
    assert all(len(session.threads) <= 1 for session in crowd)
    drivers = [thread for session in crowd for thread in session.threads]
    assert len(drivers) == len(set(drivers))
