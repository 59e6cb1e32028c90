from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_agent.link.exchange import (
    CredentialRefused,
    EpochFloor,
    ServerBusy,
    check_epoch,
    parse_retry_after,
    problem_error,
    range_start,
    retry_after_s,
)
from walle_shared.errors import (
    Conflict,
    ConnectionLost,
    ExpiredError,
    LengthOrHashError,
    LimitExceeded,
    LocalProtocolError,
    NotAllowed,
    NotFound,
    RemoteProtocolError,
    RollbackError,
    WalleError,
)
from walle_shared.ids import Sha256
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import EpochInfo, FileRef, Problem
from walle_shared.protocol.sse import SSE_LINE_MAX_BYTES, SseEvent, SseParser

STREAM = (
    b': hello\r\n\r\nevent: epoch\ndata: {"epoch":1}\n\n: beat\n\n'
    b"event: goodbye\r\ndata: a\r\ndata: b\r\n\r\nid: 4\ndata: plain\n\n"
)
EVENTS = [SseEvent("epoch", '{"epoch":1}'), SseEvent("goodbye", "a\nb"), SseEvent("message", "plain", "4")]


@given(st.lists(st.integers(1, len(STREAM) - 1)))
def test_sse_gives_the_same_events_however_it_is_cut(cuts: list[int]) -> None:
    parser = SseParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    events = [event for start, end in itertools.pairwise(edges) for event in parser.feed(STREAM[start:end])]
    assert events == EVENTS


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"data: " + b"x" * (SSE_LINE_MAX_BYTES + 1), LimitExceeded),
        (b"data: xxxxxxxxxx\n" * 2_000, LimitExceeded),
        (b"data: \xff\n", RemoteProtocolError),
    ],
)
def test_sse_refuses_what_is_too_long_or_no_text(data: bytes, error: type[WalleError]) -> None:
    with pytest.raises(error):
        SseParser().feed(data)


def test_sse_heartbeats_may_go_on_for_ever() -> None:
    parser = SseParser()
    for _ in range(5_000):
        assert parser.feed(b": still here\n\n") == []


def info(epoch: int, digest: str = "a" * 64, expires_ms: int = 100) -> EpochInfo:
    return EpochInfo(epoch, FileRef(Sha256(digest), 1), 0, expires_ms)


FLOOR = EpochFloor(5, "a" * 64)


@pytest.mark.parametrize("offered", [info(5), info(6, "b" * 64)])
def test_the_gate_lets_the_same_or_a_newer_epoch_pass(offered: EpochInfo) -> None:
    assert check_epoch(offered, FLOOR, 60) is offered


@pytest.mark.parametrize(
    ("offered", "now_ms", "error"),
    [
        (info(4), 60, RollbackError),
        (info(5, "b" * 64), 60, RollbackError),
        (info(6), 100, ExpiredError),
    ],
)
def test_the_gate_refuses(offered: EpochInfo, now_ms: int, error: type[WalleError]) -> None:
    with pytest.raises(error):
        check_epoch(offered, FLOOR, now_ms)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, LocalProtocolError),
        (401, CredentialRefused),
        (403, NotAllowed),
        (404, NotFound),
        (409, Conflict),
        (413, LimitExceeded),
        (416, LengthOrHashError),
        (429, ServerBusy),
        (500, ConnectionLost),
        (503, ServerBusy),
        (302, RemoteProtocolError),
    ],
)
def test_every_status_has_a_type(status: int, kind: type[WalleError]) -> None:
    error = problem_error("reports", status, encode(Problem("x", "because of that", status)), "3")
    assert type(error) is kind
    assert "because of that" in error.message
    assert retry_after_s(error) == (3.0 if kind is ServerBusy else None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"x" * 100_000])
def test_a_body_that_is_no_problem_is_still_an_answer(body: bytes) -> None:
    assert "without a readable problem" in problem_error("reports", 502, body).message


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), (None, None), ("-1", None), ("1e9", None), ("Mon, 01 Jan", None)]
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds


def test_ranges_begin_where_they_were_asked_or_at_the_start() -> None:
    assert range_start(206, "bytes 10-99/100", 10) == 10
    assert range_start(200, None, 10) == 0


@pytest.mark.parametrize("answer", ["bytes 11-99/100", "bytes */100", "", None])
def test_a_range_that_begins_elsewhere_is_refused(answer: str | None) -> None:
    with pytest.raises(RemoteProtocolError):
        range_start(206, answer, 10)
