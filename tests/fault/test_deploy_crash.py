"""An installation is cut off at every boundary, by an exception and by SIGKILL; what is active is whole."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from walle_agent.state.machine import ACTIVE, COMPLETE
from walle_agent.state.store import SLOT_NAMES
from walle_support.control import SimulatedControl
from walle_support.device import Device, live


class PowerCut(BaseException):
    """The device dies here: nothing may catch it as an error."""


class Killer:
    """Dies at the n-th boundary."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.passed: list[str] = []

    def __call__(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self.at:
            raise PowerCut(name)


async def check_invariants(device: Device) -> None:
    """At most one slot is active, it is whole, and exactly it may run."""
    for record in device.keeper.state.tasks:
        phases = [record.slot(name).state for name in SLOT_NAMES]
        assert sum(phase in ACTIVE for phase in phases) <= 1
        for name in SLOT_NAMES:
            if record.slot(name).state in COMPLETE:
                await device.steps.check_slot(record.key, name)
        running = device.registry.get(record.key)
        if record.active is None:
            assert running is None
        else:
            assert running is not None
            assert running.manifest == record.slot(record.active).manifest
            assert (running.bundle_dir / "main.py").is_file()


def two_versions(control: SimulatedControl) -> None:
    for version in ("1.0", "2.0"):
        manifest = control.add_version(version=version, files={"model/big.bin": version.encode() * 5_000})
        control.release(manifest, version=version)


@pytest.mark.slow
async def test_killed_at_every_boundary_of_a_first_installation(tmp_path: Path) -> None:
    for at in itertools.count(1):
        control = SimulatedControl()
        control.release(control.add_version())
        if await _dies_and_recovers(tmp_path / str(at), control, at, survivors=({}, {"reader": "1.0"})):
            break
    assert at > 8


@pytest.mark.slow
async def test_killed_at_every_boundary_of_an_update(tmp_path: Path) -> None:
    for at in itertools.count(1):
        control = SimulatedControl()
        folder = tmp_path / str(at)
        control.release(control.add_version())
        async with live(folder, control) as device:
            await device.catch_up()
        control.release(control.add_version(version="2.0"), version="2.0")
        if await _dies_and_recovers(folder, control, at, survivors=({"reader": "1.0"}, {"reader": "2.0"})):
            break
    assert at > 8


@pytest.mark.slow
async def test_killed_at_every_boundary_of_a_removal(tmp_path: Path) -> None:
    for at in itertools.count(1):
        control = SimulatedControl()
        folder = tmp_path / str(at)
        release_id = control.release(control.add_version())
        async with live(folder, control) as device:
            await device.catch_up()
        control.roll_back(release_id)
        if await _dies_and_recovers(folder, control, at, survivors=({"reader": "1.0"}, {})):
            break
    assert at > 2


async def _dies_and_recovers(
    folder: Path, control: SimulatedControl, at: int, *, survivors: tuple[dict[str, str], ...]
) -> bool:
    """Live once until boundary ``at``, then again; True when there was no such boundary any more."""
    killer = Killer(at)
    died = False
    try:
        async with live(folder, control, on_boundary=killer) as device:
            await device.catch_up()
    except PowerCut:
        died = True
    async with live(folder, control) as device:
        await check_invariants(device)
        assert device.active() in survivors, killer.passed
        assert await device.catch_up() is None
        await check_invariants(device)
        assert device.active() == survivors[-1]
    return not died


VICTIM = """
import sys, trio
from pathlib import Path
from walle_support.control import SimulatedControl
from walle_support.device import live
from walle_shared.signing import SigningKey

async def main():
    control = SimulatedControl()
    control.key = SigningKey.from_hex(sys.argv[2])
    control.epoch = int(sys.argv[3])
    releases = []
    for version in ("1.0", "2.0", "3.0"):
        manifest = control.add_version(version=version, files={"model/big.bin": version.encode() * 200_000})
        control.release(manifest, version=version)
        releases.append(control.releases[-1])
    async with live(Path(sys.argv[1]), control) as device:
        print("up", flush=True)
        for turn in range(10_000):  # each turn another version is wanted: download, unpack, switch
            control.releases = (releases[turn % 3],)
            control.publish()
            await device.catch_up()
            print("changed", flush=True)

trio.run(main)
"""


def kill_after(folder: Path, key_hex: str, life: int, word: bytes) -> None:
    """Start a device that is never at rest, and kill it a little after it said a word."""
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(folder), key_hex, str(life * 100_000)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if line.strip() == word:
                break
        time.sleep(0.03 + 0.017 * life)  # real time: the victim is another process
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
async def test_sigkill_at_any_moment_leaves_a_whole_version(tmp_path: Path) -> None:
    control = SimulatedControl()
    for life in range(6):
        word = b"changed" if life == 5 else b"up"  # the last one has installed something, however slowly
        await trio.to_thread.run_sync(kill_after, tmp_path / "device", control.key.to_hex(), life, word)
        async with live(tmp_path / "device", control) as device:
            await check_invariants(device)
            assert device.corruptions == []
    assert device.active().keys() == {"reader"}
