"""Which tasks share a worker process, and how many of them there are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from walle_container import HostConfig, TaskHost, TaskSpec, fences
from walle_shared.errors import ConfigError

MakeSpec = Callable[..., TaskSpec]

PID = "from walle_task import log\ndef run(): return log.__builtins__['__import__']('os').getpid()\n"


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_scenarios_and_tiers_have_workers_of_their_own(make_spec: MakeSpec, inputs: dict[str, Any]):
    async with TaskHost(HostConfig(slots=1)) as host:
        assert [worker.scenario for worker in host.statistics().workers] == [None]
        pids = [
            (await host.run(make_spec(PID, scenario=scenario, tier=tier), inputs)).value
            for scenario, tier in [("a", "interp"), ("a", "interp"), ("b", "interp"), ("a", "process")]
        ]
        workers = host.statistics().workers
    assert pids[0] == pids[1]  # two tasks of a scenario
    assert len(set(pids)) == 3
    assert [(worker.scenario, worker.tier, worker.pid) for worker in workers] == [
        ("a", "interp", pids[0]),
        ("b", "interp", pids[2]),
        ("a", "process", pids[3]),
    ]
    assert [worker.runs for worker in workers] == [2, 1, 1]
    assert not any(is_alive(pid) for pid in pids)


async def test_the_first_scenario_takes_the_worker_that_is_there(make_spec: MakeSpec, inputs: dict[str, Any]):
    async with TaskHost(HostConfig(slots=1)) as host:
        (spare,) = host.statistics().workers
        assert (await host.run(make_spec(PID, scenario="a"), inputs)).value == spare.pid
        assert host.statistics().workers_started == 1


async def test_the_worker_idle_longest_gives_way(make_spec: MakeSpec, inputs: dict[str, Any]):
    specs = {name: make_spec(PID, scenario=name) for name in "abc"}
    async with TaskHost(HostConfig(slots=1, workers_max=2)) as host:
        first = {name: (await host.run(specs[name], inputs)).value for name in ("a", "b")}
        assert (await host.run(specs["a"], inputs)).value == first["a"]
        await host.run(specs["c"], inputs)
        assert [worker.scenario for worker in host.statistics().workers] == ["a", "c"]
        assert is_alive(first["a"])
        assert not is_alive(first["b"])


@pytest.mark.slow
async def test_with_all_workers_busy_another_scenario_waits_for_one(
    make_spec: MakeSpec, inputs: dict[str, Any]
):
    ended: list[str] = []

    async def run(name: str, script: str) -> None:
        result = await host.run(make_spec(script, scenario=name), inputs)
        assert result.ok
        ended.append(name)

    async with TaskHost(HostConfig(slots=2, workers_max=1)) as host:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "a", "import time\ndef run(): time.sleep(0.3)\n")
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.start_soon(run, "b", "def run(): pass\n")
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert len(host.statistics().workers) == 1
        assert ended == ["a", "b"]
        assert host.statistics().workers_started == 2


@pytest.mark.slow
async def test_idle_workers_are_ended_and_start_again_when_needed(
    make_spec: MakeSpec, inputs: dict[str, Any]
):
    spec = make_spec(PID)
    async with TaskHost(HostConfig(slots=1, idle_s=0.1)) as host:
        pid = (await host.run(spec, inputs)).value
        with trio.fail_after(10):
            while is_alive(pid):  # noqa: ASYNC110  # the host tells nobody
                await trio.sleep(0.01)
        assert host.statistics().workers == ()
        assert (await host.run(spec, inputs)).value != pid
    assert host.statistics().workers_lost == 0


async def test_slots_bound_the_runs_of_all_workers_together(make_spec: MakeSpec, inputs: dict[str, Any]):
    most = 0

    async def look(_args: dict[str, Any]) -> None:
        nonlocal most
        most = max(most, host.statistics().running)
        await trio.sleep(0.02)

    script = "from walle_task import store\ndef run(): store.table('t').rows()\n"
    async with TaskHost(HostConfig(slots=2)) as host, trio.open_nursery() as nursery:
        for number in range(6):
            spec = make_spec(script, scenario=f"s{number % 3}")
            nursery.start_soon(host.run, spec, inputs, {"store.rows": look})
    assert most == 2


def in_folder(make_spec: MakeSpec, folder: Path, script: str, **fields: Any) -> TaskSpec:
    spec = make_spec(script, **fields)
    target = folder / spec.scenario / spec.bundle_dir.name
    shutil.copytree(spec.bundle_dir, target)
    return TaskSpec(spec.task, spec.version, target, spec.scenario, tier=spec.tier)


READ = "from walle_task import log\nreach = log.__builtins__['__import__']\n"


@pytest.mark.skipif("landlock" not in fences.find_fences(), reason="this kernel has no Landlock")
async def test_a_scenario_reads_its_own_bundles_and_nothing_else(
    make_spec: MakeSpec, tmp_path: Path, inputs: dict[str, Any]
):
    folder = tmp_path / "slots"
    (tmp_path / "identity.json").write_text("secret")
    other = in_folder(make_spec, folder, "", scenario="other")
    script = READ + "def run(): return reach('io').open(%r).read()\n"
    async with TaskHost(HostConfig(slots=1, bundles_dir=folder)) as host:
        for tier in ("interp", "process"):
            own = in_folder(make_spec, folder, "def run(): return open('main.py').read()", scenario="own")
            assert (await host.run(own, inputs)).value.startswith("def run()")
            for path in (tmp_path / "identity.json", other.bundle_dir / "main.py", Path("/etc/passwd")):
                spec = in_folder(make_spec, folder, script % str(path), scenario="own", tier=tier)
                result = await host.run(spec, inputs)
                assert (result.error_kind, tier) == ("denied", tier)
        neighbour = in_folder(make_spec, folder, script % str(own.bundle_dir / "main.py"), scenario="own")
        assert (await host.run(neighbour, inputs)).ok  # a scenario's tasks are not kept from each other
    with pytest.raises(ConfigError, match="must lie below"):
        async with TaskHost(HostConfig(slots=1, bundles_dir=folder)) as host:
            await host.run(make_spec("", scenario="own"), inputs)


async def test_a_folder_made_anew_gets_a_new_worker(make_spec: MakeSpec, inputs: dict[str, Any]):
    spec = make_spec(PID, tier="process")
    async with TaskHost(HostConfig(slots=1)) as host:
        before = (await host.run(spec, inputs)).value
        moved = spec.bundle_dir.rename(spec.bundle_dir.with_name("moved"))
        shutil.copytree(moved, spec.bundle_dir)
        result = await host.run(spec, inputs)
    assert result.ok
    assert result.value != before


async def test_a_kernel_without_fences_is_said_and_runs_go_on(
    make_spec: MakeSpec,
    inputs: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("walle_container.fences.find_fences", lambda: ())
    async with TaskHost(HostConfig(slots=1)) as host:
        assert host.statistics().fences == ()
        for tier in ("interp", "process"):
            assert (await host.run(make_spec("def run(): return 1", tier=tier), inputs)).value == 1
    assert capsys.readouterr().out.count("fences_missing") == 1


def test_a_container_needs_slots_and_workers():
    for config in (HostConfig(slots=0), HostConfig(workers_max=0)):
        with pytest.raises(ConfigError):
            TaskHost(config)


async def test_no_descriptor_is_left_behind(make_spec: MakeSpec, inputs: dict[str, Any]):
    async def open_and_close() -> None:
        async with TaskHost(HostConfig(slots=2, workers_max=2)) as host:
            for scenario in "abc":
                await host.run(make_spec("def run(): pass", scenario=scenario), inputs)
            await host.run(make_spec("def run(): pass", tier="process"), inputs)

    await open_and_close()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # paths are not wanted
    await open_and_close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  # paths are not wanted
