"""What the cost model's choices lose: the nodes of every network in all of their ways, each timed alone."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from reporting import Row
from walle_engine import api, calibration, explaining

sys.path.append(str(Path(__file__).parents[1] / "support"))
from walle_support.networks import NETWORKS, Network

PRECISIONS: tuple[api.Precision, ...] = ("highest", "high")
THREADS = (1, 2)


def run() -> list[Row]:
    """Measure every network in both precisions with one thread and two, on a machine calibrated before."""
    calibration.calibrate()
    rows = []
    for name, make in NETWORKS.items():
        network = make()
        for precision, threads in itertools.product(PRECISIONS, THREADS):
            rows.append(_regret(name, network, precision, threads))
    return rows


def _regret(name: str, network: Network, precision: api.Precision, threads: int) -> Row:
    session = network.load().session(precision=precision, threads=threads, search="exhaustive")
    session.prepare(network.inputs)
    found = explaining.regrets(session.explain())
    best_ms = sum(row.count * row.best_ms for row in found)
    lost_ms = sum(row.lost_ms for row in found)
    percent = 100 * lost_ms / best_ms if best_ms else 0.0
    worst = max(found, key=lambda row: row.lost_ms)
    note = f"of {best_ms:.3f} ms in {sum(row.count for row in found)} nodes; most at {worst.op} {worst.node}"
    what = f"{name}, {precision}, {threads} thread{'s' * (threads > 1)}"
    return Row("engine-search", what, percent, "%", percent, percent, note)
