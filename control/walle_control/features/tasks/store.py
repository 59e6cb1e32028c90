"""Rows of the tasks feature."""

from __future__ import annotations

import sqlite3

from walle_control.features.tasks.types import VersionRow
from walle_shared.ids import ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.protocol.messages import FileRef


def insert_version(db: sqlite3.Connection, row: VersionRow) -> None:
    """Add a version."""
    db.execute(
        "INSERT INTO task_version (scenario, task, version, source, manifest_sha256, manifest_bytes, files,"
        " total_bytes, imported_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row.scenario, row.task, row.version, row.source, row.manifest.sha256, row.manifest.size_bytes,
         row.files, row.total_bytes, row.imported_ms),
    )  # fmt: skip


def find_version(db: sqlite3.Connection, scenario: str, task: str, version: str) -> VersionRow | None:
    """One version."""
    row = db.execute(
        "SELECT * FROM task_version WHERE scenario = ? AND task = ? AND version = ?",
        (scenario, task, version),
    ).fetchone()
    return _version(row) if row else None


def versions_of(db: sqlite3.Connection, scenario: str, task: str) -> list[VersionRow]:
    """The versions of one task, newest import first."""
    return [
        _version(row)
        for row in db.execute(
            "SELECT * FROM task_version WHERE scenario = ? AND task = ?"
            " ORDER BY imported_ms DESC, version DESC",
            (scenario, task),
        )
    ]


def find_deltas(db: sqlite3.Connection, manifest: str) -> FileRef | None:
    """The list of deltas to the files of a manifest."""
    row = db.execute(
        "SELECT list_sha256, list_bytes FROM delta_list WHERE manifest_sha256 = ?", (manifest,)
    ).fetchone()
    return FileRef(Sha256(row["list_sha256"]), row["list_bytes"]) if row else None


def all_deltas(db: sqlite3.Connection) -> set[FileRef]:
    """Every list of deltas that is remembered."""
    rows = db.execute("SELECT list_sha256, list_bytes FROM delta_list")
    return {FileRef(Sha256(row["list_sha256"]), row["list_bytes"]) for row in rows}


def set_deltas(db: sqlite3.Connection, manifest: str, listed: FileRef) -> None:
    """Remember the list of deltas to the files of a manifest."""
    db.execute(
        "INSERT INTO delta_list (manifest_sha256, list_sha256, list_bytes) VALUES (?, ?, ?)"
        " ON CONFLICT (manifest_sha256) DO UPDATE SET list_sha256 = excluded.list_sha256,"
        " list_bytes = excluded.list_bytes",
        (manifest, listed.sha256, listed.size_bytes),
    )


def list_versions(db: sqlite3.Connection) -> list[VersionRow]:
    """All versions, newest import first."""
    return [
        _version(row)
        for row in db.execute("SELECT * FROM task_version ORDER BY imported_ms DESC, task, version")
    ]


def _version(row: sqlite3.Row) -> VersionRow:
    return VersionRow(
        ScenarioName(row["scenario"]),
        TaskName(row["task"]),
        TaskVersion(row["version"]),
        row["source"],
        FileRef(Sha256(row["manifest_sha256"]), row["manifest_bytes"]),
        row["files"],
        row["total_bytes"],
        row["imported_ms"],
    )
