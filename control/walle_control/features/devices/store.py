"""Rows of the devices feature."""

from __future__ import annotations

from typing import cast

import orjson

from walle_control.db.sql import Connection, Row
from walle_control.features.devices.types import Device, DeviceKey, DeviceState, EnrolToken
from walle_control.features.telemetry import read_model as telemetry
from walle_shared.ids import DeviceId
from walle_shared.targeting import Profile


def insert_enrol_token(
    db: Connection, token_hash: str, note: str, uses: int, now_ms: int, expires_ms: int
) -> int:
    """Remember an enrolment token by its hash; its number."""
    added = db.execute(
        "INSERT INTO enrol_token (hash, note, uses_left, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?)"
        " RETURNING id",
        (token_hash, note, uses, now_ms, expires_ms),
    )
    number: int = added.fetchone()["id"]
    return number


def find_enrol_token(db: Connection, token_hash: str) -> EnrolToken | None:
    """The enrolment token with this hash."""
    row = db.execute(
        "SELECT id, uses_left, expires_ms FROM enrol_token WHERE hash = ?", (token_hash,)
    ).fetchone()
    return EnrolToken(**row) if row else None


def use_enrol_token(db: Connection, token_id: int) -> None:
    """Take one use off a token."""
    db.execute("UPDATE enrol_token SET uses_left = uses_left - 1 WHERE id = ?", (token_id,))


def insert_device(
    db: Connection, device_id: DeviceId, public_key: str, profile: Profile, token_id: int, now_ms: int
) -> None:
    """Add a device."""
    db.execute(
        "INSERT INTO device (id, public_key, profile, state, enrol_token, created_ms, last_seen_ms,"
        " renewed_at_ms) VALUES (?, ?, ?, 'active', ?, ?, ?, 0)",
        (device_id, public_key, orjson.dumps(profile).decode(), token_id, now_ms, now_ms),
    )


def update_profile(db: Connection, device_id: DeviceId, profile: Profile) -> None:
    """Replace a device's profile."""
    db.execute("UPDATE device SET profile = ? WHERE id = ?", (orjson.dumps(profile).decode(), device_id))


def find_key(db: Connection, device_id: DeviceId) -> DeviceKey | None:
    """What is needed to let a device renew."""
    row = db.execute(
        "SELECT id, public_key, state, renewed_at_ms, enrol_token FROM device WHERE id = ?", (device_id,)
    ).fetchone()
    return DeviceKey(**row) if row else None


def set_renewed(db: Connection, device_id: DeviceId, at_ms: int, now_ms: int) -> None:
    """Remember the newest nonce a device renewed with."""
    db.execute(
        "UPDATE device SET renewed_at_ms = ?, last_seen_ms = ? WHERE id = ?", (at_ms, now_ms, device_id)
    )


def set_state(db: Connection, device_id: DeviceId, state: DeviceState) -> bool:
    """Change a device's state; whether there is such a device."""
    return db.execute("UPDATE device SET state = ? WHERE id = ?", (state, device_id)).rowcount == 1


def touch(db: Connection, device_id: DeviceId, now_ms: int) -> None:
    """Remember that a device was heard of."""
    db.execute(
        "UPDATE device SET last_seen_ms = ? WHERE id = ? AND last_seen_ms < ?", (now_ms, device_id, now_ms)
    )


def revoked_ids(db: Connection) -> set[DeviceId]:
    """All revoked devices."""
    return {DeviceId(row["id"]) for row in db.execute("SELECT id FROM device WHERE state = 'revoked'")}


def find_profile(db: Connection, device_id: DeviceId) -> Profile | None:
    """A device's profile."""
    row = db.execute("SELECT profile FROM device WHERE id = ?", (device_id,)).fetchone()
    return cast(Profile, orjson.loads(row["profile"])) if row else None


def find_device(db: Connection, device_id: DeviceId, now_ms: int) -> Device | None:
    """A device with its tasks."""
    row = db.execute("SELECT * FROM device WHERE id = ?", (device_id,)).fetchone()
    return _device(db, row, now_ms) if row else None


def list_devices(db: Connection, after: str, limit: int, now_ms: int) -> list[Device]:
    """Devices by id, with their tasks."""
    rows = db.execute("SELECT * FROM device WHERE id > ? ORDER BY id LIMIT ?", (after, limit)).fetchall()
    return [_device(db, row, now_ms) for row in rows]


def _device(db: Connection, row: Row, now_ms: int) -> Device:
    return Device(
        DeviceId(row["id"]),
        cast(DeviceState, row["state"]),
        orjson.loads(row["profile"]),
        row["created_ms"],
        row["last_seen_ms"],
        telemetry.installed_tasks(db, DeviceId(row["id"]), now_ms),
    )
