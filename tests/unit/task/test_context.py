"""Limits and strict JSON of everything a run produces; parameters, log and tunnel."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_shared.errors import LimitExceeded, NotAllowed, TaskError
from walle_task import log, params, store, tunnel
from walle_task.context import JSON_MAX_DEPTH, LOG_MAX_ENTRIES, encode_json, is_granted
from walle_task.testing import fake_host

plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain_json)
def test_json_survives_encoding_unless_it_has_lone_surrogates(value: Any):
    if not _is_utf8(value):
        with pytest.raises(TaskError, match="surrogate"):
            encode_json(value, "x")
    else:
        assert json.loads(encode_json(value, "x")) == value


def _is_utf8(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _cycle() -> Any:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, math.nan]}, r"x\['a'\]\[1\] is nan"),
        (math.inf, "x is inf"),
        ({"a": {1, 2}}, r"x\['a'\] has type set"),
        ({(1, 2): 1}, r"key \(1, 2\)"),
        (["\ud800"], r"x\[0\] is text with a lone surrogate"),
        ({"\ud800": 1}, "surrogate"),
        (memoryview(b"ab"), r"use \.tolist\(\)"),
        (_nested(JSON_MAX_DEPTH + 2), "nested deeper"),
        (_nested(100_000), "nested deeper"),
        (_cycle(), "nested deeper"),
    ],
    ids=[
        "nan",
        "infinity",
        "set",
        "tuple key",
        "surrogate",
        "surrogate key",
        "buffer",
        "deep",
        "very deep",
        "cycle",
    ],
)
def test_what_json_cannot_hold_is_named(value: object, message: str):
    with pytest.raises(TaskError, match=message):
        encode_json(value, "x")


def test_depth_up_to_the_limit_is_fine():
    assert encode_json(_nested(JSON_MAX_DEPTH), "x").count(b"[") == JSON_MAX_DEPTH


def test_grants_by_name_and_by_family_but_not_by_prefix():
    assert is_granted("store.rows", frozenset({"store.rows"}))
    assert is_granted("store.rows", frozenset({"store"}))
    assert not is_granted("store.rows", frozenset({"store.put", "stor", "log"}))
    assert not is_granted("store", frozenset({"store.rows"}))


def test_output_counts_rows_and_messages_together_and_stays_exceeded():
    with fake_host(output_bytes=60) as host:
        store.table("a").put({"x": "y" * 30})
        with pytest.raises(LimitExceeded, match="output_bytes"):
            tunnel.send("m", {"x": "y" * 30})
        assert host.context.overflowed
    assert host.uploads == []


def test_log_keeps_the_first_lines_and_counts_the_rest():
    with fake_host() as host:
        for number in range(LOG_MAX_ENTRIES + 5):
            log.info("line", number=number)
        log.error("lost")
    assert len(host.logs) == LOG_MAX_ENTRIES
    assert host.context.logs_dropped == 6
    assert host.logs[3] == {"level": "info", "message": "line", "fields": {"number": 3}}


def test_log_takes_anything_and_keeps_it_printable():
    with fake_host() as host:
        log.debug("d", thing={1}, bad=math.nan)
        log.warning("w", long="x" * 10_000)
        log.error(12)  # type: ignore[arg-type]
    assert [entry["level"] for entry in host.logs] == ["debug", "warning", "error"]
    json.dumps(host.logs, allow_nan=False)
    assert len(json.dumps(host.logs[1])) < 5_000
    assert host.logs[2]["message"] == "12"


def test_params_with_default_and_as_a_copy():
    with fake_host(params={"threshold": 0.5}):
        assert params.get("threshold") == 0.5
        assert params.get("other", 3) == 3
        params.all().clear()
        assert params.all() == {"threshold": 0.5}


def test_tunnel_sends_are_buffered():
    with fake_host() as host:
        tunnel.send("digit", {"digit": 7})
    assert host.uploads == [{"name": "digit", "fields": {"digit": 7}}]


@pytest.mark.parametrize(
    "use",
    [lambda: params.get("x"), lambda: log.info("x"), lambda: tunnel.send("x", {})],
    ids=["params", "log", "tunnel"],
)
def test_each_face_needs_its_capability(use: Any):
    with fake_host(capabilities=frozenset()), pytest.raises(NotAllowed, match=r"task\.toml"):
        use()
