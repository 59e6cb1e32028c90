"""No release without a simulation that was passed; what it plays, and what becomes of one that breaks."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from walle_control.config import ControlConfig, TrustConfig
from walle_control.db.store import Store
from walle_control.features.releases.types import CreateRelease
from walle_control.features.tasks import simulation
from walle_control.features.tasks import store as tasks_store
from walle_control.features.tasks.simulation import pack, record_of, result_of, simulate_with_agent, unpack
from walle_control.features.tasks.types import (
    ImportRequest,
    SimulationCell,
    SimulationFailure,
    SimulationResult,
)
from walle_control.features.trust.book import TrustBook
from walle_shared.clock import FixedClock
from walle_shared.errors import Conflict, NotFound, UnapprovedError
from walle_shared.protocol.codec import canonical, decode
from walle_shared.signing import file_ref
from walle_shared.trust.roles import BUNDLES, bundle_path
from walle_shared.trust.simulated import SimulationRecord
from walle_shared.trust.trusted import follow_role
from walle_support.trust import believe, drive_folder

WISH = CreateRelease("demo", "greeter", "1.0.0")
RECORDINGS = {
    "simulations/simulations.toml": b"",
    "simulations/visit.jsonl": b"{}\n",
    "simulations/golden/visit.json": b"[]\n",
}


async def bring_in(control, repo, good_files, **more):
    repo.tag("greeter/1.0.0", "greeter", {**good_files, **RECORDINGS, **more})
    return await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")


async def test_a_version_that_passed_may_be_released(control, imported, simulator):
    await imported("1.0.0")
    assert (await control.tasks.list()).versions[0].state == "ready"
    assert (await control.releases.create(WISH, "anna")).release.state == "live"


async def test_a_draft_may_not_until_it_passes(control, repo, good_files, simulator):
    simulator.passes = False
    result = await bring_in(control, repo, good_files)
    assert (result.version.state, result.simulation.result.passed) == ("draft", False)
    with pytest.raises(Conflict, match=r"greeter 1\.0\.0 is a draft until it passes"):
        await control.releases.create(WISH, "anna")
    found = await control.tasks.simulation("demo", "greeter", "1.0.0")
    assert found.result.cells[0].failures[0].kind == "golden_differs"

    simulator.passes = True
    again = await control.tasks.simulate("demo", "greeter", "1.0.0", "ben")
    assert again.result.passed
    assert await control.tasks.simulation("demo", "greeter", "1.0.0") == again
    await control.releases.create(WISH, "anna")
    actions = [entry.action for entry in (await control.audit.page(0, 100)).entries]
    assert actions.count("task.simulate") == 2


async def test_it_plays_the_built_files_and_the_recordings_and_devices_get_only_the_files(
    control, repo, good_files, simulator
):
    await bring_in(control, repo, good_files)
    await control.tasks.simulate("demo", "greeter", "1.0.0", "ben")
    first, second = simulator.seen
    assert first == second
    assert first["model/net.wmodel"] == b"wmodel of onnx bytes"
    assert RECORDINGS.items() <= first.items()
    shipped = {file.path for file in (await control.tasks.show("demo", "greeter", "1.0.0")).files}
    assert shipped == first.keys() - RECORDINGS.keys()


@pytest.fixture
def book(store: Store, clock: FixedClock) -> TrustBook:
    return TrustBook(store.files, store.keyring, clock, TrustConfig())


def approvals(store: Store, clock: FixedClock) -> dict[str, Any]:
    """What devices are told of each version's simulations."""
    trusted = believe(store.home.root, clock)
    drive_folder(store.home.root, follow_role(trusted, BUNDLES, {}))
    rows = store.database.read_sync(tasks_store.list_versions)
    return {
        row.version: trusted.check_bundle(row.scenario, row.task, row.version, row.manifest) for row in rows
    }


async def test_only_what_passed_is_approved_and_devices_are_told_what_it_passed(
    control, store, clock, book, repo, good_files, simulator
):
    simulator.passes = False
    result = await bring_in(control, repo, good_files)
    assert not result.approved
    with pytest.raises(UnapprovedError):
        approvals(store, clock)

    simulator.passes = True
    await control.tasks.simulate("demo", "greeter", "1.0.0", "ben")
    mark = approvals(store, clock)["1.0.0"]
    assert (mark.outcome, mark.cells) == ("passed", 1)
    found = decode(SimulationRecord, store.files.read("blob", mark.record))
    assert (found.outcome, found.manifest) == ("passed", result.version.manifest.sha256)
    assert [file.path for file in found.files] == sorted(RECORDINGS)
    (cell,) = found.cells
    assert (cell.recording, cell.failures) == ("visit", ())

    version = store.database.read_sync(book.version)
    simulator.cpu_s *= 2  # a slower machine; it is the same that passes
    clock.advance(60)
    await control.tasks.simulate("demo", "greeter", "1.0.0", "ben")
    assert store.database.read_sync(book.version) == version
    assert approvals(store, clock)["1.0.0"] == mark

    simulator.passes = False  # no new release, but devices keep what they have
    await control.tasks.simulate("demo", "greeter", "1.0.0", "ben")
    assert approvals(store, clock)["1.0.0"] == mark


