"""What other features may ask about telemetry."""

from __future__ import annotations

from walle_control.db.sql import Connection
from walle_control.features.rollouts.guard import VOTING_STAGES, Votes
from walle_control.features.telemetry import store
from walle_control.features.telemetry.types import InstalledTask, ReportCount
from walle_shared.ids import DeviceId, ReleaseId
from walle_shared.protocol.messages import VOTING_ERRORS


def counts_of(db: Connection, release_id: ReleaseId) -> tuple[ReportCount, ...]:
    """Reports of a release by stage, outcome and error class."""
    return store.counts(db, release_id)


def votes_of(db: Connection, release_id: ReleaseId) -> tuple[Votes, ...]:
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


def installed_tasks(db: Connection, device_id: DeviceId, now_ms: int) -> tuple[InstalledTask, ...]:
    """What a device last said about each task, and what that means now."""
    return store.installed_tasks(db, device_id, now_ms)


def installed_releases(db: Connection, device_id: DeviceId, now_ms: int) -> list[ReleaseId]:
    """The releases that a device has active, as far as it has said."""
    return [
        task.release_id
        for task in store.installed_tasks(db, device_id, now_ms)
        if task.stage == "run" or (task.stage == "install" and task.outcome == "success")
    ]


def totals(db: Connection) -> dict[str, int]:
    """How many reports and features have arrived."""
    return {"reports": store.total(db, "report"), "features": store.total(db, "feature")}


def versions_on_devices(db: Connection, scenario: str, task: str) -> list[str]:
    """The versions of a task that devices have last reported of, the commonest first."""
    rows = db.execute(
        "SELECT version, count(*) AS n FROM device_task WHERE scenario = ? AND task = ?"
        " GROUP BY version ORDER BY n DESC, version DESC",
        (scenario, task),
    )
    return [row["version"] for row in rows]
