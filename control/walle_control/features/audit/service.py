"""Reads the audit log."""

from __future__ import annotations

import orjson

from walle_control.db.connection import Database
from walle_control.db.sql import Connection, Row
from walle_control.features.audit.types import AuditEntry, AuditPage


class AuditService:
    """Knows who changed what."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, after: int, limit: int) -> AuditPage:
        """Entries behind ``after``, oldest first."""
        entries = await self._database.read(lambda db: read_entries(db, after, limit))
        return AuditPage(tuple(entries), entries[-1].seq if entries else after)

    async def newest(self, before: int, limit: int) -> AuditPage:
        """Entries before ``before`` (0: the last ones), newest first; ``next`` goes on from there."""
        entries = await self._database.read(lambda db: _read_newest(db, before, limit))
        return AuditPage(tuple(entries), entries[-1].seq if len(entries) == limit else 0)

    async def about(self, subject: str, limit: int) -> tuple[AuditEntry, ...]:
        """The last changes of one thing, newest first."""
        return tuple(await self._database.read(lambda db: _read_about(db, subject, limit)))


def _read_about(db: Connection, subject: str, limit: int) -> list[AuditEntry]:
    rows = db.execute("SELECT * FROM audit WHERE subject = ? ORDER BY seq DESC LIMIT ?", (subject, limit))
    return [_entry(row) for row in rows]


def read_entries(db: Connection, after: int, limit: int) -> list[AuditEntry]:
    """Entries behind ``after``, oldest first."""
    rows = db.execute("SELECT * FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
    return [_entry(row) for row in rows]


def _read_newest(db: Connection, before: int, limit: int) -> list[AuditEntry]:
    rows = db.execute(
        "SELECT * FROM audit WHERE ? = 0 OR seq < ? ORDER BY seq DESC LIMIT ?", (before, before, limit)
    )
    return [_entry(row) for row in rows]


def _entry(row: Row) -> AuditEntry:
    return AuditEntry(**{**row, "detail": orjson.loads(row["detail"])})