async def test_a_version_approved_before_there_were_marks_gets_one_when_it_is_simulated(
    control, store, clock, book, imported
):
    await imported("1.0.0")
    row = store.database.read_sync(tasks_store.list_versions)[0]
    store.database.write_sync(
        lambda db: book.approve(db, {bundle_path("demo", "greeter", "1.0.0"): row.manifest})
    )
    await control.trust.publish()
    assert approvals(store, clock) == {"1.0.0": None}
    await control.tasks.simulate("demo", "greeter", "1.0.0", "ben")
    assert approvals(store, clock)["1.0.0"].outcome == "smoked"


def test_a_record_holds_nothing_that_differs_from_one_time_to_the_next():
    def cell(name: str, cpu_s: float, message: str = "") -> SimulationCell:
        failures = (SimulationFailure("run_failed", message),) if message else ()
        return SimulationCell(name, "8.0", "any", 3, cpu_s, round(cpu_s * 100), failures)

    once = SimulationResult(False, False, (cell("a", 1.0), cell("b", 0.5, "after 0.31 s")))
    again = SimulationResult(False, False, (cell("b", 0.7, "after 0.29 s"), cell("a", 1.1)))
    ref = file_ref(b"a manifest")
    record = record_of(ref, RECORDINGS, once)
    assert canonical(record) == canonical(record_of(ref, dict(reversed(RECORDINGS.items())), again))
    assert (record.outcome, record.cells[1].failures) == ("failed", ("run_failed",))
    assert record_of(ref, {}, result_of(record)).cells == record.cells
    other = {**RECORDINGS, "simulations/visit.jsonl": b"{} \n"}
    assert canonical(record) != canonical(record_of(ref, other, once))


async def test_what_was_never_simulated_says_so(control, repo):
    with pytest.raises(NotFound, match="was never simulated"):
        await control.tasks.simulation("demo", "greeter", "1.0.0")
    with pytest.raises(NotFound, match="was not imported"):
        await control.tasks.simulate("demo", "greeter", "1.0.0", "ben")


class TestWithoutTheGate:
    @pytest.fixture
    def config(self):
        plain = ControlConfig()
        return replace(plain, tasks=replace(plain.tasks, require_simulation=False))

    async def test_a_draft_may_be_released(self, control, store, clock, repo, good_files, simulator):
        simulator.passes = False
        await bring_in(control, repo, good_files)
        assert (await control.releases.create(WISH, "anna")).release.state == "live"
        assert approvals(store, clock)["1.0.0"].outcome == "failed"


async def test_over_http(admin, imported, simulator):
    await imported("1.0.0")
    path = "/api/v1/tasks/demo/greeter/1.0.0/simulation"
    assert (await admin.get(path)).json()["result"]["passed"] is True
    simulator.passes = False
    assert (await admin.post(path)).json()["result"]["passed"] is False
    answer = await admin.post(
        "/api/v1/releases", json={"scenario": "demo", "task": "greeter", "version": "1.0.0"}
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_packed_files_come_back_and_the_same_give_the_same():
    assert unpack(pack(RECORDINGS)) == RECORDINGS
    assert pack(RECORDINGS) == pack(dict(reversed(RECORDINGS.items())))


EXAMPLE = Path(__file__).parents[4] / "agent/walle_agent/author/template"


def example() -> dict[str, bytes]:
    """The files of a task made from the template."""
    return {
        path.relative_to(EXAMPLE).as_posix().removesuffix(".template"): path.read_bytes()
        .replace(b"@NAME@", b"visits")
        .replace(b"@SCENARIO@", b"demo")
        for path in EXAMPLE.rglob("*.template")
    }


def test_the_real_program_plays_the_real_task():
    result = simulate_with_agent(example(), 60.0)
    assert (result.passed, result.smoked, len(result.cells)) == (True, False, 2)
    spoilt = example() | {"main.py": b"def run():\n    return 1 / 0\n"}
    failures = simulate_with_agent(spoilt, 60.0).cells[0].failures
    assert failures[0].kind == "run_failed"


@pytest.mark.parametrize(
    ("program", "kind", "message"),
    [
        ("import time; time.sleep(60)", "timeout", "did not end within 0.5 s"),
        ("import sys; sys.exit('no worker starts')", "crashed", "no worker starts"),
        ("import os; os.kill(os.getpid(), 9)", "crashed", "ended with -9"),
        ("print('{}')", "crashed", "ended with 0"),
    ],
)
def test_a_simulation_that_breaks_has_not_passed(tmp_path, monkeypatch, program, kind, message):
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\n{program}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(simulation.sys, "executable", str(fake))
    result = simulate_with_agent({"task.toml": b""}, 0.5)
    assert not result.passed
    (failure,) = result.cells[0].failures
    assert failure.kind == kind
    assert message in failure.message


def test_the_program_inherits_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("WALLE_CONTROL_TOKEN", "secret")
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\nimport json, os, sys\nsys.exit(json.dumps(dict(os.environ)))\n")
    fake.chmod(0o755)
    monkeypatch.setattr(simulation.sys, "executable", str(fake))
    told = simulate_with_agent({}, 10.0).cells[0].failures[0].message
    assert "WALLE_CONTROL" not in json.dumps(told)
