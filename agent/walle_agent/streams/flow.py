"""Events to firings, durably: visit tracker, log and pipeline in one place. Blocks; one thread at a time.

The flow also keeps the ledger of firings that are owed, from which the store learns how far everything has
been dealt with and which events a restart still needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from walle_agent.streams.event import RawEvent
from walle_agent.streams.pipeline import Firing, Pipeline, PipelineStatistics
from walle_agent.streams.sequences import SequenceStatistics, VisitTracker
from walle_agent.streams.storage import StreamStore
from walle_shared.clock import Clock
from walle_shared.manifest import Trigger
from walle_shared.targeting.policy import TaskKey


@dataclass(frozen=True, slots=True)
class FlowStatistics:
    """Counters of the pipeline and the visits; firings owed now, and skipped at the start as done before."""

    pipeline: PipelineStatistics
    sequences: SequenceStatistics
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
    """

    def __init__(self, store: StreamStore, clock: Clock, tracker: VisitTracker | None = None) -> None:
        self._store = store
        self._clock = clock
        self._tracker = tracker or VisitTracker()
        self._pipeline = Pipeline()
        self._unlogged: list[RawEvent] = []
        self._owed: dict[tuple[TaskKey, int], int] = {}  # firing -> oldest event it needs
        self._fed_seq = 0
        self._fired = 0
        self._replayed = (0, 0, 0)

    def register(self, task: TaskKey, triggers: Sequence[Trigger]) -> None:
        """Add a task's triggers, in place of those it had.

        Raises:
            LimitExceeded: too many triggers.
        """
        self._pipeline.register(task, triggers)

    def deregister(self, task: TaskKey) -> None:
        """Forget a task's triggers; firings it is owed stay owed until marked or dismissed."""
        self._pipeline.deregister(task)

    def recover(self) -> list[Firing]:
        """Read the log again after a restart; call once, after the installed tasks are registered.

        Returns:
            Firings that were owed when the process ended.

        Raises:
            StorageError: the log cannot be read.
        """
        replay = self._store.pending()
        firings: list[Firing] = []
        skipped = 0
        for event in replay.events:
            self._tracker.restore(event)
            for firing in self._pipeline.feed(event):
                if replay.is_done(firing.task, firing.last_seq):
                    skipped += 1
                else:
                    firings.append(self._owe(firing))
            self._fed_seq = event.seq
        self._replayed = (len(replay.events), len(firings), skipped)
        return firings

    def accept(self, raw: Sequence[RawEvent]) -> list[Firing]:
        """Log events, oldest first, and return what they fire; visits that have grown too old close first.

        With no events it only looks at the clock.

        Raises:
            StorageError: nothing was logged yet; what came in is kept and logged by the next call.
        """
        now_ns = self._clock.mono_ns()
        for incoming in raw:
            self._unlogged.extend(self._tracker.complete(self._stamped(incoming)))
        self._unlogged.extend(self._tracker.overdue(now_ns))
        if not self._unlogged:
            return []
        logged = self._store.append(self._unlogged)
        self._unlogged = []
        firings: list[Firing] = []
        for event in logged:
            firings.extend(self._owe(firing) for firing in self._pipeline.feed(event))
            self._fed_seq = event.seq
        self._settle()
        return firings

    def dealt_with(self, task: TaskKey, last_seq: int) -> None:
        """A firing is marked in the store, or will never be run: it is owed no longer."""
        if self._owed.pop((task, last_seq), None) is not None:
            self._settle()

    def statistics(self) -> FlowStatistics:
        """Counters since the start."""
        return FlowStatistics(
            self._pipeline.statistics(),
            self._tracker.statistics(),
            len(self._owed),
            self._fired,
            *self._replayed,
        )

    def _stamped(self, raw: RawEvent) -> RawEvent:
        return replace(
            raw,
            mono_ns=raw.mono_ns or self._clock.mono_ns(),
            wall_ms=raw.wall_ms or self._clock.wall_ms(),
        )

    def _owe(self, firing: Firing) -> Firing:
        self._owed[firing.task, firing.last_seq] = min(firing.first_seq, firing.events[0].seq)
        self._fired += 1
        return firing

    def _settle(self) -> None:
        cursor = min((seq for _, seq in self._owed), default=self._fed_seq + 1) - 1
        self._store.settle(cursor, min([self._pipeline.replay_seq(), *self._owed.values()]))
