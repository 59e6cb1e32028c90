"""A worker's frames are hostile: exactly the known shapes pass."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_container import LaterAsk, LogEntry, ProfileNode, StoreWrite, TunnelSend, messages
from walle_container.messages import CallRequest, RunDone, SlotReady
from walle_shared.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError

DONE: dict[str, Any] = {
    "op": "done",
    "run": 3,
    "value": {"a": [1]},
    "error_kind": None,
    "error": None,
    "traceback": "",
    "wall_s": 0.5,
    "cpu_s": 0,
    "peak_bytes": 10,
    "stdout_tail": "",
    "logs": [{"level": "info", "message": "m", "fields": {"n": 1}}],
    "logs_dropped": 0,
    "rows": [{"table": "t", "row": {"n": 1}}],
    "values": {"k": 1},
    "uploads": [{"name": "u", "fields": {"n": 1}}],
    "later": [{"payload": {"n": 1}, "data": "eA=="}],
    "profile": [[-1, "run", "run", "", 1, 900], [0, "task", "run", "main.py:3", 1, 800]],
}


def parse(message: Any) -> Any:
    return messages.parse_guest_frame(json.dumps(message).encode())


def test_the_three_messages_pass():
    assert parse({"op": "ready"}) == SlotReady()
    assert parse({"op": "call", "call": "store.rows", "args": {"a": 1}}) == CallRequest(
        "store.rows", {"a": 1}
    )
    done = parse(DONE)
    assert isinstance(done, RunDone)
    assert (done.run, done.value, done.wall_s) == (3, {"a": [1]}, 0.5)
    assert done.logs == (LogEntry("info", "m", {"n": 1}),)
    assert done.rows == (StoreWrite("t", {"n": 1}),)
    assert done.uploads == (TunnelSend("u", {"n": 1}),)
    assert done.later == (LaterAsk({"n": 1}, "eA=="),)
    assert done.profile[1] == ProfileNode(0, "task", "run", "main.py:3", 1, 800)


@pytest.mark.parametrize("name", DONE)
def test_no_field_of_done_may_lack_and_none_be_added(name: str):
    with pytest.raises(RemoteProtocolError):
        parse({key: value for key, value in DONE.items() if key != name})
    with pytest.raises(RemoteProtocolError, match="lacks or adds"):
        parse(DONE | {"more": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run", -1),
        ("run", True),
        ("run", "3"),
        ("error_kind", "poisoned"),
        ("error_kind", "crashed"),
        ("error_kind", "unheard of"),
        ("error_kind", ["timeout"]),
        ("error", 5),
        ("traceback", None),
        ("wall_s", -0.1),
        ("wall_s", "1"),
        ("cpu_s", True),
        ("peak_bytes", 1.5),
        ("stdout_tail", []),
        ("logs", {}),
        ("logs", [1]),
        ("logs", [{"level": "fatal", "message": "m", "fields": {}}]),
        ("logs", [{"level": {}, "message": "m", "fields": {}}]),
        ("logs", [{"level": "info", "message": "m"}]),
        ("logs_dropped", -1),
        ("rows", [{"table": "t", "row": []}]),
        ("rows", [{"table": 1, "row": {}}]),
        ("rows", [{"table": "t", "row": {}, "more": 1}]),
        ("uploads", [{"name": "u", "fields": None}]),
        ("values", []),
        ("uploads", None),
        ("later", [{"payload": {}}]),
        ("later", [{"payload": {}, "data": 1}]),
        ("profile", {}),
        ("profile", [[0, "run", "run", "", 1, 1]]),
        ("profile", [[-1, "run", "run", "", 1, 1], [-1, "run", "run", "", 1, 1]]),
        ("profile", [[-1, "run", "run", "", 1, 1], [1, "run", "run", "", 1, 1]]),
        ("profile", [[-1, "fly", "run", "", 1, 1]]),
        ("profile", [[-1, "run", "run", "", 1]]),
        ("profile", [[-1, "run", "run", "", 1, -1]]),
        ("profile", [[-1, ["run"], "run", "", 1, 1]]),
    ],
)
def test_wrong_fields_of_done_are_named(name: str, value: Any):
    with pytest.raises(RemoteProtocolError, match=name):
        parse(DONE | {name: value})


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'{"op": "done", "run": NaN}',
        b'{"op": "ready", "more": 1}',
        b'{"op": "fly"}',
        b'{"op": ["ready"]}',
        b'{"call": "x", "args": {}}',
        b'{"op": "call", "call": 1, "args": {}}',
        b'{"op": "call", "call": "x", "args": []}',
        b'{"op": "call", "call": "x"}',
        b"[" * 100_000,
        b'"\xff"',
    ],
)
def test_other_frames_are_refused(frame: bytes):
    with pytest.raises(RemoteProtocolError):
        messages.parse_guest_frame(frame)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(frame: bytes):
    try:
        messages.parse_guest_frame(frame)
    except RemoteProtocolError:
        return
    assert json.loads(frame)["op"] in {"ready", "call", "done"}


def test_stats_are_checked_as_well():
    assert messages.parse_stats_frame(b'{"op": "stats", "rss_bytes": 5}') == 5
    for frame in (b'{"op": "stats"}', b'{"op": "stats", "rss_bytes": -5}', b'{"op": "ready"}', b"x"):
        with pytest.raises(RemoteProtocolError):
            messages.parse_stats_frame(frame)


def test_refusals_name_class_and_message():
    frame = json.loads(messages.encode_refusal(LimitExceeded("too much")).payload)
    assert frame == {"error": "LimitExceeded", "message": "too much"}


def test_what_is_not_json_of_ours_is_our_bug():
    with pytest.raises(LocalProtocolError, match="answer"):
        messages.encode_answer({1, 2})
