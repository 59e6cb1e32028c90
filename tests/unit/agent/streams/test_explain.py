"""What ``walle-agent trigger explain`` says; its verdicts beside the matcher's."""

from __future__ import annotations

from random import Random

import pytest

from walle_agent.streams.event import make_event
from walle_agent.streams.explain import Attempt, compiled, draw, explain, sights_of
from walle_agent.streams.relaxed import RelaxedMatcher
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger
from walle_shared.triggers import Compiled, compile_trigger, parse

TASK = (ScenarioName("demo"), TaskName("t"))
TEXTS = (
    "on a ~> b within 5s",
    "on a !c ~> b{1,2} within 8s every",
    "on enter(item) ~> exit(item) within 30s per visit",
    "on a !b within 4s",
    "on b !(a|c) within 5s every",
    "on a a? b",
    "on a ~> c within 1min gap 3s per arg(n)",
    "on b[n >= 1] !a within 6s per arg(n)",
)


def story(text: str, stream: str) -> list[Attempt]:
    """One-letter events a second apart."""
    raw = [make_event("custom", event_id=name, wall_ms=n * 1_000) for n, name in enumerate(stream.split(), 1)]
    return explain(compile_trigger(parse(text)), list(sights_of(raw)))


@pytest.mark.parametrize(
    ("text", "stream", "outcome", "why"),
    [
        ("on a b", "a c b", "broken", "the very next event had to be event(b); it was #2 custom c"),
        ("on a ~> b within 5s", "a c b", "fired", "at #3 custom b, 2s after its first event"),
        ("on a ~> b within 1s", "a c b", "broken", "it took 2s, more than 1s"),
        ("on a ~> b within 1s", "a c c", "broken", "1s were over before event(b) came"),
        ("on a ~> b within 9s gap 1s", "a c b", "broken", "#3 custom b came 2s after the step before"),
        ("on a !c ~> b within 9s", "a c b", "broken", "#2 custom c came before event(b)"),
        ("on a ~> b within 9s", "a c", "waiting", "the stream ends while it waits for event(b)"),
        ("on a !b within 9s", "a b", "broken", "#2 custom b broke the silence"),
        ("on a !b within 1s", "a c c", "fired", "by silence, 1s after its first event"),
        ("on a !b within 9s", "a c", "waiting", "the stream ends before the silence is over"),
    ],
)
def test_it_says_why(text: str, stream: str, outcome: str, why: str) -> None:
    (attempt,) = story(text, stream)
    assert attempt.outcome == outcome
    assert attempt.why.startswith(why)


def test_it_says_which_match_took_the_place() -> None:
    first, second = story("on a ~> b within 9s", "a a b")
    assert "the match that begins at #2 ends at the same event" in first.why
    assert (second.outcome, second.reached) == ("fired", (2, 3))
    assert [attempt.outcome for attempt in story("on b b", "b b b")] == ["fired", "broken", "waiting"]
    assert "overlaps the match that ended at #2" in story("on b b", "b b b")[1].why


def test_the_picture_names_steps_links_and_clauses() -> None:
    text = "on enter(item) ~> click{1,3} !exit(item) ~> enter(order)? gap 5s within 30s per visit"
    picture = draw(compile_trigger(parse(text.replace("?", ""))))
    assert picture.splitlines() == [
        "○ start",
        "│",
        "1 enter(item)",
        "┆ other events may come between; at most 5s after the step before",
        "2 kind(click)  (1 to 3 times)",
        "┆ other events may come between; at most 5s after the step before",
        "┆ ✗ ends if exit(item) comes first",
        "3 enter(order)",
        "│",
        "● fires once; the next match begins behind it; within 30s of the first event; for each visit apart",
    ]


def test_a_trigger_of_the_paper_profile_is_the_same_said_otherwise() -> None:
    trigger = compiled(Trigger(("event:a", "kind:click")))
    assert str(trigger.sequence) == "on event(a) -> kind(click) every"


def fires_of(trigger: Compiled, raw: list[object]) -> set[tuple[int, int]]:
    matcher = RelaxedMatcher()
    matcher.register(TASK, {0: trigger})
    fires: set[tuple[int, int]] = set()
    for sight in sights_of(raw):  # type: ignore[arg-type]
        for silence in matcher.due(sight.at_ms):
            if match := matcher.end_silence(silence, sight.seq):
                fires.add((match.first_seq, match.last_seq))
        for match in matcher.feed(
            sight.ids, sight.seq, sight.at_ms, visit_id=sight.visit_id, args=sight.args, aside=sight.aside
        ):
            fires.add((match.first_seq, match.last_seq))
    return fires


@pytest.mark.parametrize("text", TEXTS)
def test_its_verdicts_are_the_matchers(text: str) -> None:
    trigger = compile_trigger(parse(text))
    total = 0
    for seed in range(40):
        random = Random(seed)
        raw: list[object] = []
        now_ms = 1
        for _ in range(25):
            now_ms += random.choice([100, 1_000, 2_000])
            kind = random.choice(["custom", "custom", "custom", "page_enter", "page_exit"])
            name = random.choice("abc") if kind == "custom" else ""
            args = {"n": random.randint(0, 1)}
            page = "item" if kind == "page_enter" else ""
            raw.append(make_event(kind, event_id=name, page_id=page, args=args, wall_ms=now_ms))  # type: ignore[arg-type]
        attempts = explain(trigger, list(sights_of(raw)))  # type: ignore[arg-type]
        told = {(a.reached[0], a.reached[-1]) for a in attempts if a.outcome == "fired"}
        assert told == fires_of(trigger, raw)
        total += len(told)
    assert total > 10
