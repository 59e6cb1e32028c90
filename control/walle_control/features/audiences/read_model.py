"""What other features may ask about audiences."""

from __future__ import annotations

import sqlite3

from walle_control.features.audiences import store
from walle_shared.ids import DeviceId, ScenarioName
from walle_shared.targeting import Holdout, holdouts_of


def holdouts(db: sqlite3.Connection) -> list[Holdout]:
    """All holdouts, by name."""
    return store.holdouts(db)


def is_held_out(db: sqlite3.Connection, device_id: DeviceId, scenario: ScenarioName) -> bool:
    """Whether a holdout keeps a scenario's releases from a device."""
    return bool(holdouts_of(device_id, scenario, store.holdouts(db)))
