"""Many tasks side by side, one in a hundred of them hostile: nobody else fails, and memory stays flat."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest
import trio

from walle_container import HostConfig, TaskHost, TaskLimits, TaskResult, TaskSpec
from walle_shared.manifest import Tier
from walle_support.scripts import REGEX_BOMB, bypass, native_crash

INPUTS: dict[str, Any] = {"events": [], "visit": None, "trigger": {}}

HONEST: dict[str, tuple[str, Any]] = {
    "light": ("def run(): return 1\n", 1),
    "middle": (
        "import json, statistics\nfrom walle_task import log\ndef run():\n"
        "    log.info('middle')\n    data = [list(range(60)) for _ in range(60)]\n"
        "    return len(json.loads(json.dumps(data)))\n",
        60,
    ),
    "heavy": (
        "def run():\n    total = 0\n    for i in range(60_000): total += i\n    return total\n",
        1_799_970_000,
    ),
    "reading": ("from walle_task import store\ndef run(): return store.table('t').rows()\n", [{"n": 1}]),
    "garbage": (
        "class Node: pass\ndef run():\n    a, b = Node(), Node()\n"
        "    a.b, b.a, a.c = b, a, bytearray(99_999)\n",
        None,
    ),
}

#: Script, tier, and how such a run ends.
HOSTILE: dict[str, tuple[str, Tier, str]] = {
    "loop": ("def run():\n    while True: pass\n", "interp", "timeout"),
    "stubborn loop": (
        "def run():\n    while True:\n        try:\n            while True: pass\n"
        "        except BaseException: pass\n",
        "interp",
        "timeout",
    ),
    "memory": ("def run():\n    x = []\n    while True: x.append(bytes(9999))\n", "interp", "memory"),
    "output": ("def run(): return 'x' * 999_999\n", "interp", "output"),
    "import": ("import socket\ndef run(): pass\n", "interp", "denied"),
    "file": ("def run(): open('/etc/passwd')\n", "interp", "denied"),
    "bypass": (bypass("reach('os').kill(1, 0)"), "interp", "denied"),
    "native crash": (bypass(native_crash()), "process", "crashed"),
    "exit": (bypass("reach('os')._exit(1)"), "process", "crashed"),
}


@dataclass
class Mix:
    """Runs honest and hostile tasks in a random order, and judges each by what it is."""

    host: TaskHost
    folder: Path
    random: random.Random
    ends: Counter[str]

    def make_spec(self, name: str, script: str, tier: Tier = "interp", *, hostile: bool = False) -> TaskSpec:
        bundle_dir = self.folder / name.replace(" ", "_")
        if not bundle_dir.exists():
            bundle_dir.mkdir()
            (bundle_dir / "main.py").write_text(script, encoding="utf-8")
        return TaskSpec(
            name,
            "1",
            bundle_dir,
            scenario="a" if len(name) % 2 else "b",
            # The machine may be busy: only runs that never end by themselves get a short time.
            limits=TaskLimits(wall_s=0.1 if "loop" in name else 60.0, memory_bytes=16 << 20),
            capabilities=frozenset({"store", "log"}),
            tier=tier if hostile else "interp",
        )

    async def run_all(self, runs: int, hostile_every: int) -> None:
        names = [
            self.random.choice(list(HOSTILE if number % hostile_every == 0 else HONEST))
            for number in range(1, runs + 1)
        ]
        send, receive = trio.open_memory_channel[str](0)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(self._lane, receive)
            async with send:
                for name in names:
                    await send.send(name)

    async def _lane(self, names: trio.MemoryReceiveChannel[str]) -> None:
        async def rows(_args: dict[str, Any]) -> list[dict[str, Any]]:
            return [{"n": 1}]

        async for name in names:
            if name in HONEST:
                script, value = HONEST[name]
                result = await self.host.run(self.make_spec(name, script), INPUTS, {"store.rows": rows})
                assert (result.error, result.value) == (None, value), name
            else:
                script, tier, end = HOSTILE[name]
                result = await self.host.run(self.make_spec(name, script, tier, hostile=True), INPUTS)
                assert result.error_kind == end, (name, result.error)
            self.ends[name] += 1


async def run_mix(folder: Path, runs: int, hostile_every: int) -> tuple[Counter[str], int, int]:
    """Every task ended as it should; how often each ran, workers lost, and how memory grew (bytes)."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    # A loaded machine must not turn a run that is stopped late into a poisoned one.
    async with TaskHost(HostConfig(slots=2, grace_s=30.0)) as host:
        mix = Mix(host, folder, random.Random(seed), Counter())
        for name, (script, _) in HONEST.items():  # both scenarios' workers are up and have seen every task
            for _ in range(20):
                await host.run(mix.make_spec(name, script), INPUTS)
        before_bytes = await measure_shared_rss_bytes(host)
        await mix.run_all(runs, hostile_every)
        grown_bytes = await measure_shared_rss_bytes(host) - before_bytes
        statistics = host.statistics()
        assert statistics.poisoned == 0
        assert {worker.tier for worker in statistics.workers if worker.runs} <= {"interp", "process"}
        return mix.ends, statistics.workers_lost, grown_bytes


