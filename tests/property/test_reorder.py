"""Bounded reordering: disorder within the bound changes nothing, and nothing is ever lost unseen."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_agent.streams.event import RawEvent
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.reorder import ReorderBuffer
from walle_agent.streams.storage import StreamStore
from walle_shared.clock import FixedClock
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger

BOUND = 20
KINDS = st.sampled_from(["click", "click", "scroll", "page_exit"])
#: Happened at, on its way for, kind, whether it says when it happened.
flights = st.lists(st.tuples(st.integers(1, 200), st.integers(0, 30), KINDS, st.booleans()), max_size=30)


def run(flight: list[tuple[int, int, str, bool]]) -> tuple[list[RawEvent], ReorderBuffer]:
    """Every event comes when its way is over, and the buffer is looked at each nanosecond."""
    arrivals: dict[int, list[RawEvent]] = {}
    for number, (at_ns, way_ns, kind, timed) in enumerate(flight):
        event = RawEvent(kind, str(number), mono_ns=at_ns if timed else at_ns + way_ns, timed=timed)
        arrivals.setdefault(at_ns + way_ns, []).append(event)
    buffer = ReorderBuffer(BOUND)
    out: list[RawEvent] = []
    for now_ns in range(300):
        for event in arrivals.get(now_ns, []):
            buffer.push(event)
        out += buffer.pop(now_ns)
    return out, buffer


@given(flights)
def test_time_never_runs_back_and_everything_is_accounted_for(
    flight: list[tuple[int, int, str, bool]],
) -> None:
    out, buffer = run(flight)
    assert [event.mono_ns for event in out] == sorted(event.mono_ns for event in out)
    assert len(out) + buffer.statistics().late == len(flight)
    assert buffer.statistics().waiting == 0
    assert buffer.next_due_ns() is None


@given(flights)
def test_disorder_within_the_bound_is_undone(flight: list[tuple[int, int, str, bool]]) -> None:
    within = [(at_ns, min(way_ns, BOUND), "click", True) for at_ns, way_ns, _, _ in flight]
    out, buffer = run(within)
    assert buffer.statistics().late == 0
    assert [event.mono_ns for event in out] == sorted(at_ns for at_ns, _, _, _ in within)


@given(flights)
def test_a_closing_waits_for_nothing(flight: list[tuple[int, int, str, bool]]) -> None:
    buffer = ReorderBuffer(BOUND)
    for at_ns, _, kind, timed in flight:
        taken = buffer.push(RawEvent(kind, "", mono_ns=at_ns, timed=timed))
        out = list(buffer.pop(0))
        if taken and kind == "page_exit":
            assert any(event.kind == kind and event.mono_ns == at_ns for event in out)


def test_without_times_nothing_waits() -> None:
    buffer = ReorderBuffer(BOUND)
    for at_ns in (5, 6, 7):
        assert buffer.push(RawEvent("click", "", mono_ns=at_ns))
        assert [event.mono_ns for event in buffer.pop(at_ns)] == [at_ns]


@pytest.mark.parametrize("late", ["keep", "aside"])
def test_what_becomes_of_late_events(late: Literal["keep", "aside"]) -> None:
    clock = FixedClock(mono_ns=10**9, wall_ms=10**12)
    with TemporaryDirectory() as folder:
        store = StreamStore.open(Path(folder) / "s.db", clock)
        flow = StreamFlow(store, clock, reorder_s=0.2, late=late)
        flow.register((ScenarioName("demo"), TaskName("t")), [Trigger(("event:b", "event:a"))])
        flow.accept([RawEvent("click", "b", mono_ns=10**9, timed=True)])
        clock.advance(0.3)
        assert flow.accept([]) == []
        fired = flow.accept([RawEvent("click", "a", mono_ns=10**9 - 5, timed=True)])
        assert len(fired) == (late == "keep")
        assert [event.event_id for event in store.read_late()] == (["a"] if late == "aside" else [])
        assert flow.statistics().order.late == 1
        store.close()


def test_events_that_wait_are_logged_at_the_end() -> None:
    clock = FixedClock(mono_ns=10**9, wall_ms=10**12)
    with TemporaryDirectory() as folder:
        store = StreamStore.open(Path(folder) / "s.db", clock)
        flow = StreamFlow(store, clock, reorder_s=0.2)
        flow.accept([RawEvent("click", "a", mono_ns=10**9, timed=True)])
        assert flow.next_due_ns() == 12 * 10**8
        assert store.read_log(1, 9) == ()
        flow.finish()
        assert [event.event_id for event in store.read_log(1, 9)] == ["a"]
        store.close()
