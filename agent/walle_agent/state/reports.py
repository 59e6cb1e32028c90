"""Reports on their way to the control plane, in a small database that survives SIGKILL.

A report leaves the queue only after the control plane has acknowledged it, so it may be sent twice; its id is
unique for ever, so it counts once.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from walle_agent.state.files import set_aside
from walle_shared.errors import RemoteProtocolError, StorageError
from walle_shared.ids import ReleaseId
from walle_shared.protocol.codec import decode, encode
from walle_shared.protocol.messages import Report

_SCHEMA = """
CREATE TABLE IF NOT EXISTS reports (number INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS attempts (
    release_id TEXT PRIMARY KEY, starts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class ReportStatistics:
    """``queued`` wait, ``delivered`` were acknowledged, ``evicted`` were given up."""

    queued: int
    delivered: int
    evicted: int


class ReportQueue:
    """A durable first-in first-out of reports and the attempt counters. Blocking; safe to use from threads.

    Args:
        path: the database file.
        capacity: reports kept; beyond, the oldest are evicted and counted.
        on_corrupt: told when the file had to be set aside.

    Raises:
        StorageError: the file cannot be opened even when made anew.
    """

    def __init__(
        self, path: Path, *, capacity: int = 10_000, on_corrupt: Callable[[StorageError], None]
    ) -> None:
        self._path = path
        self._capacity = capacity
        self._lock = threading.Lock()
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise StorageError(f"{path}: cannot be opened: {error}") from error
            aside = set_aside(path)
            on_corrupt(StorageError(f"{path}: corrupt: {error}; kept as {aside.name}"))
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._db = _open(path)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def begin_attempt(self, release_id: ReleaseId) -> int:
        """Count a start of this release on this device; the first is 1.

        Raises:
            StorageError: the disk refused.
        """
        with self._transaction() as db:
            row = db.execute(
                "INSERT INTO attempts VALUES (?, 1)"
                " ON CONFLICT DO UPDATE SET starts = starts + 1 RETURNING starts",
                (release_id,),
            ).fetchone()
            return int(row[0])

    def begun(self, suffix: str) -> frozenset[str]:
        """What has been begun under names with this ending, without it.

        Raises:
            StorageError: the disk refused.
        """
        with self._transaction() as db:
            names = [row[0] for row in db.execute("SELECT release_id FROM attempts")]
        return frozenset(name.removesuffix(suffix) for name in names if name.endswith(suffix))

    def put(self, report: Report) -> None:
        """Queue a report; durable on return.

        Raises:
            StorageError: the disk refused.
        """
        with self._transaction() as db:
            number = db.execute("INSERT INTO reports (body) VALUES (?)", (encode(report),)).lastrowid or 0
            if number > self._capacity:
                evicted = db.execute(
                    "DELETE FROM reports WHERE number <= ?", (number - self._capacity,)
                ).rowcount
                _count(db, "evicted", evicted)

    def next_batch(self, limit: int) -> tuple[list[int], tuple[Report, ...]]:
        """The oldest reports and the numbers to acknowledge them by. What cannot be read is dropped.

        Raises:
            StorageError: the disk refused.
        """
        with self._transaction() as db:
            rows = db.execute("SELECT number, body FROM reports ORDER BY number LIMIT ?", (limit,)).fetchall()
            numbers: list[int] = []
            reports: list[Report] = []
            for number, body in rows:
                try:
                    reports.append(decode(Report, body))
                    numbers.append(number)
                except RemoteProtocolError:  # written by another version of the agent
                    db.execute("DELETE FROM reports WHERE number = ?", (number,))
                    _count(db, "evicted", 1)
            return numbers, tuple(reports)

    def acknowledge(self, numbers: list[int]) -> None:
        """Delete delivered reports.

        Raises:
            StorageError: the disk refused; they will be sent again.
        """
        self._delete(numbers, "delivered")

    def drop(self, numbers: list[int]) -> None:
        """Delete reports that the control plane will never take.

        Raises:
            StorageError: the disk refused.
        """
        self._delete(numbers, "evicted")

    def statistics(self) -> ReportStatistics:
        """Counters since the file was made."""
        with self._transaction() as db:
            return _statistics(db)

    def _delete(self, numbers: list[int], counted_as: str) -> None:
        with self._transaction() as db:
            db.executemany("DELETE FROM reports WHERE number = ?", [(number,) for number in numbers])
            _count(db, counted_as, len(numbers))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                with self._db:
                    yield self._db
            except sqlite3.Error as error:
                raise StorageError(f"{self._path}: {error}") from error


def new_report_id() -> str:
    """An id no other report has or will have."""
    return secrets.token_hex(16)


def read_statistics(path: Path) -> ReportStatistics:
    """Look at the counters of an agent, running or not.

    Raises:
        StorageError: unreadable.
    """
    if not path.exists():
        return ReportStatistics(0, 0, 0)
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0)
        try:
            return _statistics(db)
        finally:
            db.close()
    except sqlite3.Error as error:
        raise StorageError(f"{path}: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(
            "PRAGMA synchronous = NORMAL"
        )  # survives the death of the process; power loss may cost the tail
        db.executescript(_SCHEMA)
        _check_sound(db)
    except BaseException:
        db.close()
        raise
    return db


def _check_sound(db: sqlite3.Connection) -> None:
    if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("quick_check found damage")


def _count(db: sqlite3.Connection, name: str, count: int) -> None:
    db.execute(
        "INSERT INTO totals VALUES (?1, ?2) ON CONFLICT DO UPDATE SET count = count + ?2", (name, count)
    )


def _statistics(db: sqlite3.Connection) -> ReportStatistics:
    queued = int(db.execute("SELECT count(*) FROM reports").fetchone()[0])
    totals: dict[str, int] = dict(db.execute("SELECT name, count FROM totals"))
    return ReportStatistics(queued, totals.get("delivered", 0), totals.get("evicted", 0))
