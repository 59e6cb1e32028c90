"""What other features may ask about telemetry."""

from __future__ import annotations

import sqlite3

from walle_control.features.rollouts.guard import VOTING_STAGES, Votes
from walle_control.features.telemetry import store
from walle_control.features.telemetry.types import InstalledTask, ReportCount
from walle_shared.ids import DeviceId, ReleaseId
from walle_shared.protocol.messages import VOTING_ERRORS


def counts_of(db: sqlite3.Connection, release_id: ReleaseId) -> tuple[ReportCount, ...]:
    """Reports of a release by stage, outcome and error class."""
    return store.counts(db, release_id)


def votes_of(db: sqlite3.Connection, release_id: ReleaseId) -> tuple[Votes, ...]:
    """The reports of a release that speak about it, by stage."""
    voting = [count for count in store.counts(db, release_id) if count.error_class in VOTING_ERRORS]
    return tuple(
        Votes(
            stage,
            attempts=sum(count.n for count in voting if count.stage == stage),
            failures=sum(count.n for count in voting if count.stage == stage and count.outcome == "failure"),
        )
        for stage in VOTING_STAGES
    )


def installed_tasks(db: sqlite3.Connection, device_id: DeviceId, now_ms: int) -> tuple[InstalledTask, ...]:
    """What a device last said about each task, and what that means now."""
    return store.installed_tasks(db, device_id, now_ms)


def totals(db: sqlite3.Connection) -> dict[str, int]:
    """How many reports and features have arrived."""
    return {"reports": store.total(db, "report"), "features": store.total(db, "feature")}
