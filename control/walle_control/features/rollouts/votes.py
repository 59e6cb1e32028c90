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
    kind = _kind_of(report)
    if kind is not None and report.votes and report.stage != "start":
        found.append((report.release_id, "treatment", kind))
    if kind is not None and report.control_of != NO_RELEASE and report.stage in ("start", "run"):
        found.append((report.control_of, other_arm, kind))
    return [(release, Vote(device_id, arm, kind, at_ms, report.duration_ms)) for release, arm, kind in found]


def count_votes(db: Connection, device_id: DeviceId, report: Report, now_ms: int) -> None:
    """Store the votes in a report of a release that exists; each kind counts once per device."""
    scenario = releases.scenario_of(db, report.control_of) if report.control_of != NO_RELEASE else None
    held_out = scenario is not None and audiences.is_held_out(db, device_id, scenario)
    for release_id, vote in votes_of(report, device_id, now_ms, "holdout" if held_out else "control"):
        if release_id == report.release_id or releases.scenario_of(db, release_id) is not None:
            store.insert_vote(db, release_id, vote)


def _kind_of(report: Report) -> VoteKind | None:
    failed = report.outcome == "failure"
    if failed and report.error_class not in VOTING_ERRORS:
        return None
    match report.stage:
        case "start":
            return "start"
        case "install":
            return "bad_install" if failed else "start"
        case "run":
            return "bad_run" if failed else "good_run"
        case _:
            return None
