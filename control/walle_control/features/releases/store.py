"""Rows of the releases feature."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from walle_control.db.sql import Connection, Row
from walle_control.features.releases.types import ReleaseEvent, ReleaseRow, ReleaseState, Terms
from walle_control.features.rollouts.guard import GuardSettings, RolloutPlan
from walle_shared.ids import ReleaseId, ScenarioName, TaskName, TaskVersion
from walle_shared.protocol.codec import canonical
from walle_shared.records import from_plain, to_plain


@dataclass(frozen=True, slots=True)
class EpochRow:
    """A compiled and signed epoch. ``plans``: how its releases go on; not in epochs of earlier programs."""

    n: int
    snapshot: bytes
    envelope: bytes
    reason: str
    created_ms: int
    signed_ms: int
    plans: bytes | None = None


def insert_release(db: Connection, row: ReleaseRow) -> None:
    """Add a release."""
    db.execute(
        "INSERT INTO release (rank, id, scenario, task, version, predicate, salt, plan, guard, state, stage,"
        " staged_ms, created_ms, terms, ramp_ms, paused_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row.rank, row.id, row.scenario, row.task, row.version, row.predicate, row.salt,
         canonical(row.plan).decode(), canonical(row.guard).decode(), row.state, row.stage, row.staged_ms,
         row.created_ms, canonical(_unusual(row.terms)).decode(), row.ramp_ms, row.paused_ms),
    )  # fmt: skip


def _unusual(terms: Terms) -> dict[str, Any]:
    """The terms that are not as usual: of the others, workers of an earlier program need not know."""
    usual = to_plain(Terms())
    return {name: value for name, value in to_plain(terms).items() if value != usual[name]}


def next_rank(db: Connection) -> int:
    """The rank of the next release."""
    rank: int = db.execute("SELECT coalesce(max(rank), 0) + 1 FROM release").fetchone()[0]
    return rank


def set_state(
    db: Connection, release_id: ReleaseId, state: ReleaseState, *, ramp_ms: int, paused_ms: int
) -> None:
    """Change a release's state, and since when it grows or rests."""
    db.execute(
        "UPDATE release SET state = ?, ramp_ms = ?, paused_ms = ? WHERE id = ?",
        (state, ramp_ms, paused_ms, release_id),
    )


def set_stage(db: Connection, release_id: ReleaseId, stage: int, now_ms: int) -> None:
    """Bring a release to a stage of its plan."""
    db.execute(
        "UPDATE release SET stage = ?, staged_ms = ?, ramp_ms = ? WHERE id = ?",
        (stage, now_ms, now_ms, release_id),
    )


def find_release(db: Connection, release_id: str) -> ReleaseRow | None:
    """One release."""
    row = db.execute("SELECT * FROM release WHERE id = ?", (release_id,)).fetchone()
    return _release(row) if row else None


def scenarios(db: Connection, release_ids: Collection[ReleaseId]) -> dict[ReleaseId, ScenarioName]:
    """The scenarios of those releases that there are."""
    if not release_ids:
        return {}
    marks = ", ".join("?" * len(release_ids))
    rows = db.execute(f"SELECT id, scenario FROM release WHERE id IN ({marks})", tuple(release_ids))
    return {row["id"]: row["scenario"] for row in rows}


def list_releases(db: Connection) -> list[ReleaseRow]:
    """All releases, newest first."""
    return [_release(row) for row in db.execute("SELECT * FROM release ORDER BY rank DESC")]


def page_of_releases(
    db: Connection, states: Sequence[ReleaseState], before_rank: int, limit: int
) -> list[ReleaseRow]:
    """Releases in some states (none named: in any) below a rank (0: all), newest first."""
    marks = ", ".join("?" * len(states))
    condition = f"state IN ({marks})" if states else "1 = 1"
    rows = db.execute(
        f"SELECT * FROM release WHERE {condition} AND (? = 0 OR rank < ?) ORDER BY rank DESC LIMIT ?",
        (*states, before_rank, before_rank, limit),
    )
    return [_release(row) for row in rows]


def newest_of(db: Connection, scenario: str, task: str, before_rank: int) -> ReleaseRow | None:
    """The newest release of a task below a rank (0: of all)."""
    row = db.execute(
        "SELECT * FROM release WHERE scenario = ? AND task = ? AND (? = 0 OR rank < ?)"
        " ORDER BY rank DESC LIMIT 1",
        (scenario, task, before_rank, before_rank),
    ).fetchone()
    return _release(row) if row else None


