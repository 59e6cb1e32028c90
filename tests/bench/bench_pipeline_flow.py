"""Events into the log by each way in, rows into tables, and the item-page-view job beside peers."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import trio

from peers.item_page_views import Seen, summarise
from reporting import Row
from walle_agent.streams.event import Event, RawEvent, parse_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.http_ingest import TOKEN_FILE, HttpListener
from walle_agent.streams.ingest import serve_events
from walle_agent.streams.pipeline import Firing, Pipeline
from walle_agent.streams.sequences import VisitTracker
from walle_agent.streams.service import StreamService, open_streams
from walle_agent.streams.storage import RunCommit, StreamStore
from walle_engine.bench.peers import find_modules, interpreters
from walle_shared.clock import SystemClock
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
JOB = HERE / "peers" / "item_page_views.py"

TASK = (ScenarioName("demo"), TaskName("item_page_view"))
CLOSED = Trigger(("page:item_detail.exit",))
VISITS = 1_000
EVENTS_IN = 5_000
TURNS = 3
BATCH = 100
ROW_BYTES = 1_260
PEERS = {"bytewax": "bytewax", "Pathway": "pathway"}


def rates(what: str, count: int, spans_s: Sequence[float], unit: str, note: str = "") -> Row:
    """A row for something done ``count`` times in each span."""
    each = sorted(count / span for span in spans_s)
    return Row("pipeline", what, median(each), unit, each[0], each[-1], note)


# Ways in


async def ingest(lines: list[bytes]) -> list[Row]:
    """From an app's call until the log has the event, about a kilobyte each, many at a time."""
    lines = list(itertools.islice(itertools.cycle(lines), EVENTS_IN))
    events = [parse_event(line) for line in lines]

    async def in_process(streams: StreamService, _folder: Path) -> None:
        for event in events:
            await streams.inlet.emit(event)

    async def over_socket(streams: StreamService, folder: Path) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_events, folder / "events.sock", streams.inlet.emit)
            await trio.to_thread.run_sync(_send_lines, folder / "events.sock", lines)
            await _logged(streams, EVENTS_IN)
            nursery.cancel_scope.cancel()

    async def over_http(streams: StreamService, folder: Path) -> None:
        listener = HttpListener(("127.0.0.1", 0), folder / TOKEN_FILE, streams.inlet.emit)
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run)
            token = (folder / TOKEN_FILE).read_text().strip()
            await trio.to_thread.run_sync(_post_lines, listener.port, token, lines)
            nursery.cancel_scope.cancel()

    ways: dict[str, Callable[[StreamService, Path], Awaitable[None]]] = {
        "in process": in_process,
        "Unix socket": over_socket,
        f"HTTP, {BATCH} a request": over_http,
    }
    spans: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(TURNS):
        for way, send in ways.items():
            spans[way].append(await _time_way(send))
    return [rates(f"events in, {way}", EVENTS_IN, each, "events/s") for way, each in spans.items()]


async def _time_way(send: Callable[[StreamService, Path], Awaitable[None]]) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with open_streams(folder / "s.db", SystemClock()) as streams, trio.open_nursery() as nursery:
            await streams.register(TASK, [Trigger(("event:never",))])
            await nursery.start(streams.run)
            start = time.perf_counter()
            await send(streams, folder)
            await _logged(streams, EVENTS_IN)
            span = time.perf_counter() - start
            nursery.cancel_scope.cancel()
    return span


async def _logged(streams: StreamService, count: int) -> None:
    while streams.statistics().store.events < count:  # noqa: ASYNC110  # nobody else asks for such an event
        await trio.sleep(0.0005)


def _send_lines(path: Path, lines: list[bytes]) -> None:
    with socket.socket(socket.AF_UNIX) as app:
        app.connect(str(path))
        app.sendall(b"\n".join(lines) + b"\n")


def _post_lines(port: int | None, token: str, lines: list[bytes]) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as app:
        for batch in itertools.batched(lines, BATCH, strict=False):
            app.request("POST", "/events", b"\n".join(batch), headers)
            answer = app.getresponse()
            if answer.status != 200 or json.loads(answer.read())["accepted"] != len(batch):
                raise RuntimeError(f"POST /events was answered {answer.status}")


# Rows


