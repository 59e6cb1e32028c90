from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from walle_shared.tracing import TraceContext, current_trace, enter_trace, new_trace, parse_traceparent

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
    assert not new_trace(share=0.0).sampled
    assert new_trace(share=1.0).sampled


async def test_what_a_task_starts_works_at_the_same_and_what_is_beside_it_does_not() -> None:
    seen: dict[str, TraceContext | None] = {}

    async def part(name: str) -> None:
        seen[name] = current_trace()

    async def work(name: str) -> None:
        enter_trace(mine := new_trace())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(part, name)
        assert await trio.to_thread.run_sync(current_trace) == mine == seen[name]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, "one")
        nursery.start_soon(work, "other")
    assert current_trace() is None
    assert seen["one"] != seen["other"]


def test_a_part_has_the_trace_and_a_name_of_its_own() -> None:
    part = (whole := new_trace(share=0.0)).child()
    assert (part.trace_id, part.sampled) == (whole.trace_id, False)
    assert part.span_id != whole.span_id
