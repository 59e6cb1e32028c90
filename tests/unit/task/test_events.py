"""What a task sees of the events that fired it."""

from __future__ import annotations

import dataclasses

import pytest

from walle_shared.errors import NotAllowed, TaskError
from walle_task import Event, Visit, events
from walle_task.testing import fake_host

CLICKS = [
    {"seq": 1, "kind": "page_enter", "event_id": "e", "page_id": "item", "args": {"id": 7}},
    {"seq": 2, "kind": "click", "event_id": "buy"},
    {"seq": 3, "kind": "click", "event_id": "cart"},
]


def test_all_events_in_order_as_frozen_values():
    with fake_host(events=CLICKS):
        found = events.all()
    assert [event.seq for event in found] == [1, 2, 3]
    assert found[0] == Event(seq=1, kind="page_enter", event_id="e", page_id="item", args={"id": 7})
    with pytest.raises(dataclasses.FrozenInstanceError):
        found[0].seq = 9  # type: ignore[misc]


def test_of_and_last_select_by_kind_and_id():
    with fake_host(events=CLICKS):
        assert [event.seq for event in events.of("click")] == [2, 3]
        assert events.last() == events.all()[2]
        assert events.last("click", "buy") == events.all()[1]
        assert events.last(event_id="e") == events.all()[0]
        assert events.last("scroll") is None


def test_all_gives_a_list_of_its_own_each_time():
    with fake_host(events=CLICKS):
        events.all().clear()
        assert len(events.all()) == 3


def test_visit_carries_its_events():
    plain = {"visit_id": "v1", "page_id": "item", "opened_ms": 5, "closed_ms": 9, "events": CLICKS}
    with fake_host(visit=plain):
        visit = events.visit()
    assert isinstance(visit, Visit)
    assert (visit.visit_id, visit.closed_ms, len(visit.events)) == ("v1", 9, 3)
    assert [event.event_id for event in visit.of("click")] == ["buy", "cart"]


def test_a_visit_that_says_nothing_of_its_events_has_the_matched_ones():
    with fake_host(events=CLICKS, visit={"visit_id": "v1"}):
        assert events.visit() == Visit(visit_id="v1", events=tuple(events.all()))
        assert len(events.all()) == 3


def test_no_visit_is_none_and_trigger_is_a_copy():
    with fake_host(events=CLICKS, trigger={"ids": ["page:item.exit"]}):
        assert events.visit() is None
        events.trigger().clear()
        assert events.trigger() == {"ids": ["page:item.exit"]}


def test_fields_of_a_newer_pipeline_are_ignored():
    with fake_host(
        events=[{"seq": 1, "kind": "click", "new": 1}], visit={"visit_id": "v", "new": 2, "events": []}
    ):
        assert events.all() == [Event(seq=1, kind="click")]
        assert events.visit() == Visit(visit_id="v")


def test_typed_events_and_visits_pass_through_the_fake_host():
    event = Event(seq=4, kind="scroll", args={"y": 2})
    visit = Visit(visit_id="v", events=(event,))
    with fake_host(events=[event], visit=visit):
        assert events.all() == [event]
        assert events.visit() == visit


def test_without_the_capability_events_are_refused():
    with fake_host(events=CLICKS, capabilities=frozenset({"log"})):
        for read in (events.all, events.visit, events.trigger, events.last):
            with pytest.raises(NotAllowed, match="add 'events' to capabilities"):
                read()


def test_without_a_run_the_message_says_what_to_do():
    with pytest.raises(TaskError, match="fake_host"):
        events.all()
