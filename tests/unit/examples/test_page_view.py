"""The example as a whole: recorded stream -> pipeline -> task -> what leaves the device."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from walle_agent.streams.event import parse_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.pipeline import Firing, run_inputs
from walle_agent.streams.storage import RunCommit, StreamStore
from walle_shared.clock import FixedClock
from walle_shared.manifest import TaskFile, parse_task_file
from walle_shared.protocol.codec import encode
from walle_shared.protocol.tunnel import Deflater, Record
from walle_task.testing import FakeHost, fake_host

EXAMPLE = Path(__file__).parents[3] / "examples" / "page_view"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"page_view_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def task() -> ModuleType:
    return load(EXAMPLE / "task" / "main.py")


@pytest.fixture(scope="module")
def definition() -> TaskFile:
    return parse_task_file((EXAMPLE / "task" / "task.toml").read_text())


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return (EXAMPLE / "events.jsonl").read_bytes().splitlines()[1:]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StreamStore]:
    store = StreamStore.open(tmp_path / "streams.db", FixedClock(mono_ns=1))
    yield store
    store.close()


@pytest.fixture
def firings(store: StreamStore, definition: TaskFile, lines: list[bytes]) -> list[Firing]:
    flow = StreamFlow(store, FixedClock(mono_ns=1))
    key = (definition.task.scenario, definition.task.name)
    store.declare(key, definition.tables)
    flow.register(key, definition.triggers)
    return flow.accept([parse_event(line) for line in lines])


def run_task(task: ModuleType, definition: TaskFile, firing: Firing) -> FakeHost:
    inputs = run_inputs(firing)
    capabilities = frozenset(definition.task.capabilities)
    with fake_host(**inputs, params=definition.params, capabilities=capabilities) as host:
        assert task.run() is not None
    return host


def raw_bytes(lines: list[bytes]) -> dict[str, int]:
    by_visit: dict[str, int] = {}
    for line in lines:
        visit_id = json.loads(line)["visit_id"]
        by_visit[visit_id] = by_visit.get(visit_id, 0) + len(line)
    return by_visit


def test_the_stream_is_the_generators_and_says_what_it_is() -> None:
    generator = load(EXAMPLE / "generate.py")
    head, *kept = (EXAMPLE / "events.jsonl").read_text().splitlines()
    note = json.loads(head.removeprefix("# "))
    assert "SYNTHETIC" in note["note"]
    assert [json.loads(line) for line in kept] == generator.generate(note["visits"], note["seed"])


def test_every_visit_gives_one_feature_that_the_manifest_allows(
    task: ModuleType, definition: TaskFile, firings: list[Firing], store: StreamStore, lines: list[bytes]
) -> None:
    assert len(firings) == len(raw_bytes(lines)) == 30
    for firing in firings:
        host = run_task(task, definition, firing)
        ((name, fields),) = [(upload["name"], upload["fields"]) for upload in host.uploads]
        assert fields.keys() == definition.uploads[name].keys()
        record = Record("demo", "page_view", "1.0.0", "r1", name, 1, fields)
        rows = tuple((row["table"], row["row"]) for row in host.rows)
        assert store.commit_run(
            RunCommit(firing.task, "1.0.0", "r1", firing.last_seq, rows=rows, uploads=(record,))
        )
    assert len(store.read_rows(firings[0].task, "features")) == 30


def test_a_feature_is_at_most_a_tenth_of_its_visit(
    task: ModuleType, definition: TaskFile, firings: list[Firing], lines: list[bytes]
) -> None:
    raw = raw_bytes(lines)
    plain: list[int] = []
    packed: list[int] = []
    deflater = Deflater()  # one per connection, as in the tunnel
    for firing in firings:
        assert firing.visit is not None
        (upload,) = run_task(task, definition, firing).uploads
        data = encode(Record("demo", "page_view", "1.0.0", "r-1", upload["name"], 1, upload["fields"]))
        plain.append(len(data))
        packed.append(len(deflater.compress(data)))
        assert plain[-1] <= 0.1 * raw[firing.visit.visit_id]
    events, total = len(lines), sum(raw.values())
    print(
        f"\n{len(raw)} visits of {events / len(raw):.1f} events and {total / len(raw):,.0f} bytes; record "
        f"{sum(plain) / len(plain):.0f} bytes of JSON ({1 - sum(plain) / total:.1%} saved), "
        f"{sum(packed) / len(packed):.0f} deflated ({1 - sum(packed) / total:.1%} saved)"
    )
    assert sum(plain) <= 0.1 * total
    assert sum(packed) < 0.5 * sum(plain)


def visit(*events: dict[str, Any]) -> dict[str, Any]:
    plain = [{"seq": n, "page_id": "item_detail", **event} for n, event in enumerate(events, 1)]
    return {"visit_id": "v", "page_id": "item_detail", "opened_ms": 0, "events": plain}


def test_the_sums_are_right(task: ModuleType) -> None:
    scroll = {"from": 1_000, "offset": 400, "viewport": 600, "page_height": 4_000, "duration_ms": 300}
    cards = [{"item_id": "7", "visible_ms": 50}, {"item_id": "8", "visible_ms": 70}]
    given = visit(
        {
            "kind": "page_enter",
            "event_id": "page_enter",
            "wall_ms": 1_000,
            "args": {"item": {"item_id": "5"}},
        },
        {"kind": "scroll", "event_id": "s", "wall_ms": 1_100, "args": {**scroll, "from": 0, "offset": 1_000}},
        {"kind": "scroll", "event_id": "s", "wall_ms": 1_500, "args": scroll},
        {"kind": "exposure", "event_id": "e", "wall_ms": 1_600, "args": {"items": cards}},
        {"kind": "exposure", "event_id": "e", "wall_ms": 1_700, "args": {"items": cards[:1]}},
        {"kind": "click", "event_id": "cart_added", "wall_ms": 1_800},
        {"kind": "click", "event_id": "section_opened", "wall_ms": 1_900},
        {"kind": "page_exit", "event_id": "walle.closed.age", "wall_ms": 4_000},
    )
    with fake_host(visit=given) as host:
        task.run()
    fields = host.uploads[0]["fields"]
    expected = {
        "item_id": "5",
        "dwell_ms": 3_000,
        "glance": False,
        "close_reason": "age",
        "clicks": 2,
        "cart_adds": 1,
        "favourites": 0,
        "scrolls": 2,
        "scroll_depth": 0.4,
        "scroll_distance": 1_600,
        "scroll_ms": 600,
        "scroll_speed": 2_666.7,
        "exposures": 2,
        "exposed_items": 2,
        "exposure_ms": 170,
    }
    assert {name: fields[name] for name in expected} == expected


def test_a_visit_without_an_item_sends_nothing(task: ModuleType) -> None:
    with fake_host(visit=visit({"kind": "page_enter"}, {"kind": "page_exit"})) as host:
        assert task.run() is None
    assert (host.uploads, host.rows) == ([], [])
    assert host.logs[0]["message"] == "item_missing"
    with fake_host() as host:
        assert task.run() is None
