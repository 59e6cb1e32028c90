"""The example as a whole: recorded stream -> pipeline -> task -> what leaves the device."""

from __future__ import annotations

import base64
import importlib.util
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from walle_agent.streams.event import parse_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.pipeline import Firing, run_inputs
from walle_agent.streams.storage import RunCommit, StreamStore
from walle_shared.clock import FixedClock
from walle_shared.manifest import TaskFile
from walle_shared.protocol.codec import encode
from walle_shared.protocol.tunnel import Deflater, Record
from walle_task.authoring import read_folder, write_bundle
from walle_task.events import Event, Visit
from walle_task.testing import FakeHost, fake_host

EXAMPLE = Path(__file__).parents[3] / "examples" / "item_page_view"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"item_page_view_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses ask for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(read_folder(EXAMPLE / "task"), tmp_path_factory.mktemp("item_page_view"))


@pytest.fixture(scope="module")
def task(bundle: Path) -> Iterator[ModuleType]:
    sys.path.insert(0, str(bundle))
    yield load(bundle / "main.py")
    sys.path.remove(str(bundle))
    del sys.modules["steps"]


@pytest.fixture(scope="module")
def definition() -> TaskFile:
    return read_folder(EXAMPLE / "task").definition


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


def run_task(task: ModuleType, definition: TaskFile, bundle: Path, **inputs: Any) -> FakeHost:
    capabilities = frozenset(definition.task.capabilities)
    with fake_host(**inputs, params=definition.params, capabilities=capabilities, bundle_dir=bundle) as host:
        assert task.run() is not None
    return host


def raw_bytes(lines: list[bytes]) -> dict[str, int]:
    by_visit: dict[str, int] = {}
    for line in lines:
        visit_id = json.loads(line)["visit_id"]
        by_visit[visit_id] = by_visit.get(visit_id, 0) + len(line)
    return by_visit


def record(upload: dict[str, Any]) -> Record:
    return Record("demo", "item_page_view", "1.0.0", "r1", upload["name"], 1, upload["fields"])


def test_the_stream_is_the_generators_and_says_what_it_is() -> None:
    generator = load(EXAMPLE / "generate.py")
    head, *kept = (EXAMPLE / "events.jsonl").read_text().splitlines()
    note = json.loads(head.removeprefix("# "))
    assert "SYNTHETIC" in note["note"]
    stream = generator.generate(note["visits"], note["seed"])
    assert [json.loads(line) for line in kept] == stream.events
    assert 0 < sum(stream.bought.values()) < len(stream.bought) == note["visits"]


def test_every_visit_gives_what_the_manifest_allows_and_is_a_tenth_at_most(
    task: ModuleType,
    definition: TaskFile,
    bundle: Path,
    firings: list[Firing],
    store: StreamStore,
    lines: list[bytes],
) -> None:
    raw = raw_bytes(lines)
    assert len(firings) == len(raw) == 30
    plain = packed = 0
    deflater = Deflater()  # one per connection, as in the tunnel
    for firing in firings:
        host = run_task(task, definition, bundle, **run_inputs(firing))
        records = [record(upload) for upload in host.uploads]
        assert [sent.name for sent in records] == ["item_page_view", "item_page_encoding"]
        for sent in records:
            assert sent.fields.keys() == definition.uploads[sent.name].keys()
        assert len(base64.b64decode(records[1].fields["encoding"])) == 128
        data = [encode(sent) for sent in records]
        assert firing.visit is not None
        assert sum(map(len, data)) <= 0.1 * raw[firing.visit.visit_id]
        plain += sum(map(len, data))
        packed += sum(len(deflater.compress(part)) for part in data)
        rows = tuple((row["table"], row["row"]) for row in host.rows)
        assert store.commit_run(
            RunCommit(firing.task, "1.0.0", "r1", firing.last_seq, rows=rows, uploads=tuple(records))
        )
    assert packed < 0.5 * plain
    assert len(store.read_rows(firings[0].task, "features")) == 30


