from __future__ import annotations

import itertools

import pytest
import trio

from walle_control.features.releases.types import CreateRelease, GuardWish, StageWish
from walle_control.features.rollouts.book import TrialBook
from walle_control.features.rollouts.guard import GuardSettings, Votes, judge_threshold
from walle_control.features.rollouts.service import RolloutsService
from walle_control.features.rollouts.votes import votes_of
from walle_shared.errors import LimitExceeded, RemoteProtocolError
from walle_shared.ids import DeviceId
from walle_shared.protocol.messages import Report, ReportBatch
from walle_support.heard import listen


def report(
    release: str, number: int, outcome="success", error_class="none", stage="run", **changes
) -> Report:
    values = {
        "report_id": f"rep-{number}", "release_id": release, "task": "greeter", "version": "1.0.0",
        "stage": stage, "outcome": outcome, "attempt": number, "at_ms": number, "duration_ms": 1.0,
        "error_class": error_class,
    }  # fmt: skip
    return Report(**{**values, **changes})


def arm(detail, name: str) -> dict:
    return detail.verdict.evidence["arms"][name]


async def settled(control, release: str, done):
    with trio.fail_after(10):
        while True:
            seen = control.hub.epoch
            if done(detail := await control.releases.show(release)):
                return detail
            await control.hub.wait_news(seen)


async def released(control, imported, **changes) -> str:
    await imported("1.0.0")
    detail = await control.releases.create(CreateRelease("demo", "greeter", "1.0.0", **changes), "anna")
    return detail.release.id


@pytest.mark.parametrize(
    ("attempts", "failures", "breaks"),
    [(0, 0, False), (19, 19, False), (20, 0, False), (20, 1, False), (20, 2, True), (100, 5, False)],
)
def test_threshold_decides_only_with_enough_reports_and_over_the_rate(attempts, failures, breaks):
    guard = GuardSettings(min_reports=20, max_failure_rate=0.05)
    verdict = judge_threshold(guard, [Votes("run", attempts, failures)])
    assert (verdict is not None) == breaks


def test_threshold_is_off_unless_asked_for():
    assert judge_threshold(GuardSettings(), [Votes("run", 1_000, 1_000)]) is None


@pytest.mark.parametrize(
    ("runs", "installs", "stage"),
    [
        ((20, 20), (10_000, 0), "run"),  # good installations do not hide failing runs
        ((10_000, 0), (20, 20), "install"),
        ((0, 0), (10_000, 20), None),
    ],
)
def test_threshold_judges_installations_and_runs_apart(runs, installs, stage):
    guard = GuardSettings(min_reports=20, max_failure_rate=0.05)
    verdict = judge_threshold(guard, [Votes("run", *runs), Votes("install", *installs)])
    assert (verdict and verdict.evidence["stage"]) == stage


@pytest.mark.parametrize(
    ("stage", "outcome", "error_class", "held_back", "kinds"),
    [
        ("start", "success", "none", False, [("treatment", "begin")]),
        ("start", "success", "none", True, [("control", "start")]),
        ("install", "success", "none", True, [("treatment", "start")]),
        ("install", "failure", "install", False, [("treatment", "bad_install")]),
        ("install", "failure", "network", False, [("treatment", "excused")]),
        ("install", "failure", "shed", False, [("treatment", "excused")]),
        ("run", "success", "none", True, [("treatment", "good_run"), ("control", "good_run")]),
        ("run", "failure", "network", True, []),
        ("run", "failure", "user", False, []),
        ("revert", "failure", "runtime", False, []),
    ],
)
def test_what_a_report_votes_for(stage, outcome, error_class, held_back, kinds):
    control_of = "r2" if held_back else ""
    told = report("r1", 1, outcome, error_class, stage, control_of=control_of, peak_bytes=7)
    votes = votes_of(told, DeviceId("d1"), 5)
    assert [(vote.arm, vote.kind) for _, vote in votes] == kinds
    assert all(release == {"treatment": "r1", "control": "r2"}[vote.arm] for release, vote in votes)
    assert all(vote.peak_bytes == 7 for _, vote in votes)


def test_a_quiet_device_votes_for_nothing():
    assert votes_of(report("r1", 1, votes=False), DeviceId("d1"), 5) == []


DAY_MS = 86_400_000
REFUSED = {"stage": "install", "outcome": "failure", "error_class": "install"}
REVERTED = {"stage": "revert", "outcome": "failure", "error_class": "runtime"}


