"""The database: one writer thread that commits in groups, a few readers; ``sql`` says what it can be asked.

1. Only the writer thread writes. Jobs that wait together share one transaction, each inside its own
   savepoint, so that a burst of small writes costs one flush to disk and a job that fails undoes only
   itself.
2. A job's result is handed out after the commit: what a caller has seen is on disk. If the connection breaks
   during the commit, nobody knows whether it happened: the caller is told that it is lost, and asks again.
3. The event loop never touches the database: ``write`` and ``read`` wait without blocking it.
4. Writes of a task that runs under a ``fence`` are refused, inside their transaction, once the fence says so.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import trio

from walle_control.db.sql import Backend, Connection
from walle_control.db.sqlite import SqliteBackend
from walle_shared.errors import ConnectionLost, StorageError, WalleError

T = TypeVar("T")
Job = Callable[[Connection], T]
#: Raises, inside the transaction of a write, if the writer may not write any more.
Fence = Callable[[Connection], None]

#: What the writes of this Trio task and its children are checked by.
fence: ContextVar[Fence | None] = ContextVar("fence", default=None)

_GROUP_MAX_JOBS = 256
_READERS = 4


@dataclass(frozen=True, slots=True)
class _Queued:
    job: Job[Any]
    done: Future[Any]


class Database:
    """One database: a file of SQLite's, or the backend given. ``close`` when done; also a context manager.

    Raises:
        StorageError: on construction, if it cannot be opened or is no database of ours.
        ConnectionLost: on construction, if its server does not answer.
    """

    def __init__(self, source: Path | Backend) -> None:
        self.backend: Backend = SqliteBackend(source) if isinstance(source, Path) else source
        self._jobs: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._idle_readers: list[Connection] = []
        self._readers = trio.CapacityLimiter(_READERS)
        self._closed = False
        self._connection: Connection | None = self.backend.connect()
        try:
            self.backend.migrate(self._connection)
        except WalleError:
            self._connection.close()
            raise
        self._thread = threading.Thread(target=self._run_writer, name="walle-db-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is queued, stop the writer, disconnect. Blocks: until the queue is empty."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        self._disconnect()
        while self._idle_readers:
            self._idle_readers.pop().close()

    @property
    def queued(self) -> int:
        """How many writes wait, about."""
        return self._jobs.qsize()

    def submit(self, job: Job[T]) -> Future[T]:
        """Queue a write; its future completes after the commit."""
        if self._closed:
            raise StorageError(f"{self.backend.name}: is closed")
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
            ConnectionLost: its server is gone; if it went during the commit, the write may have happened.
        """
        done = self.submit(_fenced(job, fence.get()))
        await self.when(done).wait()
        return done.result()

    def when(self, done: Future[Any]) -> trio.Event:
        """An event of this event loop that comes with the result of what was submitted."""
        committed = trio.Event()
        token = trio.lowlevel.current_trio_token()
        done.add_done_callback(lambda _: _wake(token, committed))
        return committed

    async def read(self, job: Job[T]) -> T:
        """Run a read on a consistent view, in a thread."""
        return await trio.to_thread.run_sync(self.read_sync, job, limiter=self._readers)

    def read_sync(self, job: Job[T]) -> T:
        """Run a read, blocking this thread. One whose connection broke runs again on a new one."""
        try:
            return self._read_once(job)
        except ConnectionLost:
            self._close_idle_readers()  # they lived on the same server
            return self._read_once(job)

    def _read_once(self, job: Job[T]) -> T:
        backend = self.backend
        try:
            connection = self._idle_readers.pop()
        except IndexError:
            connection = backend.connect(read_only=True)
        try:
            with backend.errors():
                backend.begin_read(connection)
                return job(connection)
        finally:
            self._put_back(connection)

    def _put_back(self, connection: Connection) -> None:
        try:
            with self.backend.errors():
                if self.backend.in_transaction(connection):
                    connection.execute("ROLLBACK")
        except WalleError:
            connection.close()
            return
        if self.backend.is_broken(connection) or self._closed:
            connection.close()
        else:
            self._idle_readers.append(connection)

    def _close_idle_readers(self) -> None:
        while True:
            try:
                self._idle_readers.pop().close()
            except IndexError:
                return

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
        try:
            with self.backend.errors():
                connection = self._begin()
                outcomes = [self._run_job(connection, queued) for queued in group]
                connection.execute("COMMIT")
        except WalleError as error:
            self._roll_back()
            for queued in group:
                queued.done.set_exception(error)
            return
        for hand_out in outcomes:
            hand_out()

    def _begin(self) -> Connection:
        """Begin a transaction, on a new connection if the old one broke: nothing has happened in it yet."""
        if self._connection is not None:
            try:
                with self.backend.errors():
                    self.backend.begin(self._connection)
            except ConnectionLost:
                self._disconnect()
            else:
                return self._connection
        connection = self._connection = self.backend.connect()
        self.backend.begin(connection)
        return connection

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            with self.backend.errors():
                if self.backend.in_transaction(connection):
                    connection.execute("ROLLBACK")
        except WalleError:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run_job(self, connection: Connection, queued: _Queued) -> Callable[[], None]:
        connection.execute("SAVEPOINT job")
        try:
            with self.backend.errors():
                result = queued.job(connection)
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to the job's caller
            connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
            failure = error
            return lambda: queued.done.set_exception(failure)
        connection.execute("RELEASE job")
        return lambda: queued.done.set_result(result)


def _fenced[R](job: Job[R], check: Fence | None) -> Job[R]:
    if check is None:
        return job

    def checked(db: Connection) -> R:
        check(db)
        return job(db)

    return checked


def _wake(token: trio.lowlevel.TrioToken, event: trio.Event) -> None:
    try:
        token.run_sync_soon(event.set)
    except trio.RunFinishedError:
        return  # the caller's event loop ended before the commit; nobody waits any more