@pytest.mark.slow
async def test_the_table_is_of_the_device_itself_and_holds_what_the_readme_claims(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = load(EXAMPLE / "table.py")
    monkeypatch.setattr(table, "PAUSE_S", 0.0)
    measured = await table.measure(30)
    sizes = table.means(measured)
    readme = (EXAMPLE / "README.md").read_text()
    assert f"| events | {sizes['events']:.1f} |" in readme
    for what in ("raw", "feature", "encoding"):
        assert f" {sizes[what + '_bytes']:,.0f} bytes |" in readme
    assert sizes["record_bytes"] <= 0.1 * sizes["raw_bytes"]
    assert sizes["encoding_bytes"] == 128
    for _, times in measured:
        assert times.fire + times.run + times.keep == pytest.approx(times.whole)
        assert times.feature > 0
        assert times.encoding > 0
    assert table.draw_sizes(sizes).row_count == 5
    assert table.draw_times(table.percentiles(measured)).row_count == len(table.STAGES)


@pytest.mark.slow
def test_the_encoder_ranks_visits_it_was_never_trained_on(task: ModuleType, bundle: Path) -> None:
    train = load(EXAMPLE / "train.py")
    rows, bought = train.make_visits(300, seed=1_000)
    with fake_host(bundle_dir=bundle):
        found = task.model.load("encoder").run({"steps": rows})
    interest = np.array(found["interest"].tolist())[:, 0]
    assert train.rank_quality(interest, bought) > 0.7


def test_the_encoding_is_the_networks_state(task: ModuleType, bundle: Path, firings: list[Firing]) -> None:
    """As NumPy computes it from the weights in the ONNX file."""
    import onnx
    from onnx import numpy_helper

    train, steps = load(EXAMPLE / "train.py"), load(EXAMPLE / "task" / "steps.py")
    file = onnx.load(str(EXAMPLE / "task" / "model" / "encoder.onnx"))
    weights = {item.name: numpy_helper.to_array(item) for item in file.graph.initializer}
    split = weights["b"].shape[1] // 2
    parameters = {
        "w": weights["w"][0].T,
        "r": weights["r"][0].T,
        "wb": weights["b"][0, :split],
        "rb": weights["b"][0, split:],
        "head.w": weights["head.w"][:, 0],
        "head.b": weights["head.b"],
    }
    with fake_host(**run_inputs(firings[0]), bundle_dir=bundle):
        visit = task.events.visit()
        state, interest = task.encode(visit)
    x = np.array(steps.rows(visit), np.float32)[:, None]
    expected, logits, _ = train.forward(parameters, x)
    assert struct.unpack("<32f", state) == pytest.approx(expected[0], abs=1e-4)
    assert interest == pytest.approx(train.sigmoid(logits)[0], abs=1e-3)


def test_the_gradients_are_those_of_differences() -> None:
    train = load(EXAMPLE / "train.py")
    rng = np.random.default_rng(3)
    parameters = {name: value.astype(float) for name, value in train.initial_parameters(4, rng).items()}
    x, bought = rng.normal(size=(5, 3, 4)), np.array([1.0, 0.0, 1.0])
    _, gradients = train.loss_and_gradients(parameters, x, bought)
    for name, value in parameters.items():
        place = tuple(rng.integers(size) for size in value.shape)
        sides = []
        for step in (1e-6, -1e-6):
            value[place] += step
            sides.append(train.loss_and_gradients(parameters, x, bought)[0])
            value[place] -= step
        assert gradients[name][place] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4, abs=1e-9)


def test_training_repeats_itself_and_learns() -> None:
    train = load(EXAMPLE / "train.py")
    rng = np.random.default_rng(4)
    x = rng.normal(size=(4, 256, 3)).astype(np.float32)
    bought = (x.sum(axis=(0, 2)) > 0).astype(np.float32)
    first, again = (train.train(x, bought, epochs=20, seed=5) for _ in range(2))
    assert all((first[name] == again[name]).all() for name in first)
    assert train.rank_quality(train.forward(first, x)[1], bought) > 0.9


def test_rows_are_padded_in_front_and_cut_to_the_last() -> None:
    steps = load(EXAMPLE / "task" / "steps.py")
    clicks = [
        Event(seq, "click", "cart_added" if seq == 40 else "section_opened", wall_ms=1_000 * seq)
        for seq in range(1, 41)
    ]
    short = steps.rows(Visit("v", events=tuple(clicks[-2:])))
    long = steps.rows(Visit("v", events=tuple(clicks)))
    for rows in (short, long):
        assert [len(row) for row in rows] == [steps.WIDTH] * steps.STEPS
    assert short[:-2] == [[0.0] * steps.WIDTH] * (steps.STEPS - 2)
    assert short[-1] == long[-1]
    assert long[-1][: len(steps.KINDS) + 1] == [0, 0, 0, 1, 0, 1]


def visit(*events: dict[str, Any]) -> dict[str, Any]:
    plain = [{"seq": n, "page_id": "item_detail", **event} for n, event in enumerate(events, 1)]
    return {"visit_id": "v", "page_id": "item_detail", "opened_ms": 0, "closed_ms": 4_000, "events": plain}


def test_the_sums_are_right(task: ModuleType, bundle: Path) -> None:
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
    with fake_host(visit=given, bundle_dir=bundle) as host:
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
