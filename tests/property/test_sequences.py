"""Page visits over random streams: what must hold whatever apps send, and that the log alone rebuilds it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from walle_agent.streams.event import Event, EventKind, RawEvent, make_event
from walle_agent.streams.sequences import BACKGROUND, PageSequences, Visit, VisitTracker, close_reason
from walle_shared.limits import VISIT_MAX_S

KINDS: tuple[EventKind, ...] = ("page_enter", "scroll", "exposure", "click", "page_exit", "custom")


@st.composite
def streams(draw: st.DrawFn) -> list[RawEvent]:
    mono_ns = 1
    stream: list[RawEvent] = []
    for _ in range(draw(st.integers(0, 60))):
        mono_ns += draw(st.sampled_from([1, 10**9, round(VISIT_MAX_S * 4e8), -mono_ns + 1]))
        kind = draw(st.sampled_from(KINDS))
        page_id = draw(st.sampled_from(["a", "b"] if kind == "page_enter" else ["a", "b", ""]))
        visit_id = draw(st.sampled_from(["", "", "v1", "v2"]))
        event_id = draw(st.sampled_from(["", BACKGROUND])) if kind == "custom" else ""
        raw = make_event(kind, event_id=event_id, page_id=page_id, visit_id=visit_id)
        stream.append(replace(raw, mono_ns=mono_ns, wall_ms=1_700_000_000_000 + len(stream)))
    return stream


def tracked(stream: list[RawEvent], tracker: VisitTracker, first_seq: int = 1) -> list[Event]:
    log: list[Event] = []
    for raw in stream:
        for r in tracker.complete(raw):
            seq = first_seq + len(log)
            log.append(Event(seq, r.kind, r.event_id, r.page_id, r.visit_id, r.wall_ms, r.mono_ns, r.args))
    return log


def new_tracker(start: int = 0) -> VisitTracker:
    numbers = count(start)
    return VisitTracker(lambda: str(next(numbers)))


def visits(log: list[Event]) -> list[Visit]:
    pages = PageSequences()
    return [visit for event in log if (visit := pages.feed(event)) is not None]


@settings(max_examples=400)
@given(streams())
def test_every_event_is_logged_once_and_visits_are_whole(stream: list[RawEvent]) -> None:
    tracker = new_tracker()
    log = tracked(stream, tracker)
    sent = [event for event in log if not event.event_id.startswith("walle.")]
    assert [(e.kind, e.wall_ms) for e in sent] == [(r.kind, r.wall_ms) for r in stream]
    found = visits(log)
    for visit in found:
        kinds = [event.kind for event in visit.events]
        assert kinds[0] == "page_enter"
        assert kinds[-1] == "page_exit"
        assert kinds.count("page_enter") == kinds.count("page_exit") == 1
        assert {event.visit_id for event in visit.events} == {visit.visit_id}
        assert visit.events[0].page_id == visit.page_id
        assert visit.reason == close_reason(visit.events[-1])
    statistics = tracker.statistics()
    assert dict(statistics.closed) == Counter(visit.reason for visit in found)
    assert statistics.opened == len(found) + statistics.open_now


@settings(max_examples=300)
@given(streams(), st.integers(0, 60))
def test_a_restart_anywhere_gives_the_same_visits(stream: list[RawEvent], cut: int) -> None:
    whole = tracked(stream, new_tracker())
    before = tracked(stream[:cut], new_tracker())
    resumed = new_tracker(1_000)
    for event in before:
        resumed.restore(event)
    after = tracked(stream[cut:], resumed, first_seq=len(before) + 1)
    joined = before + after
    assert [(e.kind, e.event_id, e.wall_ms) for e in joined] == [
        (e.kind, e.event_id, e.wall_ms) for e in whole
    ]
    shapes = [[[event.seq for event in visit.events] for visit in visits(log)] for log in (whole, joined)]
    assert shapes[0] == shapes[1]


@given(streams(), st.integers(0, 10**13))
def test_no_visit_is_open_past_its_age(stream: list[RawEvent], later_ns: int) -> None:
    tracker = new_tracker()
    tracked(stream, tracker)
    last_ns = stream[-1].mono_ns if stream else 0
    tracker.overdue(last_ns + round(VISIT_MAX_S * 1e9) + later_ns)
    assert tracker.statistics().open_now == 0