def releases_of(db: Connection, scenario: str, task: str, limit: int) -> list[ReleaseRow]:
    """The newest releases of a task."""
    rows = db.execute(
        "SELECT * FROM release WHERE scenario = ? AND task = ? ORDER BY rank DESC LIMIT ?",
        (scenario, task, limit),
    )
    return [_release(row) for row in rows]


def live_releases(db: Connection) -> list[ReleaseRow]:
    """The releases that devices may have, newest first."""
    rows = db.execute("SELECT * FROM release WHERE state IN ('live', 'paused') ORDER BY rank DESC")
    return [_release(row) for row in rows]


def insert_event(db: Connection, release_id: ReleaseId, event: ReleaseEvent) -> None:
    """Add to a release's history."""
    db.execute(
        "INSERT INTO release_event (release_id, at_ms, event, state, actor, reason, evidence, epoch)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (release_id, event.at_ms, event.event, event.state, event.actor, event.reason,
         orjson.dumps(event.evidence).decode(), event.epoch),
    )  # fmt: skip


def creator_of(db: Connection, release_id: ReleaseId) -> str:
    """Who created a release."""
    row = db.execute(
        "SELECT actor FROM release_event WHERE release_id = ? ORDER BY id LIMIT 1", (release_id,)
    ).fetchone()
    return str(row["actor"]) if row else ""


def history(db: Connection, release_id: ReleaseId) -> list[ReleaseEvent]:
    """A release's history, oldest first."""
    rows = db.execute("SELECT * FROM release_event WHERE release_id = ? ORDER BY id", (release_id,))
    return [_event(row) for row in rows]


def newest_epoch(db: Connection) -> EpochRow | None:
    """The newest epoch."""
    row = db.execute(
        "SELECT epoch.*, plans FROM epoch LEFT JOIN epoch_plan ON epoch_plan.epoch = epoch.n"
        " ORDER BY n DESC LIMIT 1"
    ).fetchone()
    return EpochRow(**row) if row else None


def newest_epoch_number(db: Connection) -> int:
    """The number of the newest epoch; 0 before the first."""
    number: int = db.execute("SELECT coalesce(max(n), 0) FROM epoch").fetchone()[0]
    return number


def insert_epoch(db: Connection, row: EpochRow) -> None:
    """Add an epoch."""
    db.execute(
        "INSERT INTO epoch (n, snapshot, envelope, reason, created_ms, signed_ms) VALUES (?, ?, ?, ?, ?, ?)",
        (row.n, row.snapshot, row.envelope, row.reason, row.created_ms, row.signed_ms),
    )
    if row.plans is not None:
        db.execute("INSERT INTO epoch_plan (epoch, plans) VALUES (?, ?)", (row.n, row.plans))


def resign_epoch(db: Connection, n: int, envelope: bytes, signed_ms: int) -> None:
    """Replace an epoch's envelope by one that is valid longer."""
    db.execute("UPDATE epoch SET envelope = ?, signed_ms = ? WHERE n = ?", (envelope, signed_ms, n))


def _release(row: Row) -> ReleaseRow:
    return ReleaseRow(
        id=ReleaseId(row["id"]),
        rank=row["rank"],
        scenario=ScenarioName(row["scenario"]),
        task=TaskName(row["task"]),
        version=TaskVersion(row["version"]),
        predicate=row["predicate"],
        salt=row["salt"],
        plan=from_plain(RolloutPlan, orjson.loads(row["plan"])),
        guard=from_plain(GuardSettings, orjson.loads(row["guard"])),
        state=cast(ReleaseState, row["state"]),
        stage=row["stage"],
        staged_ms=row["staged_ms"],
        created_ms=row["created_ms"],
        terms=from_plain(Terms, orjson.loads(row["terms"])),
        ramp_ms=row["ramp_ms"],
        paused_ms=row["paused_ms"],
    )


def _event(row: Row) -> ReleaseEvent:
    evidence: Mapping[str, Any] = orjson.loads(row["evidence"])
    return ReleaseEvent(
        row["at_ms"],
        row["event"],
        cast(ReleaseState, row["state"]),
        row["actor"],
        row["reason"],
        evidence,
        row["epoch"],
    )
