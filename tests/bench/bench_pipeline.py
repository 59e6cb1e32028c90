"""The matcher in paper profile beside the naive scan, and a page visit from its exit to the feature's row."""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import trio

from measuring import interleave
from reporting import Row
from walle_agent.streams.event import parse_event
from walle_agent.streams.matcher import Matcher
from walle_agent.streams.pipeline import run_inputs
from walle_agent.streams.service import StreamService, open_streams
from walle_agent.streams.storage import RunCommit
from walle_container import HostConfig, TaskHost, TaskSpec
from walle_shared.clock import SystemClock
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger, parse_task_file
from walle_shared.protocol.tunnel import Record

PAGE_VIEW = Path(__file__).parents[2] / "examples" / "page_view"

EVENTS = 20_000
EVENT_IDS = 40
PAGE_IDS = 1_000

Ids = tuple[str, ...]


def run() -> list[Row]:
    """Measure matching, then the item-page-view feature."""
    return [*_matching(), *trio.run(_page_views)]


def _matching() -> list[Row]:
    """Events per second at 10, 1 000 and 100 000 triggers; the naive scan up to 1 000."""
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


async def _page_views(visits: int = 300) -> list[Row]:
    """Milliseconds from emitting the exit of a recorded page visit to its feature, row and upload committed.

    The whole way on the device: inlet, log, matcher, the task in its interpreter, one transaction.
    """
    task = parse_task_file((PAGE_VIEW / "task" / "task.toml").read_text())
    key = (task.task.scenario, task.task.name)
    spec = TaskSpec(key[1], "1.0", PAGE_VIEW / "task", capabilities=frozenset(task.task.capabilities))
    lines = (PAGE_VIEW / "events.jsonl").read_bytes().splitlines()
    recorded = [parse_event(line) for line in lines if b'"kind"' in line]
    times_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "streams.db"
        async with open_streams(store, SystemClock()) as streams, TaskHost(HostConfig(slots=1)) as host:
            await streams.register(key, task.triggers, task.tables)
            async with trio.open_nursery() as nursery:
                await nursery.start(streams.run)
                for event in itertools.cycle(recorded):
                    if event.kind == "page_exit":
                        await trio.sleep(0.02)  # a user's pace: everything before has settled
                    start = time.perf_counter()
                    await streams.inlet.emit(event)
                    if event.kind == "page_exit":
                        await _answer(streams, host, spec)
                        times_s.append(time.perf_counter() - start)
                    if len(times_s) == visits:
                        break
                nursery.cancel_scope.cancel()
    times_ms = sorted(t * 1e3 for t in times_s)
    note = f"p99 {times_ms[len(times_ms) * 99 // 100]:.2f} ms"
    return [
        Row("pipeline", "page exit to committed row", median(times_ms), "ms", times_ms[0], times_ms[-1], note)
    ]


async def _answer(streams: StreamService, host: TaskHost, spec: TaskSpec) -> None:
    firing = await streams.firings.receive()
    result = await host.run(spec, run_inputs(firing))
    if not result.ok:
        raise RuntimeError(f"{result.error_kind}: {result.error}")
    scenario, task = firing.task
    uploads = tuple(Record(scenario, task, "1.0", "r", send.name, 0, send.fields) for send in result.uploads)
    rows = tuple((write.table, write.row) for write in result.rows)
    await streams.commit(RunCommit(firing.task, "1.0", "r", firing.last_seq, rows=rows, uploads=uploads))


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
