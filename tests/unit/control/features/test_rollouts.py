from __future__ import annotations

import pytest
import trio

from walle_control.features.releases.types import CreateRelease
from walle_control.features.rollouts.guard import GuardSettings, Votes, judge
from walle_shared.errors import LimitExceeded, RemoteProtocolError
from walle_shared.protocol.messages import Report, ReportBatch


def report(
    release: str, number: int, outcome="success", error_class="none", stage="run", **changes
) -> Report:
    values = {
        "report_id": f"rep-{number}", "release_id": release, "task": "greeter", "version": "1.0.0",
        "stage": stage, "outcome": outcome, "attempt": number, "at_ms": number, "duration_ms": 1.0,
        "error_class": error_class,
    }  # fmt: skip
    return Report(**{**values, **changes})


async def released(control, imported, **changes) -> str:
    await imported("1.0.0")
    detail = await control.releases.create(CreateRelease("demo", "greeter", "1.0.0", **changes), "anna")
    return detail.release.id


@pytest.mark.parametrize(
    ("attempts", "failures", "decision"),
    [
        (0, 0, "hold"),
        (19, 19, "hold"),
        (20, 0, "pass"),
        (20, 1, "pass"),
        (20, 2, "rollback"),
        (100, 5, "pass"),
    ],
)
def test_guard_decides_only_with_enough_votes_and_over_the_rate(attempts, failures, decision):
    assert judge(GuardSettings(20, 0.05), [Votes("run", attempts, failures)]).decision == decision


def test_guard_says_how_far_it_is():
    hold = judge(GuardSettings(20, 0.05), [Votes("run", 2, 2)])
    assert hold.reason == "hold: 2 of 20 runs reported"
    rollback = judge(GuardSettings(3, 0.2), [Votes("run", 4, 3)])
    assert rollback.reason == "3 of 4 runs failed (75.0%), over 20.0%"


@pytest.mark.parametrize(
    ("runs", "installs", "decision", "stage"),
    [
        ((20, 20), (10_000, 0), "rollback", "run"),  # good installations do not hide failing runs
        ((10_000, 0), (20, 20), "rollback", "install"),
        ((0, 0), (10_000, 20), "pass", "install"),  # a few that failed to install, before any run
        ((5, 5), (30, 0), "pass", "install"),  # too few runs to say more yet
        ((0, 0), (0, 0), "hold", "run"),
    ],
)
def test_installations_and_runs_are_judged_apart(runs, installs, decision, stage):
    verdict = judge(GuardSettings(20, 0.05), [Votes("run", *runs), Votes("install", *installs)])
    assert (verdict.decision, verdict.stage) == (decision, stage)


async def test_failures_roll_a_release_back_without_anyone(control, imported, enrol):
    release = await released(control, imported, min_reports=3, max_failure_rate=0.5)
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
        "rule": "failure_rate", "stage": "run", "attempts": 3, "failures": 3, "failure_rate": 1.0,
        "min_reports": 3, "max_failure_rate": 0.5,
    }  # fmt: skip
    assert await control.rollouts.evaluate() == []  # decided once


async def test_what_does_not_speak_of_the_release_does_not_vote(control, imported, enrol):
    release = await released(control, imported, min_reports=1, max_failure_rate=0.0)
    device = await enrol()
    silent = [report(release, n, "failure", kind) for n, kind in enumerate(("network", "shed", "user"))]
    silent.append(report(release, 10, "failure", "runtime", stage="revert"))
    silent.append(report("r99-unknown", 11, "failure", "runtime"))
    receipt = await control.telemetry.record_reports(device.id, ReportBatch(tuple(silent)))
    assert receipt.accepted == len(silent)
    assert await control.rollouts.evaluate() == []
    detail = await control.releases.show(release)
    assert (detail.verdict.decision, detail.verdict.attempts) == ("hold", 0)
    assert sum(count.n for count in detail.counts) == 4


async def test_same_report_of_two_devices_counts_twice_and_of_one_once(control, imported, enrol):
    release = await released(control, imported)
    one, two = await enrol(), await enrol()
    batch = ReportBatch((report(release, 1),))
    receipts = [await control.telemetry.record_reports(d.id, batch) for d in (one, one, two)]
    assert [(r.accepted, r.duplicates) for r in receipts] == [(1, 0), (0, 1), (1, 0)]
    assert (await control.releases.show(release)).verdict.attempts == 2


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
