"""The one SQLite file under the streams: opening, transactions, and what its errors mean.

Every ``sqlite3`` error leaves here as a ``StorageError`` whose ``code`` says what to do: ``storage_full`` and
``storage_busy`` may pass by themselves, ``storage_corrupt`` needs a new file, ``storage`` is everything else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from walle_shared.errors import StorageError

STORAGE_FULL = "storage_full"
STORAGE_BUSY = "storage_busy"
STORAGE_CORRUPT = "storage_corrupt"

_CODES = {
    sqlite3.SQLITE_FULL: STORAGE_FULL,
    sqlite3.SQLITE_BUSY: STORAGE_BUSY,
    sqlite3.SQLITE_LOCKED: STORAGE_BUSY,
    sqlite3.SQLITE_CORRUPT: STORAGE_CORRUPT,
    sqlite3.SQLITE_NOTADB: STORAGE_CORRUPT,
}
_CURES = {
    STORAGE_FULL: "free some disk space; writing is tried again",
    STORAGE_BUSY: "another process holds the file; close it",
    STORAGE_CORRUPT: "the file will be set aside and a new one begun",
}
#: At 1 000 pages SQLite copies its log by itself, in the middle of a commit; that of an event has about five.
_CHECKPOINT_COMMITS = 64
_SIDE_FILES = ("-wal", "-shm")


def storage_error(path: Path, error: sqlite3.Error) -> StorageError:
    """What ``error`` means to a caller."""
    primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    code = _CODES.get(primary, "storage")
    cure = _CURES.get(code, "see the cause")
    return StorageError(f"{path.name}: {error}: {cure}", code=code)


class Database:
    """A connection in WAL mode. Blocks; one thread at a time.

    ``synchronous`` is NORMAL: a commit survives the death of the process at any time, and a power cut may
    take the last commits but never harms the file. ``make_durable`` is for the one place that must not lose
    them.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 2.0) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._waits = True
        self._uncopied = 0
        with self._errors():
            self._connection = sqlite3.connect(
                path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors():
                self._prepare()
        except StorageError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA journal_size_limit = 4194304")
        (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StorageError(
                f"{self.path.name}: {verdict}: {_CURES[STORAGE_CORRUPT]}", code=STORAGE_CORRUPT
            )

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """One write transaction: all of the block or nothing of it.

        Raises:
            StorageError: it was rolled back.
        """
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
                self._uncopied += 1
            except BaseException:
                with suppress(sqlite3.Error):  # a failed COMMIT may have rolled back already
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """Read outside a write transaction.

        Raises:
            StorageError: the file cannot be read.
        """
        with self._errors():
            yield self._connection

    def make_durable(self, statement: str, values: tuple[object, ...]) -> None:
        """Write ``statement`` and put it, with all commits before it, beyond the reach of a power cut."""
        with self._errors():
            self._connection.execute("PRAGMA synchronous = FULL")
            try:
                self._connection.execute(statement, values)
            finally:
                self._connection.execute("PRAGMA synchronous = NORMAL")

    def wait_for_others(self, wait: bool) -> None:
        """Whether to wait, for a while, for another process that holds the file, or to fail at once."""
        if wait != self._waits:
            with self._errors():
                self._connection.execute(
                    f"PRAGMA busy_timeout = {round(self._busy_timeout_s * 1e3) if wait else 0}"
                )
            self._waits = wait

    @property
    def checkpoint_due(self) -> bool:
        """Whether some later commit would copy what the log before it holds, and wait for the disk."""
        return self._uncopied >= _CHECKPOINT_COMMITS

    def checkpoint(self) -> None:
        """Copy what the write-ahead log holds into the file. Waits for the disk."""
        self._uncopied = 0
        with self._errors():
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Close the file; further use is an error."""
        self._connection.close()

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise storage_error(self.path, error) from error


def set_aside(path: Path) -> Path:
    """Rename a damaged file, with its side files, to ``<name>.corrupt-<n>`` and return the new name.

    Raises:
        StorageError: it cannot be renamed.
    """
    number = 1
    while (target := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    try:
        path.rename(target)
        for suffix in _SIDE_FILES:
            side = path.with_name(path.name + suffix)
            if side.exists():
                side.rename(target.with_name(target.name + suffix))
    except OSError as error:
        raise StorageError(
            f"{path}: damaged, and cannot be set aside: {error}: move it away by hand"
        ) from error
    return target
