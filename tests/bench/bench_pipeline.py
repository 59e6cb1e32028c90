"""Events per second through the matcher in paper profile, with fires per event, beside the naive scan."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

from measuring import interleave
from reporting import Row
from walle_agent.streams.matcher import Matcher
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger

EVENTS = 20_000
EVENT_IDS = 40
PAGE_IDS = 1_000

Ids = tuple[str, ...]


def run() -> list[Row]:
    """Measure 10, 1 000 and 100 000 triggers; the naive scan of every trigger up to 1 000."""
    stream = _stream()
    rows: list[Row] = []
    for count in (10, 1_000, 100_000):
        triggers = _triggers(count)
        matcher = _matcher(triggers)
        fires = sum(len(matcher.feed(ids, seq)) for seq, ids in enumerate(stream, 1))
        contestants = {f"matcher, {count:,} triggers": _trie_work(matcher, stream)}
        if count <= 1_000:
            contestants[f"naive scan, {count:,} triggers"] = _naive_work(
                triggers, stream[: 2_000_000 // count]
            )
        for what, samples in interleave(contestants, turns=5).items():
            events = EVENTS if what.startswith("matcher") else min(EVENTS, 2_000_000 // count)
            low, high = (events / span for span in reversed(samples.span_s))
            note = f"{fires / EVENTS:.2f} fires per event"
            rows.append(Row("pipeline", what, events / samples.median_s, "events/s", low, high, note))
    return rows


def _zipf(size: int) -> list[float]:
    return list(itertools.accumulate(1 / rank**1.1 for rank in range(1, size + 1)))


def _stream() -> list[Ids]:
    chance = random.Random(1)
    events = chance.choices(range(EVENT_IDS), cum_weights=_zipf(EVENT_IDS), k=EVENTS)
    pages = chance.choices(range(PAGE_IDS), cum_weights=_zipf(PAGE_IDS), k=EVENTS)
    return [
        (f"event:e{event}", "kind:custom", f"page:p{page}") for event, page in zip(events, pages, strict=True)
    ]


def _triggers(count: int) -> list[Trigger]:
    chance = random.Random(2)
    names = [f"event:e{i}" for i in range(EVENT_IDS)] + [f"page:p{i}" for i in range(PAGE_IDS)]
    weights = list(itertools.accumulate(1 / rank**0.6 for rank in range(1, len(names) + 1)))
    return [
        Trigger(tuple(chance.choices(names, cum_weights=weights, k=chance.randint(2, 5))))
        for _ in range(count)
    ]


def _matcher(triggers: Sequence[Trigger]) -> Matcher:
    matcher = Matcher()
    for number, trigger in enumerate(triggers):
        matcher.register((ScenarioName("bench"), TaskName(f"t{number}")), [trigger])
    return matcher


def _trie_work(matcher: Matcher, stream: list[Ids]) -> Callable[[], object]:
    numbers = itertools.count(EVENTS + 1)

    def work() -> None:
        for ids in stream:
            matcher.feed(ids, next(numbers))

    return work


def _naive_work(triggers: Sequence[Trigger], stream: list[Ids]) -> Callable[[], object]:
    """Each trigger asked at each event whether the last events match it."""

    def work() -> int:
        fires = 0
        for at in range(len(stream)):
            for trigger in triggers:
                wanted = trigger.ids
                start = at + 1 - len(wanted)
                if start >= 0 and all(w in stream[start + i] for i, w in enumerate(wanted)):
                    fires += 1
        return fires

    return work
