"""What other features may ask about cloud halves."""

from __future__ import annotations

from walle_control.db.sql import Connection
from walle_control.features.cloud import store


def count_later(db: Connection) -> tuple[int, int]:
    """How many questions that can wait do, and how many answers wait for their devices."""
    return store.count_later(db)
