"""Reads the audit log."""

from __future__ import annotations

import orjson

from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.audit.types import AuditEntry, AuditPage


class AuditService:
    """Knows who changed what."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, after: int, limit: int) -> AuditPage:
        """Entries behind ``after``, oldest first."""
        entries = await self._database.read(lambda db: read_entries(db, after, limit))
        return AuditPage(tuple(entries), entries[-1].seq if entries else after)


def read_entries(db: Connection, after: int, limit: int) -> list[AuditEntry]:
    """Entries behind ``after``, oldest first."""
    rows = db.execute("SELECT * FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
    return [AuditEntry(**{**row, "detail": orjson.loads(row["detail"])}) for row in rows]
