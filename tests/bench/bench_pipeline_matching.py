"""Events per second through the matchers, with what they fire beside it: a rate says nothing without."""

from __future__ import annotations

import gc
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence

from measuring import interleave
from reporting import Row
from walle_agent.streams.matcher import Matcher
from walle_agent.streams.relaxed import RelaxedMatcher
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger
from walle_shared.targeting.policy import TaskKey
from walle_shared.triggers import Atom, Compiled, Step, compile_trigger
from walle_shared.triggers import Sequence as TriggerSequence

EVENTS = 20_000
EVENT_IDS = 40
PAGE_IDS = 1_000
COUNTS = (10, 1_000, 100_000)

#: Comparisons of an event with a trigger that the naive scan makes in one turn.
NAIVE_LOOKS = 2_000_000

#: Extended profile: how much time an event takes, the limit of a trigger, and the share that is followed-by.
EVENT_MS = 300
#: What is waited for grows with the triggers, and each event looks at more of it.
EXTENDED_EVENTS = {10: 20_000, 1_000: 4_000, 100_000: 400}
WITHIN_MS = 30_000
RELAXED_SHARE = 0.1

Ids = tuple[str, ...]
Feed = Callable[[Ids, int], Sequence[object]]


def run() -> list[Row]:
    """The paper profile beside a naive scan, and the extended one with a tenth of followed-by triggers."""
    stream = make_stream()
    rows: list[Row] = []
    for count in COUNTS:
        wanted = make_triggers(count)
        contestants = {
            f"matcher, {count:,} triggers": (_built(_paper, wanted), stream),
            f"extended matcher, {count:,} triggers": (
                _built(_extended, wanted),
                stream[: EXTENDED_EVENTS[count]],
            ),
        }
        if count <= 1_000:
            contestants[f"naive scan, {count:,} triggers"] = (_naive(wanted), stream[: NAIVE_LOOKS // count])
        rows += _race(contestants, turns=5 if count <= 1_000 else 3)
    return rows


def _built(make: Callable[[Sequence[Ids]], Feed], wanted: Sequence[Ids]) -> Feed:
    """Make a matcher. Looking for garbage while a million objects come would take most of the time."""
    gc.disable()
    try:
        return make(wanted)
    finally:
        gc.enable()


def _race(contestants: dict[str, tuple[Feed, list[Ids]]], turns: int) -> list[Row]:
    work: dict[str, Callable[[], object]] = {}
    fires: dict[str, float] = {}
    for what, (feed, stream) in contestants.items():
        numbers = itertools.count(1)
        fires[what] = sum(len(feed(ids, next(numbers))) for ids in stream) / len(stream)
        work[what] = _loop(feed, stream, numbers)
    rows: list[Row] = []
    for what, samples in interleave(work, turns=turns).items():
        events = len(contestants[what][1])
        low, high = (events / span for span in reversed(samples.span_s))
        note = f"{fires[what]:.2f} fires per event"
        rows.append(Row("pipeline", what, events / samples.median_s, "events/s", low, high, note))
    return rows


def _loop(feed: Feed, stream: list[Ids], numbers: itertools.count[int]) -> Callable[[], object]:
    def work() -> None:
        for ids in stream:
            feed(ids, next(numbers))

    return work


def _paper(wanted: Sequence[Ids]) -> Feed:
    matcher = Matcher()
    for number, ids in enumerate(wanted):
        matcher.register(_key(number), [Trigger(ids)])
    return matcher.feed


def _extended(wanted: Sequence[Ids]) -> Feed:
    chance = random.Random(3)
    matcher = RelaxedMatcher()
    for number, ids in enumerate(wanted):
        matcher.register(
            _key(number), {0: _followed_by(ids) if chance.random() < RELAXED_SHARE else _strict(ids)}
        )

    def feed(ids: Ids, seq: int) -> Sequence[object]:
        return matcher.feed(ids, seq, seq * EVENT_MS)

    return feed


def _strict(ids: Ids) -> Compiled:
    return compile_trigger(TriggerSequence(tuple(Step((Atom(name),)) for name in ids), every=True))


def _followed_by(ids: Ids) -> Compiled:
    steps = tuple(Step((Atom(name),), relaxed=bool(at)) for at, name in enumerate(ids))
    return compile_trigger(TriggerSequence(steps, within_ms=WITHIN_MS, every=True))


def _naive(wanted: Sequence[Ids]) -> Feed:
    """Each trigger asked at each event whether the last events match it, the last of them first."""
    recent: deque[Ids] = deque(maxlen=max(map(len, wanted)))

    def matches(names: Ids) -> bool:
        return len(names) <= len(recent) and all(
            name in seen for name, seen in zip(reversed(names), reversed(recent), strict=False)
        )

    def feed(ids: Ids, _seq: int) -> Sequence[object]:
        recent.append(ids)
        return [names for names in wanted if names[-1] in ids and matches(names)]

    return feed


def _key(number: int) -> TaskKey:
    return ScenarioName("bench"), TaskName(f"t{number}")


def _cumulated(size: int, exponent: float) -> list[float]:
    return list(itertools.accumulate(rank**-exponent for rank in range(1, size + 1)))


def make_stream() -> list[Ids]:
    """The ids of events whose event and page are each drawn by Zipf's law."""
    chance = random.Random(1)
    events = chance.choices(range(EVENT_IDS), cum_weights=_cumulated(EVENT_IDS, 1.1), k=EVENTS)
    pages = chance.choices(range(PAGE_IDS), cum_weights=_cumulated(PAGE_IDS, 1.1), k=EVENTS)
    return [
        (f"event:e{event}", "kind:custom", f"page:p{page}") for event, page in zip(events, pages, strict=True)
    ]


def make_triggers(count: int) -> list[Ids]:
    """Two to five ids each."""
    chance = random.Random(2)
    names = [f"event:e{i}" for i in range(EVENT_IDS)] + [f"page:p{i}" for i in range(PAGE_IDS)]
    weights = _cumulated(len(names), 0.6)
    return [tuple(chance.choices(names, cum_weights=weights, k=chance.randint(2, 5))) for _ in range(count)]