async def measure_shared_rss_bytes(host: TaskHost) -> int:
    keepers = [keeper for keeper in host._keepers.values() if keeper.enclosure.tier == "interp"]
    return sum([await (await keeper.current_worker()).measure_rss_bytes() for keeper in keepers])


@pytest.mark.slow
async def test_three_hundred_mixed_runs_with_hostile_ones(tmp_path: Path):
    ends, lost, grown_bytes = await run_mix(tmp_path, 300, 25)
    assert ends.total() == 300
    assert lost == ends["native crash"] + ends["exit"]
    assert grown_bytes < 24 << 20  # two workers, each with the arenas of two memory bombs at most


@pytest.mark.slow_session
async def test_ten_thousand_mixed_runs_with_hostile_ones(tmp_path: Path):
    ends, lost, grown_bytes = await run_mix(tmp_path, 10_000, 100)
    print(dict(ends), f"lost {lost}, grown {grown_bytes}")
    assert ends.total() == 10_000
    assert sum(ends[name] for name in HOSTILE) == 100
    assert lost == ends["native crash"] + ends["exit"]
    assert grown_bytes < 24 << 20


@pytest.mark.slow
async def test_a_poisoned_worker_in_the_mix_fails_nobody_else(tmp_path: Path):
    """The one hostile run that costs a worker in the interp tier, among honest ones on both slots."""
    async with TaskHost(HostConfig(slots=2, grace_s=0.1)) as host:
        mix = Mix(host, tmp_path, random.Random(1), Counter())
        results: list[TaskResult] = []

        async def bomb() -> None:
            spec = mix.make_spec("bomb loop", REGEX_BOMB)
            results.append(await host.run(spec, INPUTS))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(bomb)
            nursery.start_soon(mix.run_all, 40, 1_000)
        assert [result.error_kind for result in results] == ["poisoned"]
        assert mix.ends.total() == 40


async def measure_stops(folder: Path, runs: int, make: Callable[[int], float]) -> list[float]:
    """How long past its deadline each of ``runs`` endless runs ended (s)."""
    bundle_dir = folder / "loop"
    bundle_dir.mkdir()
    (bundle_dir / "main.py").write_text("def run():\n    while True: pass\n", encoding="utf-8")
    late = []
    async with TaskHost(HostConfig(slots=2, grace_s=30.0)) as host:
        for number in range(runs):
            wall_s = make(number)
            spec = TaskSpec("loop", "1", bundle_dir, limits=TaskLimits(wall_s=wall_s))
            result = await host.run(spec, INPUTS)
            assert result.error_kind == "timeout"
            late.append(result.wall_s - wall_s)
    return late


@pytest.mark.slow_session
async def test_deadlines_hold(tmp_path: Path):
    late = await measure_stops(tmp_path, 300, lambda number: 0.02 + 0.0002 * number)
    p99 = quantiles(late, n=100)[98]
    print(
        f"late by {1e3 * min(late):.2f} ms at least, p99 {1e3 * p99:.2f} ms, {1e3 * max(late):.2f} ms at most"
    )
    assert min(late) >= 0
    assert p99 < 0.05
