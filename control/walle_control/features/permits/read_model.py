"""What other features may ask about permits."""

from __future__ import annotations

from walle_control.db.sql import Connection
from walle_control.features.permits import store
from walle_shared.ids import DeviceId, ReleaseId


def claimed(db: Connection, release_id: ReleaseId) -> int:
    """How many devices have activated a capped release, or are about to."""
    return store.claimed(db, release_id)


def has_permit(db: Connection, release_id: ReleaseId, device_id: DeviceId, now_ms: int) -> bool:
    """Whether a device has a place in a capped release."""
    permit = store.find(db, release_id, device_id)
    return permit is not None and permit.holds(now_ms)
