"""A control plane's day, cut off by SIGKILL at its n-th durable step; run by ``test_control_kill.py``.

    python control_life.py FOLDER STRIDE

Durable steps are commits of the database and files put in their place; the process dies just before or just
after each. Every life is a fork of this process, which has imported everything and started no thread. Prints
a line of JSON for each: where it died, how much was told to be done, and what is wrong with what it left.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import trio

from walle_control import setup
from walle_control.app import Control, create_control
from walle_control.config import ControlConfig
from walle_control.db import files
from walle_control.db.store import Store
from walle_control.features.audit.types import check_chain
from walle_control.features.devices.types import EnrolTokenRequest
from walle_control.features.releases.types import CreateRelease, StageWish
from walle_control.features.tasks.git import TaskSource
from walle_control.features.tasks.types import SimulationResult
from walle_shared.clock import FixedClock
from walle_shared.ids import DeviceId, ReleaseId, TaskVersion
from walle_shared.manifest import Manifest
from walle_shared.observe import configure_logging
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import EPOCH_KIND, EnrolRequest, EpochInfo, FileRef, Report, ReportBatch
from walle_shared.signing import SigningKey, check_file, open_envelope
from walle_shared.targeting import Policy, Snapshot
from walle_shared.trust.roles import POLICY, bundle_path
from walle_shared.trust.trusted import follow_role
from walle_support.trust import believe, drive_folder

TOML = b'[task]\nscenario = "demo"\nname = "greeter"\n\n[[triggers]]\nids = ["page:home.exit"]\n'
VERSIONS = ("1.0.0", "2.0.0")
WISH = CreateRelease("demo", "greeter", VERSIONS[1], stages=(StageWish(10), StageWish(100)))


class Steps:
    """Counts durable steps, and dies at one."""

    def __init__(self, die_at: int) -> None:
        self.die_at = die_at
        self.passed = 0

    def __call__(self) -> None:
        self.passed += 1
        if self.passed == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)


class Commits:
    """A database connection whose commits are steps."""

    def __init__(self, connection: Any, step: Callable[[], None]) -> None:
        self._connection = connection
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *arguments: Any) -> Any:
        if sql == "COMMIT":
            self._step()
        result = self._connection.execute(sql, *arguments)
        if sql == "COMMIT":
            self._step()
        return result


def live(folder: Path, die_at: int) -> int:
    """One life; how many steps it had."""
    step = Steps(die_at)
    write = files._write_atomically

    def write_in_steps(path: Path, data: bytes) -> None:
        step()
        write(path, data)
        step()

    files._write_atomically = write_in_steps
    with closing(Store.open(folder / "data")) as store, (folder / "told").open("ab") as told:
        store.database._connection = Commits(store.database._connection, step)

        def tell(**what: Any) -> None:
            told.write(orjson.dumps(what) + b"\n")
            told.flush()

        trio.run(day, open_control(store), tell)
    return step.passed


def open_control(store: Store) -> Control:
    def simulate(_files: object, _timeout_s: float) -> SimulationResult:
        return SimulationResult(passed=True, smoked=True, cells=())

    return create_control(ControlConfig(), clock=FixedClock(), store=store, simulate=simulate)


async def day(control: Control, tell: Callable[..., None]) -> None:
    """What an operator and a device do, each told once it is done."""
    await control.trust.load()
    await control.devices.load()
    await control.releases.load()
    tell(epoch=control.hub.epoch)
    token = await control.devices.create_enrol_token(EnrolTokenRequest(), "anna")
    key = SigningKey.generate().public.raw_hex
    device = (await control.devices.enrol(EnrolRequest(token.token, key))).device_id
    tell(device=device)
    for version in VERSIONS:
        script = f"def run():\n    return {version!r}\n".encode()
        source = TaskSource(
            f"commit of {version}", f"greeter/{version}", {"task.toml": TOML, "main.py": script}
        )
        await control.tasks._import_source(source, "greeter", TaskVersion(version), "anna")
        tell(version=version)
    first = await control.releases.create(CreateRelease("demo", "greeter", VERSIONS[0]), "anna")
    tell(release=first.release.id, state="live", epoch=control.hub.epoch)
    second = (await control.releases.create(WISH, "anna")).release.id
    tell(release=second, state="live", epoch=control.hub.epoch)
    receipt = await control.telemetry.record_reports(
        device, ReportBatch((report(second, 1), report(second, 2)))
    )
    tell(reports=receipt.accepted, device=device)
    for action, state in (
        ("promote", "live"),
        ("pause", "paused"),
        ("resume", "live"),
        ("rollback", "rolled_back"),
    ):
        await control.releases.act(second, action, "anna")
        tell(release=second, state=state, epoch=control.hub.epoch)
    await control.devices.revoke(device, "anna")
    tell(revoked=device)


def report(release: ReleaseId, number: int) -> Report:
    return Report(f"rep-{number}", release, "greeter", VERSIONS[1], "run", "success", number, number, 1.0)


def check(folder: Path) -> list[str]:
    """What is wrong with what a life left behind, once the server has started again."""
    told = [json.loads(line) for line in (folder / "told").read_text().splitlines()]
    with closing(Store.open(folder / "data")) as store:
        control = open_control(store)
        return trio.run(_check, control, store, told)


async def _check(control: Control, store: Store, told: list[dict[str, Any]]) -> list[str]:
    await control.trust.load()
    await control.devices.load()
    await control.releases.load()
    wrong = []

    def expect(holds: object, what: str) -> None:
        if not holds:
            wrong.append(what)

    trusted = believe(store.home.root, FixedClock())
    info = open_envelope(
        EpochInfo, EPOCH_KIND, store.files.epoch_path.read_bytes(), trusted.signatures_of(POLICY)
    )
    expect(info.epoch >= max([entry.get("epoch", 0) for entry in told], default=0), "the epoch went back")
    data = store.files.read("snapshot", info.snapshot)
    snapshot = decode(Snapshot, data)
    releases = (await control.releases.list()).releases
    states = {each.release.id: each.release.state for each in releases}
    live = {release for release, state in states.items() if state in ("live", "paused")}
    expect({release.id for release in snapshot.releases} == live, f"the policy has {snapshot}, not {states}")
    for wanted in Policy(snapshot).decide(DeviceId("d1"), {}).values():
        path = bundle_path(wanted.scenario, wanted.task, wanted.version)
        drive_folder(store.home.root, follow_role(trusted, trusted.bin_of(path), {}))
        trusted.check_bundle(wanted.scenario, wanted.task, wanted.version, wanted.manifest)
        data = store.files.read("manifest", wanted.manifest)
        check_file(data, wanted.manifest, path)
        manifest = decode(Manifest, data)
        for file in manifest.files:
            ref = FileRef(file.sha256, file.size_bytes)
            check_file(store.files.read("blob", ref), ref, file.path)
    entries = (await control.audit.page(0, 1_000)).entries
    check_chain(entries)
    done = [f"{entry.action} {entry.subject}" for entry in entries]
    versions = {row.version for row in (await control.tasks.list()).versions}
    for version in VERSIONS:
        expect(
            (version in versions) == (f"task.import demo/greeter {version}" in done),
            f"{version} and its audit",
        )
    last = {entry["release"]: entry["state"] for entry in told if "release" in entry}
    for entry in told:
        if "device" in entry:
            expect(await control.devices.show(entry["device"]), "the device is gone")
        if "version" in entry:
            expect(entry["version"] in versions, f"version {entry['version']} is gone")
        if "reports" in entry:
            counted = sum(each.n for each in (await control.releases.show(_newest(states))).counts)
            expect(counted == entry["reports"], f"{counted} reports are counted")
        if "revoked" in entry:
            expect(control.devices.is_revoked(entry["revoked"]), "the device is let in again")
    order = ["live", "paused", "live", "rolled_back"]
    for release, state in last.items():
        after = order[order.index(state) :] if state in order else []
        expect(
            states.get(release) in after, f"{release} is {states.get(release)}, and was told to be {state}"
        )
    return wrong


def _newest(states: dict[ReleaseId, str]) -> ReleaseId:
    return max(states)


def main(folder: Path, stride: int) -> None:
    """Lives that die at every ``stride``-th step, until one comes to its end."""
    template = folder / "template"
    template.mkdir()
    setup.init(template / "data", FixedClock())
    (template / "told").touch()
    configure_logging(level="error")
    for die_at in itertools.count(1, stride):
        life = folder / str(die_at)
        shutil.copytree(template, life)
        code = _in_a_child(lambda life=life, at=die_at: live(life, at) and 0)
        verdict = life / "verdict"
        checked = _in_a_child(lambda life=life, path=verdict: path.write_text(json.dumps(check(life))) and 0)
        wrong = json.loads(verdict.read_text()) if checked == 0 else ["the check itself failed"]
        told = len((life / "told").read_text().splitlines())
        print(json.dumps({"step": die_at, "killed": code == -signal.SIGKILL, "told": told, "wrong": wrong}))
        shutil.rmtree(life)
        if code != -signal.SIGKILL:
            return


def _in_a_child(work: Callable[[], object]) -> int:
    """Do something in a fork; its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  # a child must not return from here
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
