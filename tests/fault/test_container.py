"""Workers that die, freeze, lie or cannot be stopped: the run says so, others finish, the host goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio

from walle_container import HostConfig, TaskHost, TaskLimits, TaskResult, TaskSpec
from walle_shared.manifest import Tier
from walle_support.scripts import BYPASS, REGEX_BOMB, native_crash

INPUTS: dict[str, Any] = {"events": [], "visit": None, "trigger": {}}

MakeSpec = Callable[..., TaskSpec]


@pytest.fixture
def make_spec(tmp_path: Path) -> MakeSpec:
    numbers = count()

    def make(script: str, *, wall_s: float = 10.0, tier: Tier = "interp") -> TaskSpec:
        bundle_dir = tmp_path / f"bundle{next(numbers)}"
        bundle_dir.mkdir()
        (bundle_dir / "main.py").write_text(textwrap.dedent(script), encoding="utf-8")
        return TaskSpec(
            task="t",
            version="1.0",
            bundle_dir=bundle_dir,
            limits=TaskLimits(wall_s=wall_s),
            capabilities=frozenset({"events", "log", "store"}),
            tier=tier,
        )

    return make


@pytest.fixture
def answer(make_spec: MakeSpec) -> TaskSpec:
    return make_spec("def run(): return 42\n")


async def wait_until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110  # nothing tells of a process that is not our child
            await trio.sleep(0.005)


@pytest.mark.slow
async def test_a_run_that_cannot_be_stopped_poisons_its_worker_and_another_run_on_it_finishes(
    make_spec: MakeSpec, answer: TaskSpec
):
    results: dict[str, TaskResult] = {}

    slept = trio.Event()

    async def wait_slept(_args: dict[str, Any]) -> list[Any]:
        await slept.wait()
        return []

    async def run(name: str, spec: TaskSpec) -> None:
        results[name] = await host.run(spec, INPUTS, {"store.rows": wait_slept})

    sleeper = make_spec(
        "from walle_task import store\ndef run():\n    store.table('t').rows()\n    return 'slept'\n",
        wall_s=60.0,
    )
    async with TaskHost(HostConfig(slots=2, grace_s=0.1)) as host:
        first_pid = host.statistics().worker_pid
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "bomb", make_spec(REGEX_BOMB, wall_s=0.1))
            nursery.start_soon(run, "sleeper", sleeper)
            await wait_until(lambda: "bomb" in results)
            assert "sleeper" not in results
            # A new worker takes new runs while the old one still has its sleeper.
            assert (await host.run(answer, INPUTS)).value == 42
            assert host.statistics().worker_pid not in (None, first_pid)
            assert "sleeper" not in results
            slept.set()
        assert (results["bomb"].ok, results["bomb"].error_kind) == (False, "poisoned")
        assert results["sleeper"].value == "slept"
        await wait_until(lambda: not _is_alive(first_pid))
        statistics = host.statistics()
    assert (statistics.poisoned, statistics.workers_started, statistics.workers_lost) == (1, 2, 0)


def _is_alive(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
async def test_cancelling_a_run_that_cannot_be_stopped_replaces_the_worker(
    make_spec: MakeSpec, answer: TaskSpec
):
    async with TaskHost(HostConfig(slots=1, grace_s=0.05)) as host:
        with trio.move_on_after(0.1) as scope:
            await host.run(make_spec(REGEX_BOMB), INPUTS)
        assert scope.cancelled_caught
        assert (await host.run(answer, INPUTS)).value == 42
        assert host.statistics().poisoned == 1


async def test_a_killed_worker_crashes_its_runs_and_the_next_run_is_well(
    make_spec: MakeSpec, answer: TaskSpec
):
    results: list[TaskResult] = []

    async def run() -> None:
        results.append(
            await host.run(make_spec("import time\ndef run(): time.sleep(60)\n", wall_s=60), INPUTS)
        )

    async with TaskHost(HostConfig(slots=2)) as host:
        pid = host.statistics().worker_pid
        assert pid is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            nursery.start_soon(run)
            await wait_until(lambda: host.statistics().running == 2)
            os.kill(pid, signal.SIGKILL)
        assert [result.error_kind for result in results] == ["crashed", "crashed"]
        assert "SIGKILL" in (results[0].error or "")
        assert (await host.run(answer, INPUTS)).value == 42
        assert host.statistics().workers_lost == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("reach('os')._exit(3)", "exit code 3"),
        (native_crash(), "SIGSEGV"),
        ("reach('os').abort()", "SIGABRT"),
        # It does not know which descriptor is its own channel; it tries them all.
        (
            "[reach('os').write(fd, b'\\x05\\0\\0\\0hello') for fd in range(3, 32) if is_socket(fd)]",
            "not JSON",
        ),
        (
            "[reach('os').write(fd, b'\\xff\\xff\\xff\\xff') for fd in range(3, 32) if is_socket(fd)]",
            "4294967295",
        ),
        ("[reach('os').close(fd) for fd in range(3, 32) if is_socket(fd)]", "worker process"),
    ],
    ids=["exit", "signal", "abort", "not a message", "endless frame", "closed channel"],
)
async def test_a_task_that_breaks_its_worker_is_crashed_and_the_agent_lives(
    make_spec: MakeSpec, answer: TaskSpec, deed: str, words: str
):
    script = BYPASS + textwrap.dedent("""
        def is_socket(fd):
            try:
                return reach('stat').S_ISSOCK(reach('os').fstat(fd).st_mode)
            except OSError:
                return False
        def run():
            DEED
            reach('time').sleep(5)
    """).replace("DEED", deed)
    async with TaskHost(HostConfig(slots=1)) as host:
        with trio.fail_after(8):
            result = await host.run(make_spec(script), INPUTS)
        assert result.error_kind == "crashed"
        assert words in (result.error or "")
        assert (await host.run(answer, INPUTS)).value == 42


@pytest.mark.slow
async def test_deaths_in_a_row_are_answered_with_growing_pauses(make_spec: MakeSpec, answer: TaskSpec):
    deadly = make_spec(BYPASS + "def run(): reach('os')._exit(1)\n")
    async with TaskHost(HostConfig(slots=1, backoff_first_s=0.05, backoff_max_s=0.1)) as host:
        pauses = []
        for _ in range(5):
            result = await host.run(deadly, INPUTS)
            began_s = time.monotonic()
            assert result.error_kind == "crashed"
            (keeper,) = host._keepers.values()
            pauses.append(keeper.backoff_s())
            await wait_until(lambda: host.statistics().worker_pid is not None)
            assert time.monotonic() - began_s >= pauses[-1]
        assert pauses == [0.0, 0.05, 0.1, 0.1, 0.1]
        assert (await host.run(answer, INPUTS)).value == 42
        assert keeper.backoff_s() == 0.0


@pytest.mark.slow
async def test_a_frozen_worker_is_replaced(make_spec: MakeSpec, answer: TaskSpec):
    async with TaskHost(HostConfig(slots=1, grace_s=0.1)) as host:
        pid = host.statistics().worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        result = await host.run(make_spec("def run(): return 1\n", wall_s=0.1), INPUTS)
        assert result.error_kind == "poisoned"
        assert (await host.run(answer, INPUTS)).value == 42
        await wait_until(lambda: not _is_alive(pid))


@pytest.mark.slow
async def test_a_worker_ends_with_its_agent_however_that_ends(tmp_path: Path):
    agent = textwrap.dedent("""
        import trio
        from pathlib import Path
        from walle_container import HostConfig, TaskHost, TaskSpec
        async def main():
            async with TaskHost(HostConfig(slots=1)) as host:
                print(host.statistics().worker_pid, flush=True)
                spec = TaskSpec(task="t", version="1.0", bundle_dir=Path(BUNDLE))
                await host.run(spec, {"events": []})
        trio.run(main)
    """).replace("BUNDLE", repr(str(tmp_path)))
    (tmp_path / "main.py").write_text("def run():\n    while True: pass\n", encoding="utf-8")
    command = [sys.executable, "-c", agent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220  # briefly
        assert process.stdout is not None
        worker_pid = next(int(line) for line in process.stdout if line.strip().isdigit())
        await trio.sleep(0.1)
        process.kill()
    await wait_until(lambda: not _is_alive(worker_pid) or _is_zombie(worker_pid))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


MIXED = (
    "from walle_task import events\nimport json, statistics\n"
    "def run():\n    data = [list(range(100)) for _ in range(100)]\n    return len(json.dumps(data))\n",
    "import nowhere_to_be_found\n",
    "class Node: pass\ndef run():\n    a, b = Node(), Node()\n    a.b, b.a, a.c = b, a, bytearray(99_999)\n",
    "def run(): return 1 / 0\n",
)


async def grow(make_spec: MakeSpec, first: int, then: int) -> int:
    """How much a slot's worker has grown over ``then`` mixed runs, after ``first`` ones (bytes)."""
    specs = [make_spec(script) for script in MIXED]

    async def run_all(times: int) -> None:
        for _ in range(times // len(specs)):
            for spec in specs:
                await host.run(spec, INPUTS)

    async with TaskHost(HostConfig(slots=1)) as host:
        await run_all(first)
        before_bytes = await host.measure_rss_bytes()
        await run_all(then)
        grown_bytes = await host.measure_rss_bytes() - before_bytes
        assert host.statistics().workers_started == 1
    return grown_bytes


@pytest.mark.slow
async def test_three_hundred_runs_on_one_slot_take_no_more_memory(make_spec: MakeSpec):
    assert await grow(make_spec, 200, 300) < 2 << 20


@pytest.mark.slow_session
async def test_two_thousand_runs_on_one_slot_take_no_more_memory(make_spec: MakeSpec):
    assert await grow(make_spec, 200, 2_000) < 2 << 20
