"""Rows of the permits feature: one per device that has, or had, a place in a capped release."""

from __future__ import annotations

from dataclasses import dataclass

from walle_control.db.sql import Connection
from walle_shared.ids import DeviceId, ReleaseId


@dataclass(frozen=True, slots=True)
class Permit:
    """A device's place: claimed for good, or held until ``expires_ms``."""

    claimed: bool
    expires_ms: int

    def holds(self, now_ms: int) -> bool:
        """Whether it is worth anything now."""
        return self.claimed or now_ms < self.expires_ms


def lock(db: Connection, release_id: ReleaseId) -> None:
    """Let nobody else count a release's permits until this transaction ends, on any database."""
    db.execute("UPDATE release SET permits_asked = permits_asked + 1 WHERE id = ?", (release_id,))


def find(db: Connection, release_id: ReleaseId, device_id: DeviceId) -> Permit | None:
    """A device's permit."""
    row = db.execute(
        "SELECT claimed, expires_ms FROM permit WHERE release_id = ? AND device_id = ?",
        (release_id, device_id),
    ).fetchone()
    return Permit(bool(row["claimed"]), row["expires_ms"]) if row else None


def put(db: Connection, release_id: ReleaseId, device_id: DeviceId, permit: Permit) -> None:
    """Remember a device's permit."""
    db.execute(
        "INSERT INTO permit (release_id, device_id, claimed, expires_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (release_id, device_id)"
        " DO UPDATE SET claimed = excluded.claimed, expires_ms = excluded.expires_ms",
        (release_id, device_id, int(permit.claimed), permit.expires_ms),
    )


def taken(db: Connection, release_id: ReleaseId, now_ms: int) -> int:
    """How many places of a release are held or claimed."""
    row = db.execute(
        "SELECT count(*) AS n FROM permit WHERE release_id = ? AND (claimed = 1 OR expires_ms > ?)",
        (release_id, now_ms),
    ).fetchone()
    return int(row["n"])


def claimed(db: Connection, release_id: ReleaseId) -> int:
    """How many places of a release are claimed."""
    row = db.execute(
        "SELECT count(*) AS n FROM permit WHERE release_id = ? AND claimed = 1", (release_id,)
    ).fetchone()
    return int(row["n"])
