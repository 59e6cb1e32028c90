"""What other features may ask about releases."""

from __future__ import annotations

from collections.abc import Collection

from walle_control.db.sql import Connection
from walle_control.features.releases import approvals, store
from walle_control.features.releases.types import ReleaseRow
from walle_control.features.rollouts.book import TrialBook, Tried
from walle_control.features.rollouts.guard import Verdict, judge_threshold
from walle_control.features.telemetry import read_model as telemetry
from walle_shared.ids import ReleaseId, ScenarioName
from walle_shared.limits import SNAPSHOT_MAX_BYTES
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting import Snapshot


def on_devices(db: Connection) -> list[ReleaseRow]:
    """The releases that devices may have, live or paused, newest first."""
    return store.live_releases(db)


def published_deltas(db: Connection) -> set[FileRef]:
    """The lists of deltas that the newest epoch names."""
    newest = store.newest_epoch(db)
    releases = decode(Snapshot, newest.snapshot, limit_bytes=SNAPSHOT_MAX_BYTES).releases if newest else ()
    return {release.deltas for release in releases if release.deltas is not None}


def verdict_of(db: Connection, row: ReleaseRow, book: TrialBook, now_ms: int) -> Verdict:
    """What the guard makes of a release: the operator's own rule first, if there is one."""
    broken = judge_threshold(row.guard, telemetry.votes_of(db, row.id))
    tried = Tried(row.id, row.guard, row.plan, row.stage, row.staged_ms)
    return broken or book.judge(db, tried, now_ms)


def cap_of(db: Connection, release_id: ReleaseId) -> tuple[int, bool]:
    """On how many devices a release may be (0: not capped, or not in the policy), and whether it grows."""
    row = store.find_release(db, release_id)
    if row is None or row.state not in ("live", "paused"):
        return 0, False
    return row.terms.cap, row.state == "live"


def by_state(db: Connection) -> dict[str, int]:
    """How many releases are in each state."""
    rows = db.execute("SELECT state, count(*) AS n FROM release GROUP BY state")
    return {row["state"]: row["n"] for row in rows}


def open_approvals(db: Connection, now_ms: int) -> int:
    """How many requests wait for another person's approval."""
    return len(approvals.waiting(db, now_ms))


def scenario_of(db: Connection, release_id: ReleaseId) -> ScenarioName | None:
    """The scenario of a release; ``None`` for an id that was never given out."""
    return store.scenarios(db, {release_id}).get(release_id)


def scenarios_of(db: Connection, release_ids: Collection[ReleaseId]) -> dict[ReleaseId, ScenarioName]:
    """The scenarios of those releases that there are."""
    return store.scenarios(db, release_ids)


def find(db: Connection, release_id: ReleaseId) -> ReleaseRow | None:
    """A release; ``None`` for an id that was never given out."""
    return store.find_release(db, release_id)
