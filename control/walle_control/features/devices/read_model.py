"""What other features may ask about devices."""

from __future__ import annotations

import sqlite3

from walle_control.features.devices import store
from walle_shared.errors import NotFound
from walle_shared.ids import DeviceId
from walle_shared.targeting import Profile


def profile_of(db: sqlite3.Connection, device_id: DeviceId) -> Profile:
    """The profile a device enrolled with.

    Raises:
        NotFound: no such device.
    """
    device = store.find_device(db, device_id)
    if device is None:
        raise NotFound(f"no device {device_id!r} is enrolled")
    return device.profile


def count(db: sqlite3.Connection) -> int:
    """How many devices are enrolled and not revoked."""
    total: int = db.execute("SELECT count(*) FROM device WHERE state = 'active'").fetchone()[0]
    return total


def any_enrolled(db: sqlite3.Connection) -> bool:
    """Whether there is any device: cheap, whatever their number."""
    return db.execute("SELECT 1 FROM device LIMIT 1").fetchone() is not None
