"""Which reports vote, and for what.

A report may say something about two releases: the one whose version ran, and the one that the device is held
back from. Errors that speak of the network, the server or the device (``VOTING_ERRORS``) say nothing of
either.
"""

from __future__ import annotations

from walle_control.db.sql import Connection
from walle_control.features.audiences import read_model as audiences
from walle_control.features.releases import read_model as releases
from walle_control.features.rollouts import store
from walle_control.features.rollouts.trial import Arm, Vote, VoteKind
from walle_shared.ids import DeviceId, ReleaseId
from walle_shared.protocol.messages import NO_RELEASE, VOTING_ERRORS, Report


def votes_of(
    report: Report, device_id: DeviceId, at_ms: int, other_arm: Arm = "control"
) -> list[tuple[ReleaseId, Vote]]:
    """The votes in a report, each with the release that it counts for.

    ``other_arm`` is the arm of a device that is kept from a release.
    """
    found: list[tuple[ReleaseId, Arm, VoteKind]] = []
    is_held_back = report.control_of != NO_RELEASE
    if report.votes and (kind := _treatment_kind(report, is_held_back=is_held_back)) is not None:
        found.append((report.release_id, "treatment", kind))
    if is_held_back and (kind := "start" if report.stage == "start" else _run_kind(report)) is not None:
        found.append((report.control_of, other_arm, kind))
    return [
        (release, Vote(device_id, arm, kind, at_ms, report.duration_ms, report.peak_bytes))
        for release, arm, kind in found
    ]


def count_votes(db: Connection, device_id: DeviceId, report: Report, now_ms: int) -> None:
    """Store the votes in a report of a release that exists; each kind counts once per device."""
    scenario = releases.scenario_of(db, report.control_of) if report.control_of != NO_RELEASE else None
    held_out = scenario is not None and audiences.is_held_out(db, device_id, scenario)
    for release_id, vote in votes_of(report, device_id, now_ms, "holdout" if held_out else "control"):
        if release_id == report.release_id or releases.scenario_of(db, release_id) is not None:
            store.insert_vote(db, release_id, vote)


def _treatment_kind(report: Report, *, is_held_back: bool) -> VoteKind | None:
    match report.stage:
        case "start":
            return None if is_held_back else "begin"  # else it is the other arm that starts
        case "install" if report.outcome == "success":
            return "start"
        case "install":
            return "bad_install" if report.error_class in VOTING_ERRORS else "excused"
        case _:
            return _run_kind(report)


def _run_kind(report: Report) -> VoteKind | None:
    if report.stage != "run":
        return None
    if report.outcome == "success":
        return "good_run"
    return "bad_run" if report.error_class in VOTING_ERRORS else None
