"""A device whose disk is really full goes on running what it has, and installs once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from walle_agent.config import DeploySection
from walle_shared.errors import StorageError
from walle_shared.units import KIB, MIB
from walle_support.control import SimulatedControl
from walle_support.device import live

SIZE_BYTES = 4 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=700", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave_bytes: int) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (64 * KIB, 4 * KIB, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
        file.truncate(max(0, file.tell() - leave_bytes))
    return ballast


@pytest.mark.slow
async def test_a_full_disk_costs_nothing_but_time(disk: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version(files={"model.bin": bytes(200 * KIB)}))
    config = DeploySection(download_attempts=1, install_attempts=1)
    async with live(disk / "device", control, config=config) as device:
        await device.catch_up()
        control.release(
            control.add_version(version="2.0", files={"model.bin": b"2" * 600 * KIB}), version="2.0"
        )
        refused = 0
        for leave_bytes in (24 * KIB, 200 * KIB, 400 * KIB, 590 * KIB):
            ballast = fill(disk, leave_bytes)
            try:
                failure = await device.catch_up()
            except StorageError:  # not even the state could be written
                refused += 1
            else:
                assert isinstance(failure, StorageError), failure
                refused += 1
            assert device.active() == {"reader": "1.0"}
            await device.steps.check_slot(("demo", "reader"), "a")  # type: ignore[arg-type]
            ballast.unlink()
        assert refused == 4
        assert device.keeper.state.quarantine == ()
        assert {r.error_class for r in device.queued_reports() if r.outcome == "failure"} <= {"user"}
        assert await device.catch_up() is None
        assert device.active() == {"reader": "2.0"}
    async with live(disk / "device", control, config=config) as device:
        assert device.corruptions == []
        assert device.active() == {"reader": "2.0"}


@pytest.mark.slow
async def test_what_nothing_needs_gives_way_to_what_is_wanted(disk: Path) -> None:
    control = SimulatedControl()
    async with live(disk / "device", control) as device:
        stray = device.content.folder / ("a" * 64)
        stray.write_bytes(bytes(2_500 * KIB))
        control.release(control.add_version(files={"model.bin": b"1" * 900 * KIB}))
        assert await device.catch_up() is None
        assert not stray.exists()
        assert device.active() == {"reader": "1.0"}
