"""Sessions that run at the same time: what they do together, against one that has the machine to itself."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from reporting import Row
from walle_engine import api

sys.path.append(str(Path(__file__).parents[1] / "support"))
from walle_support.networks import NETWORKS, Network

SECTION = "engine-sessions"
MODELS = ("mobilenet_v2", "bert_mini")
THREADS = (1, 2)
SESSIONS = (1, 2, 4, 8)
TURNS, TURN_S = 7, 0.4


def run() -> list[Row]:
    """Measure every number of sessions with every quota of threads."""
    return [row for name in MODELS for row in _measure(name, NETWORKS[name]())]


def _measure(name: str, network: Network) -> list[Row]:
    model = network.load()
    crowds = {
        (threads, count): [model.session(threads=threads) for _ in range(count)]
        for threads in THREADS
        for count in SESSIONS
    }
    for crowd in crowds.values():
        for session in crowd:
            session.run(network.inputs)
    rates: dict[tuple[int, int], list[float]] = {key: [] for key in crowds}
    for _ in range(TURNS):
        for key, crowd in crowds.items():
            rates[key].append(throughput(crowd, network, TURN_S))
    alone = statistics.median(rates[max(THREADS), 1])
    return [_row(name, *key, values, alone) for key, values in rates.items()]


def _row(name: str, threads: int, count: int, rates: Sequence[float], alone: float) -> Row:
    median = statistics.median(rates)
    what = f"{name}, {count} session{'s' * (count > 1)} of {threads} thread{'s' * (threads > 1)}"
    note = f"{median / alone:.2f}x one session of {max(THREADS)} threads"
    return Row(SECTION, what, median, "runs/s", min(rates), max(rates), note)


def throughput(sessions: Sequence[api.Session], network: Network, turn_s: float) -> float:
    """Runs per second of all sessions together, each driven by a thread of its own."""
    counts = [0] * len(sessions)
    gate = threading.Barrier(len(sessions) + 1)

    def drive(index: int) -> None:
        gate.wait()
        while time.perf_counter() < end:
            sessions[index].run(network.inputs)
            counts[index] += 1

    drivers = [threading.Thread(target=drive, args=(index,)) for index in range(len(sessions))]
    for driver in drivers:
        driver.start()
    start = time.perf_counter()
    end = start + turn_s
    gate.wait()
    for driver in drivers:
        driver.join()
    return sum(counts) / (time.perf_counter() - start)
