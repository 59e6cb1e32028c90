"""Rows of the tasks feature."""

from __future__ import annotations

from typing import Final

import orjson

from walle_control.db.sql import Connection, Row
from walle_control.features.tasks.types import Simulation, VersionRow
from walle_shared.ids import ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import FileRef
from walle_shared.records import from_plain

_SELECT: Final = (
    "SELECT task_version.*, (SELECT passed FROM simulation WHERE simulation.scenario = task_version.scenario"
    " AND simulation.task = task_version.task AND simulation.version = task_version.version) AS passed"
    " FROM task_version"
)


def insert_version(db: Connection, row: VersionRow) -> None:
    """Add a version."""
    db.execute(
        "INSERT INTO task_version (scenario, task, version, source, manifest_sha256, manifest_bytes, files,"
        " total_bytes, imported_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row.scenario, row.task, row.version, row.source, row.manifest.sha256, row.manifest.size_bytes,
         row.files, row.total_bytes, row.imported_ms),
    )  # fmt: skip


def save_simulation(db: Connection, simulation: Simulation) -> None:
    """Remember what came of a version's simulations."""
    db.execute(
        "INSERT INTO simulation (scenario, task, version, passed, at_ms, seconds, result, recordings)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (scenario, task, version) DO UPDATE SET"
        " passed = excluded.passed, at_ms = excluded.at_ms, seconds = excluded.seconds,"
        " result = excluded.result",
        (simulation.scenario, simulation.task, simulation.version, int(simulation.result.passed),
         simulation.at_ms, simulation.seconds, encode(simulation.result).decode(), b""),
    )  # fmt: skip


def save_recordings(db: Connection, row: VersionRow, recordings: bytes) -> None:
    """Keep a version's simulations, to play them again. After ``save_simulation``."""
    db.execute(
        "UPDATE simulation SET recordings = ? WHERE scenario = ? AND task = ? AND version = ?",
        (recordings, row.scenario, row.task, row.version),
    )


def find_simulation(db: Connection, scenario: str, task: str, version: str) -> Simulation | None:
    """The last simulation of a version."""
    row = db.execute(
        "SELECT scenario, task, version, at_ms, seconds, result FROM simulation"
        " WHERE scenario = ? AND task = ? AND version = ?",
        (scenario, task, version),
    ).fetchone()
    if row is None:
        return None
    return from_plain(Simulation, {**dict(row), "result": orjson.loads(row["result"])})


def recordings_of(db: Connection, scenario: str, task: str, version: str) -> bytes:
    """The kept simulations of a version; empty for one from before there were any."""
    row = db.execute(
        "SELECT recordings FROM simulation WHERE scenario = ? AND task = ? AND version = ?",
        (scenario, task, version),
    ).fetchone()
    return bytes(row["recordings"]) if row else b""


def find_version(db: Connection, scenario: str, task: str, version: str) -> VersionRow | None:
    """One version."""
    row = db.execute(
        f"{_SELECT} WHERE scenario = ? AND task = ? AND version = ?",
        (scenario, task, version),
    ).fetchone()
    return _version(row) if row else None


def versions_of(db: Connection, scenario: str, task: str) -> list[VersionRow]:
    """The versions of one task, newest import first."""
    return [
        _version(row)
        for row in db.execute(
            f"{_SELECT} WHERE scenario = ? AND task = ? ORDER BY imported_ms DESC, version DESC",
            (scenario, task),
        )
    ]


def find_deltas(db: Connection, manifest: str) -> FileRef | None:
    """The list of deltas to the files of a manifest."""
    row = db.execute(
        "SELECT list_sha256, list_bytes FROM delta_list WHERE manifest_sha256 = ?", (manifest,)
    ).fetchone()
    return FileRef(Sha256(row["list_sha256"]), row["list_bytes"]) if row else None


def all_deltas(db: Connection) -> set[FileRef]:
    """Every list of deltas that is remembered."""
    rows = db.execute("SELECT list_sha256, list_bytes FROM delta_list")
    return {FileRef(Sha256(row["list_sha256"]), row["list_bytes"]) for row in rows}


def set_deltas(db: Connection, manifest: str, listed: FileRef) -> None:
    """Remember the list of deltas to the files of a manifest."""
    db.execute(
        "INSERT INTO delta_list (manifest_sha256, list_sha256, list_bytes) VALUES (?, ?, ?)"
        " ON CONFLICT (manifest_sha256) DO UPDATE SET list_sha256 = excluded.list_sha256,"
        " list_bytes = excluded.list_bytes",
        (manifest, listed.sha256, listed.size_bytes),
    )


def list_versions(db: Connection) -> list[VersionRow]:
    """All versions, newest import first."""
    return [_version(row) for row in db.execute(f"{_SELECT} ORDER BY imported_ms DESC, task, version")]


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
        "ready" if row["passed"] else "draft",
    )
