"""A task's round trip through the container, and what slots give: throughput, waiting, and company.

The three sizes are the paper's classes scaled down: what matters is their distance from each other and from
the time a run costs by itself. Slots beyond the cores are measured to show that they do no harm.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median, quantiles

import trio

from reporting import Row
from walle_container import HostConfig, TaskHost, TaskSpec

TRIVIAL = "def run():\n    return None\n"
BUSY = "def run():\n    total = 0\n    for i in range({steps}):\n        total += i * i\n    return None\n"
INPUTS = {"events": [], "visit": None, "trigger": {"ids": ["event:x"], "first_seq": 1, "last_seq": 1}}

SLOTS = (1, 2, 4, 8)
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Size:
    """A class of tasks: steps of a loop, runs in a burst, and its share of the mix."""

    name: str
    steps: int
    runs: int
    share: float


SIZES = (
    Size("light", 24_000, 160, 0.80),  # about 1 ms
    Size("middle", 240_000, 32, 0.15),  # about 10 ms
    Size("heavy", 2_400_000, 8, 0.05),  # about 100 ms
)

#: Arrivals of the mix fill this share of one core.
MIX_LOAD = 0.8
MIX_S = 4.0

LIGHT_EVERY_S = 0.008
LIGHT_RUNS = 250


def run() -> list[Row]:
    """Measure everything; the number of cores is in each row it matters to."""
    with tempfile.TemporaryDirectory() as folder:
        trivial = _spec(Path(folder) / "trivial", TRIVIAL)
        sizes = {size.name: _spec(Path(folder) / size.name, BUSY.format(steps=size.steps)) for size in SIZES}
        return [
            *trio.run(_measure_trips, trivial),
            *trio.run(_measure_throughput, sizes),
            *trio.run(_measure_mix, sizes),
            *trio.run(_measure_company, sizes),
        ]


def _row(what: str, values: list[float], unit: str, note: str = "") -> Row:
    return Row("container", what, median(values), unit, min(values), max(values), note)


def _spec(folder: Path, script: str) -> TaskSpec:
    folder.mkdir()
    (folder / "main.py").write_text(script)
    return TaskSpec(folder.name, "1.0", folder)


async def _run_once(host: TaskHost, spec: TaskSpec) -> None:
    result = await host.run(spec, INPUTS)
    if not result.ok:
        raise RuntimeError(f"{result.error_kind}: {result.error}")


# A run by itself


async def _measure_trips(spec: TaskSpec) -> list[Row]:
    own = TaskSpec(spec.task, spec.version, spec.bundle_dir, tier="process")
    started: list[float] = []
    trips: dict[str, list[float]] = {"interp": [], "process": []}
    for _ in range(4):
        async with TaskHost(HostConfig(slots=1)) as host:
            start = time.perf_counter()
            await _run_once(host, own)  # starts its process
            started.append((time.perf_counter() - start) * 1e3)
            for _ in range(5):
                trips["interp"].append(await _time_trips(host, spec))
                trips["process"].append(await _time_trips(host, own))
    return [
        _row("trivial task, round trip", trips["interp"], "µs"),
        _row("trivial task, round trip, process tier", trips["process"], "µs"),
        _row("first run of a process-tier task", started, "ms", "its process starts"),
    ]


async def _time_trips(host: TaskHost, spec: TaskSpec, calls: int = 60) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        await _run_once(host, spec)
    return (time.perf_counter() - start) / calls * 1e6


# Throughput: as many runs at a time as there are slots


async def _measure_throughput(specs: dict[str, TaskSpec], turns: int = 4) -> list[Row]:
    rates: dict[tuple[str, int], list[float]] = {(s.name, n): [] for s in SIZES for n in SLOTS}
    hosts = [TaskHost(HostConfig(slots=slots)) for slots in SLOTS]
    async with hosts[0], hosts[1], hosts[2], hosts[3]:
        for host, slots in zip(hosts, SLOTS, strict=True):
            await _burst(host, specs["light"], 4 * slots, slots)
        for _ in range(turns):
            for size in SIZES:
                for host, slots in zip(hosts, SLOTS, strict=True):
                    rate = await _burst(host, specs[size.name], size.runs, slots)
                    rates[size.name, slots].append(rate)
    rows = []
    for size in SIZES:
        for slots in SLOTS:
            words = f"{size.name} tasks, {slots} slot{'s' if slots > 1 else ''}"
            rows.append(_row(words, rates[size.name, slots], "runs/s", f"{CORES} cores"))
        pairs = zip(rates[size.name, 1], rates[size.name, 2], strict=True)
        rows.append(
            _row(f"{size.name} tasks, 2 slots over 1", [b / a for a, b in pairs], "x", "2.0 is the ceiling")
        )
    return rows


async def _burst(host: TaskHost, spec: TaskSpec, runs: int, slots: int) -> float:
    async def lane() -> None:
        for _ in range(runs // slots):
            await _run_once(host, spec)

    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(slots):
            nursery.start_soon(lane)
    return runs / (time.perf_counter() - start)


# Waiting: tasks come when they come (open loop, Poisson), whether or not a slot is free


async def _measure_mix(specs: dict[str, TaskSpec]) -> list[Row]:
    service_s = await _measure_service(specs)
    rate = MIX_LOAD / sum(size.share * service_s[size.name] for size in SIZES)
    chance = random.Random(7)
    arrivals: list[tuple[float, str]] = []
    due_s = 0.0
    while (due_s := due_s + chance.expovariate(rate)) < MIX_S:
        (name,) = chance.choices([s.name for s in SIZES], [s.share for s in SIZES])
        arrivals.append((due_s, name))
    rows = []
    for slots in SLOTS[:2]:
        waits = await _play(specs, arrivals, slots)
        for size in SIZES:
            found = waits[size.name]
            note = f"{CORES} cores, {rate:.0f} arrivals a second, {len(found)} of this size"
            words = f"mix: {size.name} tasks from due to done, {slots} slot{'s' if slots > 1 else ''}, mean"
            rows.append(Row("container", words, mean(found), "ms", min(found), max(found), note))
    return rows


async def _measure_service(specs: dict[str, TaskSpec]) -> dict[str, float]:
    async with TaskHost(HostConfig(slots=1)) as host:
        found = {}
        for name, spec in specs.items():
            times = []
            for _ in range(5):
                start = time.perf_counter()
                await _run_once(host, spec)
                times.append(time.perf_counter() - start)
            found[name] = median(times)
        return found


async def _play(
    specs: dict[str, TaskSpec], arrivals: list[tuple[float, str]], slots: int
) -> dict[str, list[float]]:
    waits: dict[str, list[float]] = {name: [] for name in specs}

    async def one(due_s: float, name: str) -> None:
        await _run_once(host, specs[name])
        waits[name].append((time.perf_counter() - due_s) * 1e3)

    async with TaskHost(HostConfig(slots=slots)) as host:
        await _burst(host, specs["light"], 4 * slots, slots)
        await _keep_time(arrivals, one)
    return waits


async def _keep_time(
    arrivals: list[tuple[float, str]], start: Callable[[float, str], Awaitable[None]]
) -> None:
    """Start each arrival when it is due; return when all are done."""
    began_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for due_s, name in arrivals:
            await trio.sleep(max(0.0, began_s + due_s - time.perf_counter()))
            nursery.start_soon(start, began_s + due_s, name)


# Company: a light task that is due all the time, beside one that never ends


async def _measure_company(specs: dict[str, TaskSpec]) -> list[Row]:
    rows = []
    endless = _spec(specs["light"].bundle_dir.with_name("endless"), "def run():\n    while True: pass\n")
    for beside, company in (("alone", None), ("beside a busy task", endless)):
        late = await _time_light(specs["light"], company)
        p50, p99 = median(late), quantiles(late, n=100)[98]
        note = f"{CORES} cores, 2 slots, one due every {LIGHT_EVERY_S * 1e3:.0f} ms"
        for words, value in (("median", p50), ("p99", p99)):
            what = f"light task from due to done, {beside}, {words}"
            rows.append(Row("container", what, value, "ms", min(late), max(late), note))
    return rows


async def _time_light(light: TaskSpec, company: TaskSpec | None) -> list[float]:
    late: list[float] = []

    async def one(due_s: float, _name: str) -> None:
        await _run_once(host, light)
        late.append((time.perf_counter() - due_s) * 1e3)

    async with TaskHost(HostConfig(slots=2)) as host, trio.open_nursery() as nursery:
        await _burst(host, light, 8, 2)
        if company is not None:
            nursery.start_soon(partial(host.run, company, INPUTS))
            await trio.sleep(0.05)
        await _keep_time([(LIGHT_EVERY_S * n, "light") for n in range(LIGHT_RUNS)], one)
        nursery.cancel_scope.cancel()
    return late


__all__ = ["run"]
