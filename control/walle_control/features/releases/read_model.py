"""What other features may ask about releases."""

from __future__ import annotations

import sqlite3

from walle_control.features.releases import store
from walle_control.features.rollouts.guard import GuardSettings
from walle_shared.ids import ReleaseId, ScenarioName


def live_guards(db: sqlite3.Connection) -> dict[ReleaseId, GuardSettings]:
    """The guard of every live release."""
    return {row.id: row.guard for row in store.live_releases(db)}


def scenario_of(db: sqlite3.Connection, release_id: ReleaseId) -> ScenarioName | None:
    """The scenario of a release; ``None`` for an id that was never given out."""
    row = store.find_release(db, release_id)
    return row.scenario if row else None
