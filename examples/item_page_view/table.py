"""Print the paper's table of the item-page view for SYNTHETIC visits: how small feature and encoding are.

    .venv/bin/python examples/item_page_view/table.py
    .venv/bin/python examples/item_page_view/table.py --visits 300 --json

The recorded events go the whole way on a device: inlet, log, matcher, the task in its interpreter, one
transaction. Sizes are those of JSON without spaces, as the app wrote the events and as a record says them
before the tunnel compresses it. Times are this machine's, not a phone's.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, quantiles

import trio
from rich.console import Console
from rich.table import Table

from walle_agent.streams.event import RawEvent, parse_event
from walle_agent.streams.pipeline import Firing, run_inputs
from walle_agent.streams.service import StreamService, open_streams
from walle_agent.streams.storage import RunCommit
from walle_container import HostConfig, TaskHost, TaskResult, TaskSpec
from walle_shared.clock import SystemClock
from walle_shared.protocol.codec import encode
from walle_shared.protocol.tunnel import Record
from walle_shared.targeting.policy import TaskKey
from walle_task.authoring import read_folder, write_bundle

HERE = Path(__file__).resolve().parent

#: A user's pace, as far as one likes to wait: when a page closes, everything before has settled.
PAUSE_S = 0.02
_PROFILED = {"summarise": "feature", "encode": "encoding"}


@dataclass(frozen=True)
class Sizes:
    """What one visit is, as the app wrote it and as the cloud gets it."""

    events: int
    raw_bytes: int
    feature_bytes: int
    record_bytes: int  # the feature with the names of task, version and so on that go with it
    encoding_bytes: int


@dataclass(frozen=True)
class Times:
    """Milliseconds from a page's exit on; ``feature`` and ``encoding`` are parts of ``run``."""

    fire: float
    run: float
    feature: float
    encoding: float
    keep: float
    whole: float


STAGES = Times.__dataclass_fields__
LABELS = {
    "fire": "page exit to firing: log, match",
    "run": "the task's run",
    "feature": "· the feature in it",
    "encoding": "· the encoding in it",
    "keep": "rows and records committed",
    "whole": "page exit to committed",
}


class Device:
    """Pipeline and container with this task; made by ``open_device``."""

    def __init__(self, streams: StreamService, host: TaskHost, key: TaskKey, spec: TaskSpec) -> None:
        self._streams = streams
        self._host = host
        self._key = key
        self._spec = spec

    async def take_visit(self, events: Sequence[RawEvent]) -> tuple[TaskResult, Times]:
        """Hand in a whole visit, its exit after a pause."""
        for event in events[:-1]:
            await self._streams.inlet.emit(event)
        await trio.sleep(PAUSE_S)
        start = time.perf_counter()
        await self._streams.inlet.emit(events[-1])
        firing = await self._streams.firings.receive()
        fired = time.perf_counter()
        result = await self._run(self._spec, firing)
        ran = time.perf_counter()
        await self._streams.commit(self._commit(firing, result))
        kept = time.perf_counter()
        profile = (
            await self._run(replace(self._spec, profile=True), firing)
        ).profile  # again: watching takes time
        parts = {_PROFILED[node.name]: node.total_ns / 1e6 for node in profile if node.name in _PROFILED}
        spans = {"fire": fired - start, "run": ran - fired, "keep": kept - ran, "whole": kept - start}
        return result, Times(**{name: span * 1e3 for name, span in spans.items()}, **parts)

    def records(self, result: TaskResult) -> dict[str, Record]:
        """What a run sends, by name."""
        scenario, task = self._key
        return {
            send.name: Record(scenario, task, "1.0.0", "r1", send.name, 1, send.fields)
            for send in result.uploads
        }

    def _commit(self, firing: Firing, result: TaskResult) -> RunCommit:
        rows = tuple((write.table, write.row) for write in result.rows)
        uploads = tuple(self.records(result).values())
        return RunCommit(self._key, "1.0.0", "r1", firing.last_seq, rows=rows, uploads=uploads)

    async def _run(self, spec: TaskSpec, firing: Firing) -> TaskResult:
        result = await self._host.run(spec, run_inputs(firing))
        if not result.ok:
            raise RuntimeError(f"{result.error_kind}: {result.error}\n{result.traceback}")
        return result


