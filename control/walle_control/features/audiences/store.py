"""Rows of the audiences feature."""

from __future__ import annotations

import sqlite3

from walle_shared.targeting import Holdout


def holdouts(db: sqlite3.Connection) -> list[Holdout]:
    """All holdouts, by name."""
    rows = db.execute("SELECT name, share, salt, scenario FROM holdout ORDER BY name")
    return [Holdout(row["name"], row["share"], row["salt"], row["scenario"]) for row in rows]


def put_holdout(db: sqlite3.Connection, holdout: Holdout, now_ms: int) -> None:
    """Add a holdout; one that is there keeps its salt, and so its devices."""
    db.execute(
        "INSERT INTO holdout (name, scenario, share, salt, created_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET scenario = excluded.scenario, share = excluded.share",
        (holdout.name, holdout.scenario, holdout.share, holdout.salt, now_ms),
    )


def delete_holdout(db: sqlite3.Connection, name: str) -> bool:
    """Remove a holdout; whether it was there."""
    return db.execute("DELETE FROM holdout WHERE name = ?", (name,)).rowcount == 1
