"""From the log's events to firings: page-level sequences and the matchers, no I/O.

The pipeline's state is a function of the log: after a restart the same events, fed again, give the same
firings, and the store says which of them have been dealt with (``storage``). Time is no exception: a silence
that is over becomes an event of the log before it fires anything. What extended triggers wait for may be a
day old, so their part of the state is also kept as a snapshot, and the log fed from there.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import Any

from walle_agent.streams.event import RESERVED_PREFIX, Event, RawEvent
from walle_agent.streams.matcher import Matcher, MatcherStatistics, Watch
from walle_agent.streams.relaxed import RelaxedMatcher, RelaxedStatistics, Silence, key_of
from walle_agent.streams.sequences import PageSequences, Visit, is_aside
from walle_agent.streams.snapshot import PipelineSnapshot, SavedFiring, SavedStage
from walle_shared.errors import LimitExceeded
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.limits import SLICE_MAX_EVENTS, TRIGGER_MAX_IDS
from walle_shared.manifest import Prepare, Trigger
from walle_shared.records import to_plain
from walle_shared.schema import EventSchema
from walle_shared.targeting.policy import TaskKey
from walle_shared.triggers import Compiled, compile_trigger, parse
from walle_task.preparing import RunningStage, Stage
from walle_task.streams import Row

#: Recent events kept for slices: a longest match, and as many asides between its events.
_RECENT = 2 * TRIGGER_MAX_IDS
#: Event id of the pipeline's own events: a silence is over.
SILENCE = RESERVED_PREFIX + "silence"
#: The machine was off at most so long, whatever the wall clock says.
_OFF_MAX_MS = 24 * 3_600_000

_EVENT_FIELDS = tuple(each.name for each in fields(Event))
_VISIT_FIELDS = tuple(each.name for each in fields(Visit) if each.name != "events")

ReadLog = Callable[[int, int], Sequence[Event]]
"""Events of the log by number, from first to last; those that are gone or cannot be read are missing."""


@dataclass(frozen=True, slots=True)
class Firing:
    """One run that a task is owed.

    Attributes:
        events: the events of the match; if it ends in the closing of a page visit, those of the visit.
        visit: that visit, or None.
        first_seq, end_seq: first and last event of the match.
        last_seq: number of the event that fired it: that at ``end_seq``, or the silence behind it. A task
            fires at most once per event, so (task, last_seq) names the firing for ever.
        key: the visit or argument an extended trigger matched in.
        prepared: rows of the task's stages over the log whose windows this event closed, by stage. Where no
            trigger matched, ``trigger`` and ``events`` are empty.
    """

    task: TaskKey
    trigger: Trigger
    first_seq: int
    last_seq: int
    events: tuple[Event, ...]
    visit: Visit | None
    end_seq: int
    key: str = ""
    prepared: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PipelineStatistics:
    """Counters of the matchers, and how many slices had to be cut to ``SLICE_MAX_EVENTS``.

    Of the stages over the log that are there now: how many, and events left out of them as too late, or for
    lack of room.
    """

    matcher: MatcherStatistics
    extended: RelaxedStatistics
    slices_cut: int
    stages: int = 0
    stages_late: int = 0
    stages_left_out: int = 0


@dataclass(slots=True)
class EventTime:
    """Milliseconds that never run backwards: the monotonic clock's, and over a restart of the machine the
    wall clock's."""

    mono_ns: int = 0
    wall_ms: int = 0
    now_ns: int = 0

    def at(self, mono_ns: int, wall_ms: int) -> int:
        """The time of something that happens next."""
        return self._at_ns(mono_ns, wall_ms) // 1_000_000

    def advance(self, mono_ns: int, wall_ms: int) -> int:
        """It happens."""
        self.now_ns = self._at_ns(mono_ns, wall_ms)
        self.mono_ns, self.wall_ms = mono_ns, wall_ms
        return self.now_ns // 1_000_000

    def _at_ns(self, mono_ns: int, wall_ms: int) -> int:
        if mono_ns >= self.mono_ns:
            return self.now_ns + mono_ns - self.mono_ns
        return self.now_ns + min(max(wall_ms - self.wall_ms, 0), _OFF_MAX_MS) * 1_000_000


