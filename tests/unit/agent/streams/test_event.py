from __future__ import annotations

import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_agent.streams.event import EventError, make_event, parse_event
from walle_shared.limits import EVENT_MAX_ARGS, EVENT_MAX_BYTES


def test_the_event_id_is_the_kind_where_omitted() -> None:
    raw = parse_event(b'{"kind": "click", "page_id": "item", "args": {"x": 1}}')
    assert (raw.kind, raw.event_id, raw.page_id, raw.visit_id) == ("click", "click", "item", "")
    assert raw.args == {"x": 1}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "event.kind"),
        (b'{"kind": 1}', "event.kind"),
        (b'{"kind": ["click"]}', "event.kind"),
        (b'{"kind": "tap"}', "event.kind"),
        (b'{"kind": "click", "widget": 1}', "event.widget is not known"),
        (b'{"kind": "click", "event_id": "a b"}', "event.event_id"),
        (b'{"kind": "click", "event_id": "walle.closed.age"}', "agent's own"),
        (b'{"kind": "click", "event_id": null}', "event.event_id"),
        (b'{"kind": "click", "page_id": "item.exit"}', "must not end in"),
        (b'{"kind": "click", "page_id": 5}', "event.page_id"),
        (b'{"kind": "page_enter"}', "must name its page"),
        (b'{"kind": "click", "visit_id": "~1"}', "event.visit_id"),
        (b'{"kind": "click", "wall_ms": 1.5}', "event.wall_ms"),
        (b'{"kind": "click", "wall_ms": true}', "event.wall_ms"),
        (b'{"kind": "click", "wall_ms": -1}', "event.wall_ms"),
        (b'{"kind": "click", "wall_ms": 18446744073709551615}', "event.wall_ms"),
        (b'{"kind": "click", "args": []}', "event.args"),
        (
            orjson.dumps({"kind": "click", "args": {str(n): n for n in range(EVENT_MAX_ARGS + 1)}}),
            "the limit is",
        ),
        (orjson.dumps({"kind": "click", "args": {"x": "y" * EVENT_MAX_BYTES}}), "over the limit"),
        (b'{"kind":"click","args":' + b'{"a":' * 2_000 + b"1" + b"}" * 2_000 + b"}", "not JSON"),
    ],
)
def test_a_bad_line_names_what_is_wrong(line: bytes, named: str) -> None:
    with pytest.raises(EventError, match=named):
        parse_event(line)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(plain)
def test_no_json_breaks_the_parser(value: object) -> None:
    with contextlib.suppress(EventError):
        assert parse_event(orjson.dumps(value)).kind


def test_events_made_in_process_obey_the_same_rules() -> None:
    assert make_event("click", event_id="buy", args={"n": 1}).size_bytes > 0
    with pytest.raises(EventError, match="plain JSON"):
        make_event("click", args={"x": object()})
    with pytest.raises(EventError, match="must name its page"):
        make_event("page_enter")
