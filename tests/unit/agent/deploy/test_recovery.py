"""What a device does about deaths in a row, busy servers, litter, runs that still read, and years away."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from walle_agent.config import DeploySection
from walle_agent.state.machine import SlotPhase
from walle_agent.state.store import SLOT_NAMES
from walle_shared.clock import FixedClock
from walle_shared.errors import TransportError
from walle_support.control import (
    EXPIRES_MS,
    ISSUED_MS,
    SimulatedControl,
    corrupt,
    unavailable,
    unreachable,
)
from walle_support.device import Device, live

YEAR_S = 365 * 24 * 3_600.0


def two_versions(control: SimulatedControl) -> None:
    for version in ("1.0", "2.0"):
        control.release(control.add_version(version=version), version=version)


async def install_both(folder: Path, control: SimulatedControl) -> None:
    control.release(control.add_version())
    async with live(folder, control) as device:
        await device.catch_up()
        control.release(control.add_version(version="2.0"), version="2.0")
        await device.catch_up()
        assert device.active() == {"reader": "2.0"}


async def die_of_it(folder: Path, control: SimulatedControl, *, settled: bool = False) -> None:
    """One life that starts what is active and is cut off."""
    async with live(folder, control) as device:
        (task,) = device.registry.tasks()
        await device.deployer.starting(task)
        await device.deployer.starting(task)  # a second run in the same life is not another start
        if settled:
            await device.deployer.settle()


async def test_deaths_in_a_row_after_a_start_bring_back_the_version_before(tmp_path: Path) -> None:
    control = SimulatedControl()
    await install_both(tmp_path, control)
    for _ in range(3):
        async with live(tmp_path, control) as device:
            assert device.active() == {"reader": "2.0"}
        await die_of_it(tmp_path, control)
    async with live(tmp_path, control) as device:
        assert device.active() == {"reader": "1.0"}
        report = device.queued_reports()[-1]
        assert (report.stage, report.code, report.error_class) == ("revert", "crash_loop", "runtime")
        assert report.message == "the agent died 3 times in a row soon after starting it; back to 1.0"
        assert await device.catch_up() is None  # still wanted, but not tried again
        assert device.active() == {"reader": "1.0"}
        count = len(device.queued_reports())
    async with live(tmp_path, control) as device:
        assert len(device.queued_reports()) == count


async def test_a_life_that_lasted_forgives_those_before(tmp_path: Path) -> None:
    control = SimulatedControl()
    await install_both(tmp_path, control)
    for settled in (False, False, True, False, False):
        await die_of_it(tmp_path, control, settled=settled)
    async with live(tmp_path, control) as device:
        assert device.active() == {"reader": "2.0"}


async def test_what_was_not_started_or_is_proven_is_not_blamed(tmp_path: Path) -> None:
    control = SimulatedControl()
    await install_both(tmp_path, control)
    for _ in range(5):
        async with live(tmp_path, control):
            pass  # died before it ran anything
    async with live(tmp_path, control) as device:
        (task,) = device.registry.tasks()
        for _ in range(10):
            await device.deployer.judge(task, ok=True)
    for _ in range(5):
        await die_of_it(tmp_path, control)
    async with live(tmp_path, control) as device:
        assert device.active() == {"reader": "2.0"}


async def test_the_first_version_of_a_task_has_nothing_to_go_back_to(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    async with live(tmp_path, control) as device:
        await device.catch_up()
    for _ in range(3):
        await die_of_it(tmp_path, control)
    async with live(tmp_path, control) as device:
        assert device.active() == {}
        assert device.queued_reports()[-1].message.endswith("back to nothing")


async def test_settling_happens_by_itself(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    control = SimulatedControl()
    await install_both(tmp_path, control)
    async with live(tmp_path, control) as device, trio.open_nursery() as nursery:
        nursery.start_soon(device.deployer.run_settling)
        (task,) = device.registry.tasks()
        await trio.sleep(1_000)
        await device.deployer.starting(task)

        def crashes() -> int:
            record = device.keeper.state.record(task.key)
            assert record.active is not None
            return record.slot(record.active).crashes

        await trio.sleep(299)
        assert crashes() == 1
        while crashes():  # noqa: ASYNC110  # threads work outside this clock
            await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def test_a_busy_server_is_waited_for_and_nothing_of_it_is_reported(tmp_path: Path) -> None:
    control = SimulatedControl()
    manifest = control.add_version()
    control.release(manifest)
    path = f"/s/manifest/{manifest.sha256}"
    control.distort(path, unavailable, times=5)
    async with live(tmp_path, control, config=DeploySection(install_attempts=1)) as device:
        for _ in range(5):
            failure = await device.catch_up()
            assert isinstance(failure, TransportError)
            assert failure.code == "busy"
        assert [report.stage for report in device.queued_reports()] == ["start"]
        assert await device.catch_up() is None


async def test_a_blob_from_a_busy_server_uses_up_no_attempts(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    (blob,) = [path for path in control.files if path.startswith("/s/blob/")]
    control.distort(blob, unavailable)  # asks for more seconds than an installation waits
    async with live(tmp_path, control) as device:
        failure = await device.catch_up()
        assert isinstance(failure, TransportError)
        assert len([path for _, path in control.requests if path == blob]) == 1
        assert await device.catch_up() is None


async def test_network_failures_before_a_bad_file_do_not_count_towards_quarantine(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    (blob,) = [path for path in control.files if path.startswith("/s/blob/")]
    control.distort(blob, unreachable, times=4)
    control.distort(blob, corrupt, times=2)
    async with live(
        tmp_path, control, config=DeploySection(download_attempts=2, install_attempts=2)
    ) as device:
        for _ in range(3):
            assert await device.catch_up() is not None
        assert device.keeper.state.quarantine == ()
        assert await device.catch_up() is None


async def test_an_installation_waits_for_the_last_run_of_the_files_it_replaces(tmp_path: Path) -> None:
    control = SimulatedControl()
    await install_both(tmp_path, control)
    control.releases = control.releases[:1]
    control.publish()
    async with live(tmp_path, control) as device, trio.open_nursery() as nursery:
        (newer,) = device.registry.tasks()
        await device.catch_up()  # back to 1.0; a run of 2.0 still goes on
        control.release(control.add_version(version="3.0"), version="3.0")
        with device.registry.running(newer):
            nursery.start_soon(device.catch_up)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert (newer.bundle_dir / "main.py").is_file()
            assert device.active() == {"reader": "1.0"}
        with trio.fail_after(30):
            while device.active() != {"reader": "3.0"}:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_litter_of_a_crash_is_swept_and_only_that(tmp_path: Path) -> None:
    control = SimulatedControl()
    await install_both(tmp_path, control)
    slots = tmp_path / "slots"
    for name in ("demo/reader/a.new", "demo/gone/a", "other/task/b"):
        (slots / name / "bundle").mkdir(parents=True)
    (tmp_path / "blobs" / ("f" * 64)).write_bytes(b"stray")
    async with live(tmp_path, control) as device:
        assert sorted(str(path.relative_to(slots)) for path in slots.glob("*/*/*")) == [
            "demo/reader/a",
            "demo/reader/b",
        ]
        assert not (slots / "other").exists()
        await device.catch_up()
        assert "f" * 64 not in {path.name for path in device.content.folder.iterdir()}


async def test_what_is_left_of_a_withdrawn_release_is_collected(tmp_path: Path) -> None:
    control = SimulatedControl()
    big = bytes(100_000)
    release_id = control.release(control.add_version(files={"model.bin": big}))
    async with live(tmp_path, control) as device:
        for path in [path for path in control.files if path.startswith("/s/blob/")]:
            control.distort(path, unreachable, times=2)
        assert await device.catch_up() is not None
        (device.content.folder / ("a" * 64 + ".part")).write_bytes(b"half")
        control.roll_back(release_id)
        assert await device.catch_up() is None
        assert list(device.content.folder.iterdir()) == []


async def test_nothing_is_collected_while_a_slot_cannot_say_what_it_needs(tmp_path: Path) -> None:
    control = SimulatedControl()
    await install_both(tmp_path, control)
    async with live(tmp_path, control) as device:
        record = device.keeper.state.tasks[0]
        held = {path.name for path in device.content.folder.iterdir()}
        inactive = next(name for name in SLOT_NAMES if record.slot(name).state is SlotPhase.READY)
        (device.folders.path(record.key, inactive) / "manifest.json").write_bytes(b"{}")
        await device.steps.collect_garbage()
        assert {path.name for path in device.content.folder.iterdir()} == held


async def _come_back(device: Device, control: SimulatedControl) -> None:
    assert device.active() == {"reader": "2.0"}  # what it has runs without asking anybody
    control.release(control.add_version(version="3.0"), version="3.0")
    control.publish(epoch=control.epoch, expires_ms=EXPIRES_MS + int(9 * YEAR_S * 1_000))
    assert await device.catch_up() is None
    assert device.active() == {"reader": "3.0"}


@pytest.mark.parametrize("years", [0.7, 8.0, -20.0])
async def test_a_device_comes_back_after_months_or_with_a_clock_that_is_years_off(
    tmp_path: Path, years: float
) -> None:
    control = SimulatedControl()
    await install_both(tmp_path, control)
    control.revoke_credentials()  # all of that time ago they have expired
    clock = FixedClock(ISSUED_MS + round(years * YEAR_S * 1_000))
    async with live(tmp_path, control, clock=clock, token="") as device:
        await _come_back(device, control)
        assert await device.session.credential(refused="d1-credential-1")
