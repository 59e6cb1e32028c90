"""What other features may ask about rollouts."""

from __future__ import annotations

from walle_control.db.sql import Connection
from walle_shared.ids import ReleaseId


def starts_after(
    db: Connection, release_id: ReleaseId, vote_id: int, step_ms: int
) -> tuple[list[tuple[int, int]], int]:
    """How many voters installed a release in each step of time (its start, devices), and the last vote.

    Only votes behind ``vote_id`` count: whoever remembers the last one adds up what is new.
    """
    # Other kinds of votes move the mark too, or it would stay behind them.
    newest = db.execute(
        "SELECT id FROM vote WHERE release_id = ? ORDER BY id DESC LIMIT 1", (release_id,)
    ).fetchone()
    if newest is None or newest["id"] <= vote_id:
        return [], vote_id
    rows = db.execute(
        "SELECT at_ms / ? AS step, count(*) AS n FROM vote WHERE release_id = ? AND id > ? AND id <= ?"
        " AND arm = 'treatment' AND kind = 'start' GROUP BY step ORDER BY step",
        (step_ms, release_id, vote_id, newest["id"]),
    )
    return [(row["step"] * step_ms, row["n"]) for row in rows], newest["id"]