def storage() -> list[Row]:
    """Rows of the paper's size into a table, by rows per transaction; each is a run with its mark."""
    rows: list[Row] = []
    for batch in (1, 10, 100):
        count = 200 * batch if batch < 100 else 10_000
        spans = [_time_rows(batch, count) for _ in range(TURNS)]
        rows.append(
            rates(f"rows stored, {batch} a transaction", count, spans, "rows/s", f"{ROW_BYTES} bytes each")
        )
    return rows


def _time_rows(batch: int, count: int) -> float:
    row = {"item_id": "7", "feature": "x" * (ROW_BYTES - 50)}
    with tempfile.TemporaryDirectory() as folder:
        store = StreamStore.open(Path(folder) / "s.db", SystemClock())
        store.declare(TASK, {"features": {"item_id": "text", "feature": "text"}})
        commits = [RunCommit(TASK, "1.0", "r", seq, rows=(("features", row),)) for seq in range(1, count + 1)]
        start = time.perf_counter()
        for group in itertools.batched(commits, batch, strict=False):
            store.commit_runs(group)
        span = time.perf_counter() - start
        store.close()
    return span


# The job


def jobs(make_lines: Callable[[int], list[bytes]]) -> list[Row]:
    """The same job on each: filter, key by visit, collect, aggregate with the same Python."""
    lines = make_lines(VISITS)
    where = find_modules(
        PEERS.values(), interpreters([str(ROOT / "build" / "bench" / "peers" / "bin" / "python")])
    )
    contestants: dict[str, Callable[[], tuple[float, int]]] = {
        "in memory": lambda: _in_memory(lines),
        "durable": lambda: _durable(lines),
    }
    notes = {"durable": f"every event in SQLite before it counts; {BATCH} a transaction"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_bytes(b"\n".join(lines) + b"\n")
        for name, module in PEERS.items():
            if module in where:
                contestants[name] = lambda module=module: _peer(where[module], module, path)  # type: ignore[misc]
        notes["Pathway"] = "with the engine's start and two JSON parses an event"
        spans: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(TURNS):
            for name, work in contestants.items():
                seconds, features = work()
                if features != VISITS:
                    raise RuntimeError(f"{name} made {features} of {VISITS} features")
                spans[name].append(seconds)
    return [
        rates(f"item-page-view job, {name}", len(lines), each, "events/s", notes.get(name, ""))
        for name, each in spans.items()
    ]


def _in_memory(lines: list[bytes]) -> tuple[float, int]:
    """Visits, matcher and aggregate without a log."""
    raw = [parse_event(line) for line in lines]
    tracker, pipeline = VisitTracker(), Pipeline()
    pipeline.register(TASK, [CLOSED])
    features = 0
    start = time.perf_counter()
    numbers = itertools.count(1)
    for event in raw:
        for complete in tracker.complete(event.stamped(event.wall_ms * 1_000_000, event.wall_ms)):
            features += _summarised(pipeline.feed(_numbered(complete, next(numbers))))
    return time.perf_counter() - start, features


def _numbered(raw: RawEvent, seq: int) -> Event:
    return Event(seq, raw.kind, raw.event_id, raw.page_id, raw.visit_id, raw.wall_ms, raw.mono_ns, raw.args)


def _durable(lines: list[bytes]) -> tuple[float, int]:
    """The device's own flow, the log included; what the tasks make is counted and not kept."""
    raw = [parse_event(line) for line in lines]
    features = 0
    with tempfile.TemporaryDirectory() as folder:
        store = StreamStore.open(Path(folder) / "s.db", SystemClock())
        flow = StreamFlow(store, SystemClock())
        flow.register(TASK, [CLOSED])
        start = time.perf_counter()
        for batch in itertools.batched(raw, BATCH, strict=False):
            firings = flow.accept(batch)
            features += _summarised(firings)
            for firing in firings:
                flow.dealt_with(firing.task, firing.last_seq)
        span = time.perf_counter() - start
        store.close()
    return span, features


def _summarised(firings: Sequence[Firing]) -> int:
    for firing in firings:
        visit: list[Seen] = [(e.kind, e.event_id, e.wall_ms, dict(e.args)) for e in firing.events]
        summarise(visit)
    return len(firings)


def _peer(python: str, engine: str, events: Path) -> tuple[float, int]:
    done = subprocess.run(
        [python, str(JOB), engine, str(events)], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{engine}: {done.stderr[-500:]}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said["seconds"], said["features"]
