"""What other features may ask about devices."""

from __future__ import annotations

import orjson

from walle_control.db.sql import Connection
from walle_control.features.devices import store
from walle_shared.errors import NotFound
from walle_shared.ids import DeviceId
from walle_shared.targeting import Profile


def profile_of(db: Connection, device_id: DeviceId) -> Profile:
    """The profile a device enrolled with.

    Raises:
        NotFound: no such device.
    """
    profile = store.find_profile(db, device_id)
    if profile is None:
        raise NotFound(f"no device {device_id!r} is enrolled; see 'walle-control device list'")
    return profile


def public_key_of(db: Connection, device_id: DeviceId) -> str | None:
    """The public key of a device, in hex; None if there is no such device, or it was revoked."""
    key = store.find_key(db, device_id)
    return key.public_key if key is not None and key.state == "active" else None


def count(db: Connection) -> int:
    """How many devices are enrolled and not revoked."""
    total: int = db.execute("SELECT count(*) FROM device WHERE state = 'active'").fetchone()[0]
    return total


def any_enrolled(db: Connection) -> bool:
    """Whether there is any device: cheap, whatever their number."""
    return db.execute("SELECT 1 FROM device LIMIT 1").fetchone() is not None


def sample(db: Connection, limit: int) -> list[tuple[DeviceId, Profile]]:
    """So many devices with their profiles. Ids are digests of keys: the first ones are a fair sample."""
    rows = db.execute("SELECT id, profile FROM device WHERE state = 'active' ORDER BY id LIMIT ?", (limit,))
    return [(DeviceId(row["id"]), orjson.loads(row["profile"])) for row in rows]
