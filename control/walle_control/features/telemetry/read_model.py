"""What other features may ask about telemetry."""

from __future__ import annotations

from walle_control.db.sql import Connection
from walle_control.features.rollouts.guard import VOTING_STAGES, Votes
from walle_control.features.telemetry import store
from walle_control.features.telemetry.types import FailureCount, Installations, InstalledTask, ReportCount
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


def installations(db: Connection) -> list[Installations]:
    """On how many devices each version of each task is, by what they said last."""
    rows = db.execute(
        "SELECT scenario, task, version, count(*) AS devices FROM device_task"
        " WHERE stage = 'install' AND outcome = 'success' GROUP BY scenario, task, version"
        " ORDER BY scenario, task, devices DESC, version DESC"
    )
    return [Installations(**row) for row in rows]


def recent_failures(db: Connection, since_ms: int, reports_max: int = 10_000) -> list[FailureCount]:
    """What failed since a time, the most frequent first, as far as the newest reports tell."""
    newest = store.total(db, "report")
    rows = db.execute(
        "SELECT release_id, stage, error_class, code, count(*) AS n, max(received_ms) AS last_ms FROM report"
        " WHERE id > ? AND received_ms >= ? AND outcome = 'failure'"
        " GROUP BY release_id, stage, error_class, code ORDER BY n DESC, last_ms DESC LIMIT 50",
        (newest - reports_max, since_ms),
    )
    return [FailureCount(**row) for row in rows]


def versions_on_devices(db: Connection, scenario: str, task: str) -> list[str]:
    """The versions of a task that devices have last reported of, the commonest first."""
    rows = db.execute(
        "SELECT version, count(*) AS n FROM device_task WHERE scenario = ? AND task = ?"
        " GROUP BY version ORDER BY n DESC, version DESC",
        (scenario, task),
    )
    return [row["version"] for row in rows]
