"""The streams' durable state: the event log, collective storage, the outbox, and what has been dealt with.

Invariants:

1. An event is in the log before anything acts on it, and its number is never used twice.
2. One transaction keeps a whole run: its rows, its values, its records for the tunnel, and the mark that it
   ran. Several runs may share a transaction; no run is ever split over two.
3. A run is marked by (task, number of the event that fired it). A marked run is never kept again, so a run
   repeated after a crash has its effects once.
4. The cursor never passes a firing that has not been marked: behind it nothing is run again, before it the
   log is read again at the next start (``pending``). The log is cut only before the replay point, which
   open visits, outstanding firings and what extended triggers wait for hold back. What those know is kept
   as a snapshot in the transaction that cuts the log behind it.
5. A record's number leaves the device only after it is safe from a power cut, so no number is ever given to
   two records of one incarnation.

Everything here blocks. A lock makes it safe to call from any thread; ``service`` calls it from one.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from walle_agent.streams import outbox as outbox_module
from walle_agent.streams import tables as tables_module
from walle_agent.streams.database import STORAGE_CORRUPT, Database, set_aside
from walle_agent.streams.event import Event, RawEvent
from walle_agent.streams.matcher import Watch
from walle_agent.streams.outbox import Numbers, Outbox, OutboxStatistics, Outgoing, encode_record
from walle_agent.streams.tables import VALUES, Columns, Row, Tables, encode_value, get_value
from walle_shared.clock import Clock
from walle_shared.errors import LimitExceeded, StorageError, WalleError
from walle_shared.limits import LATE_MAX_EVENTS, SLICE_MAX_EVENTS, STORE_TASK_MAX_BYTES, TABLE_MAX_ROWS
from walle_shared.manifest import Retention
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.targeting.policy import TaskKey
from walle_shared.units import MIB

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, event_id TEXT NOT NULL, page_id TEXT NOT NULL,
    visit_id TEXT NOT NULL, wall_ms INTEGER NOT NULL, mono_ns INTEGER NOT NULL, args BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS late (
    id INTEGER PRIMARY KEY AUTOINCREMENT, came_ms INTEGER NOT NULL, kind TEXT NOT NULL,
    event_id TEXT NOT NULL, page_id TEXT NOT NULL, visit_id TEXT NOT NULL, wall_ms INTEGER NOT NULL,
    mono_ns INTEGER NOT NULL, args BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS runs (
    scenario TEXT NOT NULL, task TEXT NOT NULL, last_seq INTEGER NOT NULL, version TEXT NOT NULL,
    release_id TEXT NOT NULL, ok INTEGER NOT NULL, PRIMARY KEY (scenario, task, last_seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS local_tables (
    scenario TEXT NOT NULL, task TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (scenario, task, name)
) STRICT, WITHOUT ROWID;
"""
#: Cursor, replay point, snapshot and watches, as the file has them.
_Progress = tuple[int, int, bytes | None, bytes | None]

