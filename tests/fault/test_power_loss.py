"""The power goes before every file operation of a deployment, and takes what was not synced with it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from walle_agent.state.machine import ACTIVE, COMPLETE
from walle_agent.state.store import SLOT_NAMES, DeviceState, read_only
from walle_shared.signing import sha256_hex
from walle_shared.targeting.policy import TaskKey
from walle_support.control import SimulatedControl
from walle_support.device import Device, live
from walle_support.power import Disk, PowerCut, Survival

Versions = dict[str, str]


async def check_invariants(device: Device) -> None:
    """No file had to be set aside; what is complete is whole; exactly what is active may run."""
    assert device.corruptions == []
    for record in device.keeper.state.tasks:
        phases = [record.slot(name).state for name in SLOT_NAMES]
        assert sum(phase in ACTIVE for phase in phases) <= 1
        for name in SLOT_NAMES:
            if record.slot(name).state in COMPLETE:
                await device.steps.check_slot(record.key, name)
        assert (device.registry.get(record.key) is None) == (record.active is None)


def complete_slots(state: DeviceState | None) -> set[tuple[TaskKey, str]]:
    tasks = state.tasks if state is not None else ()
    return {
        (record.key, record.slot(name).manifest)
        for record in tasks
        for name in SLOT_NAMES
        if record.slot(name).state in COMPLETE
    }


class Drill:
    """One deployment that the power is cut in, again and again.

    Args:
        folder: room for the devices.
        before: what the device has done before.
        survivors: what may be active when it comes up again; the last is what it must arrive at.
    """

    def __init__(
        self,
        folder: Path,
        before: Callable[[SimulatedControl], object] | None,
        change: Callable[[SimulatedControl], object],
        survivors: tuple[Versions, ...],
    ) -> None:
        self._folder = folder
        self._before = before
        self._change = change
        self._survivors = survivors

    async def cut(self, at: int, survivals: tuple[Survival, ...]) -> int:
        """Cut before operation ``at`` (0: never); how many operations there were until then."""
        control = SimulatedControl()
        root = self._folder / str(at)
        root.mkdir()
        if self._before is not None:
            self._before(control)
            async with live(root, control) as device:
                await device.catch_up()
        disk = Disk(root, at)
        disk.adopt()
        self._change(control)
        try:
            with disk.watching():
                async with live(root, control) as device:
                    await device.catch_up()
        except PowerCut:
            pass
        else:
            assert at == 0
        for survival in survivals:
            where = await trio.to_thread.run_sync(disk.after_cut, self._folder / f"{at}-{survival}", survival)
            promised = complete_slots(read_only(where)[1])
            async with live(where, control) as device:
                await check_invariants(device)
                assert complete_slots(device.keeper.state) == promised  # what counts as complete is not lost
                assert device.active() in self._survivors, (survival, disk.passed)
                assert await device.catch_up() is None
                await check_invariants(device)
                assert device.active() == self._survivors[-1]
        disk.close()
        return len(disk.passed)


def release(version: str, **files: bytes) -> Callable[[SimulatedControl], object]:
    return lambda control: control.release(
        control.add_version(version=version, files={"model.bin": version.encode() * 900, **files}),
        version=version,
    )


OLD_WEIGHTS = random.Random(1).randbytes(60_000)
NEW_WEIGHTS = OLD_WEIGHTS[:30_000] + b"retrained" + OLD_WEIGHTS[30_000:]


def release_by_delta(control: SimulatedControl) -> None:
    manifest = control.add_version(version="2.0", files={"weights.bin": NEW_WEIGHTS})
    deltas = control.add_deltas(manifest, (OLD_WEIGHTS, NEW_WEIGHTS))
    del control.files[f"/s/blob/{sha256_hex(NEW_WEIGHTS)}"]  # there is no other way
    control.release(manifest, version="2.0", deltas=deltas)


def drills(folder: Path) -> dict[str, Drill]:
    one, two = release("1.0"), release("2.0")
    return {
        "first": Drill(folder, None, one, ({}, {"reader": "1.0"})),
        "update": Drill(folder, one, two, ({"reader": "1.0"}, {"reader": "2.0"})),
        "delta": Drill(folder, release("1.0", **{"weights.bin": OLD_WEIGHTS}), release_by_delta,
                       ({"reader": "1.0"}, {"reader": "2.0"})),
        "removal": Drill(folder, one, lambda control: control.roll_back(control.releases[0].id),
                         ({"reader": "1.0"}, {})),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first", "update", "delta", "removal"])
async def test_whatever_the_power_cut_takes_what_comes_up_is_a_whole_version(
    tmp_path: Path, name: str
) -> None:
    drill = drills(tmp_path)[name]
    total = await drill.cut(0, ())
    for at in range(1, total + 1, 9):
        await drill.cut(at, ("strict",))


@pytest.mark.slow_session
@pytest.mark.parametrize("name", ["first", "update", "delta", "removal"])
async def test_power_cuts_before_every_operation_under_every_survival(tmp_path: Path, name: str) -> None:
    drill = drills(tmp_path)[name]
    total = await drill.cut(0, ())
    for at in range(1, total + 1):
        await drill.cut(at, ("strict", "names", "lucky"))


async def test_the_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    disk = Disk(root)
    with disk.watching():
        for name in ("synced", "named", "lost"):
            with (root / name).open("wb") as file:
                file.write(b"words")
                file.flush()
                if name == "synced":
                    os.fsync(file.fileno())
            if name == "named":
                descriptor = os.open(root, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
    found = {path.name: path.read_bytes() for path in disk.after_cut(tmp_path / "up", "strict").iterdir()}
    disk.close()
    assert found == {"synced": b"words", "named": b""}


@pytest.mark.parametrize("survival", ["strict", "names", "lucky"])
async def test_the_disk_keeps_every_name_of_a_file(tmp_path: Path, survival: Survival) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    (root / "one").write_bytes(b"words")
    (root / "other").hardlink_to(root / "one")
    disk = Disk(root)
    disk.adopt()
    found = {path.name: path.read_bytes() for path in disk.after_cut(tmp_path / "up", survival).iterdir()}
    disk.close()
    assert found == {"one": b"words", "other": b"words"}
