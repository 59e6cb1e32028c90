"""Tasks in a worker of their own: the same kit with the same results, and what the process may not do."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from walle_container import HostConfig, TaskHost, TaskResult, TaskSpec, fences
from walle_container.process import WorkerProcess
from walle_support.scripts import bypass

MakeSpec = Callable[..., TaskSpec]

SAME: dict[str, str] = {
    "everything": """
        import datetime, decimal, json, re, zoneinfo
        from walle_task import events, log, params, store, tunnel
        from helper import double
        def run():
            log.info("began", n=len(events.all()))
            print("hello")
            reads = store.table("reads")
            reads.put({"kind": events.last().kind})
            tunnel.send("digit", {"digit": double(params.get("half"))})
            day = datetime.datetime.strptime("2024-05-01", "%Y-%m-%d")
            day = day.replace(tzinfo=zoneinfo.ZoneInfo("UTC"))
            return [reads.rows(), day.isoformat(), str(decimal.Decimal(1) / 8), re.sub("a+", "b", "caat")]
    """,
    "exception": "def run(): return 1 / 0",
    "invalid": "def run(): return object()",
    "denied import": "import os\ndef run(): pass",
    "denied file": "def run(): return open('/etc/passwd').read()",
    "memory": "def run(): return bytearray(1 << 30)",
    "output": "def run(): return 'x' * 100_000",
    "timeout": "def run():\n    while True: pass",
}


@pytest.mark.slow
async def test_both_tiers_give_the_same(make_spec: MakeSpec, inputs: dict[str, Any]):
    async def rows(_args: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"kind": "old"}]

    async with TaskHost(HostConfig(slots=1, grace_s=5.0)) as host:
        for name, script in SAME.items():
            found: list[TaskResult] = []
            for tier in ("interp", "process"):
                spec = make_spec(
                    script,
                    files={"helper.py": "def double(x): return 2 * x\n"},
                    params={"half": 4},
                    tier=tier,
                    wall_s=0.3 if name == "timeout" else 10.0,
                )
                found.append(await host.run(spec, inputs, {"store.rows": rows}))
            a, b = found
            assert a.ok is b.ok is (name == "everything")
            for part in ("value", "rows", "values", "uploads", "logs", "error_kind", "error", "stdout_tail"):
                assert getattr(a, part) == getattr(b, part), (name, part)
        assert host.statistics().workers_lost == 0


def read_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def read_threads(pid: int) -> list[dict[str, str]]:
    return [read_status(int(thread.name)) for thread in Path(f"/proc/{pid}/task").iterdir()]


def read_network(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def read_soft_limits(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/limits").read_text("ascii").splitlines()[1:]
    return {line[:25].strip(): line[25:].split()[0] for line in lines}


async def test_the_process_is_fenced_and_limited(make_spec: MakeSpec, inputs: dict[str, Any]):
    async with TaskHost(HostConfig(slots=1)) as host:
        assert (await host.run(make_spec("def run(): return 1", tier="process"), inputs)).ok
        pid = host.statistics().worker_pid
        assert pid is not None
        soft = read_soft_limits(pid)
        network = read_network(pid)
        threads = read_threads(pid)
    if "seccomp" in fences.find_fences():
        assert {(thread["NoNewPrivs"], thread["Seccomp"]) for thread in threads} == {("1", "2")}
    assert len(threads) == 4  # control, interrupter, image files, slot
    assert soft["Max core file size"] == "0"
    assert soft["Max open files"] == str(fences.OPEN_FILES_MAX)
    assert soft["Max processes"] == "0"
    assert soft["Max file size"] == str(fences.WRITTEN_FILE_MAX_BYTES)
    assert 64 << 20 < int(soft["Max address space"]) < 3 << 30
    assert 10 <= int(soft["Max cpu time"]) < 1_000
    if os.geteuid() == 0:
        assert network != read_network(os.getpid())


async def test_a_task_keeps_its_process_and_shares_it_with_no_other(
    make_spec: MakeSpec, inputs: dict[str, Any]
):
    one, other = (make_spec(bypass("reach('os').getpid()"), tier="process") for _ in range(2))
    async with TaskHost(HostConfig(slots=2)) as host:
        pids = [(await host.run(spec, inputs)).value for spec in (one, other, one, other)]
    assert pids[:2] == pids[2:]
    assert pids[0] != pids[1]


@pytest.mark.slow
async def test_runs_of_one_task_wait_for_each_other_and_not_for_other_tasks(
    make_spec: MakeSpec, inputs: dict[str, Any]
):
    slow = make_spec("import time\ndef run(): time.sleep(0.2)\n", tier="process")
    ended: list[str] = []

    async def run(name: str, spec: TaskSpec) -> None:
        assert (await host.run(spec, inputs)).ok
        ended.append(name)

    async with TaskHost(HostConfig(slots=2)) as host:
        await host.run(slow, inputs)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(run, "slow", slow)
            await trio.testing.wait_all_tasks_blocked(0.02)
            nursery.start_soon(run, "quick", make_spec("def run(): pass\n"))
        assert ended.index("quick") < 2


async def test_memory_that_no_quota_sees_is_bounded_too(make_spec: MakeSpec, inputs: dict[str, Any]):
    """OpenSSL takes its memory by itself, so no run is charged; the address space ends all the same."""
    script = (
        "import hashlib\ndef run(): hashlib.scrypt(b'a', salt=b'b', n=1 << 20, r=8, p=1, maxmem=2**31 - 1)\n"
    )
    async with TaskHost(HostConfig(slots=1)) as host:
        result = await host.run(make_spec(script, tier="process"), inputs)
        assert not result.ok
        assert (await host.run(make_spec("def run(): return 1", tier="process"), inputs)).ok
    assert result.wall_s < 5


@pytest.mark.slow
async def test_a_run_that_nobody_stops_ends_by_its_processor_time(
    make_spec: MakeSpec, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(WorkerProcess, "allow_cpu", lambda self, _wall_s: self._limit(resource.RLIMIT_CPU, 1))
    spec = make_spec("def run():\n    while True: pass\n", tier="process", wall_s=100.0)
    async with TaskHost(HostConfig(slots=1)) as host:
        result = await host.run(spec, inputs)
    assert result.error_kind == "crashed"
    assert "SIGXCPU" in (result.error or "")
