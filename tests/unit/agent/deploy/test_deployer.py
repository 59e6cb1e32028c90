from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from walle_agent.config import DeploySection
from walle_agent.deploy.deployer import failure_class
from walle_agent.deploy.retries import attempts_of, quarantine_of
from walle_agent.tasks.runner import NO_BALLOT, Ballot
from walle_shared.errors import (
    ConnectionLost,
    ExpiredError,
    LengthOrHashError,
    NotFound,
    RemoteProtocolError,
    RollbackError,
    SignatureError,
    StorageError,
    TaskError,
    UnapprovedError,
)
from walle_shared.ids import ReleaseId
from walle_shared.limits import QUARANTINE_MAX_S
from walle_shared.protocol.messages import NO_RELEASE, FileRef
from walle_shared.signing import SigningKey, file_ref, sha256_hex
from walle_shared.targeting import SHARE_ONE
from walle_shared.trust.roles import bundle_path
from walle_shared.trust.simulated import SimulationMark
from walle_shared.units import DAY_S
from walle_support.control import (
    EXPIRES_MS,
    TASK_TOML,
    SimulatedControl,
    broken_off,
    corrupt,
    oversized,
    unavailable,
    unreachable,
)
from walle_support.device import live

BIG = bytes(range(256)) * 2_000


async def test_installs_what_the_policy_wants_and_says_so(tmp_path: Path) -> None:
    control = SimulatedControl()
    release_id = control.release(control.add_version(files={"lib/util.py": b"X = 1\n", "model/m.bin": BIG}))
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        (task,) = device.registry.tasks()
        assert (task.version, task.release_id) == ("1.0", release_id)
        assert (task.bundle_dir / "model/m.bin").read_bytes() == BIG
        assert device.triggers.registered.keys() == {("demo", "reader")}
        reports = device.queued_reports()
        assert [(r.stage, r.outcome, r.attempt) for r in reports] == [
            ("start", "success", 1),
            ("install", "success", 1),
        ]
    async with live(tmp_path, control) as device:  # a restart needs no network to run what is installed
        assert device.active() == {"reader": "1.0"}


async def test_predicate_and_share_decide(tmp_path: Path) -> None:
    control = SimulatedControl()
    manifest = control.add_version()
    control.release(manifest, predicate='group == "gold"')
    control.release(manifest, share=0)
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        assert device.active() == {}
        control.release(manifest, predicate='group == "beta"')
        await device.catch_up()
        assert device.active() == {"reader": "1.0"}


async def test_a_device_held_back_says_once_that_a_comparison_begins_and_what_its_runs_count_for(
    tmp_path: Path,
) -> None:
    control = SimulatedControl()
    first = control.release(control.add_version())
    async with live(tmp_path, control) as device:
        await device.catch_up()
        newer = control.release(control.add_version(version="2.0"), version="2.0", control=SHARE_ONE)
        for _ in range(2):
            await device.catch_up()
            await device.deployer.converge()
        assert device.active() == {"reader": "1.0"}
        start = device.queued_reports()[-1]
        assert (start.stage, start.release_id, start.control_of) == ("start", first, newer)
        ballot = device.deployer.ballot(device.registry.tasks()[0])
        assert (ballot.votes, ballot.control_of, ballot.told) == (True, newer, True)


async def test_runs_count_for_a_release_only_once_it_is_installed(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version(), voters=0)
    async with live(tmp_path, control) as device:
        await device.catch_up()
        (task,) = device.registry.tasks()
        assert device.deployer.ballot(task) == Ballot(votes=False, control_of=NO_RELEASE, told=False)
        assert device.deployer.ballot(replace(task, release_id=ReleaseId("r9"))) == NO_BALLOT


