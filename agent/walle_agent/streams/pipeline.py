"""From the log's events to firings: page-level sequences and the matcher, no I/O.

The pipeline's state is a function of the log: after a restart the same events, fed again, give the same
firings, and the store says which of them have been dealt with (``storage``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from walle_agent.streams.event import Event
from walle_agent.streams.matcher import Match, Matcher, MatcherStatistics
from walle_agent.streams.sequences import PageSequences, Visit, is_aside
from walle_shared.limits import SLICE_MAX_EVENTS, TRIGGER_MAX_IDS
from walle_shared.manifest import Trigger
from walle_shared.records import to_plain
from walle_shared.targeting.policy import TaskKey

#: Recent events kept for slices: a longest match, and as many asides between its events.
_RECENT = 2 * TRIGGER_MAX_IDS


@dataclass(frozen=True, slots=True)
class Firing:
    """One run that a task is owed.

    Attributes:
        events: the events of the match; if it ends in the closing of a page visit, those of the visit.
        visit: that visit, or None.
        last_seq: number of the event that completed the match; a task fires at most once per event, so
            (task, last_seq) names the firing for ever.
    """

    task: TaskKey
    trigger: Trigger
    first_seq: int
    last_seq: int
    events: tuple[Event, ...]
    visit: Visit | None


@dataclass(frozen=True, slots=True)
class PipelineStatistics:
    """Counters of the matcher, and how many slices had to be cut to ``SLICE_MAX_EVENTS``."""

    matcher: MatcherStatistics
    slices_cut: int


class Pipeline:
    """Feeds the log's events, in order and each once, to the sequences and the matcher."""

    def __init__(self) -> None:
        self._matcher = Matcher()
        self._pages = PageSequences()
        self._recent: deque[Event] = deque(maxlen=_RECENT)
        self._slices_cut = 0

    def register(self, task: TaskKey, triggers: Sequence[Trigger]) -> None:
        """Add a task's triggers, in place of those it had.

        Raises:
            LimitExceeded: too many triggers, or a trigger of no or too many ids.
        """
        self._matcher.register(task, triggers)

    def deregister(self, task: TaskKey) -> None:
        """Forget a task's triggers; unknown tasks are no error."""
        self._matcher.deregister(task)

    def feed(self, event: Event) -> list[Firing]:
        """Take the next event of the log."""
        visit = self._pages.feed(event)
        self._recent.append(event)
        matches = self._matcher.feed(
            event_ids(event, closed=visit is not None), event.seq, aside=is_aside(event)
        )
        return [self._firing(match, visit) for match in matches]

    def replay_seq(self) -> int:
        """Number of the oldest event that a restart must read again: open visits and partial matches."""
        candidates = [seq for seq in (self._pages.first_open_seq(),) if seq is not None]
        if self._recent:
            candidates.append(self._recent[0].seq)
        return min(candidates, default=1)

    def statistics(self) -> PipelineStatistics:
        """Sizes and counters."""
        return PipelineStatistics(self._matcher.statistics(), self._slices_cut)

    def _firing(self, match: Match, visit: Visit | None) -> Firing:
        if visit is not None:
            events = visit.events
        else:
            events = tuple(event for event in self._recent if event.seq >= match.first_seq)
        if len(events) > SLICE_MAX_EVENTS:
            self._slices_cut += 1
            events = tuple(islice(events, len(events) - SLICE_MAX_EVENTS, None))
        return Firing(match.task, match.trigger, match.first_seq, match.last_seq, events, visit)


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
    """A firing as the plain JSON values that a task's run is given."""
    events = to_plain(firing.events)
    visit = None
    if firing.visit is not None:
        visit = to_plain(replace(firing.visit, events=())) | {"events": events}
    trigger = {"ids": list(firing.trigger.ids), "first_seq": firing.first_seq, "last_seq": firing.last_seq}
    return {"events": events, "visit": visit, "trigger": trigger}
