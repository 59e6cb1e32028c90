"""What waits for the tunnel: records in order, and tombstones where records were evicted.

Each class has its own numbers, from 1, without holes. An entry covers ``seq`` to ``last_seq``: one number
for a record, a range for a tombstone. When the outbox is over its rows or bytes, the oldest records of the
lowest class turn into tombstones; neighbouring tombstones become one. All functions run inside a
transaction of the caller; the counters kept in memory are settled by ``committed`` or ``rolled_back``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace

import orjson

from walle_shared.errors import LimitExceeded, TaskError
from walle_shared.limits import FRAME_MAX_BYTES
from walle_shared.protocol.codec import encode
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.units import KIB

#: A record must fit a frame even if it does not compress at all.
RECORD_MAX_BYTES = FRAME_MAX_BYTES - 4 * KIB

#: By class: the lowest number that may still be sent, and the highest ever given (one less if none waits).
Numbers = Mapping[TunnelClass, tuple[int, int]]

SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    class INTEGER NOT NULL, seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, payload BLOB,
    PRIMARY KEY (class, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox_next (class INTEGER PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One entry: a record's JSON, or None for a tombstone over ``seq`` to ``last_seq``."""

    klass: TunnelClass
    seq: int
    last_seq: int
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class OutboxStatistics:
    """Records waiting and their bytes now; the rest are counters since the start."""

    records: int = 0
    size_bytes: int = 0
    added: int = 0
    acked: int = 0
    evicted: int = 0
    evicted_bytes: int = 0


class Outbox:
    """The queue of one store incarnation."""

    def __init__(self, connection: sqlite3.Connection, *, rows_max: int, bytes_max: int) -> None:
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._next = dict.fromkeys(TunnelClass, 1)
        for klass, seq in connection.execute("SELECT class, seq FROM outbox_next"):
            self._next[TunnelClass(klass)] = seq
        records, size_bytes = connection.execute(
            "SELECT count(*), coalesce(sum(length(payload)), 0) FROM outbox WHERE payload IS NOT NULL"
        ).fetchone()
        self._counts = OutboxStatistics(records, size_bytes)
        self._saved = (dict(self._next), self._counts)

    def add(self, connection: sqlite3.Connection, klass: TunnelClass, payload: bytes) -> int:
        """Append one record, as ``encode_record`` made it, and return its number."""
        seq = self._next[klass]
        self._next[klass] = seq + 1
        connection.execute("INSERT INTO outbox VALUES (?, ?, ?, ?)", (klass, seq, seq, payload))
        connection.execute("INSERT OR REPLACE INTO outbox_next VALUES (?, ?)", (klass, seq + 1))
        c = self._counts
        self._counts = replace(
            c, added=c.added + 1, records=c.records + 1, size_bytes=c.size_bytes + len(payload)
        )
        return seq

    def evict(self, connection: sqlite3.Connection) -> None:
        """Bring the outbox back within its limits."""
        for klass in sorted(TunnelClass, reverse=True):
            while self._over():
                rows = connection.execute(
                    "SELECT seq, length(payload) FROM outbox WHERE class = ? AND payload IS NOT NULL"
                    " ORDER BY seq LIMIT 64",
                    (klass,),
                ).fetchall()
                if not rows:
                    break
                for seq, size_bytes in rows:
                    if not self._over():
                        break
                    self._bury(connection, klass, seq, size_bytes)

    def next_batch(
        self, connection: sqlite3.Connection, after: Mapping[TunnelClass, int], limit: int
    ) -> list[Outgoing]:
        """Up to ``limit`` entries beyond the numbers ``after``, the first class first, oldest first."""
        batch: list[Outgoing] = []
        for klass in TunnelClass:
            rows = connection.execute(
                "SELECT seq, last_seq, payload FROM outbox WHERE class = ? AND last_seq > ?"
                " ORDER BY seq LIMIT ?",
                (klass, after.get(klass, 0), max(0, limit - len(batch))),
            )
            batch.extend(Outgoing(klass, seq, last_seq, payload) for seq, last_seq, payload in rows)
        return batch

    def ack(self, connection: sqlite3.Connection, klass: TunnelClass, seq: int) -> None:
        """Forget everything of the class up to ``seq``."""
        records, size_bytes = connection.execute(
            "SELECT count(*), coalesce(sum(length(payload)), 0) FROM outbox"
            " WHERE class = ? AND last_seq <= ? AND payload IS NOT NULL",
            (klass, seq),
        ).fetchone()
        connection.execute("DELETE FROM outbox WHERE class = ? AND last_seq <= ?", (klass, seq))
        connection.execute(
            "UPDATE outbox SET seq = ? WHERE class = ? AND seq <= ? AND last_seq > ?",
            (seq + 1, klass, seq, seq),
        )
        c = self._counts
        self._counts = replace(
            c, records=c.records - records, size_bytes=c.size_bytes - size_bytes, acked=c.acked + records
        )

    def numbers(self, connection: sqlite3.Connection) -> Numbers:
        """By class, the lowest number that may still be sent and the highest ever given."""
        lowest = dict(self._next)
        for klass, seq in connection.execute("SELECT class, min(seq) FROM outbox GROUP BY class"):
            lowest[TunnelClass(klass)] = seq
        return {klass: (seq, self._next[klass] - 1) for klass, seq in lowest.items()}

    def committed(self) -> None:
        """The transaction was kept."""
        self._saved = (dict(self._next), self._counts)

    def rolled_back(self) -> None:
        """The transaction was undone: so are the numbers it took."""
        saved, self._counts = self._saved
        self._next = dict(saved)

    def statistics(self) -> OutboxStatistics:
        """What waits, and what came, went and was evicted."""
        return self._counts

    def _over(self) -> bool:
        return self._counts.records > self._rows_max or self._counts.size_bytes > self._bytes_max

    def _bury(self, connection: sqlite3.Connection, klass: TunnelClass, seq: int, size_bytes: int) -> None:
        """Turn one record into a tombstone, joined to the one before it if there is one."""
        joined = connection.execute(
            "UPDATE outbox SET last_seq = ? WHERE class = ? AND last_seq = ? AND payload IS NULL",
            (seq, klass, seq - 1),
        ).rowcount
        if joined:
            connection.execute("DELETE FROM outbox WHERE class = ? AND seq = ?", (klass, seq))
        else:
            connection.execute("UPDATE outbox SET payload = NULL WHERE class = ? AND seq = ?", (klass, seq))
        c = self._counts
        self._counts = replace(
            c,
            records=c.records - 1,
            size_bytes=c.size_bytes - size_bytes,
            evicted=c.evicted + 1,
            evicted_bytes=c.evicted_bytes + size_bytes,
        )


def encode_record(record: Record) -> bytes:
    """A record as the outbox keeps it.

    Raises:
        LimitExceeded: larger than ``RECORD_MAX_BYTES``.
        TaskError: its fields are not plain JSON values.
    """
    try:
        payload = encode(record)
    except orjson.JSONEncodeError as error:
        raise TaskError(f"record {record.name[:80]} is not plain JSON: {error}") from None
    if len(payload) > RECORD_MAX_BYTES:
        raise LimitExceeded(
            f"record {record.name[:80]} of {len(payload)} bytes is over {RECORD_MAX_BYTES}: split it"
        )
    return payload