async def test_rolling_back_switches_without_a_download(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    async with live(tmp_path, control) as device:
        await device.catch_up()
        second = control.release(control.add_version(version="2.0"), version="2.0")
        await device.catch_up()
        assert device.active() == {"reader": "2.0"}
        control.roll_back(second)
        control.requests.clear()
        await device.catch_up()
        assert device.active() == {"reader": "1.0"}
        assert [path for _, path in control.requests if "blob" in path or "manifest" in path] == []


async def test_the_same_files_under_a_new_release_are_only_renamed(tmp_path: Path) -> None:
    control = SimulatedControl()
    manifest = control.add_version()
    control.release(manifest)
    async with live(tmp_path, control) as device:
        await device.catch_up()
        second = control.release(manifest)
        control.requests.clear()
        await device.catch_up()
        (task,) = device.registry.tasks()
        assert task.release_id == second
        assert not [path for _, path in control.requests if "manifest" in path]


async def test_a_task_no_longer_wanted_is_removed(tmp_path: Path) -> None:
    control = SimulatedControl()
    release_id = control.release(control.add_version())
    async with live(tmp_path, control) as device:
        await device.catch_up()
        bundle = device.registry.tasks()[0].bundle_dir
        control.roll_back(release_id)
        await device.catch_up()
        assert device.active() == {}
        assert not bundle.exists()
        assert list(device.content.folder.iterdir()) == []


async def test_a_broken_download_resumes_where_it_broke_off(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version(files={"m.bin": BIG}))
    blob = f"/s/blob/{sha256_hex(BIG)}"
    ranges: list[str | None] = []

    def watched(request, answer):  # type: ignore[no-untyped-def]
        ranges.append(request.headers.get("Range"))
        return answer

    control.distort(blob, broken_off)
    control.distort(blob, watched)
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        assert ranges == [f"bytes={len(BIG) // 2}-"]
        assert device.active() == {"reader": "1.0"}


@pytest.mark.parametrize("lie", [corrupt, oversized])
async def test_a_corrupt_blob_is_fetched_again(tmp_path: Path, lie) -> None:  # type: ignore[no-untyped-def]
    control = SimulatedControl()
    control.release(control.add_version(files={"m.bin": BIG}))
    control.distort(f"/s/blob/{sha256_hex(BIG)}", lie)
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        assert device.active() == {"reader": "1.0"}


async def test_a_blob_that_stays_corrupt_fails_the_installation_and_nothing_else(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    async with live(tmp_path, control) as device:
        await device.catch_up()
        bad = control.release(control.add_version(version="2.0", files={"m.bin": BIG}), version="2.0")
        control.files[f"/s/blob/{sha256_hex(BIG)}"] = BIG[:-1] + b"!"
        error = await device.catch_up()
        assert isinstance(error, LengthOrHashError)
        assert device.active() == {"reader": "1.0"}
        assert not device.content.part(sha256_hex(BIG)).exists()
        report = device.queued_reports()[-1]
        assert (report.release_id, report.stage, report.outcome) == (bad, "install", "failure")
        assert (report.error_class, report.code) == ("install", "length_or_hash")


async def test_after_enough_failed_installations_a_release_is_left_alone(tmp_path: Path) -> None:
    control = SimulatedControl()
    release_id = control.release(control.add_version(files={"m.bin": BIG}))
    control.files[f"/s/blob/{sha256_hex(BIG)}"] = b"rubbish"
    async with live(
        tmp_path, control, config=DeploySection(download_attempts=1, install_attempts=2)
    ) as device:
        assert await device.catch_up() is not None
        assert await device.deployer.converge() is not None
        assert await device.deployer.converge() is None  # quarantined: nothing left to try
        assert [entry.release_id for entry in device.keeper.state.quarantine] == [release_id]
        begun, first, last = device.queued_reports()
        assert (begun.stage, first.attempt, last.attempt) == ("start", 1, 2)
        assert (first.barred_s, last.barred_s) == (0.0, DAY_S)
        # A day later it is given one more chance; then it is left alone for two.
        device.clock.advance(DAY_S)
        await device.deployer.converge()
        assert device.queued_reports()[-1].barred_s == 2 * DAY_S


async def test_a_release_may_ask_for_other_attempts_and_another_quarantine(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version(files={"m.bin": BIG}), attempts=1, quarantine_s=7_200.0)
    control.files[f"/s/blob/{sha256_hex(BIG)}"] = b"rubbish"
    async with live(tmp_path, control, config=DeploySection(download_attempts=1)) as device:
        assert await device.catch_up() is not None
        assert await device.deployer.converge() is None
        assert device.queued_reports()[-1].barred_s == 7_200.0


async def test_a_version_that_fails_later_is_left_alone_for_as_long_as_its_release_asks(
    tmp_path: Path,
) -> None:
    control = SimulatedControl()
    control.release(control.add_version(version="1.0"), version="1.0")
    config = DeploySection(revert_after_failures=1)
    async with live(tmp_path, control, config=config) as device:
        await device.catch_up()
        control.release(control.add_version(version="2.0"), version="2.0", quarantine_s=7_200.0)
        await device.catch_up()
    async with live(tmp_path, control, config=config) as device:  # a restart forgets the policy, not this
        await device.deployer.recover()
        await device.deployer.judge(device.registry.tasks()[0], ok=False)
        (entry,) = device.keeper.state.quarantine
        assert entry.until_ms - entry.at_ms == 7_200_000


@pytest.mark.parametrize(
    ("wish", "own", "tries"),
    [(0, 3, 3), (1, 3, 1), (7, 3, 7), (500, 3, 10), (500, 12, 12), (-1, 3, 3)],
)
def test_how_often_a_release_is_tried(wish: int, own: int, tries: int) -> None:
    assert attempts_of(wish, DeploySection(install_attempts=own)) == tries


@pytest.mark.parametrize(
    ("wish_s", "own_s", "quarantine_s"),
    [
        (0.0, DAY_S, DAY_S),
        (7_200.0, DAY_S, 7_200.0),
        (1.0, DAY_S, 3_600.0),
        (1.0, 600.0, 600.0),
        (2 * DAY_S, DAY_S, 2 * DAY_S),
        (1e300, DAY_S, QUARANTINE_MAX_S),
        (7_200.0, 0.0, 0.0),
        (-5.0, DAY_S, DAY_S),
        (float("nan"), DAY_S, DAY_S),
    ],
)
def test_how_long_a_release_is_left_alone(wish_s: float, own_s: float, quarantine_s: float) -> None:
    assert quarantine_of(wish_s, DeploySection(quarantine_s=own_s)) == quarantine_s


async def test_network_trouble_never_quarantines(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version(files={"m.bin": BIG}))
    control.distort(f"/s/blob/{sha256_hex(BIG)}", unreachable, times=20)
    async with live(tmp_path, control, config=DeploySection(download_attempts=1)) as device:
        await device.catch_up()
        for _ in range(5):
            assert isinstance(await device.deployer.converge(), ConnectionLost)
        assert device.keeper.state.quarantine == ()
        begun, *failed = device.queued_reports()
        assert begun.stage == "start"
        assert {report.error_class for report in failed} == {"network"}


async def test_a_version_that_nobody_approved_waits_until_it_is(tmp_path: Path) -> None:
    control = SimulatedControl()
    manifest = control.add_version(approved=False)
    control.release(manifest)
    async with live(tmp_path, control) as device:
        for _ in range(5):
            assert isinstance(await device.catch_up(), UnapprovedError)
        assert device.keeper.state.quarantine == ()
        begun, *failed = device.queued_reports()
        assert begun.stage == "start"
        assert {report.error_class for report in failed} == {"network"}
        control.trust.approve("demo", "reader", "1.0", manifest)
        control.publish()
        assert await device.catch_up() is None
        assert device.active() == {"reader": "1.0"}


@pytest.mark.parametrize(
    ("mark", "installs"),
    [
        (None, False),
        (SimulationMark("failed", 2, file_ref(b"")), False),
        (SimulationMark("passed", 2, file_ref(b"")), True),
        (SimulationMark("smoked", 1, file_ref(b"")), True),
    ],
)
async def test_a_device_may_ask_that_approvals_speak_of_simulations(
    tmp_path: Path, mark: SimulationMark | None, installs: bool
) -> None:
    control = SimulatedControl()
    manifest = control.add_version(approved=False)
    path = bundle_path("demo", "reader", "1.0")
    marks = {path: mark} if mark else {}
    control.trust.change(lambda repository: repository.approve({path: manifest}, marks))
    control.release(manifest)
    async with live(tmp_path, control, config=DeploySection(require_simulation=True)) as device:
        error = await device.catch_up()
        assert isinstance(error, UnapprovedError) is not installs
        assert device.active() == ({"reader": "1.0"} if installs else {})
        if error is not None:
            assert "deploy.require_simulation" in error.message


async def test_a_version_that_is_approved_no_more_is_not_gone_back_to(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version(version="1.0"), version="1.0")
    async with live(tmp_path, control) as device:
        await device.catch_up()
        second = control.release(control.add_version(version="2.0"), version="2.0")
        await device.catch_up()
        assert device.active() == {"reader": "2.0"}
        control.trust.change(lambda repository: repository.withdraw(bundle_path("demo", "reader", "1.0")))
        control.roll_back(second)
        assert isinstance(await device.catch_up(), UnapprovedError)
        assert device.active() == {"reader": "2.0"}


async def test_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    control = SimulatedControl()
    manifest = control.add_version(version="1.0")
    control.trust.approve("demo", "reader", "9.9", manifest)
    control.release(manifest, version="9.9")
    async with live(tmp_path, control) as device:
        error = await device.catch_up()
        assert isinstance(error, SignatureError)
        assert "9.9" in error.message


async def test_manifest_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_manifest(b"not json"))
    async with live(tmp_path, control) as device:
        assert isinstance(await device.catch_up(), RemoteProtocolError)


async def test_a_script_that_does_not_compile_fails_the_health_check(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version(files={"main.py": b"def run(:\n"}))
    async with live(tmp_path, control) as device:
        error = await device.catch_up()
        assert isinstance(error, TaskError)
        assert "main.py:1" in error.message
        assert device.active() == {}


async def test_an_older_epoch_is_ignored(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    async with live(tmp_path, control) as device:
        await device.catch_up()
        control.releases = ()
        control.publish(epoch=1)
        with pytest.raises(RollbackError):
            await device.follower.refresh()
    async with live(tmp_path, control) as device:  # the floor outlives the process
        with pytest.raises(RollbackError):
            await device.follower.refresh()
        assert device.active() == {"reader": "1.0"}


async def test_the_same_epoch_with_another_snapshot_is_refused(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    async with live(tmp_path, control) as device:
        await device.catch_up()
        control.releases = ()
        control.publish(epoch=control.epoch)
        with pytest.raises(RollbackError, match="another snapshot"):
            await device.follower.refresh()


async def test_expired_and_forged_epochs_are_refused(tmp_path: Path) -> None:
    control = SimulatedControl()
    async with live(tmp_path, control) as device:
        control.publish(key=SigningKey.generate())
        with pytest.raises(SignatureError):
            await device.follower.refresh()
        control.publish(expires_ms=device.clock.wall_ms() - 1)
        with pytest.raises(ExpiredError):
            await device.follower.refresh()


async def test_a_frozen_epoch_expires_even_if_it_never_changes(tmp_path: Path) -> None:
    control = SimulatedControl()
    async with live(tmp_path, control) as device:
        await device.catch_up()
        device.clock.advance((EXPIRES_MS - device.clock.wall_ms()) / 1_000 + 1)
        with pytest.raises(ExpiredError):
            await device.follower.refresh()


@pytest.mark.parametrize("lie", [corrupt, oversized])
async def test_a_snapshot_with_other_bytes_is_refused(tmp_path: Path, lie) -> None:  # type: ignore[no-untyped-def]
    control = SimulatedControl()
    path = next(path for path in control.files if "/snapshot/" in path)
    control.distort(path, lie)
    async with live(tmp_path, control) as device:
        await device.session.credential()
        with pytest.raises(LengthOrHashError):
            await device.follower.refresh()
        assert device.follower.epoch == 0
        await device.follower.refresh()  # the next answer is honest, and is not mistaken for known
        assert device.follower.epoch == 1


async def test_nothing_is_activated_when_the_epoch_moved_on(tmp_path: Path) -> None:
    control = SimulatedControl()
    release_id = control.release(control.add_version())

    def roll_back_meanwhile(name: str) -> None:
        if name == "completed":
            control.roll_back(release_id)

    async with live(tmp_path, control, on_boundary=roll_back_meanwhile) as device:
        await device.catch_up()
        assert device.active() == {}
        await device.catch_up()
        assert device.active() == {}
        reports = device.queued_reports()
        assert [(r.stage, r.error_class, r.code) for r in reports] == [
            ("start", "none", ""),
            ("install", "user", "superseded"),
        ]


async def test_a_device_says_what_it_runs_once_what_failed_is_no_longer_wanted(tmp_path: Path) -> None:
    control = SimulatedControl()
    old = control.release(control.add_version())
    async with live(tmp_path, control, config=DeploySection(download_attempts=1)) as device:
        await device.catch_up()
        newer = control.release(control.add_version(version="2.0", files={"m.bin": BIG}), version="2.0")
        control.distort(f"/s/blob/{sha256_hex(BIG)}", unreachable, times=20)
        await device.catch_up()
        control.roll_back(newer)
        await device.catch_up()
        said = [(r.stage, r.outcome, r.error_class, r.release_id) for r in device.queued_reports()]
        assert said[3:] == [("install", "failure", "network", newer), ("revert", "success", "none", old)]
        before = len(said)
        await device.deployer.converge()
        assert len(device.queued_reports()) == before


async def test_a_device_whose_installation_was_given_up_says_what_it_runs(tmp_path: Path) -> None:
    control = SimulatedControl()
    old = control.release(control.add_version())
    newer = ""

    def roll_back_meanwhile(name: str) -> None:
        if name == "completed" and newer:
            control.roll_back(ReleaseId(newer))

    async with live(tmp_path, control, on_boundary=roll_back_meanwhile) as device:
        await device.catch_up()
        newer = control.release(control.add_version(version="2.0"), version="2.0")
        await device.catch_up()
        await device.catch_up()
        assert device.active() == {"reader": "1.0"}
        said = [(r.stage, r.outcome, r.release_id, r.version) for r in device.queued_reports()]
        assert said[2:] == [
            ("start", "success", newer, "2.0"),
            ("install", "failure", newer, "2.0"),
            ("revert", "success", old, "1.0"),
        ]


async def test_nothing_is_activated_while_the_epoch_cannot_be_confirmed(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())

    def cut_off(name: str) -> None:
        if name == "completed":
            control.distort("/s/epoch.json", unavailable)

    async with live(tmp_path, control, on_boundary=cut_off) as device:
        assert getattr(await device.catch_up(), "retry_after_s", None) == 7.0
        assert device.active() == {}
        assert await device.deployer.converge() is None
        assert device.active() == {"reader": "1.0"}


async def test_failing_runs_bring_back_the_version_before(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    async with live(tmp_path, control, config=DeploySection(revert_after_failures=3)) as device:
        await device.catch_up()
        bad = control.release(control.add_version(version="2.0"), version="2.0")
        await device.catch_up()
        (task,) = device.registry.tasks()
        for ok in (False, False, True, False, False):
            await device.deployer.judge(task, ok=ok)
        assert device.active() == {"reader": "2.0"}
        await device.deployer.judge(task, ok=False)
        assert device.active() == {"reader": "1.0"}
        report = device.queued_reports()[-1]
        assert (report.release_id, report.stage, report.error_class) == (bad, "revert", "runtime")
        await device.deployer.converge()
        assert device.active() == {"reader": "1.0"}  # the policy still wants 2.0; this device knows better


async def test_a_proven_version_is_not_reverted(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    config = DeploySection(revert_after_failures=2, proven_after_successes=2)
    async with live(tmp_path, control, config=config) as device:
        await device.catch_up()
        (task,) = device.registry.tasks()
        for ok in (True, True, False, False, False):
            await device.deployer.judge(task, ok=ok)
        assert device.active() == {"reader": "1.0"}


async def test_a_slot_whose_files_changed_is_not_run(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    async with live(tmp_path, control) as device:
        await device.catch_up()
        script = device.registry.tasks()[0].bundle_dir / "main.py"
        script.chmod(0o600)
        script.write_text("def run(): return 'other'\n")
    async with live(tmp_path, control) as device:
        assert device.active() == {}
        await device.catch_up()
        assert device.active() == {"reader": "1.0"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionLost("x"), "network"),
        (NotFound("x"), "network"),
        (StorageError("x"), "user"),
        (LengthOrHashError("x"), "install"),
        (TaskError("x"), "install"),
    ],
)
def test_whose_fault_a_failure_is(error, expected: str) -> None:  # type: ignore[no-untyped-def]
    assert failure_class(error) == expected


async def test_a_missing_blob_is_the_networks_fault(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version(files={"m.bin": BIG}))
    del control.files[f"/s/blob/{sha256_hex(BIG)}"]
    async with live(tmp_path, control) as device:
        assert isinstance(await device.catch_up(), NotFound)


async def test_an_oversized_manifest_is_not_even_asked_for(tmp_path: Path) -> None:
    control = SimulatedControl()
    ref = control.add_version()
    huge = FileRef(ref.sha256, 10**9)
    control.trust.approve("demo", "reader", "1.0", huge)
    control.release(huge)
    async with live(tmp_path, control) as device:
        assert (await device.catch_up()).code == "limit"  # type: ignore[attr-defined]
        assert not [path for _, path in control.requests if "manifest" in path]


async def test_a_refused_enrolment_is_typed(tmp_path: Path) -> None:
    control = SimulatedControl()
    async with live(tmp_path, control, token="wrong") as device:
        with pytest.raises(Exception, match="token is not valid") as caught:
            await device.catch_up()
        assert caught.value.code == "not_allowed"  # type: ignore[attr-defined]


GREEDY = TASK_TOML + '[[triggers]]\nids = ["event:more"]\n' * 20


async def test_a_version_that_cannot_be_let_run_gives_way_at_once(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    async with live(tmp_path, control) as device:
        await device.catch_up()
        bad = control.release(control.add_version(version="2.0", toml=GREEDY), version="2.0")
        await device.catch_up()
        assert device.active() == {"reader": "1.0"}
        assert device.keeper.state.quarantine[0].release_id == bad
        report = device.queued_reports()[-1]
        assert (report.release_id, report.stage, report.outcome, report.code) == (
            bad,
            "install",
            "failure",
            "limit",
        )


async def test_a_start_survives_a_task_that_cannot_be_let_run(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    async with live(tmp_path, control) as device:
        await device.catch_up()
    async with live(tmp_path, control, triggers_max=0) as device:
        assert device.active() == {}
    async with live(tmp_path, control) as device:
        await device.catch_up()
        assert device.active() == {"reader": "1.0"}


async def test_an_isolated_version_stays_so_over_restarts_and_a_new_one_is_not(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version())
    async with live(tmp_path, control) as device:
        await device.catch_up()
        (task,) = device.registry.tasks()
        assert not device.deployer.is_isolated(task)
        for reason in ("SIGSEGV", "again"):
            await device.deployer.isolate(task, reason)
    async with live(tmp_path, control) as device:
        (task,) = device.registry.tasks()
        assert device.deployer.is_isolated(task)
        assert [entry.reason for entry in device.keeper.state.isolated] == ["SIGSEGV"]
        for version in ("2.0", "3.0"):  # the third takes the slot of the first
            control.release(control.add_version(version=version), version=version)
            await device.catch_up()
            (task,) = device.registry.tasks()
            assert not device.deployer.is_isolated(task)
        await device.deployer.isolate(task, "SIGBUS")
        assert [entry.reason for entry in device.keeper.state.isolated] == ["SIGBUS"]
