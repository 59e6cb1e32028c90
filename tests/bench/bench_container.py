"""A task's round trip through the container, and what two slots give over one."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import trio

from reporting import Row
from walle_container import HostConfig, TaskHost, TaskSpec

TRIVIAL = "def run():\n    return None\n"
BUSY = "def run():\n    total = 0\n    for i in range(400_000):\n        total += i * i\n    return None\n"
INPUTS = {"events": [], "visit": None, "trigger": {"ids": ["event:x"], "first_seq": 1, "last_seq": 1}}


def run() -> list[Row]:
    """Measure the trivial round trip, and the throughput of CPU-bound Python on one and on two slots."""
    with tempfile.TemporaryDirectory() as folder:
        trivial = _spec(Path(folder) / "trivial", TRIVIAL)
        busy = _spec(Path(folder) / "busy", BUSY)
        trips = trio.run(_round_trips, trivial)
        one, two = trio.run(_throughputs, busy)
    ratios = [b / a for a, b in zip(one, two, strict=True)]
    return [
        Row(
            "container",
            "trivial task, round trip",
            median(trips) * 1e6,
            "µs",
            min(trips) * 1e6,
            max(trips) * 1e6,
        ),
        Row("container", "busy tasks, 1 slot", median(one), "runs/s", min(one), max(one)),
        Row("container", "busy tasks, 2 slots", median(two), "runs/s", min(two), max(two)),
        Row(
            "container", "2 slots over 1", median(ratios), "x", min(ratios), max(ratios), "2.0 is the ceiling"
        ),
    ]


def _spec(folder: Path, script: str) -> TaskSpec:
    folder.mkdir()
    (folder / "main.py").write_text(script)
    return TaskSpec(folder.name, "1.0", folder)


async def _round_trips(spec: TaskSpec, *, turns: int = 15, calls: int = 100) -> list[float]:
    times = []
    async with TaskHost(HostConfig(slots=1)) as host:
        for _ in range(turns):
            start = time.perf_counter()
            for _ in range(calls):
                await _run_once(host, spec)
            times.append((time.perf_counter() - start) / calls)
    return times[1:]


async def _throughputs(spec: TaskSpec, *, turns: int = 7, runs: int = 24) -> tuple[list[float], list[float]]:
    """Runs per second on one and on two slots, turn by turn."""
    rates: tuple[list[float], list[float]] = ([], [])
    async with TaskHost(HostConfig(slots=2)) as host:
        await _burst(host, spec, 4, 2)
        for _ in range(turns):
            for slots, found in zip((1, 2), rates, strict=True):
                found.append(await _burst(host, spec, runs, slots))
    return rates


async def _burst(host: TaskHost, spec: TaskSpec, runs: int, slots: int) -> float:
    async def lane() -> None:
        for _ in range(runs // slots):
            await _run_once(host, spec)

    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(slots):
            nursery.start_soon(lane)
    return runs / (time.perf_counter() - start)


async def _run_once(host: TaskHost, spec: TaskSpec) -> None:
    result = await host.run(spec, INPUTS)
    if not result.ok:
        raise RuntimeError(f"{result.error_kind}: {result.error}")
