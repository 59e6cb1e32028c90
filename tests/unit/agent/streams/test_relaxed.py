"""Worked cases of extended matching; ``tests/property/test_relaxed.py`` has the random ones."""

from __future__ import annotations

import pytest

from walle_agent.streams.relaxed import RelaxedMatch, RelaxedMatcher
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.triggers import compile_trigger, parse

TASK = (ScenarioName("demo"), TaskName("t"))


def silences_over(matcher: RelaxedMatcher, now_ms: int, seq: int) -> list[RelaxedMatch]:
    ended = (matcher.end_silence(silence, seq) for silence in matcher.due(now_ms))
    return [match for match in ended if match is not None]


def fires(text: str, stream: str) -> list[tuple[int, int]]:
    """(first, last) of each fire over one-letter events, a second apart and numbered from 1."""
    matcher = RelaxedMatcher()
    matcher.register(TASK, {0: compile_trigger(parse(text))})
    found: list[RelaxedMatch] = []
    seq = 0
    for seq, name in enumerate(stream.split(), 1):
        found += silences_over(matcher, seq * 1_000, seq - 1)
        found += matcher.feed(("event:" + name,), seq, seq * 1_000)
    found += silences_over(matcher, 1_000_000, seq)
    return [(match.first_seq, match.last_seq) for match in found]


@pytest.mark.parametrize(
    ("text", "stream", "expected"),
    [
        # Strict and relaxed contiguity over "a c b1 b2": only the relaxed one finds b, and only the first b.
        ("on a b", "a c b b", []),
        ("on a ~> b within 1min", "a c b b", [(1, 3)]),
        # A negation between: "a c b" is refused, "a d b" is not.
        ("on a !c ~> b within 1min", "a c b", []),
        ("on a !c ~> b within 1min", "a d b", [(1, 3)]),
        # Repeats: "a b b b c" with one to three of b.
        ("on a ~> b{1,3} ~> c within 1min", "a b b b c", [(1, 5)]),
        ("on a b{2} c", "a b b b c", []),
        # After-match skip: once begins behind the last match, every does not.
        ("on b b", "b b b b", [(1, 2), (3, 4)]),
        ("on b b every", "b b b b", [(1, 2), (2, 3), (3, 4)]),
        # Time limits are inclusive.
        ("on a ~> b within 2s", "a c b", [(1, 3)]),
        ("on a ~> b within 2s", "a c c b", []),
        ("on a ~> b gap 2s within 1h", "a c c b", []),
        # Silence fires at its last step.
        ("on a !b within 5s", "a c", [(1, 1)]),
        ("on a !b within 5s", "a b", []),
        ("on a !b within 1s", "a c b", [(1, 1)]),
    ],
)
def test_worked_cases(text: str, stream: str, expected: list[tuple[int, int]]) -> None:
    assert fires(text, stream) == expected


#: What Flink's CEP guide works through, in our words; the numbers behind its letters are places here.
FLINK_GUIDE = {
    "next": ("on a b every", "a c b b", []),
    "followed by": ("on a ~> b within 1h every", "a c b b", [(1, 3)]),
    "not followed by": ("on a !c ~> b within 1h every", "a c b b", []),
    "not followed by, but another": ("on a !d ~> b within 1h every", "a c b b", [(1, 3)]),
    "one or more, others between": ("on a ~> b{1,3} ~> c within 1h every", "a b d b d b c", [(1, 7)]),
    "two, nothing between": ("on a ~> b b ~> c within 1h every", "a b d b d b c", []),
    "three in a row": ("on c ~> a a a ~> b within 1h every", "c d a a a d a b", [(1, 8)]),
    "four, not in a row": ("on c ~> a a a a ~> b within 1h every", "c d a a a d a b", []),
    "four, others between": ("on c ~> a{4} ~> b within 1h every", "c d a a a d a b", [(1, 8)]),
    "two to four times": ("on a{2,4} every", "a a a", [(1, 2), (2, 3)]),
    "optional, there": ("on a b? c every", "a b c", [(1, 3)]),
    "optional, not there": ("on a b? c every", "a c", [(1, 2)]),
    "skip to next": ("on b{1,3} c every", "b b b c", [(3, 4)]),
    "skip past last": ("on b{1,3} c", "b b b c b c", [(3, 4), (5, 6)]),
}


@pytest.mark.parametrize(("text", "stream", "expected"), FLINK_GUIDE.values(), ids=FLINK_GUIDE)
def test_the_examples_of_flinks_guide(text: str, stream: str, expected: list[tuple[int, int]]) -> None:
    assert fires(text, stream) == expected


def test_keys_over_the_cap_are_evicted_and_counted() -> None:
    matcher = RelaxedMatcher(keys_max=1)
    matcher.register(TASK, {0: compile_trigger(parse("on a ~> b within 1h per visit"))})
    matcher.feed(("event:a",), 1, 0, visit_id="v")
    matcher.feed(("event:a",), 2, 0, visit_id="w")
    assert matcher.feed(("event:b",), 3, 0, visit_id="w")
    assert not matcher.feed(("event:b",), 4, 0, visit_id="v")
    assert matcher.statistics().keys_evicted == 2


def test_waits_over_the_cap_lose_the_oldest_start_and_are_counted() -> None:
    matcher = RelaxedMatcher(pending_max=1)
    texts = ("on a ~> x within 1h", "on b ~> y within 1h")
    matcher.register(TASK, {rank: compile_trigger(parse(text)) for rank, text in enumerate(texts)})
    matcher.feed(("event:a",), 1, 0)
    matcher.feed(("event:b",), 2, 0)
    assert not matcher.feed(("event:x",), 3, 0)
    assert matcher.feed(("event:y",), 4, 0)
    assert matcher.statistics().pending_dropped == 1


def test_one_fire_per_task_and_event_of_the_lowest_rank() -> None:
    matcher = RelaxedMatcher()
    matcher.register(TASK, {3: compile_trigger(parse("on a")), 1: compile_trigger(parse("on *"))})
    [match] = matcher.feed(("event:a",), 1, 0)
    assert (match.rank, matcher.statistics().collapsed) == (1, 1)


def test_oldest_seq_forgets_what_can_no_longer_fire() -> None:
    matcher = RelaxedMatcher()
    matcher.register(TASK, {0: compile_trigger(parse("on a ~> b within 2s"))})
    matcher.feed(("event:a",), 7, 0)
    assert matcher.oldest_seq() == 7
    matcher.feed(("event:c",), 8, 2_001)
    assert matcher.oldest_seq() is None
