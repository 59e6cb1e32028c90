"""What others may ask about webhooks."""

from __future__ import annotations

from walle_control.db.sql import Connection


def totals(db: Connection) -> tuple[int, int]:
    """How many deliveries wait, and how many were given up."""
    rows = db.execute(
        "SELECT state, count(*) AS n FROM webhook_delivery WHERE state IN ('waiting', 'dead') GROUP BY state"
    )
    counts = {row["state"]: row["n"] for row in rows}
    return counts.get("waiting", 0), counts.get("dead", 0)
