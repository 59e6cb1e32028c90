from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from walle_shared.manifest import TaskFile, parse_task_file
from walle_shared.privacy import ALL_EVENTS, INBOX, complaints, local_reads, narrow_inputs, open_uploads
from walle_shared.schema import parse_schema

SCHEMA = parse_schema(
    """
[envelope]
page_id = "upload"
wall_ms = "aggregate"
[events.buy]
kind = "click"
[events.buy.args]
item = { type = "text", privacy = "upload" }
price = { type = "real", privacy = "aggregate" }
note = { type = "text" }
"""
)
UPLOADS = """
[uploads.sum]
n = "integer"
x = "real"
word = "text"
sure = "boolean"
more = "json"
"""
CLOSED = """
[bounds.sum]
n = { min = 0, max = 9 }
x = { min = 0.5, max = 1 }
word = { values = ["a", "b"] }
"""


def task(text: str, entry: str = "main:run") -> TaskFile:
    head = f'[task]\nscenario = "d"\nname = "t"\nentry = "{entry}"\n[[triggers]]\nids = ["event:buy"]\n'
    return parse_task_file(head + text)


def stage(values: str, rest: str = "") -> str:
    return f"[[prepare]]\nname = 's'\nevents = ['buy']\nvalues = {{ v = '{values}' }}\ntable = 't'\n{rest}\n"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", (ALL_EVENTS,)),
        ("[reads]", ()),
        ("[reads]\nbuy = ['page_id', 'args.item']", ()),
        ("[reads]\nbuy = ['args.price']", ("buy.args.price",)),
        ("[reads]\nbuy = ['args.note', 'wall_ms']", ("buy.args.note", "buy.wall_ms")),
        ("[reads]\nscroll = ['args.item']", ("scroll.args.item",)),
        ("[reads]\n" + stage("sum(args.price)"), ()),
        ("[reads]\n" + stage("histogram(args.price, 1, 2)", "window = { tumbling_ms = 9 }"), ()),
        ("[reads]\n" + stage("first(args.price)"), ("buy.args.price",)),
        ("[reads]\n" + stage("count()", "key_by = 'args.price'"), ("buy.args.price",)),
        ("[reads]\n" + stage("count()", "key_by = 'args.item'"), ()),
        ("[reads]\n" + stage("count()", "where = { 'args.price' = 1 }"), ()),
        ("[reads]\n" + stage("count()", "where = { 'args.note' = 'x' }"), ("buy.args.note",)),
        ("[reads]\n" + stage("max(args.note)"), ("buy.args.note",)),
    ],
)
def test_what_confines_a_task(text: str, seen: tuple[str, ...]) -> None:
    definition = task(text.replace("[reads]\n[[", "[reads]\n[tables.t]\nv = 'json'\n[["))
    assert local_reads(definition, SCHEMA) == seen
    assert local_reads(definition, None) == ()


def test_files_of_the_inbox_are_local() -> None:
    definition = task("[reads]")
    reader = replace(definition, task=replace(definition.task, capabilities=("events", "inbox")))
    assert local_reads(reader, SCHEMA) == (INBOX,)
    assert local_reads(reader, None) == ()


def test_a_task_without_a_script_sees_what_its_stages_see() -> None:
    tables = "[tables.t]\nv = 'json'\n"
    assert local_reads(task(tables + stage("sum(args.price)"), entry=""), SCHEMA) == ()
    assert local_reads(task(tables + stage("sum(args.note)"), entry=""), SCHEMA) == ("buy.args.note",)


def test_a_confined_task_may_send_closed_fields_only() -> None:
    assert open_uploads(task(UPLOADS)) == ("sum.n", "sum.x", "sum.word", "sum.more")
    assert open_uploads(task(UPLOADS + CLOSED)) == ("sum.more",)
    half = "[bounds.sum]\nn = { min = 0 }\n"
    assert "sum.n" in open_uploads(task(UPLOADS + half))
    (key, message), *_ = complaints(task(UPLOADS), SCHEMA)
    assert key == "uploads.sum.n"
    assert "[bounds.sum]: n = { min = 0, max = 9 }" in message
    assert list(complaints(task(UPLOADS), None)) == []
    assert list(complaints(task("[reads]\nbuy = ['args.item']\n" + UPLOADS), SCHEMA)) == []


def event(event_id: str, kind: str, **args: Any) -> dict[str, Any]:
    return {
        "seq": 1,
        "kind": kind,
        "event_id": event_id,
        "page_id": "item",
        "visit_id": "v",
        "wall_ms": 5,
        "mono_ns": 6,
        "args": args,
    }


def test_a_script_gets_what_it_declares_to_read() -> None:
    events = [
        event("buy", "click", item="a", price=1, deep={"a": 1, "b": 2}),
        event("buy", "click", item={"not": "text"}),
        event("else", "click", item="b"),
        event("walle.closed.age", "page_exit"),
    ]
    visit = {
        "visit_id": "v",
        "page_id": "item",
        "opened_ms": 1,
        "closed_ms": 2,
        "reason": "age",
        "events": events,
    }
    inputs = {"events": events, "visit": visit, "trigger": {"ids": []}}
    reads = {"buy": ("page_id", "args.item", "args.deep.a"), "page_exit": ()}
    narrowed = narrow_inputs(inputs, reads, SCHEMA)
    named = {"seq": 1, "kind": "click", "event_id": "buy", "page_id": "item"}
    assert narrowed["events"] == [
        {**named, "args": {"item": "a", "deep": {"a": 1}}},
        {**named, "args": {}},
        {"seq": 1, "kind": "page_exit", "event_id": "walle.closed.age", "args": {}},
    ]
    assert narrowed["visit"]["events"] == narrowed["events"]
    del visit["events"]
    assert narrow_inputs(inputs, reads, SCHEMA)["visit"].keys() == visit.keys()
    assert (narrowed["visit"]["visit_id"], narrowed["visit"]["page_id"]) == ("", "item")
    assert (narrowed["visit"]["opened_ms"], narrowed["visit"]["reason"]) == (0, "age")
    assert narrowed["trigger"] == {"ids": []}
    assert narrow_inputs(inputs, None, SCHEMA) == inputs
    assert events[0]["args"]["deep"] == {"a": 1, "b": 2}


def test_a_confined_task_asks_no_cloud_half() -> None:
    text = "[cloud]\n[reads]\nbuy = ['{}']\n"
    head = '[task]\nscenario = "d"\nname = "t"\ncapabilities = ["cloud"]\n[[triggers]]\nids = ["event:buy"]\n'
    assert not list(complaints(parse_task_file(head + text.format("args.item")), SCHEMA))
    ((key, message),) = complaints(parse_task_file(head + text.format("args.note")), SCHEMA)
    assert key == "task.capabilities"
    assert "buy.args.note" in message
