"""Brings back, of what predicates refer to, all that a published policy tells. Blocks."""

from __future__ import annotations

from walle_control.db.sql import Connection
from walle_control.features.audiences import store
from walle_shared.targeting import Snapshot


def restore(db: Connection, snapshot: Snapshot, now_ms: int) -> None:
    """Add the holdouts, segments and sets of a policy to a database without any."""
    for holdout in snapshot.holdouts:
        store.put_holdout(db, holdout, now_ms)
    for segment in snapshot.segments:
        store.insert_segment(db, segment, now_ms)
    for listed in snapshot.sets:
        store.insert_set(db, listed, now_ms)
