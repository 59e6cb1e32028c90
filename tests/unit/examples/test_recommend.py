"""The recommendation example: shoppers, metrics, the task, and what the committed networks are worth."""

from __future__ import annotations

import base64
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_agent.streams.event import parse_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.pipeline import Firing, run_inputs
from walle_agent.streams.storage import StreamStore
from walle_shared.clock import FixedClock
from walle_shared.limits import EVENT_MAX_BYTES
from walle_task.authoring import TaskFolder, read_folder, write_bundle
from walle_task.testing import FakeHost, fake_host

EXAMPLE = Path(__file__).parents[3] / "examples" / "recommend"
SCRIPTS = ("borrowed", "build", "generate", "metrics", "dataset", "evaluate", "app", "train")
#: Modules of the example that other examples have, too, under the same name.
OWN = {*SCRIPTS, "behaviour", "item_page", "steps", "main", "item_page_view_generate"}


@pytest.fixture(scope="module")
def shop() -> Iterator[SimpleNamespace]:
    """The example's scripts, as they import each other; gone again behind the module."""
    before = {name: sys.modules.pop(name) for name in OWN & sys.modules.keys()}
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in SCRIPTS})
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in OWN & sys.modules.keys():
            del sys.modules[name]
        sys.modules.update(before)


@pytest.fixture(scope="module")
def folder(shop: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> TaskFolder:
    return read_folder(shop.build.build(tmp_path_factory.mktemp("built")))


@pytest.fixture(scope="module")
def bundle(folder: TaskFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(folder, tmp_path_factory.mktemp("recommend"))


@pytest.fixture(scope="module")
def task(shop: SimpleNamespace, bundle: Path) -> Iterator[Any]:
    sys.path.insert(0, str(bundle))
    for name in ("behaviour", "item_page", "steps"):
        sys.modules.pop(name, None)
    yield importlib.import_module("main")
    sys.path.remove(str(bundle))


@pytest.fixture(scope="module")
def catalogue(shop: SimpleNamespace) -> Any:
    return shop.generate.Catalogue()


@pytest.fixture(scope="module")
def rankers(shop: SimpleNamespace) -> Any:
    return shop.evaluate.Rankers()


class Device:
    """The task on a store of its own, without a container: events in, what each run did out."""

    def __init__(self, store: StreamStore, task: Any, folder: TaskFolder, bundle: Path) -> None:
        definition = folder.definition
        self._flow = StreamFlow(store, FixedClock(mono_ns=1))
        key = (definition.task.scenario, definition.task.name)
        store.declare(key, definition.tables)
        self._flow.register(key, definition.triggers)
        self._task, self._definition, self._bundle = task, definition, bundle
        self.tables: dict[str, list[dict[str, Any]]] = {name: [] for name in definition.tables}
        self.values: dict[str, Any] = {}

    def take(self, *events: dict[str, Any]) -> list[tuple[Firing, FakeHost, Any]]:
        """What runs these events led to: why, what it did, what it returned."""
        lines = [json.dumps(event).encode() for event in events]
        return [self._run(firing) for firing in self._flow.accept([parse_event(line) for line in lines])]

    def _run(self, firing: Firing) -> tuple[Firing, FakeHost, Any]:
        capabilities = frozenset(self._definition.task.capabilities)
        with fake_host(
            **run_inputs(firing),
            params=self._definition.params,
            tables=self.tables,
            values=self.values,
            capabilities=capabilities,
            bundle_dir=self._bundle,
        ) as host:
            value = self._task.run()
        for write in host.rows:
            assert write["row"].keys() <= self._definition.tables[write["table"]].keys()
            self.tables[write["table"]].append(write["row"])
        for sent in host.uploads:
            assert sent["fields"].keys() <= self._definition.uploads[sent["name"]].keys()
        self.values |= host.values
        return firing, host, value


@pytest.fixture
def device(tmp_path: Path, task: Any, folder: TaskFolder, bundle: Path) -> Iterator[Device]:
    store = StreamStore.open(tmp_path / "streams.db", FixedClock(mono_ns=1))
    yield Device(store, task, folder, bundle)
    store.close()


def start(shop: SimpleNamespace, catalogue: Any, seed: int = 100_001) -> Any:
    return shop.generate.Shopper(catalogue, seed).session(0, shop.generate.START_MS)


# ---- Shoppers and metrics ----------------------------------------------------------------------------------


def test_a_shopper_is_the_same_each_time_and_not_another(shop: SimpleNamespace) -> None:
    first, again, other = (list(shop.generate.stream(seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert {event["kind"] for event in first} >= {"page_enter", "exposure", "click", "scroll", "page_exit"}
    assert max(len(json.dumps(event)) for event in first) < EVENT_MAX_BYTES


def test_the_recording_is_the_generators_and_says_what_it_is(shop: SimpleNamespace) -> None:
    head, *kept = (EXAMPLE / "task" / "simulations" / "session.jsonl").read_text().splitlines()
    said = json.loads(head.removeprefix("# "))
    assert "SYNTHETIC" in said["note"]
    events = shop.generate.stream(said["seed"], pages_shown=said["pages"], candidates=said["candidates"])
    assert [json.loads(line) for line in kept] == list(events)


def test_clicks_follow_the_chances_and_intents_drift(shop: SimpleNamespace, catalogue: Any) -> None:
    expected, clicks, spread, drifted = 0.0, 0, 0.0, 0
    everything = list(range(len(catalogue.kind)))
    for seed in range(8):
        session = start(shop, catalogue, seed)
        first = session.chances()
        while True:
            chances = session.chances()
            expected += chances.sum()
            spread += (chances * (1 - chances)).sum()
            clicks += len(session.look(everything))
            if not session.turn_page():
                break
        drifted += not np.allclose(first, chances)
    assert drifted > 4
    assert abs(clicks - expected) < 4 * spread**0.5


def test_what_is_shown_does_not_change_the_shoppers_luck(shop: SimpleNamespace, catalogue: Any) -> None:
    one, other = start(shop, catalogue), start(shop, catalogue)
    for session, cards in ((one, range(100)), (other, range(50, 150))):
        session.look(list(cards))
        session.turn_page()
    assert np.array_equal(one.chances(), other.chances())
    assert one.look(list(range(1_200))) == other.look(list(range(1_200)))


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=1, max_size=12)
)
def test_auc_is_the_share_of_pairs_in_order(shop: SimpleNamespace, drawn: list[tuple[float, bool]]) -> None:
    scores, clicked = (np.array(column) for column in zip(*drawn, strict=True))
    pairs = [
        1.0 if yes > no else 0.5 if yes == no else 0.0 for yes in scores[clicked] for no in scores[~clicked]
    ]
    found = shop.metrics.auc(scores, clicked)
    assert found == pytest.approx(np.mean(pairs)) if pairs else np.isnan(found)


def test_gauc_is_the_mean_over_shoppers_by_cards(shop: SimpleNamespace) -> None:
    groups = np.array([7, 7, 7, 7, 3, 3, 9, 9])
    scores = np.array([0.9, 0.1, 0.2, 0.3, 0.1, 0.2, 5.0, 6.0])
    clicked = np.array([1, 0, 0, 0, 1, 0, 1, 1], bool)
    assert shop.metrics.gauc(scores, clicked, groups) == pytest.approx((4 * 1.0 + 2 * 0.0) / 6)
    assert np.isnan(shop.metrics.gauc(scores[6:], clicked[6:], groups[6:]))


def test_a_late_history_lacks_the_newest_visits(shop: SimpleNamespace) -> None:
    behaviour = shop.dataset.behaviour
    numbers = np.arange(3 * 31, dtype=np.float32).reshape(3, 31)
    none = np.zeros(0)
    log = shop.dataset.Log(np.array([1_000, 60_000, 61_000]), numbers, none, none, none, none)
    rows = shop.dataset.histories(log, np.array([62_000, 62_000, 500]), np.array([0, 30_000, 0]))
    assert [(row.any(axis=1)).sum() for row in rows] == [3, 1, 0]
    assert np.array_equal(rows[0, -3:, :31], numbers)
    packed = [(int(at), data.tobytes()) for at, data in zip(log.closed_ms, numbers, strict=True)]
    assert np.frombuffer(behaviour.history(packed, 62_000), np.float32) == pytest.approx(rows[0].ravel())


def test_a_history_holds_the_newest_hundred(shop: SimpleNamespace) -> None:
    behaviour = shop.dataset.behaviour
    packed = [(number, bytes(120) + np.float32(number).tobytes()) for number in range(130)]
    rows = np.frombuffer(behaviour.history(packed, 130), np.float32).reshape(behaviour.HISTORY, -1)
    assert rows[:, 30].tolist() == list(range(30, 130))


def test_an_app_whose_device_says_nothing_shows_the_clouds_order(
    shop: SimpleNamespace, catalogue: Any, rankers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shopper, none = shop.generate.Shopper(catalogue, 100_002), np.zeros(0)
    log = shop.dataset.Log(none, np.zeros((0, 31), np.float32), none, none, none, none)
    with shop.dataset.open_reader() as reader:
        app = shop.app.App(Path("nowhere"), shopper, shop.evaluate.Known(log, reader), rankers)
        monkeypatch.setattr(app, "_emit", lambda _: 0.0)
        monkeypatch.setattr(app, "_hear", lambda _: None)
        monkeypatch.setattr(shop.app, "SETTLE_S", 0.0)
        app.shop(shopper.session(0, shop.generate.START_MS))
    assert app.seen.pages == shop.generate.SESSION_PAGES
    assert app.seen.expected == pytest.approx(app.seen.by_cloud)
    assert app.seen.late >= shop.generate.SESSION_PAGES // shop.generate.REQUEST_PAGES
    assert app.seen.agreed == app.seen.differed == 0


def test_an_app_passes_over_what_comes_too_late(shop: SimpleNamespace, catalogue: Any, rankers: Any) -> None:
    session = start(shop, catalogue)
    now_ms, said = session.now_ms, []
    for request, as_of_ms, by, order in (
        ("r1", now_ms, "device", ["i0001"]),  # of the candidates before
        ("r2", now_ms - 1, "device", ["i0002"]),  # does not know of the last visit
        ("r2", now_ms, "device", ["i0004", "i0003"]),
        ("r2", now_ms, "cloud", ["i0003", "i0004"]),
    ):
        told = {"request_id": request, "as_of_ms": as_of_ms, "by": by, "order": order}
        said.append(SimpleNamespace(value=told))
    app = shop.app.App(Path("nowhere"), session.shopper, None, rankers)
    app._request = "r2"
    app._results = SimpleNamespace(next=lambda _: said.pop(0) if said else None)
    assert app._hear(session) == [4, 3]
    assert app._hear(session) is None
    assert app._hear(session) is None


# ---- The task ----------------------------------------------------------------------------------------------


def test_a_visit_goes_out_as_feature_and_encodings_and_moves_the_feed(
    shop: SimpleNamespace, device: Device, catalogue: Any
) -> None:
    session = start(shop, catalogue)
    order = list(range(0, 600, 6))
    ((_, _, first),) = device.take(shop.generate.candidates_event(session, "r1", order))
    assert (first["by"], first["request_id"]) == ("device", "r1")
    assert sorted(first["order"]) == sorted(catalogue.cards[item]["item_id"] for item in order)
    events, _ = session.visit(order[50])
    ((firing, host, second),) = device.take(*events)
    assert firing.visit is not None
    assert [sent["name"] for sent in host.uploads] == ["item_page_view", "item_page_encoding", "session"]
    raw = sum(len(json.dumps(event, separators=(",", ":"))) for event in events)
    assert sum(len(json.dumps(sent)) for sent in host.uploads) < 0.1 * raw
    assert len(base64.b64decode(host.uploads[2]["fields"]["state"])) == 128
    assert (second["as_of_ms"], sorted(second["order"])) == (session.now_ms, sorted(first["order"]))
    assert second["order"] != first["order"]


def test_the_order_is_that_of_the_network(
    shop: SimpleNamespace, device: Device, catalogue: Any, rankers: Any
) -> None:
    session, order = start(shop, catalogue), list(range(100))
    visits = [session.visit(item)[0] for item in (3, 70, 9)]
    for events in visits:
        device.take(*events)
    ((_, _, told),) = device.take(shop.generate.candidates_event(session, "r", order))
    with shop.dataset.open_reader() as reader:
        numbers = reader.read(visits)
    none = np.zeros(0)
    closed = np.array([events[-1]["wall_ms"] for events in visits])
    log = shop.dataset.Log(closed, numbers, none, none, none, none)
    past = shop.dataset.histories(log, np.array([session.now_ms]), np.array([0]))
    shown = [catalogue.number_of[name] for name in told["order"]]
    scores = rankers.din(past, shop.dataset.candidate_rows(catalogue, np.array(shown)))
    assert len(set(scores.round(3))) > 50
    assert np.all(np.diff(scores) < 2e-3)


def test_two_pages_without_a_click_rank_again_and_a_click_between_does_not(
    shop: SimpleNamespace, device: Device, catalogue: Any
) -> None:
    session = start(shop, catalogue)
    shown = shop.generate.exposure_event(session, list(range(10)))
    click = shop.generate.feed_event(session, "click", "card_clicked", {})
    device.take(shop.generate.candidates_event(session, "r", [1, 2]))
    assert device.take(shown, click, shown) == []
    ((_, _, told),) = device.take(shown)
    assert sorted(told["order"]) == ["i0001", "i0002"]


def test_vectors_of_another_version_leave_the_clouds_order(
    shop: SimpleNamespace, device: Device, catalogue: Any
) -> None:
    session = start(shop, catalogue)
    event = shop.generate.candidates_event(session, "r", [5, 4, 6])
    event["args"]["vectors_version"] = 2
    ((_, _, told),) = device.take(event)
    assert (told["by"], told["order"]) == ("cloud", ["i0005", "i0004", "i0006"])
    event["args"] |= {"vectors_version": 1}
    event["args"]["items"][1]["vector"] = "rubbish"
    ((_, _, told),) = device.take(event)
    assert (told["by"], told["order"]) == ("cloud", ["i0005", "i0004", "i0006"])


def test_without_candidates_nothing_is_told_and_a_visit_without_a_vector_is_no_history(
    shop: SimpleNamespace, device: Device, catalogue: Any
) -> None:
    events, _ = start(shop, catalogue).visit(7)
    ((_, _, told),) = device.take(*events)
    assert told is None
    assert len(device.tables["history"]) == 1
    for event in events:
        event["visit_id"] = "another"
    del events[0]["args"]["item"]["vector"]
    ((_, host, told),) = device.take(*events)
    assert told is None
    assert len(device.tables["history"]) == 1
    assert host.logs[-1]["message"] == "vector_missing"


def test_the_history_is_in_order_of_time_however_it_was_kept(
    shop: SimpleNamespace, device: Device, task: Any, catalogue: Any
) -> None:
    session = start(shop, catalogue)
    for item in (1, 2, 3):
        device.take(*session.visit(item)[0])
    with fake_host(tables=device.tables):
        kept = task.past(session.now_ms)
    device.tables["history"].reverse()
    with fake_host(tables=device.tables):
        assert task.past(session.now_ms) == kept


# ---- The networks ------------------------------------------------------------------------------------------


def test_the_models_are_small() -> None:
    models = [*EXAMPLE.rglob("*.onnx")]
    assert {model.stem for model in models} == {"din", "session", "cloud"}
    assert sum(model.stat().st_size for model in models) < 200_000


def test_the_session_and_the_cloud_network_are_cut_where_they_fit(
    shop: SimpleNamespace, catalogue: Any, rankers: Any
) -> None:
    past = np.random.default_rng(5).normal(size=(1, 100, 32)).astype(np.float32)
    items = shop.dataset.candidate_rows(catalogue, np.arange(7))
    assert rankers.gru(past, items).shape == rankers.din(past, items).shape == (7,)
    each = [rankers.gru(past, items[place : place + 1])[0] for place in range(7)]
    assert rankers.gru(past, items) == pytest.approx(each, abs=1e-4)


@pytest.mark.slow
def test_training_repeats_itself(shop: SimpleNamespace, catalogue: Any) -> None:
    with shop.dataset.open_reader() as reader:
        logs = [shop.dataset.live(catalogue, seed, reader) for seed in range(3)]
    samples = shop.train.Samples(catalogue, logs, np.random.default_rng(1))
    made = [shop.train.make_din() for _ in range(3)]
    for model in made[:2]:
        shop.train.fit(model, samples, lambda past: {"history": past}, epochs=1)
    first, again, untrained = (model.SerializeToString() for model in made)
    assert first == again != untrained


@pytest.mark.slow
def test_fresh_visits_rank_better_than_late_ones(shop: SimpleNamespace, catalogue: Any, rankers: Any) -> None:
    """On shoppers that the networks were never trained on; the truth is above all."""
    with shop.dataset.open_reader() as reader:
        logs = shop.evaluate.held_out(catalogue, reader, 12)
    found = shop.evaluate.offline(rankers, catalogue, logs)
    best = found["truth"][""]
    for name in ("DIN", "GRU"):
        fresh, late = found[name]["fresh"], found[name]["1 day"]
        assert best.auc > fresh.auc > late.auc + 0.03
        assert best.gauc > fresh.gauc > late.gauc + 0.03
        assert late.auc > 0.6


@pytest.mark.slow_session
def test_pages_ranked_on_the_device_are_clicked_more(
    shop: SimpleNamespace, catalogue: Any, rankers: Any
) -> None:
    seeds = range(shop.evaluate.HELD_FROM, shop.evaluate.HELD_FROM + 40)
    with shop.dataset.open_reader() as reader:
        found = shop.evaluate.online(rankers, catalogue, reader, seeds)
    gains = shop.evaluate.gains(found, "recall's order")
    more, half = gains["device"][2:]
    assert more > half
    assert gains["the truth"][2] > gains["device"][2]