_PUT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_PUT_LATE = (
    "INSERT INTO late (came_ms, kind, event_id, page_id, visit_id, wall_ms, mono_ns, args)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

#: The log is cut when it has grown by this many events: a DELETE per append would cost more than it saves.
_CUT_EVERY = 256


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much the device keeps: records and bytes waiting for the tunnel, rows per table, bytes per task."""

    outbox_rows: int = 10_000
    outbox_bytes: int = 16 * MIB
    table_rows: int = TABLE_MAX_ROWS
    task_bytes: int = STORE_TASK_MAX_BYTES
    busy_timeout_s: float = 2.0


@dataclass(frozen=True, slots=True)
class RunCommit:
    """What a finished run leaves behind. A run that failed leaves only the mark that it ran.

    Attributes:
        last_seq: from its firing.
        rows: (declared table, row) pairs.
        uploads: records for the tunnel.
        cursor: every firing up to this number has been dealt with; None where the caller does not track it.
        values: key-value entries to keep; None forgets one.
        classes: priority class by name of the record; those that are not named are REALTIME.
        local: the run saw what must not leave the device, so its rows and values may hold it.
    """

    task: TaskKey
    version: str
    release_id: str
    last_seq: int
    rows: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    uploads: tuple[Record, ...] = ()
    cursor: int | None = None
    ok: bool = True
    values: Mapping[str, Any] = field(default_factory=dict)
    classes: Mapping[str, TunnelClass] = field(default_factory=dict)
    local: bool = False


@dataclass(frozen=True, slots=True)
class Replay:
    """What a restart needs: the events to feed again, and which firings they cause are old news.

    ``snapshot`` is the last that ``settle`` was given, ``since`` what ``keep_watches`` was; None if none ever
    was.
    """

    events: tuple[Event, ...]
    cursor: int
    marked: frozenset[tuple[TaskKey, int]]
    snapshot: bytes | None = None
    since: Mapping[Watch, int] | None = None

    def is_done(self, task: TaskKey, last_seq: int) -> bool:
        """Whether this firing must not be run again."""
        return last_seq <= self.cursor or (task, last_seq) in self.marked


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Counters since the start, and the outbox's."""

    events: int = 0
    runs: int = 0
    repeated: int = 0
    rows: int = 0
    rows_evicted: int = 0
    transactions: int = 0
    set_aside: int = 0
    outbox: OutboxStatistics = field(default_factory=OutboxStatistics)


@dataclass(frozen=True, slots=True)
class _Prepared:
    commit: RunCommit
    rows: tuple[Row, ...]
    values: tuple[tuple[str, bytes | None], ...]
    payloads: tuple[bytes, ...]


#: Names of answers that are remembered, to know the one that comes again; the cloud sends one at a time.
_PUSHES_KEPT = 64


class StreamStore:
    """One SQLite file of one device; made by ``open``.

    Attributes:
        damaged: where a file that could not be read was set aside at opening, for the caller to log; else
            None.
    """

    def __init__(self, path: Path, clock: Clock, limits: StoreLimits) -> None:
        self._path = path
        self._clock = clock
        self._limits = limits
        self._lock = threading.RLock()
        self._marked: list[tuple[str, str, str]] = []
        self._declared: dict[tuple[TaskKey, str], tuple[Columns, Retention | None]] = {}
        self._stats = StoreStatistics()
        self._next_seq = 1
        self._cursor = 0
        self._replay_seq = 1
        self._durable_added = -1
        self._snapshot: bytes | None = None
        self._watches: bytes | None = None
        self._pushed: tuple[str, ...] = ()
        self.damaged: Path | None = None
        self._load()

    @classmethod
    def open(cls, path: Path, clock: Clock, limits: StoreLimits | None = None) -> StreamStore:
        """Open or make the store; a damaged file is set aside and a new one begun, with a new incarnation.

        Raises:
            StorageError: the folder is not writable, the disk is full, or another process holds the file.
        """
        limits = limits or StoreLimits()
        try:
            return cls(path, clock, limits)
        except StorageError as error:
            if error.code != STORAGE_CORRUPT:
                raise
        moved = set_aside(path)
        store = cls(path, clock, limits)
        store.damaged = moved
        store._stats = replace(store._stats, set_aside=1)
        return store

    @property
    def incarnation(self) -> str:
        """Random name of this store, made once; the tunnel's numbers belong to it."""
        return self._incarnation

    @property
    def next_seq(self) -> int:
        """Number that the next event will have."""
        return self._next_seq

    def wait_for_others(self, wait: bool) -> None:
        """Whether calls wait for another process that holds the file, as they do at first, or fail at once.

        Raises:
            StorageError: the file cannot be used.
        """
        with self._lock:
            self._database.wait_for_others(wait)

    @property
    def checkpoint_due(self) -> bool:
        """Whether ``checkpoint`` should be called, lest a commit has to wait for the disk."""
        return self._database.checkpoint_due

    def checkpoint(self) -> None:
        """Move what was committed from SQLite's log into the file.

        Raises:
            StorageError: it stays in the log.
        """
        with self._lock:
            self._database.checkpoint()

    # The event log

    def append(self, raw: Sequence[RawEvent]) -> list[Event]:
        """Number events and put them into the log, all or none.

        Raises:
            StorageError: none was kept; their numbers are free again.
        """
        with self._lock:
            events = [self._number(event, self._next_seq + i) for i, event in enumerate(raw)]
            with self._transaction() as connection:
                connection.executemany(_PUT_EVENT, (_event_to_sql(event) for event in events))
                pushed = self._note_pushes(connection, raw)
                self._save_progress(connection)
            self._pushed = pushed
            self._next_seq += len(events)
            self._stats = replace(self._stats, events=self._stats.events + len(events))
            return events

    def has_push(self, push: str) -> bool:
        """Whether the answer of a cloud half is in the log, or was."""
        return push in self._pushed

    def _note_pushes(self, connection: sqlite3.Connection, raw: Sequence[RawEvent]) -> tuple[str, ...]:
        new = [event.push for event in raw if event.push]
        if not new:
            return self._pushed
        pushed = (*self._pushed, *new)[-_PUSHES_KEPT:]
        connection.execute(
            "INSERT OR REPLACE INTO meta VALUES ('pushed', ?)", (orjson.dumps(pushed).decode(),)
        )
        return pushed

    def put_aside(self, late: Sequence[RawEvent]) -> None:
        """Keep events that came too late for the log; the newest ``LATE_MAX_EVENTS`` stay.

        Raises:
            StorageError: none was kept.
        """
        with self._lock, self._transaction() as connection:
            came_ms = self._clock.wall_ms()
            rows = ((came_ms, *_event_to_sql(self._number(event, 0))[1:]) for event in late)
            connection.executemany(_PUT_LATE, rows)
            connection.execute(
                "DELETE FROM late WHERE id <= (SELECT max(id) FROM late) - ?", (LATE_MAX_EVENTS,)
            )

    def read_late(self) -> list[Event]:
        """The events put aside, oldest first; they have no numbers.

        Raises:
            StorageError: the file cannot be read.
        """
        with self._lock, self._database.reading() as connection:
            rows = connection.execute(
                "SELECT 0, kind, event_id, page_id, visit_id, wall_ms, mono_ns, args FROM late ORDER BY id"
            )
            return [event_from_sql(row) for row in rows]

    def settle(self, cursor: int, replay_seq: int, snapshot: bytes | None = None) -> None:
        """Note that every firing up to ``cursor`` is dealt with, and that events before ``replay_seq`` may
        go; None leaves the snapshot as it is.

        Written with the next transaction; a crash before it repeats work that invariant 3 makes harmless.
        """
        with self._lock:
            self._cursor = max(self._cursor, cursor)
            self._replay_seq = max(self._replay_seq, replay_seq)
            if snapshot is not None:
                self._snapshot = snapshot

    def keep_watches(self, since: Mapping[Watch, int]) -> None:
        """Note since which event each trigger of a task is there. Written with the next transaction."""
        plain = [(*task, ids, seq) for (task, ids), seq in since.items()]
        with self._lock:
            self._watches = orjson.dumps(plain)

    def pending(self) -> Replay:
        """Events from the replay point on, and what has been dealt with.

        Raises:
            StorageError: the file cannot be read.
        """
        with self._lock, self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM events WHERE seq >= ? ORDER BY seq", (self._replay_seq,))
            events = tuple(event_from_sql(row) for row in rows)
            marked = frozenset(
                ((scenario, task), last_seq)
                for scenario, task, last_seq in connection.execute(
                    "SELECT scenario, task, last_seq FROM runs"
                )
            )
            return Replay(events, self._cursor, marked, self._snapshot, _watches_from(self._watches))

    def read_log(self, first_seq: int, last_seq: int) -> tuple[Event, ...]:
        """The events with these numbers that are still in the log, at most the last ``SLICE_MAX_EVENTS``.

        Raises:
            StorageError: the file cannot be read.
        """
        with self._lock, self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM events WHERE seq BETWEEN ? AND ? ORDER BY seq DESC LIMIT ?",
                (first_seq, last_seq, SLICE_MAX_EVENTS + 1),
            )
            return tuple(reversed([event_from_sql(row) for row in rows]))

    # Collective storage

    def declare(
        self,
        task: TaskKey,
        declared: Mapping[str, Columns],
        retention: Mapping[str, Retention] | None = None,
    ) -> None:
        """Make a task's tables, or give them the columns they lack; ``retention``: how much of each stays.

        Raises:
            ConfigError: an illegal name.
            Conflict: a column has another type already.
            StorageError: nothing was changed.
        """
        with self._lock:
            with self._transaction() as connection:
                for table, columns in declared.items():
                    self._tables.declare(connection, task, table, columns)
            for table, columns in declared.items():
                keep = (retention or {}).get(table)
                self._tables.note_declared(task, table, columns, keep)
                self._declared[task, table] = columns, keep

    def commit_run(self, commit: RunCommit) -> bool:
        """Keep one run; see ``commit_runs``.

        Raises:
            WalleError: as for ``commit_runs``; nothing was kept.
        """
        (outcome,) = self.commit_runs([commit])
        if isinstance(outcome, WalleError):
            raise outcome
        return outcome

    def commit_runs(self, commits: Sequence[RunCommit]) -> list[bool | WalleError]:
        """Keep several runs in one transaction.

        Returns:
            For each run True; False if its task had been marked at ``last_seq`` before (by whatever
            version), and nothing was kept; or the error that refused it (NotFound, TaskError,
            LimitExceeded), which does not touch the other runs.

        Raises:
            StorageError: no run was kept.
        """
        with self._lock:
            prepared = [self._prepare(commit) for commit in commits]
            with self._transaction() as connection:
                outcomes = [
                    item if isinstance(item, WalleError) else self._keep(connection, item)
                    for item in prepared
                ]
                self._outbox.evict(connection)
                self._save_progress(connection)
            return outcomes

    def read_rows(
        self, task: TaskKey, table: str, *, where: Mapping[str, Any] | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The newest rows whose columns equal ``where``, oldest first.

        Raises:
            NotFound: the task has no such table.
            TaskError: ``where`` does not fit the columns.
            StorageError: the file cannot be read.
        """
        with self._lock, self._database.reading() as connection:
            return self._tables.read(connection, task, table, where or {}, limit)

    def used_bytes(self, task: TaskKey) -> int:
        """About what a task's tables and values take; its oldest rows go when it is over ``task_bytes``."""
        with self._lock:
            return self._tables.used_bytes(task)

    def holds_local(self, task: TaskKey, tables: Iterable[str]) -> tuple[str, ...]:
        """Those of the task's tables that may hold what must not leave the device; "" are its values."""
        with self._lock:
            return tuple(
                name for name in tables if (*task, name) in self._local and self._tables.holds(task, name)
            )

    def get_value(self, task: TaskKey, key: str) -> Any:
        """What the task keeps under ``key``, or None.

        Raises:
            StorageError: the file cannot be read.
        """
        with self._lock, self._database.reading() as connection:
            return get_value(connection, task, key)

    # The outbox

    def next_batch(self, after: Mapping[TunnelClass, int], limit: int) -> list[Outgoing]:
        """Up to ``limit`` entries beyond the numbers ``after``, safe from a power cut, in sending order.

        Raises:
            StorageError: nothing may be sent.
        """
        with self._lock:
            with self._database.reading() as connection:
                batch = self._outbox.next_batch(connection, after, limit)
            if batch and self._durable_added != self._outbox.statistics().added:
                self._database.make_durable(_PUT_META, ("durable_ms", self._clock.wall_ms()))
                self._durable_added = self._outbox.statistics().added
            return batch

    def ack(self, klass: TunnelClass, seq: int, *, incarnation: str | None = None) -> None:
        """Forget what the cloud has: everything of the class up to ``seq``.

        Args:
            klass: the class.
            seq: from the acknowledgement.
            incarnation: of the store that sent; nothing happens if this one has taken its place.

        Raises:
            StorageError: nothing was forgotten; sending must stop until it can be.
        """
        with self._lock:
            if incarnation in (None, self._incarnation):
                with self._transaction() as connection:
                    self._outbox.ack(connection, klass, seq)

    def numbers(self) -> Numbers:
        """By class, the lowest number that may still be sent and the highest ever given.

        Raises:
            StorageError: the file cannot be read.
        """
        with self._lock, self._database.reading() as connection:
            return self._outbox.numbers(connection)

    # The rest

    def statistics(self) -> StoreStatistics:
        """Counters since the start, and the outbox's."""
        return replace(self._stats, outbox=self._outbox.statistics())

    def replace_damaged(self) -> Path:
        """Set the file aside and begin a new one that goes on counting events where this one was.

        For an error whose code is ``storage_corrupt``. What waited in the outbox and in tables is lost with
        the old file; the new incarnation tells the cloud so.

        Raises:
            StorageError: even that failed.
        """
        with self._lock:
            next_seq, cursor, kept = self._next_seq, self._next_seq - 1, (self._snapshot, self._watches)
            self._database.close()
            moved = set_aside(self._path)
            self._load()
            self._next_seq, self._cursor, self._replay_seq = next_seq, cursor, next_seq
            self._snapshot, self._watches = kept
            for (task, table), (columns, keep) in self._declared.items():
                self.declare(task, {table: columns}, {table: keep} if keep else None)
            self._stats = replace(self._stats, set_aside=self._stats.set_aside + 1)
            return moved

    def close(self) -> None:
        """Write the last progress and close the file.

        Raises:
            StorageError: the progress was not written; nothing else is lost.
        """
        with self._lock:
            try:
                with self._transaction() as connection:
                    self._cut_log(connection)
                    self._save_progress(connection)
            finally:
                self._database.close()

    def _load(self) -> None:
        self._database = Database(self._path, busy_timeout_s=self._limits.busy_timeout_s)
        try:
            self._load_state()
        except BaseException:
            self._database.close()
            raise

    def _load_state(self) -> None:
        with self._database.transaction() as connection:
            for statement in ";".join((_SCHEMA, tables_module.SCHEMA, outbox_module.SCHEMA)).split(";"):
                connection.execute(statement)
            connection.execute(
                "INSERT OR IGNORE INTO meta VALUES ('incarnation', ?)", (secrets.token_hex(16),)
            )
            meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
            (last_seq,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
            self._outbox = Outbox(
                connection, rows_max=self._limits.outbox_rows, bytes_max=self._limits.outbox_bytes
            )
            self._tables = Tables(
                connection,
                self._clock,
                rows_max=self._limits.table_rows,
                task_bytes=self._limits.task_bytes,
            )
            self._local = set(connection.execute("SELECT scenario, task, name FROM local_tables"))
        self._incarnation: str = meta["incarnation"]
        self._cursor = meta.get("cursor", 0)
        self._replay_seq = meta.get("replay_seq", 1)
        self._snapshot = meta.get("snapshot")
        self._watches = meta.get("watches")
        self._pushed = tuple(orjson.loads(meta.get("pushed", "[]")))
        self._saved_progress: _Progress = self._progress()
        self._cut_seq = self._replay_seq
        self._next_seq = max(last_seq, self._cursor, self._replay_seq - 1, self._next_seq - 1) + 1
        self._durable_added = -1

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        before = self._stats
        try:
            with self._database.transaction() as connection:
                yield connection
        except BaseException:
            self._outbox.rolled_back()
            self._tables.rolled_back()
            self._marked.clear()
            self._stats = before
            self._saved_progress = (-1, -1, None, None)  # write it again: this transaction's word is void
            raise
        self._outbox.committed()
        self._tables.committed()
        self._local.update(self._marked)
        self._marked.clear()
        self._stats = replace(self._stats, transactions=self._stats.transactions + 1)

    def _number(self, raw: RawEvent, seq: int) -> Event:
        return Event(
            seq,
            raw.kind,
            raw.event_id,
            raw.page_id,
            raw.visit_id,
            raw.wall_ms or self._clock.wall_ms(),
            raw.mono_ns or self._clock.mono_ns(),
            raw.args,
        )

    def _prepare(self, commit: RunCommit) -> _Prepared | WalleError:
        if not commit.ok:
            return _Prepared(commit, (), (), ())
        try:
            return _Prepared(
                commit,
                tuple(self._tables.prepare(commit.task, table, row) for table, row in commit.rows),
                tuple((key, encode_value(key, value)) for key, value in commit.values.items()),
                tuple(encode_record(record) for record in commit.uploads),
            )
        except WalleError as error:
            return error

    def _keep(self, connection: sqlite3.Connection, prepared: _Prepared) -> bool | WalleError:
        commit = prepared.commit
        try:
            self._tables.check_values(connection, commit.task, prepared.values)
        except LimitExceeded as error:
            return False if self._is_marked(connection, commit) else error
        if commit.cursor is not None:
            self.settle(commit.cursor, self._replay_seq)
        marked = connection.execute(
            "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?)",
            (*commit.task, commit.last_seq, commit.version, commit.release_id, commit.ok),
        ).rowcount
        if not marked:
            self._stats = replace(self._stats, repeated=self._stats.repeated + 1)
            return False
        if commit.local:
            self._mark_local(connection, prepared)
        evicted = self._tables.put_values(connection, commit.task, prepared.values)
        evicted += sum(
            self._tables.insert(connection, row, version=commit.version, seq=commit.last_seq)
            for row in prepared.rows
        )
        for record, payload in zip(commit.uploads, prepared.payloads, strict=commit.ok):
            klass = commit.classes.get(record.name, TunnelClass.REALTIME)
            self._outbox.add(connection, klass, payload)
        self._stats = replace(
            self._stats,
            runs=self._stats.runs + 1,
            rows=self._stats.rows + len(prepared.rows),
            rows_evicted=self._stats.rows_evicted + evicted,
        )
        return True

    def _mark_local(self, connection: sqlite3.Connection, prepared: _Prepared) -> None:
        names = {table for table, _ in prepared.commit.rows} | ({VALUES} if prepared.values else set[str]())
        for name in names:
            entry = (*prepared.commit.task, name)
            if entry not in self._local:
                connection.execute("INSERT OR IGNORE INTO local_tables VALUES (?, ?, ?)", entry)
                self._marked.append(entry)

    def _is_marked(self, connection: sqlite3.Connection, commit: RunCommit) -> bool:
        return bool(
            connection.execute(
                "SELECT 1 FROM runs WHERE scenario = ? AND task = ? AND last_seq = ?",
                (*commit.task, commit.last_seq),
            ).fetchone()
        )

    def _progress(self) -> _Progress:
        return self._cursor, self._replay_seq, self._snapshot, self._watches

    def _save_progress(self, connection: sqlite3.Connection) -> None:
        progress = self._progress()
        if progress == self._saved_progress:
            return
        connection.execute(_PUT_META, ("cursor", self._cursor))
        connection.execute(_PUT_META, ("replay_seq", self._replay_seq))
        if self._snapshot is not self._saved_progress[2]:
            connection.execute(_PUT_META, ("snapshot", self._snapshot))
        if self._watches is not self._saved_progress[3]:
            connection.execute(_PUT_META, ("watches", self._watches))
        if self._replay_seq - self._cut_seq >= _CUT_EVERY:
            self._cut_log(connection)
        self._saved_progress = progress

    def _cut_log(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM events WHERE seq < ?", (self._replay_seq,))
        connection.execute("DELETE FROM runs WHERE last_seq < ?", (self._replay_seq,))
        self._cut_seq = self._replay_seq


def _event_to_sql(event: Event) -> tuple[object, ...]:
    return (
        event.seq,
        event.kind,
        event.event_id,
        event.page_id,
        event.visit_id,
        event.wall_ms,
        event.mono_ns,
        orjson.dumps(event.args),
    )


def _watches_from(data: bytes | None) -> dict[Watch, int] | None:
    if data is None:
        return None
    return {((scenario, task), tuple(ids)): seq for scenario, task, ids, seq in orjson.loads(data)}


def event_from_sql(row: tuple[Any, ...]) -> Event:
    """A row of the log, all columns of it."""
    seq, kind, event_id, page_id, visit_id, wall_ms, mono_ns, args = row
    return Event(seq, kind, event_id, page_id, visit_id, wall_ms, mono_ns, orjson.loads(args))
