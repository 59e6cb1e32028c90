"""Rows of the tasks feature."""

from __future__ import annotations

from walle_control.db.sql import Connection, Row
from walle_control.features.tasks.types import VersionRow
from walle_shared.ids import ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.protocol.messages import FileRef


def insert_version(db: Connection, row: VersionRow) -> None:
    """Add a version."""
    db.execute(
        "INSERT INTO task_version (scenario, task, version, source, manifest_sha256, manifest_bytes, files,"
        " total_bytes, imported_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row.scenario, row.task, row.version, row.source, row.manifest.sha256, row.manifest.size_bytes,
         row.files, row.total_bytes, row.imported_ms),
    )  # fmt: skip


def find_version(db: Connection, scenario: str, task: str, version: str) -> VersionRow | None:
    """One version."""
    row = db.execute(
        "SELECT * FROM task_version WHERE scenario = ? AND task = ? AND version = ?",
        (scenario, task, version),
    ).fetchone()
    return _version(row) if row else None


def list_versions(db: Connection) -> list[VersionRow]:
    """All versions, newest import first."""
    return [
        _version(row)
        for row in db.execute("SELECT * FROM task_version ORDER BY imported_ms DESC, task, version")
    ]


def _version(row: Row) -> VersionRow:
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