class Pipeline:
    """Feeds the log's events, in order and each once, to the sequences and the matchers.

    Args:
        read_log: for the events of long matches; without it they are those still in memory.
        schema: what events hold; stages leave out what is not as declared there.
    """

    def __init__(self, read_log: ReadLog | None = None, schema: EventSchema | None = None) -> None:
        self._matcher = Matcher()
        self._extended = RelaxedMatcher()
        self._triggers: dict[TaskKey, tuple[Trigger, ...]] = {}
        self._compiled: dict[TaskKey, dict[int, Compiled]] = {}
        self._pages = PageSequences()
        self._time = EventTime()
        self._recent: deque[Event] = deque(maxlen=_RECENT)
        self._read_log = read_log or self._read_recent
        self._slices_cut = 0
        self._schema = schema
        self._stages: dict[TaskKey, tuple[RunningStage, ...]] = {}

    @property
    def needs_snapshot(self) -> bool:
        """Whether anything knows more than the log's newest part says."""
        return bool(self._compiled or self._stages)

    def register(
        self,
        task: TaskKey,
        triggers: Sequence[Trigger],
        prepare: Sequence[Prepare] = (),
        *,
        since_seq: int = 0,
    ) -> None:
        """Add a task's triggers and stages over the log, in place of those it had.

        A stage that it had just so before goes on; others begin with the event ``since_seq``.

        Raises:
            TriggerError: the text of one is wrong; the task keeps what it had.
            LimitExceeded: too many triggers, or a trigger of no or too many ids; the task has none now.
        """
        triggers = tuple(dict.fromkeys(triggers))  # listed twice says no more than once
        compiled = {
            rank: compile_trigger(parse(trigger.on)) for rank, trigger in enumerate(triggers) if trigger.on
        }
        try:
            self._matcher.register(task, [trigger for trigger in triggers if not trigger.on])
            self._extended.register(task, compiled)
        except LimitExceeded:
            self.deregister(task)
            raise
        self._triggers[task] = triggers
        self._compiled.pop(task, None)
        if compiled:
            self._compiled[task] = compiled
        self._register_stages(task, prepare, since_seq)

    def deregister(self, task: TaskKey) -> None:
        """Forget a task's triggers; unknown tasks are no error."""
        self._matcher.deregister(task)
        self._extended.deregister(task)
        self._triggers.pop(task, None)
        self._compiled.pop(task, None)
        self._stages.pop(task, None)

    def feed(self, event: Event) -> list[Firing]:
        """Take the next event of the log."""
        now_ms = self._time.advance(event.mono_ns, event.wall_ms)
        if event.event_id == SILENCE:
            return self._end_silence(event)
        visit, firings = self._feed_paper(event)
        extended = self._extended.feed(
            event_ids(event, closed=visit is not None),
            event.seq,
            now_ms,
            visit_id=event.visit_id,
            args=event.args,
            aside=is_aside(event),
        )
        firings += [
            self._extended_firing(
                match.task, match.rank, match.first_seq, match.last_seq, event.seq, match.key, visit
            )
            for match in extended
        ]
        if extended:
            firings = self._one_per_task(firings)
        return self._with_rows(firings, self._feed_stages(event), event) if self._stages else firings

    def feed_again(self, event: Event, owed: Sequence[SavedFiring]) -> list[Firing]:
        """Take an event that the restored snapshot has seen, and what extended triggers owe since it."""
        visit: Visit | None = None
        firings: list[Firing] = []
        if event.event_id != SILENCE:
            visit, firings = self._feed_paper(event)
        again = [
            self._extended_firing(task, rank, saved.first_seq, saved.last_seq, event.seq, saved.key, visit)
            for saved in owed
            for task, rank in self._find(saved)
        ]
        if again:
            firings = self._one_per_task(firings + again)
        rows = {
            (ScenarioName(saved.scenario), TaskName(saved.task)): _rows_from(saved.prepared)
            for saved in owed
            if saved.prepared
        }
        return self._with_rows(firings, rows, event) if rows else firings

    def quiet_prefix(self, events: Sequence[RawEvent]) -> int:
        """How many of the events that come next come before any silence can be over."""
        time = replace(self._time)
        until_ms = self._extended.quiet_until_ms(time.at(events[0].mono_ns, events[0].wall_ms))
        if until_ms == math.inf:
            return len(events)
        for number, event in enumerate(events):
            if time.advance(event.mono_ns, event.wall_ms) > until_ms:
                return number
        return len(events)

    def silences_over(self, mono_ns: int, wall_ms: int) -> list[RawEvent]:
        """The events that belong into the log before whatever happens next, at this time."""
        return [
            RawEvent(
                "custom",
                SILENCE,
                wall_ms=wall_ms,
                mono_ns=mono_ns,
                args={
                    "scenario": silence.task[0],
                    "task": silence.task[1],
                    "trigger": silence.trigger,
                    "key": silence.key,
                    "last_seq": silence.last_seq,
                },
            )
            for silence in self._extended.due(self._time.at(mono_ns, wall_ms))
        ]

    def snapshot(self, owed: Sequence[SavedFiring]) -> PipelineSnapshot:
        """What extended triggers and stages know now, and which of their firings are owed."""
        time = self._time
        stages = tuple(
            SavedStage(*task, _stage_text(running.stage.spec), running.since_seq, running.save())
            for task, stages in self._stages.items()
            for running in stages
        )
        return PipelineSnapshot(
            self._extended.snapshot(), time.mono_ns, time.wall_ms, time.now_ns, tuple(owed), stages
        )

    def restore(self, snapshot: PipelineSnapshot) -> None:
        """Take a snapshot over; call once, when the tasks are registered."""
        self._extended.restore(snapshot.matcher)
        self._time = EventTime(snapshot.mono_ns, snapshot.wall_ms, snapshot.now_ns)
        known = {(saved.scenario, saved.task, saved.spec): saved for saved in snapshot.stages}
        for task, stages in self._stages.items():
            for running in stages:
                saved = known.get((*task, _stage_text(running.stage.spec)))
                running.since_seq = snapshot.matcher.last_seq + 1 if saved is None else saved.since_seq
                if saved is not None:
                    running.load(saved.state)

    def watches(self) -> list[Watch]:
        """The consecutive triggers of all tasks."""
        return [
            (task, trigger.ids)
            for task, triggers in self._triggers.items()
            for trigger in triggers
            if not trigger.on
        ]

    def restore_watches(self, since: Mapping[Watch, int], otherwise: int) -> None:
        """Let consecutive triggers match from these events on; call once, when the tasks are registered."""
        self._matcher.restore(since, otherwise)

    def watch_from(self, seq: int) -> None:
        """No extended trigger or stage has seen anything yet, nor will it see events before ``seq``."""
        self._extended.watch_from(seq)
        for stages in self._stages.values():
            for running in stages:
                running.since_seq = max(running.since_seq, seq)

    def replay_seq(self) -> int:
        """Number of the oldest event that a restart must read again: open visits and partial matches."""
        candidates = [seq for seq in (self._pages.first_open_seq(),) if seq is not None]
        if self._recent:
            candidates.append(self._recent[0].seq)
        return min(candidates, default=1)

    def oldest_seq(self) -> int | None:
        """Number of the oldest event that an extended trigger may still want in its slice."""
        return self._extended.oldest_seq()

    def statistics(self) -> PipelineStatistics:
        """Sizes and counters."""
        stages = [running for stages in self._stages.values() for running in stages]
        return PipelineStatistics(
            self._matcher.statistics(),
            self._extended.statistics(),
            self._slices_cut,
            len(stages),
            sum(running.late for running in stages),
            sum(running.left_out for running in stages),
        )

    def saved(self, firing: Firing) -> SavedFiring:
        """A firing that the log alone would not give again, for the snapshot."""
        text = str(parse(firing.trigger.on)) if firing.trigger.on else ""
        rows = {name: [list(row) for row in rows] for name, rows in firing.prepared.items()} or None
        return SavedFiring(
            *firing.task, text, firing.last_seq, firing.first_seq, firing.end_seq, firing.key, rows
        )

    def _register_stages(self, task: TaskKey, prepare: Sequence[Prepare], since_seq: int) -> None:
        before = {running.stage.spec.name: running for running in self._stages.pop(task, ())}
        stages: list[RunningStage] = []
        for spec in prepare:
            if spec.over == "log":
                known = before.get(spec.name)
                if known is None or known.stage.spec != spec:
                    known = RunningStage(Stage(spec, self._schema), since_seq)
                stages.append(known)
        if stages:
            self._stages[task] = tuple(stages)

    def _feed_stages(self, event: Event) -> dict[TaskKey, dict[str, tuple[Row, ...]]]:
        closed: dict[TaskKey, dict[str, tuple[Row, ...]]] = {}
        for task, stages in self._stages.items():
            for running in stages:
                if rows := running.feed(event):
                    closed.setdefault(task, {})[running.stage.spec.name] = tuple(rows)
        return closed

    def _with_rows(
        self, firings: list[Firing], rows: dict[TaskKey, dict[str, tuple[Row, ...]]], event: Event
    ) -> list[Firing]:
        """Give each firing its task's rows; tasks with rows that did not fire, fire."""
        fired = [
            replace(firing, prepared=rows.pop(firing.task)) if firing.task in rows else firing
            for firing in firings
        ]
        seq = event.seq
        fired += [
            Firing(task, Trigger(), seq, seq, (), None, seq, prepared=prepared)
            for task, prepared in rows.items()
        ]
        return fired

    def _feed_paper(self, event: Event) -> tuple[Visit | None, list[Firing]]:
        visit = self._pages.feed(event)
        self._recent.append(event)
        matches = self._matcher.feed(
            event_ids(event, closed=visit is not None), event.seq, aside=is_aside(event)
        )
        firings: list[Firing] = []
        for match in matches:
            events = visit.events if visit is not None else self._read_recent(match.first_seq, match.last_seq)
            firings.append(
                Firing(
                    match.task, match.trigger, match.first_seq, event.seq, self._cut(events), visit, event.seq
                )
            )
        return visit, firings

    def _end_silence(self, event: Event) -> list[Firing]:
        args = event.args
        task = ScenarioName(args["scenario"]), TaskName(args["task"])
        match = self._extended.end_silence(
            Silence(task, args["trigger"], args["key"], args["last_seq"]), event.seq
        )
        if match is None:
            return []
        return [
            self._extended_firing(
                task, match.rank, match.first_seq, match.last_seq, event.seq, match.key, None
            )
        ]

    def _extended_firing(
        self,
        task: TaskKey,
        rank: int,
        first_seq: int,
        end_seq: int,
        at_seq: int,
        key: str,
        visit: Visit | None,
    ) -> Firing:
        per = self._compiled[task][rank].sequence.per
        if visit is not None:
            events: Sequence[Event] = visit.events
        else:
            events = [
                event
                for event in self._read_log(first_seq, end_seq) or self._read_recent(first_seq, end_seq)
                if event.event_id != SILENCE and key_of(per, event.visit_id, event.args) == key
            ]
        return Firing(
            task, self._triggers[task][rank], first_seq, at_seq, self._cut(events), visit, end_seq, key
        )

    def _find(self, saved: SavedFiring) -> list[tuple[TaskKey, int]]:
        """The trigger of a saved firing, if its task still has it."""
        task = ScenarioName(saved.scenario), TaskName(saved.task)
        ranks = [r for r, c in self._compiled.get(task, {}).items() if str(c.sequence) == saved.trigger]
        return [(task, rank) for rank in ranks[:1]]

    def _one_per_task(self, firings: list[Firing]) -> list[Firing]:
        """A task fires once per event: for its first listed trigger."""
        best: dict[TaskKey, Firing] = {}
        for firing in firings:
            ranks = self._triggers[firing.task].index
            present = best.setdefault(firing.task, firing)
            if ranks(firing.trigger) < ranks(present.trigger):
                best[firing.task] = firing
        return list(best.values())

    def _cut(self, events: Sequence[Event]) -> tuple[Event, ...]:
        if len(events) <= SLICE_MAX_EVENTS:
            return tuple(events)
        self._slices_cut += 1
        return tuple(islice(events, len(events) - SLICE_MAX_EVENTS, None))

    def _read_recent(self, first_seq: int, last_seq: int) -> list[Event]:
        return [event for event in self._recent if first_seq <= event.seq <= last_seq]


