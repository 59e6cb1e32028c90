"""Extended triggers against a brute-force oracle that follows each run of each path by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_agent.streams.relaxed import RelaxedMatch, RelaxedMatcher
from walle_agent.streams.snapshot import (
    MatcherSnapshot,
    PipelineSnapshot,
    SavedState,
    decode_snapshot,
    encode_snapshot,
)
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.targeting.policy import TaskKey
from walle_shared.triggers import (
    Atom,
    Compiled,
    Path,
    Predicate,
    Sequence,
    Step,
    TriggerError,
    compile_trigger,
    parse,
)

Fire = tuple[int, int, str]


@dataclass(frozen=True)
class Seen:
    ids: tuple[str, ...]
    pause_ms: int
    visit: str
    args: Mapping[str, Any]
    aside: bool


@dataclass(frozen=True)
class Tick:
    pause_ms: int


@dataclass(frozen=True)
class Restart(Tick):
    """The process ends, and another goes on from its snapshot."""


@dataclass(frozen=True)
class Deregister:
    """A task goes."""

    number: int


@dataclass(frozen=True)
class At:
    seq: int
    ms: int
    seen: Seen


def task_key(number: int) -> TaskKey:
    return ScenarioName("demo"), TaskName(f"t{number}")


def silences_over(matcher: RelaxedMatcher, now_ms: int, seq: int) -> list[RelaxedMatch]:
    """Let time pass without an event."""
    due = matcher.due(now_ms)
    assert not due or matcher.quiet_until_ms(now_ms) < now_ms
    ended = (matcher.end_silence(silence, seq) for silence in due)
    return [match for match in ended if match is not None]


def restarted(matcher: RelaxedMatcher, live: Mapping[int, Compiled]) -> RelaxedMatcher:
    snapshot = PipelineSnapshot(matcher.snapshot(), 0, 0, 0)
    successor = RelaxedMatcher()
    for number, trigger in live.items():
        successor.register(task_key(number), {0: trigger})
    successor.restore(decode_snapshot(encode_snapshot(snapshot)).matcher)
    assert set(successor.snapshot().since) == set(snapshot.matcher.since)
    assert by_clause(successor.snapshot()) == by_clause(snapshot.matcher)
    return successor


def by_clause(snapshot: MatcherSnapshot) -> list[SavedState]:
    """The states; among those of one ``per`` clause the order counts, since the oldest key goes first."""
    return sorted(snapshot.states, key=lambda state: state.per)


def hits(atom: Atom, seen: Seen) -> bool:
    return (atom.id == "*" or atom.id in seen.ids) and atom.accepts(seen.args)


def run_end(path: Path, history: list[At]) -> At | None:
    """Where the run that begins at ``history[0]`` completes ``path``, if it does."""
    if not hits(path[0].atom, history[0].seen):
        return None
    place, last = 1, history[0]
    for at in history[1:]:
        if place == len(path):
            break
        edge = path[place]
        if hits(edge.atom, at.seen):
            if edge.gap_ms is not None and at.ms - last.ms > edge.gap_ms:
                return None
            place, last = place + 1, at
        elif (any(hits(atom, at.seen) for atom in edge.absent)) or (not edge.relaxed and not at.seen.aside):
            return None
    return last if place == len(path) else None


def key_of(per: str, seen: Seen) -> str | None:
    if per == "device":
        return ""
    if per == "visit":
        return seen.visit or None
    value = seen.args.get("n")
    return None if value is None else f"int:{value}"


def fires_of(trigger: Compiled, history: list[At], since_seq: int, now_ms: int) -> set[Fire]:
    """Every fire of one trigger from its registration until now."""
    sequence = trigger.sequence
    fires: set[Fire] = set()
    for key in {key_of(sequence.per, at.seen) for at in history} - {None}:
        own = [at for at in history if at.seq >= since_seq and key_of(sequence.per, at.seen) == key]
        best: dict[int, At] = {}  # by last event: the latest start
        for start, first in enumerate(own):
            for path in trigger.paths:
                last = run_end(path, own[start:])
                in_time = last and (sequence.within_ms is None or last.ms - first.ms <= sequence.within_ms)
                if last and in_time:
                    best[last.seq] = first
        order = sorted(best.items())
        if sequence.trailing:
            limit = sequence.within_ms or 0
            order = [
                (last, first)
                for last, first in sorted(order, key=lambda item: (item[1].ms, item[0]))
                if now_ms - first.ms > limit
                and not any(
                    at.seq > last
                    and at.ms - first.ms <= limit
                    and any(hits(x, at.seen) for x in sequence.trailing)
                    for at in own
                )
            ]
        fired = 0
        for last_seq, first in order:
            if sequence.every or first.seq > fired:
                fires.add((first.seq, last_seq, str(key)))
                fired = last_seq
    return fires


atoms = st.builds(
    Atom,
    st.sampled_from(["event:a", "event:b", "event:c", "page:p", "event:a", "event:b", "*"]),
    st.sampled_from([(), (), (), (Predicate("n", ">=", 1),), (Predicate("n", "in", (0, 2)),)]),
)
choices = st.lists(atoms, min_size=1, max_size=2, unique=True).map(tuple)
repeats = st.sampled_from([(1, 1), (1, 1), (1, 1), (0, 1), (2, 2), (1, 3), (0, 2)])
negations = st.one_of(st.just(()), st.just(()), st.tuples(atoms))


@st.composite
def triggers(draw: st.DrawFn) -> Compiled:
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 4))):
        low, high = draw(repeats)
        relaxed = bool(steps) and draw(st.booleans())
        steps.append(Step(draw(choices), low, high, relaxed, draw(negations) if relaxed else ()))
    sequence = Sequence(
        tuple(steps),
        draw(negations),
        draw(st.sampled_from([3, 8, 30, 1_000])),
        draw(st.sampled_from([None, None, 2, 6])),
        draw(st.sampled_from(["device", "device", "visit", "arg(n)"])),
        draw(st.booleans()),
    )
    try:
        return compile_trigger(sequence)
    except TriggerError:
        step = Step((draw(atoms),))
        return compile_trigger(Sequence((step,), sequence.trailing, 8))


sights = st.builds(
    Seen,
    st.lists(
        st.sampled_from(["event:a", "event:b", "event:c", "page:p"]), min_size=1, max_size=2, unique=True
    ).map(tuple),
    st.integers(0, 4),
    st.sampled_from(["", "v", "w"]),
    st.sampled_from([{}, {"n": 0}, {"n": 1}, {"n": 2}]),
    st.integers(0, 7).map(lambda n: n == 0),
)
registers = st.tuples(st.integers(0, 4), triggers())
steps = st.lists(
    st.one_of(
        sights,
        sights,
        sights,
        sights,
        sights,
        st.builds(Tick, st.integers(0, 12)),
        st.builds(Restart, st.just(0)),
        registers,
        st.builds(Deregister, st.integers(0, 4)),
    ),
    max_size=50,
)


@settings(max_examples=600, deadline=None)
@given(st.lists(registers, min_size=1, max_size=4), steps)
def test_tries_fire_as_the_oracle_does(
    first: list[tuple[int, Compiled]], later: list[Seen | Tick | Deregister | tuple[int, Compiled]]
) -> None:
    matcher = RelaxedMatcher()
    now, history = 0, list[At]()
    live: dict[int, tuple[Compiled, int, set[Fire]]] = {}
    for step in [*first, *later]:
        if isinstance(step, tuple):
            number, trigger = step
            matcher.register(task_key(number), {0: trigger})
            live[number] = (trigger, len(history) + 1, set())
            continue
        if isinstance(step, Deregister):
            matcher.deregister(task_key(step.number))
            live.pop(step.number, None)
            continue
        now += step.pause_ms
        matches = silences_over(matcher, now, len(history))
        if isinstance(step, Restart):
            matcher = restarted(matcher, {number: trigger for number, (trigger, _, _) in live.items()})
        elif isinstance(step, Seen):
            history.append(At(len(history) + 1, now, step))
            matches += matcher.feed(
                step.ids, len(history), now, visit_id=step.visit, args=step.args, aside=step.aside
            )
        for match in matches:
            fire = (match.first_seq, match.last_seq, match.key)
            fires = live[int(match.task[1][1:])][2]
            assert fire not in fires
            fires.add(fire)
        for trigger, since, fires in live.values():
            assert fires == fires_of(trigger, history, since, now), str(trigger.sequence)
    note(f"fired: {any(fires for _, _, fires in live.values())}")


@given(triggers())
def test_text_form_round_trips(trigger: Compiled) -> None:
    assert parse(str(trigger.sequence)) == trigger.sequence


@given(st.lists(registers, min_size=1, max_size=8), st.lists(sights, max_size=20))
def test_deregistering_everything_leaves_nothing(
    registered: list[tuple[int, Compiled]], stream: list[Seen]
) -> None:
    matcher = RelaxedMatcher()
    for number, trigger in registered:
        matcher.register(task_key(number), {0: trigger})
    for seq, seen in enumerate(stream, 1):
        matcher.feed(seen.ids, seq, seq, visit_id=seen.visit, args=seen.args)
    for number, _ in registered:
        matcher.deregister(task_key(number))
    statistics = matcher.statistics()
    assert (statistics.triggers, statistics.nodes, statistics.pending, statistics.silences) == (0, 0, 0, 0)
    assert matcher.oldest_seq() is None


def dense_trigger(random: Random) -> Compiled:
    """Two or three steps over few ids, mostly relaxed, so that streams fire it and negations decide."""

    def atom() -> Atom:
        tests = random.choice([(), (), (Predicate("n", ">=", 1),)])
        return Atom(random.choice(["event:a", "event:b", "event:c", "*"]), tests)

    def negation() -> tuple[Atom, ...]:
        return (atom(),) if random.random() < 0.4 else ()

    steps = [Step((atom(),))]
    for _ in range(random.randint(1, 2)):
        relaxed = random.random() < 0.6
        low, high = random.choice([(1, 1), (1, 1), (1, 2)])
        steps.append(Step((atom(),), low, high, relaxed, negation() if relaxed else ()))
    within, gap = random.choice([5, 15]), random.choice([None, 3])
    per = random.choice(["device", "visit"])
    return compile_trigger(Sequence(tuple(steps), negation(), within, gap, per, random.random() < 0.5))


@pytest.mark.parametrize("block", range(10))
def test_dense_streams_fire_as_the_oracle_does(block: int) -> None:
    """Long streams, which Hypothesis seldom draws: thousands of fires, each kind of refusal many times."""
    total = 0
    for seed in range(block * 100, block * 100 + 100):
        random = Random(seed)
        matcher = RelaxedMatcher()
        live = {number: dense_trigger(random) for number in range(3)}
        for number, trigger in live.items():
            matcher.register(task_key(number), {0: trigger})
        got: list[tuple[int, Fire]] = []
        history: list[At] = []
        now = 0
        for seq in range(1, 31):
            now += random.randint(0, 3)
            ids = (random.choice(["event:a", "event:b", "event:c"]),)
            aside = random.random() < 0.2
            seen = Seen(ids, 0, random.choice(["v", "w"]), {"n": random.randint(0, 1)}, aside)
            history.append(At(seq, now, seen))
            matches = silences_over(matcher, now, seq - 1)
            if random.random() < 0.05:
                matcher = restarted(matcher, live)
            matches += matcher.feed(ids, seq, now, visit_id=seen.visit, args=seen.args, aside=aside)
            got += [(int(m.task[1][1:]), (m.first_seq, m.last_seq, m.key)) for m in matches]
        got += [
            (int(m.task[1][1:]), (m.first_seq, m.last_seq, m.key))
            for m in silences_over(matcher, now + 100, 30)
        ]
        for number, trigger in live.items():
            mine = [fire for owner, fire in got if owner == number]
            assert len(mine) == len(set(mine))
            assert set(mine) == fires_of(trigger, history, 1, now + 100), str(trigger.sequence)
        total += len(got)
    assert total > 500