@pytest.mark.parametrize(
    ("said", "later_ms", "state"),
    [
        ({"stage": "start"}, 0, "installing"),
        ({"stage": "start"}, DAY_MS, "unknown"),
        ({"stage": "install"}, 9 * DAY_MS, "installed"),
        ({"stage": "install", "outcome": "failure", "error_class": "network"}, 0, "waiting"),
        (REFUSED, 0, "failed"),
        (REFUSED | {"barred_s": 60.0}, 0, "quarantined"),
        (REFUSED | {"barred_s": 60.0}, 60_000, "failed"),
        (REVERTED | {"barred_s": 60.0}, 0, "quarantined"),
        (REVERTED | {"barred_s": 60.0}, DAY_MS, "reverted"),
    ],
)
async def test_no_installation_stays_in_progress(control, imported, enrol, clock, said, later_ms, state):
    release, device = await released(control, imported), await enrol()
    await control.telemetry.record_reports(device.id, ReportBatch((report(release, 3, **said),)))
    clock.advance(later_ms / 1_000)
    (task,) = (await control.devices.show(device.id)).tasks
    assert (task.state, task.attempt) == (state, 3)


async def test_webhooks_hear_of_the_first_device_that_gives_up_and_then_once_an_hour(
    control, store, imported, enrol, clock
):
    heard = listen(store.database, "release.quarantine")
    release = await released(control, imported)
    gave_up = REFUSED | {"barred_s": 60.0}
    devices = [await enrol() for _ in range(4)]
    for number, device in enumerate(devices[:3]):
        batch = ReportBatch(
            (report(release, 2 * number, **REFUSED), report(release, 2 * number + 1, **gave_up))
        )
        await control.telemetry.record_reports(device.id, batch)
        await control.telemetry.record_reports(device.id, batch)  # its answer was lost
    (first,) = heard()
    assert (first.subject, first.data["device"], first.data["withheld"]) == (release, devices[0].id, 0)
    assert (first.data["scenario"], first.data["version"], first.data["barred_s"]) == ("demo", "1.0.0", 60.0)
    clock.advance(3_600)
    await control.telemetry.record_reports(devices[3].id, ReportBatch((report(release, 9, **gave_up),)))
    (_, later) = heard()
    assert (later.data["device"], later.data["withheld"]) == (devices[3].id, 2)


async def test_failures_roll_a_release_back_without_anyone(control, imported, enrol):
    release = await released(control, imported, guard=GuardWish(min_reports=3, max_failure_rate=0.5))
    device = await enrol()
    reports = tuple(report(release, n, "failure", "runtime") for n in range(3))
    seen = control.hub.epoch
    await control.telemetry.record_reports(device.id, ReportBatch(reports))
    with trio.fail_after(5):
        await control.hub.wait_news(seen)
    detail = await control.releases.show(release)
    assert detail.release.state == "rolled_back"
    decision = detail.history[-1]
    assert (decision.event, decision.actor) == ("rollback", "guard")
    assert decision.evidence == {
        "rule": "threshold", "stage": "run", "attempts": 3, "failures": 3, "failure_rate": 1.0,
        "min_reports": 3, "max_failure_rate": 0.5,
    }  # fmt: skip
    assert await control.rollouts.evaluate() == []  # decided once


async def test_what_does_not_speak_of_the_release_does_not_vote(control, imported, enrol):
    release = await released(control, imported, guard=GuardWish(min_reports=1, max_failure_rate=1e-9))
    device = await enrol()
    silent = [report(release, n, "failure", kind) for n, kind in enumerate(("network", "shed", "user"))]
    silent.append(report(release, 10, "failure", "runtime", stage="revert"))
    silent.append(report("r99-unknown", 11, "failure", "runtime"))
    receipt = await control.telemetry.record_reports(device.id, ReportBatch(tuple(silent)))
    assert receipt.accepted == len(silent)
    assert await control.rollouts.evaluate() == []
    detail = await control.releases.show(release)
    assert (detail.verdict.decision, arm(detail, "treatment")["started"]) == ("hold", 0)
    assert sum(count.n for count in detail.counts) == 4


async def test_a_release_grows_by_itself_once_its_devices_did_well_for_long_enough(
    control, imported, enrol, clock
):
    stages = (StageWish("10", hold_s=60, min_devices=80), StageWish("100"))
    release = await released(control, imported, stages=stages)
    for number in range(90):
        batch = ReportBatch((report(release, 2 * number, stage="install"), report(release, 2 * number + 1)))
        await control.telemetry.record_reports(DeviceId(f"d{number}"), batch)
    assert (await control.releases.show(release)).verdict.decision == "pass"
    assert await control.rollouts.evaluate() == []
    clock.advance(61)
    await control.rollouts.evaluate()  # unless the guard that runs beside this test was faster
    detail = await settled(control, release, lambda shown: shown.percent == "100")
    assert (detail.history[-1].event, detail.history[-1].actor) == ("promote", "guard")
    assert await control.rollouts.evaluate() == []  # everybody has it