def _stage_text(spec: Prepare) -> str:
    """A text that only equal stages share."""
    return json.dumps(to_plain(spec), sort_keys=True)


def _rows_from(plain: Mapping[str, Any]) -> dict[str, tuple[Row, ...]]:
    return {name: tuple(Row(*row) for row in rows) for name, rows in plain.items()}


def event_ids(event: Event, *, closed: bool) -> tuple[str, ...]:
    """The ids a trigger may name for ``event``; ``closed`` says that it closed a page visit."""
    ids = ["event:" + event.event_id, "kind:" + event.kind]
    if event.page_id:
        page = "page:" + event.page_id
        ids.append(page)
        if event.kind == "page_enter":
            ids.append(page + ".enter")
        elif closed:
            ids.append(page + ".exit")
    return tuple(ids)


def run_inputs(firing: Firing) -> dict[str, Any]:
    """A firing as the plain JSON values that a task's run is given.

    A visit's events are the run's, so they are not told twice.
    """
    visit = firing.visit
    trigger = to_plain(firing.trigger) | {"first_seq": firing.first_seq, "last_seq": firing.end_seq}
    return {
        "events": [_members(event, _EVENT_FIELDS) for event in firing.events],
        "visit": None if visit is None else _members(visit, _VISIT_FIELDS),
        "trigger": trigger,
    }


def _members(record: object, names: Sequence[str]) -> dict[str, Any]:
    """A record whose members are JSON values already; ``to_plain`` would copy every one of them."""
    return {name: getattr(record, name) for name in names}