@asynccontextmanager
async def open_device() -> AsyncGenerator[Device]:
    """A device of this process with nothing but this task, and an empty store."""
    task = read_folder(HERE / "task")
    key = (task.definition.task.scenario, task.definition.task.name)
    with tempfile.TemporaryDirectory(prefix="walle-item-page-view-") as folder:
        bundle = await trio.to_thread.run_sync(write_bundle, task, Path(folder) / "bundle")
        spec = TaskSpec(
            key[1],
            "1.0.0",
            bundle,
            params=task.definition.params,
            capabilities=frozenset(task.definition.task.capabilities),
        )
        async with (
            open_streams(Path(folder) / "streams.db", SystemClock()) as streams,
            TaskHost(HostConfig(slots=1)) as host,
            trio.open_nursery() as nursery,
        ):
            await streams.register(key, task.definition.triggers, task.definition.tables)
            await nursery.start(streams.run)
            yield Device(streams, host, key, spec)
            nursery.cancel_scope.cancel()


def recorded_visits() -> list[list[bytes]]:
    """The lines of ``events.jsonl``, visit by visit."""
    visits: dict[str, list[bytes]] = defaultdict(list)
    for line in (HERE / "events.jsonl").read_bytes().splitlines()[1:]:
        visits[json.loads(line)["visit_id"]].append(line)
    return list(visits.values())


async def measure(visits: int) -> list[tuple[Sizes, Times]]:
    """Send visits through a device; those recorded come again where more are asked for."""
    recorded = recorded_visits()
    measured: list[tuple[Sizes, Times]] = []
    async with open_device() as device:
        await device.take_visit([parse_event(line) for line in recorded[0]])  # the first run loads the model
        for lines in itertools.islice(itertools.cycle(recorded), visits):
            result, times = await device.take_visit([parse_event(line) for line in lines])
            records = device.records(result)
            feature = records["item_page_view"]
            sizes = Sizes(
                len(lines),
                sum(map(len, lines)),
                len(json.dumps(feature.fields, separators=(",", ":"))),
                len(encode(feature)),
                len(base64.b64decode(records["item_page_encoding"].fields["encoding"])),
            )
            measured.append((sizes, times))
    return measured


def means(measured: Sequence[tuple[Sizes, Times]]) -> dict[str, float]:
    """The mean of each size."""
    return {name: mean(getattr(sizes, name) for sizes, _ in measured) for name in Sizes.__dataclass_fields__}


def percentiles(measured: Sequence[tuple[Sizes, Times]]) -> dict[str, tuple[float, float]]:
    """The 50th and the 99th of each stage's times; needs two visits."""
    cuts = {name: quantiles([getattr(times, name) for _, times in measured], n=100) for name in STAGES}
    return {name: (cut[49], cut[98]) for name, cut in cuts.items()}


def draw_sizes(sizes: Mapping[str, float]) -> Table:
    """The paper's table. Its figures are of real visits, ours of synthetic ones."""
    table = Table(title="One item-page view, mean · SYNTHETIC visits", title_justify="left")
    for name in ("", "here", "less than raw", "in the paper"):
        table.add_column(name, justify="left" if not name else "right")
    raw = sizes["raw_bytes"]
    table.add_row("events", f"{sizes['events']:.1f}", "", "19.3")
    for label, name, paper in (
        ("raw events", "raw_bytes", "21.2 KB"),
        ("feature", "feature_bytes", "1.3 KB"),
        ("feature as a record", "record_bytes", ""),
        ("encoding", "encoding_bytes", "128 bytes"),
    ):
        saved = "" if name == "raw_bytes" else f"{1 - sizes[name] / raw:.1%}"
        table.add_row(label, f"{sizes[name]:,.0f} bytes", saved, paper)
    return table


def draw_times(times: Mapping[str, tuple[float, float]]) -> Table:
    """Latency by stage."""
    table = Table(title="Latency on this machine · SYNTHETIC visits", title_justify="left")
    table.add_column("stage")
    for name in ("p50", "p99"):
        table.add_column(name, justify="right")
    for name, (middle, high) in times.items():
        table.add_row(LABELS[name], f"{middle:.2f} ms", f"{high:.2f} ms")
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--visits", type=int, default=100, help="how many; the 30 recorded ones come again")
    parser.add_argument("--json", action="store_true", help="print every visit's figures as JSON")
    options = parser.parse_args()
    if options.visits < 2:
        parser.error("--visits must be at least 2")
    measured = trio.run(measure, options.visits)
    if options.json:
        print(json.dumps({"synthetic": True, "visits": [asdict(s) | {"ms": asdict(t)} for s, t in measured]}))
        return
    console = Console()
    console.print(draw_sizes(means(measured)))
    console.print(draw_times(percentiles(measured)))


if __name__ == "__main__":
    main()
