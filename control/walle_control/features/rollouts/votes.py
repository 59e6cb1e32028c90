"""Which reports vote, and for what.

A report may say something about two releases: the one whose version ran, and the one that the device is held
back from. Errors that speak of the network, the server or the device (``VOTING_ERRORS``) say nothing of
either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from walle_control.db.sql import Connection
from walle_control.features.audiences import read_model as audiences
from walle_control.features.rollouts import store
from walle_control.features.rollouts.trial import Arm, Vote, VoteKind
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName
from walle_shared.protocol.messages import NO_RELEASE, VOTING_ERRORS, Report
from walle_shared.targeting import holdouts_of


class Told(NamedTuple):
    """A report, whose it is and when it came."""

    device_id: DeviceId
    report: Report
    at_ms: int


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


def count_votes(db: Connection, told: Sequence[Told], scenarios: Mapping[ReleaseId, ScenarioName]) -> None:
    """Store the votes in reports; each kind counts once per device.

    Args:
        db: where to.
        told: the reports, in the order of their arrival.
        scenarios: of each release that exists: nothing else is voted on.
    """
    holdouts = audiences.holdouts(db) if any(r.control_of != NO_RELEASE for _, r, _ in told) else []
    votes: list[tuple[ReleaseId, Vote]] = []
    for device_id, report, at_ms in told:
        scenario = scenarios.get(report.control_of)
        held_out = scenario is not None and bool(holdouts_of(device_id, scenario, holdouts))
        votes += votes_of(report, device_id, at_ms, "holdout" if held_out else "control")
    store.insert_votes(db, [(release_id, vote) for release_id, vote in votes if release_id in scenarios])


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
