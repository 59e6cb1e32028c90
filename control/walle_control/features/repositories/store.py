"""Rows of the repositories feature."""

from __future__ import annotations

from walle_control.db.sql import Connection, Row
from walle_control.features.repositories.types import Repository, RepositoryRow
from walle_shared.ids import ScenarioName


def insert(db: Connection, row: RepositoryRow) -> None:
    """Add a repository."""
    what = row.repository
    db.execute(
        "INSERT INTO repository (name, url, scenario, folder, credential, auto_import, added_ms, synced_ms,"
        " tags, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (what.name, what.url, what.scenario, what.folder, what.credential, int(what.auto_import),
         row.added_ms, row.synced_ms, row.tags, row.error),
    )  # fmt: skip


def note_sync(db: Connection, name: str, synced_ms: int, tags: int, error: str) -> None:
    """Remember how a sync went; one that failed leaves the time and the tags of the last good one."""
    if error:
        db.execute("UPDATE repository SET error = ? WHERE name = ?", (error, name))
    else:
        db.execute(
            "UPDATE repository SET error = '', synced_ms = ?, tags = ? WHERE name = ?",
            (synced_ms, tags, name),
        )


def delete(db: Connection, name: str) -> None:
    """Forget a repository."""
    db.execute("DELETE FROM repository WHERE name = ?", (name,))


def find(db: Connection, name: str) -> RepositoryRow | None:
    """One repository."""
    row = db.execute("SELECT * FROM repository WHERE name = ?", (name,)).fetchone()
    return _repository(row) if row else None


def list_all(db: Connection) -> list[RepositoryRow]:
    """All repositories by name."""
    return [_repository(row) for row in db.execute("SELECT * FROM repository ORDER BY name")]


def _repository(row: Row) -> RepositoryRow:
    return RepositoryRow(
        Repository(
            row["name"],
            row["url"],
            ScenarioName(row["scenario"]),
            row["folder"],
            row["credential"],
            bool(row["auto_import"]),
        ),
        row["added_ms"],
        row["synced_ms"],
        row["tags"],
        row["error"],
    )
