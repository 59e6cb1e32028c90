from __future__ import annotations

from dataclasses import replace

import pytest

from walle_agent.streams.event import Event, EventKind, make_event
from walle_agent.streams.pipeline import Firing, Pipeline, run_inputs
from walle_agent.streams.sequences import VisitTracker
from walle_shared.errors import LimitExceeded
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.limits import (
    VISIT_BACKGROUND_S,
    VISIT_MAX_BYTES,
    VISIT_MAX_EVENTS,
    VISIT_MAX_S,
    VISITS_OPEN_MAX,
)
from walle_shared.manifest import Trigger
from walle_task import events
from walle_task.testing import fake_host

TASK = (ScenarioName("demo"), TaskName("one"))
OTHER = (ScenarioName("demo"), TaskName("two"))


class App:
    """Sends events through tracker and pipeline, ten a second."""

    def __init__(self, **triggers: list[str]) -> None:
        self.tracker, self.pipeline = VisitTracker(), Pipeline()
        self.seq = 0
        self.now_ns = 1
        for name, ids in triggers.items():
            self.pipeline.register((ScenarioName("demo"), TaskName(name)), [Trigger(tuple(ids))])

    def __call__(
        self,
        kind: EventKind,
        event_id: str = "",
        page: str = "",
        visit: str = "",
        size_bytes: int | None = None,
    ) -> list[Firing]:
        self.now_ns += 10**8
        raw = make_event(kind, event_id=event_id, page_id=page, visit_id=visit)
        raw = replace(raw, mono_ns=self.now_ns, wall_ms=self.now_ns // 10**6)
        if size_bytes is not None:
            raw = replace(raw, size_bytes=size_bytes)
        firings: list[Firing] = []
        for r in self.tracker.complete(raw):
            self.seq += 1
            event = Event(self.seq, r.kind, r.event_id, r.page_id, r.visit_id, r.wall_ms, r.mono_ns, r.args)
            firings.extend(self.pipeline.feed(event))
        return firings


def test_consecutive_ids_fire_and_anything_between_them_does_not() -> None:
    app = App(one=["event:search", "kind:click"])
    app("custom", "search")
    (firing,) = app("click", "buy")
    assert [event.event_id for event in firing.events] == ["search", "buy"]
    assert (firing.first_seq, firing.last_seq, firing.visit) == (1, 2, None)
    app("custom", "search")
    app("scroll")
    assert app("click") == []


def test_a_closing_page_hands_over_its_visit() -> None:
    app = App(one=["page:item.exit"])
    app("page_enter", page="item")
    app("click", "add_cart")
    (firing,) = app("page_exit")
    assert firing.visit is not None
    assert firing.visit.reason == "page_exit"
    assert firing.events == firing.visit.events
    assert [event.kind for event in firing.events] == ["page_enter", "click", "page_exit"]
    assert firing.visit.closed_ms - firing.visit.opened_ms == 200
    inputs = run_inputs(firing)
    assert inputs["visit"]["reason"] == "page_exit"
    assert [event["kind"] for event in inputs["events"]] == ["page_enter", "click", "page_exit"]
    assert "events" not in inputs["visit"]  # they are the run's, and not told twice
    with fake_host(**inputs):
        assert events.visit() == events.Visit(**inputs["visit"], events=tuple(events.all()))
    assert inputs["trigger"] == {"ids": ["page:item.exit"], "on": "", "first_seq": 3, "last_seq": 3}


def test_an_exit_of_no_visit_is_no_closing() -> None:
    app = App(one=["page:item.exit"], two=["kind:page_exit"])
    (firing,) = app("page_exit", page="item")
    assert firing.task == OTHER
    assert firing.visit is None


def test_interleaved_visits_keep_their_events_apart() -> None:
    app = App(one=["kind:page_exit"])
    app("page_enter", page="item", visit="v1")
    app("page_enter", page="item", visit="v2")
    app("click", "first", visit="v1")
    app("click", "second", visit="v2")
    (one,) = app("page_exit", visit="v1")
    (two,) = app("page_exit", visit="v2")
    assert [event.event_id for event in one.events] == ["page_enter", "first", "page_exit"]
    assert [event.event_id for event in two.events] == ["page_enter", "second", "page_exit"]


def test_the_next_page_replaces_a_nameless_visit_and_breaks_no_match() -> None:
    app = App(one=["page:item.exit"], two=["kind:click", "page:cart.enter"])
    app("page_enter", page="item")
    app("click")
    firings = app("page_enter", page="cart")
    assert {firing.task for firing in firings} == {TASK, OTHER}
    (closing,) = (firing for firing in firings if firing.task == TASK)
    assert closing.visit is not None
    assert closing.visit.reason == "replaced"


def test_entering_under_an_open_visits_id_replaces_it() -> None:
    app = App(one=["page:a.exit"])
    app("page_enter", page="a", visit="v")
    (firing,) = app("page_enter", page="b", visit="v")
    assert firing.visit is not None
    assert firing.visit.reason == "replaced"


def test_a_visit_closes_when_it_is_too_old() -> None:
    app = App(one=["page:item.exit"])
    app("page_enter", page="item")
    app.now_ns += round(VISIT_MAX_S * 1e9)
    (firing,) = app("click")
    assert firing.visit is not None
    assert firing.visit.reason == "age"
    assert [event.kind for event in firing.events] == ["page_enter", "page_exit"]


def test_visits_close_when_the_app_stays_in_the_background() -> None:
    app = App(one=["page:item.exit"])
    app("page_enter", page="item")
    app("custom", "app.background")
    app.now_ns += round(VISIT_BACKGROUND_S * 1e9) // 2
    assert app("click") == []  # the user came back
    app("custom", "app.background")
    app.now_ns += round(VISIT_BACKGROUND_S * 1e9)
    (firing,) = app("page_enter", page="cart")
    assert firing.visit is not None
    assert firing.visit.reason == "background"
    assert firing.visit.page_id == "item"


def test_a_visit_closes_when_it_has_too_many_events() -> None:
    app = App(one=["page:item.exit"])
    app("page_enter", page="item")
    firings: list[Firing] = []
    while not firings:
        firings = app("scroll")
    assert len(firings[0].events) == VISIT_MAX_EVENTS
    assert firings[0].visit is not None
    assert firings[0].visit.reason == "events"
    app("scroll")
    assert app.tracker.statistics().unattached == 1


def test_a_visit_closes_when_it_is_too_large() -> None:
    app = App(one=["page:item.exit"])
    app("page_enter", page="item")
    (firing,) = app("click", size_bytes=VISIT_MAX_BYTES + 1)
    assert firing.visit is not None
    assert firing.visit.reason == "bytes"


def test_too_many_open_visits_close_the_oldest() -> None:
    app = App(one=["page:item.exit"])
    for number in range(VISITS_OPEN_MAX):
        assert app("page_enter", page="item", visit=f"v{number}") == []
    (firing,) = app("page_enter", page="item", visit="last")
    assert firing.visit is not None
    assert (firing.visit.visit_id, firing.visit.reason) == ("v0", "evicted")


def test_a_task_fires_once_per_event_and_may_change_at_run_time() -> None:
    app = App()
    app.pipeline.register(TASK, [Trigger(("kind:click",)), Trigger(("event:buy",))])
    app.pipeline.register(OTHER, [Trigger(("kind:scroll", "event:buy"))])
    app("scroll")
    assert {firing.task for firing in app("click", "buy")} == {TASK, OTHER}
    assert app.pipeline.statistics().matcher.collapsed == 1
    app.pipeline.deregister(TASK)
    app.pipeline.deregister(TASK)
    assert app("click", "buy") == []


def test_a_trigger_without_ids_or_too_many_triggers_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="1 to 32 ids"):
        App(one=[])
    with pytest.raises(LimitExceeded, match="over the limit"):
        Pipeline().register(TASK, [Trigger((f"event:e{n}",)) for n in range(100_001)])
