"""Rows of the trust feature."""

from __future__ import annotations

from collections.abc import Mapping

from walle_control.db.sql import Connection
from walle_shared.trust.roles import TIMESTAMP


def current(db: Connection) -> dict[str, bytes]:
    """The newest metadata of every role."""
    rows = db.execute(
        "SELECT role, data FROM trust_metadata AS newest WHERE version ="
        " (SELECT max(version) FROM trust_metadata WHERE role = newest.role)"
    )
    return {row["role"]: bytes(row["data"]) for row in rows}


def newest(db: Connection, role: str) -> bytes | None:
    """The newest metadata of one role."""
    row = db.execute(
        "SELECT data FROM trust_metadata WHERE role = ? ORDER BY version DESC LIMIT 1", (role,)
    ).fetchone()
    return bytes(row["data"]) if row else None


def newest_version(db: Connection, role: str) -> int:
    """The version of a role's newest metadata; 0 if there is none."""
    row = db.execute("SELECT max(version) AS version FROM trust_metadata WHERE role = ?", (role,)).fetchone()
    return row["version"] or 0


def all_files(db: Connection) -> list[tuple[str, int, bytes]]:
    """Role, version and bytes of everything that was ever in force."""
    rows = db.execute("SELECT role, version, data FROM trust_metadata ORDER BY role, version")
    return [(row["role"], row["version"], bytes(row["data"])) for row in rows]


def insert(db: Connection, role: str, version: int, data: bytes) -> None:
    """Remember metadata that is in force now. Of timestamps, devices ask for the newest only."""
    if role == TIMESTAMP:
        db.execute("DELETE FROM trust_metadata WHERE role = ?", (role,))
    db.execute("INSERT INTO trust_metadata (role, version, data) VALUES (?, ?, ?)", (role, version, data))


def staged(db: Connection) -> dict[str, bytes]:
    """What waits for signatures, by role."""
    return {row["role"]: bytes(row["data"]) for row in db.execute("SELECT role, data FROM trust_staged")}


def replace_staged(db: Connection, staged: Mapping[str, bytes]) -> None:
    """Remember what waits for signatures, and nothing else."""
    db.execute("DELETE FROM trust_staged")
    for role, data in staged.items():
        db.execute("INSERT INTO trust_staged (role, data) VALUES (?, ?)", (role, data))
