"""The item-page-view job on stream engines: filter, key by visit, collect, aggregate when the page closes.

Run by ``bench_pipeline_flow`` with the interpreter that has the engine::

    python item_page_views.py ENGINE EVENTS

EVENTS has one JSON event a line; what is printed is ``{"seconds", "features"}``. ``summarise`` is the same
for all, ours too, so what differs is what carries the events to it. Only the standard library is imported at
the top, and nothing newer than Python 3.11.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: What the feature is made from; every other kind is dropped first.
KINDS = frozenset({"page_enter", "scroll", "exposure", "click", "page_exit"})

#: An event as ``summarise`` takes it: kind, event id, wall clock in ms, args.
Seen = tuple[str, str, int, dict[str, Any]]
Feature = dict[str, Any]


def summarise(visit: list[Seen]) -> Feature:
    """The feature of one visit, in the main what ``examples/item_page_view`` makes."""
    clicks: dict[str, int] = {}
    scrolls = distance = lasted_ms = exposed = visible_ms = 0
    depth = 0.0
    for kind, event_id, _, args in visit:
        if kind == "scroll":
            scrolls += 1
            distance += abs(args["offset"] - args["from"])
            lasted_ms += args["duration_ms"]
            depth = max(depth, (args["offset"] + args["viewport"]) / args["page_height"])
        elif kind == "exposure":
            exposed += len(args["items"])
            visible_ms += sum(item["visible_ms"] for item in args["items"])
        elif kind == "click":
            clicks[event_id] = clicks.get(event_id, 0) + 1
    item = visit[0][3].get("item", {})
    return {
        "item_id": item.get("item_id"),
        "category": item.get("category"),
        "dwell_ms": visit[-1][2] - visit[0][2],
        "clicks": clicks,
        "scrolls": scrolls,
        "scroll_depth": round(min(1.0, depth), 3),
        "scroll_distance": distance,
        "scroll_ms": lasted_ms,
        "exposed_items": exposed,
        "exposure_ms": visible_ms,
    }


def seen(event: dict[str, Any]) -> Seen:
    """The members that count."""
    return event["kind"], event["event_id"], event["wall_ms"], event["args"]


def bytewax(path: Path) -> tuple[float, int]:
    """Events as dictionaries in memory, in batches of 100; no recovery is configured."""
    flow_module: Any = importlib.import_module("bytewax.dataflow")
    op: Any = importlib.import_module("bytewax.operators")
    testing: Any = importlib.import_module("bytewax.testing")
    events = [json.loads(line) for line in path.read_bytes().splitlines()]
    features: list[Any] = []

    def collect(visit: list[Seen] | None, event: dict[str, Any]) -> tuple[list[Seen] | None, list[Feature]]:
        visit = visit or []
        visit.append(seen(event))
        return (None, [summarise(visit)]) if event["kind"] == "page_exit" else (visit, [])

    flow = flow_module.Dataflow("item_page_views")
    stream = op.input("events", flow, testing.TestingSource(events, batch_size=100))
    stream = op.filter("kinds", stream, lambda event: event["kind"] in KINDS)
    keyed = op.key_on("visits", stream, lambda event: event["visit_id"])
    op.output("features", op.stateful_flat_map("collect", keyed, collect), testing.TestingSink(features))
    start = time.perf_counter()
    testing.run_main(flow)
    return time.perf_counter() - start, len(features)


def pathway(path: Path) -> tuple[float, int]:
    """A static file; the start of the engine and reading the file are in the time."""
    pw: Any = importlib.import_module("pathway")
    count = 0

    def key(data: str) -> str:
        return str(json.loads(data)["visit_id"])

    def feature(lines: tuple[str, ...]) -> str:
        visit = sorted((seen(json.loads(line)) for line in lines), key=lambda event: event[2])
        return json.dumps(summarise(visit))

    def note(*_args: object, **_members: object) -> None:
        nonlocal count
        count += 1

    start = time.perf_counter()
    lines = pw.io.plaintext.read(str(path), mode="static")
    keyed = lines.select(visit=pw.apply_with_type(key, str, lines.data), data=lines.data)
    visits = keyed.groupby(keyed.visit).reduce(lines=pw.reducers.tuple(keyed.data))
    features = visits.select(feature=pw.apply_with_type(feature, str, visits.lines))
    pw.io.subscribe(features, on_change=note)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    return time.perf_counter() - start, count


ENGINES: dict[str, Callable[[Path], tuple[float, int]]] = {"bytewax": bytewax, "pathway": pathway}


if __name__ == "__main__":
    seconds, features = ENGINES[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps({"seconds": seconds, "features": features}))
