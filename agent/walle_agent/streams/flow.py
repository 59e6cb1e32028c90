"""Events to firings, durably: visit tracker, log and pipeline in one place. Blocks; one thread at a time.

The flow also keeps the ledger of firings that are owed, from which the store learns how far everything has
been dealt with and which events a restart still needs.

Silences become events of the log before anything that comes behind them. So events are logged in stretches
that no silence can end in; where no trigger waits for silence, that is all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from walle_agent.streams.event import Event, RawEvent
from walle_agent.streams.matcher import Watch
from walle_agent.streams.pipeline import Firing, Pipeline, PipelineStatistics
from walle_agent.streams.reorder import ReorderBuffer, ReorderStatistics
from walle_agent.streams.sequences import SequenceStatistics, VisitTracker
from walle_agent.streams.snapshot import PipelineSnapshot, SavedFiring, decode_snapshot, encode_snapshot
from walle_agent.streams.storage import Replay, StreamStore
from walle_shared.clock import Clock
from walle_shared.errors import StorageError
from walle_shared.limits import LOG_HELD_MAX_EVENTS
from walle_shared.manifest import Prepare, Trigger
from walle_shared.observe import get_logger
from walle_shared.schema import EventSchema
from walle_shared.targeting.policy import TaskKey

#: As many events as a user causes at once; more are the backlog of a pause or a burst.
BRIEF_EVENTS = 8

#: Events between two snapshots of what extended triggers know; a restart feeds at most so many again.
_SNAPSHOT_EVERY = 256

_log = get_logger("agent.streams")


@dataclass(frozen=True, slots=True)
class FlowStatistics:
    """Counters of the pipeline and the visits; firings owed now, and skipped at the start as done before."""

    pipeline: PipelineStatistics
    sequences: SequenceStatistics
    order: ReorderStatistics
    owed: int
    fired: int
    replayed_events: int
    replayed_firings: int
    skipped_firings: int


class StreamFlow:
    """Takes events in, gives firings out.

    Args:
        store: the durable log.
        clock: stamps events as they come in.
        tracker: gives events their visits.
        reorder_s: how long events with times of their own wait for earlier ones.
        late: what becomes of those that come later than that: ``keep`` takes them as of when they came in,
            ``aside`` puts them into the store's table of late events, out of the way of triggers.
        schema: what events hold.
    """

    def __init__(
        self,
        store: StreamStore,
        clock: Clock,
        tracker: VisitTracker | None = None,
        *,
        reorder_s: float = 0.0,
        late: Literal["keep", "aside"] = "keep",
        schema: EventSchema | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._tracker = tracker or VisitTracker()
        self._order = ReorderBuffer(round(reorder_s * 1e9))
        self._late = late
        self._late_waiting: list[RawEvent] = []
        self._pipeline = Pipeline(self._read_log, schema)
        self._unlogged: list[RawEvent] = []
        self._ready: list[Firing] = []
        self._owed: dict[tuple[TaskKey, int], Firing] = {}
        self._snapshot_seq: int | None = None  # None: nothing needs one
        self._held_seq = 0
        self._since: dict[Watch, int] = {}
        self._fed_seq = 0
        self._fired = 0
        self._replayed = (0, 0, 0)
        self._recovered = False

    def register(self, task: TaskKey, triggers: Sequence[Trigger], prepare: Sequence[Prepare] = ()) -> None:
        """Add a task's triggers and stages, in place of those it had.

        Raises:
            TriggerError: the text of one is wrong.
            LimitExceeded: too many triggers.
        """
        since_seq = self._store.next_seq if self._recovered else 0
        self._pipeline.register(task, triggers, prepare, since_seq=since_seq)
        if self._recovered:
            self._keep_registrations()

    def deregister(self, task: TaskKey) -> None:
        """Forget a task's triggers; firings it is owed stay owed until marked or dismissed."""
        self._pipeline.deregister(task)
        if self._recovered:
            self._keep_registrations()

    def recover(self) -> list[Firing]:
        """Read the log again after a restart; call once, after the installed tasks are registered.

        Returns:
            Firings that were owed when the process ended.

        Raises:
            StorageError: the log cannot be read.
        """
        replay = self._store.pending()
        if replay.since is not None:  # None: a file from before this was kept, whose tasks it knows well
            self._since = dict(replay.since)
            self._pipeline.restore_watches(self._since, self._store.next_seq)
        snapshot = self._restore(replay)
        seen_seq = snapshot.matcher.last_seq if snapshot is not None else 0
        owed: dict[int, list[SavedFiring]] = {}
        for saved in snapshot.owed if snapshot is not None else ():
            owed.setdefault(saved.at_seq, []).append(saved)
        firings: list[Firing] = []
        skipped = 0
        for event in replay.events:
            self._tracker.restore(event)
            if event.seq <= seen_seq:
                found = self._pipeline.feed_again(event, owed.get(event.seq, ()))
            else:
                found = self._pipeline.feed(event)
            for firing in found:
                if replay.is_done(firing.task, firing.last_seq):
                    skipped += 1
                else:
                    firings.append(self._owe(firing))
            self._fed_seq = event.seq
        if replay.events:
            self._order.restart(min(replay.events[-1].mono_ns, self._clock.mono_ns()))
        self._replayed = (len(replay.events), len(firings), skipped)
        self._recovered = True
        self._note_watches(1 if replay.since is None else None)
        self._keep_snapshot()
        return firings

    def accept(self, raw: Sequence[RawEvent]) -> list[Firing]:
        """Log events, oldest first, and return what they fire; visits that have grown too old close first.

        With no events it only looks at the clock.

        Raises:
            StorageError: what came in, and what it fires, is kept for the next call.
        """
        now_ns = self._clock.mono_ns()
        for incoming in raw:
            self._take(self._stamped(incoming), now_ns)
        self._let_through(now_ns)
        self._unlogged.extend(self._tracker.overdue(now_ns))
        self._keep_late()
        while self._unlogged:
            quiet = self._pipeline.quiet_prefix(self._unlogged)
            if quiet:
                logged = self._store.append(self._unlogged[:quiet])
                del self._unlogged[:quiet]
                self._feed(logged)
            else:
                self._end_silences(self._unlogged[0].mono_ns, self._unlogged[0].wall_ms)
        self._end_silences(self._clock.mono_ns(), self._clock.wall_ms())
        firings, self._ready = self._ready, []
        return firings

    def is_brief(self, raw: Sequence[RawEvent]) -> bool:
        """Whether ``accept`` will be done with these in well under a millisecond."""
        if len(raw) > BRIEF_EVENTS:
            return False
        return (
            self._snapshot_seq is None or self._fed_seq - self._snapshot_seq < _SNAPSHOT_EVERY - BRIEF_EVENTS
        )

    def next_due_ns(self) -> int | None:
        """When ``accept`` should be called again for what waits for earlier events; None: nothing does."""
        return self._order.next_due_ns()

    def finish(self) -> None:
        """Log what still waits for earlier events; what it fires is owed, and fires after the next start.

        Raises:
            StorageError: it could not be logged.
        """
        self._order.flush()
        self.accept([])

    def dealt_with(self, task: TaskKey, last_seq: int) -> None:
        """A firing is marked in the store, or will never be run: it is owed no longer."""
        if self._owed.pop((task, last_seq), None) is not None:
            self._settle()

    def statistics(self) -> FlowStatistics:
        """Counters since the start."""
        return FlowStatistics(
            self._pipeline.statistics(),
            self._tracker.statistics(),
            self._order.statistics(),
            len(self._owed),
            self._fired,
            *self._replayed,
        )

    def _take(self, event: RawEvent, now_ns: int) -> None:
        if self._order.push(event):
            return
        if self._late == "aside":
            self._late_waiting.append(event)
        else:
            self._let_through(now_ns)
            self._order.push(replace(event, mono_ns=now_ns, timed=False))

    def _let_through(self, now_ns: int) -> None:
        for event in self._order.pop(now_ns):
            self._unlogged.extend(self._tracker.complete(event))

    def _keep_late(self) -> None:
        if self._late_waiting:
            self._store.put_aside(self._late_waiting)
            self._late_waiting = []

    def _stamped(self, raw: RawEvent) -> RawEvent:
        return raw.stamped(raw.mono_ns or self._clock.mono_ns(), raw.wall_ms or self._clock.wall_ms())

    def _restore(self, replay: Replay) -> PipelineSnapshot | None:
        if replay.snapshot is None:
            last_seq = replay.events[-1].seq if replay.events else 0
            self._pipeline.watch_from(last_seq + 1)
            return None
        try:
            snapshot = decode_snapshot(replay.snapshot)
        except StorageError as error:
            _log.warning("snapshot_refused", message=error.message)
            return None
        self._pipeline.restore(snapshot)
        return snapshot

    def _feed(self, logged: Sequence[Event]) -> None:
        for event in logged:
            self._ready.extend(self._owe(firing) for firing in self._pipeline.feed(event))
            self._fed_seq = event.seq
        if self._snapshot_seq is not None and self._fed_seq - self._snapshot_seq >= _SNAPSHOT_EVERY:
            self._keep_snapshot()
        else:
            self._settle()

    def _end_silences(self, mono_ns: int, wall_ms: int) -> None:
        if silences := self._pipeline.silences_over(mono_ns, wall_ms):
            self._feed(self._store.append(silences))

    def _read_log(self, first_seq: int, last_seq: int) -> Sequence[Event]:
        """Events of a slice; none from a file that cannot be read, which its next write will deal with."""
        try:
            return self._store.read_log(first_seq, last_seq)
        except StorageError as error:
            _log.warning("storage_failed", code=error.code, message=error.message)
            return ()

    def _note_watches(self, otherwise: int | None = None) -> None:
        """Have the next transaction keep since which event each consecutive trigger has been there."""
        new = self._store.next_seq if otherwise is None else otherwise
        self._since = {watch: self._since.get(watch, new) for watch in self._pipeline.watches()}
        self._store.keep_watches(self._since)

    def _keep_registrations(self) -> None:
        """Write down at once who watches: a crash must not bring back what a task waited for before."""
        self._note_watches()
        self._keep_snapshot()
        try:
            self._store.append([])
        except StorageError as error:  # the next transaction has it too
            _log.warning("storage_failed", code=error.code, message=error.message)

    def _keep_snapshot(self) -> None:
        """Have the next transaction keep what extended triggers know now."""
        if not self._pipeline.needs_snapshot:
            self._snapshot_seq = None
            self._settle()
            return
        owed = [
            self._pipeline.saved(firing)
            for firing in self._owed.values()
            if firing.trigger.on or firing.prepared
        ]
        self._snapshot_seq = self._fed_seq
        oldest = self._pipeline.oldest_seq()
        self._held_seq = self._fed_seq + 1 if oldest is None else oldest
        self._settle(encode_snapshot(self._pipeline.snapshot(owed)))

    def _owe(self, firing: Firing) -> Firing:
        self._owed[firing.task, firing.last_seq] = firing
        self._fired += 1
        return firing

    def _settle(self, snapshot: bytes | None = None) -> None:
        cursor = min((seq for _, seq in self._owed), default=self._fed_seq + 1) - 1
        needed = [_oldest_event(firing) for firing in self._owed.values()]
        if self._snapshot_seq is not None:
            held_seq = max(self._held_seq, self._fed_seq - LOG_HELD_MAX_EVENTS)
            needed += [self._snapshot_seq + 1, held_seq]
        self._store.settle(cursor, min([self._pipeline.replay_seq(), *needed]), snapshot)


def _oldest_event(firing: Firing) -> int:
    return min(firing.first_seq, firing.events[0].seq) if firing.events else firing.last_seq
