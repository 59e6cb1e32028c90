from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_shared.tracing import TraceContext, maybe_new_trace, new_trace, parse_traceparent

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_the_standards_own_example() -> None:
    context = parse_traceparent(GOOD)
    assert context == TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)
    assert str(context) == GOOD


@pytest.mark.parametrize(
    "text",
    [
        "", None, 7, GOOD.upper(), GOOD + "-more", "ff" + GOOD[2:], GOOD[:-1], " " + GOOD,
        "00-" + "0" * 32 + GOOD[35:], GOOD[:36] + "0" * 16 + "-01", GOOD + "\n", "00" + "x" * 600,
    ],
)  # fmt: skip
def test_what_is_none_counts_as_none(text: object) -> None:
    assert parse_traceparent(text) is None


def test_later_versions_may_have_more() -> None:
    context = parse_traceparent("01" + GOOD[2:] + "-what-the-future-holds")
    assert context is not None
    assert context.sampled
    assert parse_traceparent(GOOD[:-2] + "00") == TraceContext(GOOD[3:35], GOOD[36:52], False)


@given(st.text(max_size=80))
def test_no_text_crashes_it(text: str) -> None:
    parse_traceparent(text)


def test_new_ones_come_back_and_come_as_often_as_wished() -> None:
    assert parse_traceparent(str(made := new_trace())) == made
    assert maybe_new_trace(0.0) is None
    assert maybe_new_trace(1.0) is not None