async def test_a_release_that_is_worse_than_the_version_before_it_is_taken_back(control, imported):
    old = await released(control, imported)
    await imported("1.1.0")
    stages = (StageWish("50"), StageWish("100"))
    guard = GuardWish(max_failure_rate=0.9)
    new = (
        await control.releases.create(
            CreateRelease("demo", "greeter", "1.1.0", stages=stages, guard=guard), "anna"
        )
    ).release.id
    for number in range(60):
        good = (report(old, number, stage="start", control_of=new), report(old, 1_000, control_of=new))
        bad = (report(new, number, stage="install"), report(new, 1_000, "failure", "runtime"))
        await control.telemetry.record_reports(DeviceId(f"c{number}"), ReportBatch(good))
        await control.telemetry.record_reports(DeviceId(f"t{number}"), ReportBatch(bad))
    detail = await settled(control, new, lambda shown: shown.release.state == "rolled_back")
    decision = detail.history[-1]
    assert (decision.actor, decision.evidence["rule"]) == ("guard", "worse_than_before")
    assert "before 0 of" in decision.reason
    untouched = await control.releases.show(old)
    assert (untouched.release.state, arm(untouched, "treatment")["failed"]) == ("live", 0)


async def test_trials_are_the_same_after_a_restart(control, imported):
    release = await released(control, imported, stages=(StageWish("50"), StageWish("100")))
    for number in range(30):
        bad = ("failure", "runtime") if number % 7 == 0 else ()
        side = {"control_of": release} if number % 2 else {}
        batch = ReportBatch((report("r1-x" if side else release, number, *bad, **side),))
        await control.telemetry.record_reports(DeviceId(f"d{number}"), batch)
    before = (await control.releases.show(release)).verdict
    control.releases._trials = TrialBook()
    assert (await control.releases.show(release)).verdict == before


async def test_same_report_of_two_devices_counts_twice_and_of_one_once(control, imported, enrol):
    release = await released(control, imported)
    one, two = await enrol(), await enrol()
    batch = ReportBatch((report(release, 1),))
    receipts = [await control.telemetry.record_reports(d.id, batch) for d in (one, one, two)]
    assert [(r.accepted, r.duplicates) for r in receipts] == [(1, 0), (0, 1), (1, 0)]
    counted = (await control.releases.show(release)).counts
    assert [(count.stage, count.n) for count in counted] == [("run", 2)]


async def test_reports_tell_what_a_device_has_installed(control, imported, enrol):
    release = await released(control, imported)
    device = await enrol()
    newer = report(release, 2, stage="install", version="1.1.0")
    older = report(release, 1, stage="install")
    await control.telemetry.record_reports(device.id, ReportBatch((newer, older)))
    (task,) = (await control.devices.show(device.id)).tasks
    assert (task.scenario, task.version, task.stage) == ("demo", "1.1.0", "install")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"message": "x" * 5_000}, LimitExceeded, r"reports\[0\]\.message"),
        ({"report_id": ""}, RemoteProtocolError, r"reports\[0\]\.report_id"),
        ({"at_ms": 2**70}, RemoteProtocolError, r"reports\[0\]\.at_ms"),
        ({"duration_ms": float("inf")}, RemoteProtocolError, r"reports\[0\]\.duration_ms"),
        ({"attempt": -1}, RemoteProtocolError, r"reports\[0\]\.attempt"),
    ],
)
async def test_bad_reports_are_refused_whole(control, enrol, changes, error, words):
    device = await enrol()
    with pytest.raises(error, match=words):
        await control.telemetry.record_reports(device.id, ReportBatch((report("r1", 1, **changes),)))


async def test_oversized_batches_are_refused(control, enrol):
    device = await enrol()
    batch = ReportBatch(tuple(report("r1", n) for n in range(257)))
    with pytest.raises(LimitExceeded, match="257 reports"):
        await control.telemetry.record_reports(device.id, batch)


async def test_the_guard_rests_between_looks_however_often_it_is_poked(autojump_clock):
    looks = []

    class Looks:
        async def read(self, _job):
            looks.append(trio.current_time())
            return []

    service = RolloutsService(Looks(), None, None, TrialBook())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run, 60.0)
        for _ in range(1_000):
            service.poke()
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    gaps = [later - sooner for sooner, later in itertools.pairwise(looks)]
    assert 10 <= len(looks) <= 21
    assert min(gaps) > 0.049
