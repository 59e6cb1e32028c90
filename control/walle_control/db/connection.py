"""The SQLite database: one writer thread that commits in groups, a few readers.

1. Only the writer thread writes. Jobs that wait together share one transaction, each inside its own
   savepoint, so that a burst of small writes costs one flush to disk and a job that fails undoes only
   itself.
2. A job's result is handed out after the commit: what a caller has seen is on disk (WAL,
   ``synchronous=FULL``).
3. The event loop never touches SQLite: ``write`` and ``read`` wait without blocking it.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import trio

from walle_control.db.migrations import migrate
from walle_shared.errors import StorageError

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

_GROUP_MAX_JOBS = 256
_READERS = 4
_BUSY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Queued:
    job: Job[Any]
    done: Future[Any]


class Database:
    """One database file. ``close`` when done; also a context manager.

    Raises:
        StorageError: on construction, if the file cannot be opened or is no database of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._idle_readers: list[sqlite3.Connection] = []
        self._readers = trio.CapacityLimiter(_READERS)
        self._closed = False
        self._connection = _connect(path)
        try:
            with _storage_errors(path):
                migrate(self._connection)
        except StorageError:
            self._connection.close()
            raise
        self._thread = threading.Thread(target=self._run_writer, name="walle-db-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is queued, stop the writer, close the file. Blocks: until the queue is empty."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        self._connection.close()
        while self._idle_readers:
            self._idle_readers.pop().close()

    @property
    def queued(self) -> int:
        """How many writes wait, about."""
        return self._jobs.qsize()

    def submit(self, job: Job[T]) -> Future[T]:
        """Queue a write; its future completes after the commit."""
        if self._closed:
            raise StorageError(f"{self.path}: is closed")
        done: Future[T] = Future()
        self._jobs.put(_Queued(job, done))
        return done

    def write_sync(self, job: Job[T]) -> T:
        """Run a write and wait for its commit, blocking this thread (commands and tests)."""
        return self.submit(job).result()

    async def write(self, job: Job[T]) -> T:
        """Run a write. A caller that is cancelled leaves early; the write happens all the same.

        Raises:
            StorageError: the disk is full or the file damaged.
        """
        done = self.submit(job)
        committed = trio.Event()
        token = trio.lowlevel.current_trio_token()
        done.add_done_callback(lambda _: _wake(token, committed))
        await committed.wait()
        return done.result()

    async def read(self, job: Job[T]) -> T:
        """Run a read on a consistent view, in a thread."""
        return await trio.to_thread.run_sync(self.read_sync, job, limiter=self._readers)

    def read_sync(self, job: Job[T]) -> T:
        """Run a read, blocking this thread."""
        with self._reader() as connection, _storage_errors(self.path):
            connection.execute("BEGIN")
            try:
                return job(connection)
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle_readers.pop()
        except IndexError:
            connection = _connect(self.path, read_only=True)
        try:
            yield connection
        finally:
            self._idle_readers.append(connection)

    def _run_writer(self) -> None:
        while (first := self._jobs.get()) is not None:
            group = [first]
            last = False
            while len(group) < _GROUP_MAX_JOBS and not self._jobs.empty():
                queued = self._jobs.get()
                if queued is None:
                    last = True
                    break
                group.append(queued)
            self._commit_group(group)
            if last:
                return

    def _commit_group(self, group: list[_Queued]) -> None:
        outcomes: list[Callable[[], None]] = []
        try:
            with _storage_errors(self.path):
                self._connection.execute("BEGIN IMMEDIATE")
                outcomes = [self._run_job(queued) for queued in group]
                self._connection.execute("COMMIT")
        except StorageError as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for queued in group:
                queued.done.set_exception(error)
            return
        for hand_out in outcomes:
            hand_out()

    def _run_job(self, queued: _Queued) -> Callable[[], None]:
        self._connection.execute("SAVEPOINT job")
        try:
            with _storage_errors(self.path):
                result = queued.job(self._connection)
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to the job's caller
            self._connection.execute("ROLLBACK TO job")
            self._connection.execute("RELEASE job")
            failure = error
            return lambda: queued.done.set_exception(failure)
        self._connection.execute("RELEASE job")
        return lambda: queued.done.set_result(result)


def _wake(token: trio.lowlevel.TrioToken, event: trio.Event) -> None:
    try:
        token.run_sync_soon(event.set)
    except trio.RunFinishedError:
        return  # the caller's event loop ended before the commit; nobody waits any more


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a rule of the schema was broken: the job's own business
    except sqlite3.Error as error:
        raise StorageError(f"{path}: {error}") from error


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    try:
        # Used by one thread at a time, but not always by the same one.
        connection = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise StorageError(f"{path}: cannot be opened: {error}") from None
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA query_only = ON" if read_only else "PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error as error:
        connection.close()
        raise StorageError(f"{path}: cannot be opened: {error}") from None
    return connection
