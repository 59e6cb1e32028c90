"""The pipeline as the agent runs it: one Trio task for events, one writer at a time for everything on disk.

``StreamService`` is all that the rest of the agent needs::

    async with open_streams(path, clock) as streams:
        await streams.register(task, triggers, tables)          # installed tasks, before start
        await nursery.start(streams.run)                         # reads the log again, then takes events in
        nursery.start_soon(serve_events, socket_path, streams.inlet.emit)
        nursery.start_soon(run_tunnel, streams, connect)
        async for firing in streams.firings:
            ...; await streams.commit(RunCommit(...))

Commits are grouped, whole runs at a time. A few transactions per linger are free: while there are fewer, a
run commits at once. Under load, runs gather until the linger is over, the buffer holds enough rows, somebody
reads, or the service closes. A group is one transaction.

What a user does comes in few events and few rows: such a commit takes a tenth of a millisecond and is made on
the spot. All else, and whatever may wait for a disk or another process, goes to a thread.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import trio

from walle_agent.streams.database import STORAGE_BUSY, STORAGE_CORRUPT
from walle_agent.streams.event import CLOUD_ANSWER, RawEvent
from walle_agent.streams.flow import FlowStatistics, StreamFlow
from walle_agent.streams.ingest import EventCheck, EventInlet, InletStatistics
from walle_agent.streams.outbox import Numbers, Outgoing
from walle_agent.streams.pipeline import Firing
from walle_agent.streams.sequences import BACKGROUND
from walle_agent.streams.storage import RunCommit, StoreLimits, StoreStatistics, StreamStore
from walle_agent.streams.tables import Columns
from walle_shared.clock import Clock
from walle_shared.errors import StorageError, WalleError
from walle_shared.manifest import Prepare, Retention, Trigger
from walle_shared.observe import get_logger
from walle_shared.protocol.asks import Push
from walle_shared.protocol.codec import encode
from walle_shared.protocol.tunnel import TunnelClass
from walle_shared.targeting.policy import TaskKey

#: Rows, records and values of a commit that is done on the spot.
_BRIEF_ROWS = 16

_log = get_logger("agent.streams")


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """How the service batches and how long it waits. Seconds, and numbers of events, rows and firings.

    ``linger_flushes`` transactions per ``linger_s`` are made at once; further runs gather for the rest of it.
    ``reorder_s`` and ``late`` are ``StreamFlow``'s.
    """

    linger_s: float = 0.05
    linger_flushes: int = 8
    flush_rows: int = 200
    append_events: int = 256
    firings: int = 256
    tick_s: float = 1.0
    retry_s: float = 1.0
    reorder_s: float = 0.0
    late: Literal["keep", "aside"] = "keep"
    store: StoreLimits = field(default_factory=StoreLimits)


@dataclass(frozen=True, slots=True)
class ServiceStatistics:
    """Counters of every stage; ``storage_errors`` counts writes that failed and were tried again or given
    up."""

    inlet: InletStatistics
    flow: FlowStatistics
    store: StoreStatistics
    storage_errors: int
    waiting_commits: int
    waiting_firings: int


class _Waiting:
    """A run on its way into the store."""

    __slots__ = ("commit", "done", "outcome")

    def __init__(self, commit: RunCommit) -> None:
        self.commit = commit
        self.done = trio.Event()
        self.outcome: bool | WalleError = False


class StreamService:
    """Made by ``open_streams``.

    Attributes:
        inlet: where events come in.
        firings: what tasks are owed, in the order of the events; each must end in ``commit`` or ``dismiss``.
    """

    def __init__(
        self, store: StreamStore, clock: Clock, limits: ServiceLimits, check: EventCheck | None = None
    ) -> None:
        self._store = store
        self._limits = limits
        schema = check.schema if check is not None else None
        self._flow = StreamFlow(store, clock, reorder_s=limits.reorder_s, late=limits.late, schema=schema)
        self._clock = clock
        self._writer = trio.CapacityLimiter(1)
        self._waiting: list[_Waiting] = []
        self._flushing = trio.Lock()
        self._flushed_at: deque[float] = deque([-math.inf] * limits.linger_flushes, limits.linger_flushes)
        self._storage_errors = 0
        self._outgoing = 0
        self._outgoing_changed = trio.Event()
        self._recovered = False
        self._logged = trio.Event()
        self.inlet = EventInlet(clock, check=check)
        self._fire, self.firings = trio.open_memory_channel[Firing](limits.firings)

    @property
    def incarnation(self) -> str:
        """Random name of the store."""
        return self._store.incarnation

    # Tasks

    async def register(
        self,
        task: TaskKey,
        triggers: Sequence[Trigger],
        tables: Mapping[str, Columns] | None = None,
        retention: Mapping[str, Retention] | None = None,
        prepare: Sequence[Prepare] = (),
    ) -> None:
        """Add a task: triggers and stages, in place of those it had, and tables with how much of them stays.

        Raises:
            ConfigError: an illegal name.
            Conflict: a column has another type already.
            LimitExceeded: too many triggers.
            StorageError: the tables could not be made; nothing was registered.
        """
        await self._write(lambda: self._store.declare(task, tables or {}, retention))
        await self._write(lambda: self._flow.register(task, triggers, prepare))

    async def deregister(self, task: TaskKey) -> None:
        """Forget a task's triggers; its tables stay."""
        await self._write(lambda: self._flow.deregister(task))

    # Events

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Give out the firings that a restart left owed, then turn events into firings for ever."""
        owed = await self._insist(self._recover)
        task_status.started()
        await self._give_out(owed)
        while True:
            raw: list[RawEvent] = []
            with trio.move_on_after(self._wait_s()):
                raw = await self.inlet.receive_batch(self._limits.append_events)
            firings = await self._accept(raw)
            self._logged.set()
            self._logged = trio.Event()
            await self._give_out(firings)
            await self._keep_commits_short()
            if any(event.event_id == BACKGROUND for event in raw):
                await self.flush()  # the system may end an app's helpers at any time now

    def _wait_s(self) -> float:
        """How long nothing needs to be done if no event comes."""
        due_ns = self._flow.next_due_ns()
        if due_ns is None:
            return self._limits.tick_s
        return min(self._limits.tick_s, max(0.0, (due_ns - self._clock.mono_ns()) / 1e9))

    async def _accept(self, raw: list[RawEvent]) -> list[Firing]:
        remaining = raw

        def accept() -> list[Firing]:
            nonlocal remaining
            taken, remaining = remaining, []  # a failed call has them already
            return self._flow.accept(taken)

        return await self._insist(accept, brief=self._flow.is_brief(raw))

    async def _keep_commits_short(self) -> None:
        """Have the disk take what was committed while nobody waits for it."""
        if self._store.checkpoint_due:
            try:
                await self._write(self._store.checkpoint)
            except StorageError as error:
                _log.warning("storage_failed", code=error.code, message=error.message)

    def _recover(self) -> list[Firing]:
        if self._recovered:
            return []
        owed = self._flow.recover()
        self._recovered = True
        return owed

    async def _give_out(self, firings: list[Firing]) -> None:
        for firing in firings:
            await self._fire.send(firing)

    async def _insist[T](self, function: Callable[[], T], *, brief: bool = False) -> T:
        """Repeat a write until it succeeds: events wait meanwhile, and none is lost."""
        while True:
            try:
                return await self._write(function, brief=brief)
            except StorageError as error:
                _log.warning(
                    "storage_failed", code=error.code, message=error.message, retry_s=self._limits.retry_s
                )
                await trio.sleep(self._limits.retry_s)

    # Collective storage

    async def commit(self, commit: RunCommit) -> bool:
        """Keep a finished run; returns when it is in the log.

        Returns:
            False if the task had been marked at this event before, and nothing was kept.

        Raises:
            NotFound, TaskError, LimitExceeded: the run's output does not fit; commit it with ``ok=False``.
            StorageError: nothing was kept; it may be tried again.
        """
        waiting = _Waiting(commit)
        self._waiting.append(waiting)
        rows = sum(len(item.commit.rows) + 1 for item in self._waiting)
        if rows < self._limits.flush_rows:
            with trio.move_on_at(self._flushed_at[0] + self._limits.linger_s):
                await waiting.done.wait()
        while not waiting.done.is_set():
            await self.flush()
        if isinstance(waiting.outcome, WalleError):
            raise waiting.outcome
        return waiting.outcome

    async def dismiss(self, firing: Firing) -> None:
        """A firing will never be run, because its task is gone or was shed: it is owed no longer."""
        await self._write(lambda: self._flow.dealt_with(firing.task, firing.last_seq))

    async def flush(self) -> None:
        """Commit the runs that wait."""
        async with self._flushing:
            group, self._waiting = self._waiting, []
            if not group:
                return
            with trio.CancelScope(shield=True):  # the group belongs to others too
                await self._commit_group(group)
            self._flushed_at.append(trio.current_time())
            if any(item.commit.uploads for item in group):
                self._notify_outgoing()

    async def read_rows(
        self, task: TaskKey, table: str, *, where: Mapping[str, Any] | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The newest rows whose columns equal ``where``, oldest first, after flushing what waits.

        Raises:
            NotFound, TaskError: no such table or column.
            StorageError: the file cannot be read.
        """
        await self.flush()
        return await self._write(lambda: self._store.read_rows(task, table, where=where, limit=limit))

    async def get_value(self, task: TaskKey, key: str) -> Any:
        """What the task keeps under ``key``, or None, after flushing what waits.

        Raises:
            StorageError: the file cannot be read.
        """
        await self.flush()
        return await self._write(lambda: self._store.get_value(task, key))

    async def holds_local(self, task: TaskKey, tables: Iterable[str]) -> tuple[str, ...]:
        """Those of the task's tables that may hold what must not leave the device; "" are its values."""
        return await self._write(lambda: self._store.holds_local(task, tables))

    async def _commit_group(self, group: Sequence[_Waiting]) -> None:
        commits = [item.commit for item in group]

        def commit_and_note() -> list[bool | WalleError]:
            outcomes = self._store.commit_runs(commits)
            for commit, outcome in zip(commits, outcomes, strict=True):
                if not isinstance(outcome, WalleError):
                    self._flow.dealt_with(commit.task, commit.last_seq)
            return outcomes

        outcomes: Sequence[bool | WalleError]
        try:
            outcomes = await self._write(commit_and_note, brief=_is_brief(commits))
        except StorageError as error:
            outcomes = [error] * len(group)
        for item, outcome in zip(group, outcomes, strict=True):
            item.outcome = outcome
            item.done.set()

    # The tunnel's side (``tunnel.OutboxAccess``)

    async def next_batch(self, after: Mapping[TunnelClass, int], limit: int) -> list[Outgoing]:
        """Up to ``limit`` entries beyond the numbers ``after``.

        Raises:
            StorageError: nothing may be sent.
        """
        return await self._write(lambda: self._store.next_batch(after, limit))

    async def ack(self, incarnation: str, klass: TunnelClass, seq: int) -> None:
        """Forget what the cloud has.

        Raises:
            StorageError: nothing was forgotten.
        """
        await self._write(lambda: self._store.ack(klass, seq, incarnation=incarnation))

    async def numbers(self) -> Numbers:
        """By class, the lowest number that may still be sent and the highest ever given.

        Raises:
            StorageError: the file cannot be read.
        """
        return await self._write(self._store.numbers)

    async def wait_outgoing(self, seen: int) -> int:
        """Wait until more than ``seen`` groups have put records into the outbox; returns their number."""
        while self._outgoing <= seen:
            await self._outgoing_changed.wait()
        return self._outgoing

    async def take_push(self, push: Push) -> None:
        """Put the answer of a cloud half into the log as an event; one that was there already is left out.

        Returns when it is in the log for good.
        """
        if self._store.has_push(push.ask):
            return
        args = {
            "scenario": push.scenario,
            "task": push.task,
            "payload": None if push.payload is None else dict(push.payload),
            "reason": push.reason,
        }
        size_bytes = len(encode(push))
        await self.inlet.emit(
            RawEvent("custom", CLOUD_ANSWER, args=args, size_bytes=size_bytes, push=push.ask)
        )
        while not self._store.has_push(push.ask):
            await self._logged.wait()

    # The rest

    def statistics(self) -> ServiceStatistics:
        """Counters of every stage."""
        return ServiceStatistics(
            self.inlet.statistics(),
            self._flow.statistics(),
            self._store.statistics(),
            self._storage_errors,
            len(self._waiting),
            self.firings.statistics().current_buffer_used,
        )

    async def close(self) -> None:
        """Flush and close the file."""
        with trio.CancelScope(shield=True):
            await self.flush()
            try:
                await self._write(self._flow.finish)
                await self._write(self._store.close)
            except StorageError as error:
                _log.warning("storage_failed", code=error.code, message=error.message)

    def _notify_outgoing(self) -> None:
        self._outgoing += 1
        self._outgoing_changed.set()
        self._outgoing_changed = trio.Event()

    async def _write[T](self, function: Callable[[], T], *, brief: bool = False) -> T:
        """Run ``function`` in the writer's turn; a damaged file is replaced and it is tried once more.

        Args:
            function: may be called again, after a StorageError.
            brief: it is done in well under a millisecond.
        """
        try:
            return await (self._here(function) if brief else self._in_thread(function))
        except StorageError as error:
            self._storage_errors += 1
            if error.code != STORAGE_CORRUPT:
                raise
            moved = await self._in_thread(self._store.replace_damaged)
            _log.error("store_set_aside", message=error.message, kept_as=str(moved))
            self._notify_outgoing()
            return await self._in_thread(function)

    async def _here[T](self, function: Callable[[], T]) -> T:
        """Run something brief on the spot, where the writer is idle and nobody else holds the file.

        Going to a thread and back costs as much as the write itself, and a thread that is between two
        statements makes this one wait its turn, 5 ms, for the interpreter (measured 2026-11-26).
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._writer.borrowed_tokens:
            try:
                self._store.wait_for_others(False)
                return function()
            except StorageError as error:
                if error.code != STORAGE_BUSY:
                    raise
        return await self._in_thread(function)

    async def _in_thread[T](self, function: Callable[[], T]) -> T:
        def patiently() -> T:
            self._store.wait_for_others(True)
            return function()

        return await trio.to_thread.run_sync(patiently, limiter=self._writer)


def _is_brief(commits: Sequence[RunCommit]) -> bool:
    return (
        sum(len(commit.rows) + len(commit.uploads) + len(commit.values) for commit in commits) <= _BRIEF_ROWS
    )


@asynccontextmanager
async def open_streams(
    path: Path, clock: Clock, limits: ServiceLimits | None = None, check: EventCheck | None = None
) -> AsyncGenerator[StreamService]:
    """Open the store at ``path`` and close it, flushed, at the end; ``check`` holds events against a schema.

    Raises:
        StorageError: it cannot be opened; damaged files are set aside, not complained about.
    """
    limits = limits or ServiceLimits()
    store = await trio.to_thread.run_sync(lambda: StreamStore.open(path, clock, limits.store))
    if store.damaged is not None:
        _log.error("store_set_aside", kept_as=str(store.damaged))
    service = StreamService(store, clock, limits, check)
    try:
        yield service
    finally:
        await service.close()
