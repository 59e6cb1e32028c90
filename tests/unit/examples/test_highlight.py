"""The livestream example: its generator, its judge, its task with the models that are committed."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from walle_task import cloud as asking
from walle_task.authoring import read_folder, write_bundle
from walle_task.testing import FakeHost, fake_host

EXAMPLE = Path(__file__).parents[3] / "examples" / "highlight"
#: The example's modules go by these names while its tests run.
OWN = (
    "fusion",
    "generate",
    "judge",
    "main",
    "measure",
    "networks",
    "picture",
    "results",
    "senses",
    "spans",
    "train",
)


@pytest.fixture(scope="module")
def own() -> Iterator[dict[str, ModuleType]]:
    """The modules of the example and of its task, by name."""
    import importlib

    before = {name: sys.modules.pop(name) for name in OWN if name in sys.modules}
    paths = [str(EXAMPLE), str(EXAMPLE / "task"), str(EXAMPLE.parent / "common")]
    sys.path[:0] = paths
    yield {name: importlib.import_module(name) for name in (*OWN, "cloud")}
    for path in paths:
        sys.path.remove(path)
    for name in (*OWN, "cloud", "page"):
        sys.modules.pop(name, None)
    sys.modules.update(before)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task, with what its cloud half has besides."""
    return write_bundle(read_folder(EXAMPLE / "task"), tmp_path_factory.mktemp("highlight"), cloud=True)


@pytest.fixture(scope="module")
def moments(own: dict[str, ModuleType]) -> list[Any]:
    """A stream of which no model has seen anything."""
    return list(own["generate"].stream(own["train"].SEEDS["test"] + 77, 60))


# The generator


def test_the_same_seed_gives_the_same_stream_however_long(own: dict[str, ModuleType]) -> None:
    generate = own["generate"]
    short, long = (list(generate.stream(5, ticks)) for ticks in (4, 8))
    for one, other in zip(short, long, strict=False):
        assert one.jpeg == other.jpeg
        assert (one.sound == other.sound).all()
        assert one.tick == other.tick
    assert next(generate.stream(6, 1)).jpeg != short[0].jpeg


def test_a_highlight_is_an_item_shown_with_face_and_voice(own: dict[str, ModuleType]) -> None:
    generate = own["generate"]
    script = [tick for seed in range(20) for tick in generate.write_script(seed, 80)]
    assert {tick.segment for tick in script} == set(generate.SEGMENTS)
    for tick in script:
        assert tick.highlight == (tick.segment == "present")
        if tick.highlight:
            assert 0 <= tick.item < generate.OTHER
            assert tick.look == generate.CATALOGUE[tick.item]
        if tick.segment == "decoy":
            assert tick.look not in generate.CATALOGUE
    shares = [tick.highlight for tick in script]
    assert 0.2 < np.mean(shares) < 0.6


def test_the_spans_of_a_script_are_its_highlights(own: dict[str, ModuleType]) -> None:
    script = own["generate"].write_script(3, 100)
    spans = own["generate"].spans(script)
    covered = {at for _, first, last in spans for at in range(first, last + 1)}
    assert covered == {tick.number for tick in script if tick.highlight}
    for (_, _, last), (_, first, _) in itertools.pairwise(spans):
        assert first > last + 1


def test_what_is_told_of_a_picture_lies_in_it(moments: list[Any]) -> None:
    for moment in moments:
        assert moment.frame.pixels.shape == (128, 128, 3)
        assert moment.sound.shape == (4_000,)
        assert (moment.frame.held is None) == (moment.tick.item == -1)
        assert moment.frame.face is None or moment.tick.face == "front"
        for box in (moment.frame.held, moment.frame.face):
            assert box is None or (box[0] < box[2] and box[1] < box[3] and box[2] > 0 and box[0] < 128)


# The judge


def test_highlights_are_right_with_their_item_and_half_their_time(own: dict[str, ModuleType]) -> None:
    judge = own["judge"]
    true = [(1, 0, 9), (2, 20, 29), (3, 40, 49)]
    found = [(1, 2, 10), (2, 26, 33), (4, 40, 49), (1, 0, 9)]
    quality = judge.of_spans(found, true)
    assert (quality.right, quality.wrong, quality.missed) == (1, 3, 2)
    assert judge.of_spans(true, true).f1 == 1
    assert judge.of_spans([], []).f1 == 0


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_best_threshold_is_as_good_as_any(
    own: dict[str, ModuleType], scored: list[tuple[float, bool]]
) -> None:
    judge = own["judge"]
    scores, true = [score for score, _ in scored], [is_so for _, is_so in scored]

    def f1(at: float) -> Any:
        return judge.of_ticks([score >= at for score in scores], true).f1

    assert f1(judge.best_threshold(scores, true)) == max(f1(at) for at in scores)


def test_a_threshold_counts_in_what_was_decided_otherwise(own: dict[str, ModuleType]) -> None:
    """The better the rest is decided, the surer one must be."""
    judge = own["judge"]
    scores, true = [0.9] * 3 + [0.5] * 5, [True] * 3 + [True, True, False, False, False]
    assert judge.best_threshold(scores, true) == 0.5
    assert judge.best_threshold(scores, true, judge.Quality(40, 0, 0)) == 0.9


@settings(max_examples=30)
@given(st.sets(st.floats(0, 1), min_size=20, max_size=200), st.floats(0, 0.5), st.floats(0, 1))
@example({number / 32 for number in range(20)}, 0.0, 1.0)
def test_a_band_holds_its_share(
    own: dict[str, ModuleType], scores: set[float], share: float, middle: float
) -> None:
    low, high = own["judge"].band(sorted(scores), middle, share)
    assert low <= middle <= high
    held = sum(low <= score < high for score in scores)
    assert held <= share * len(scores) + 1


# Spans


@given(st.lists(st.booleans(), max_size=60))
def test_each_span_is_told_once_and_whole(own: dict[str, ModuleType], accepted: list[bool]) -> None:
    spans = own["spans"]
    rows = {at: {"accepted": yes, "item": 1, "score": 1.0, "by": "gate"} for at, yes in enumerate(accepted)}
    told = [spans.ended(rows, number) for number in range(len(accepted) + spans.GAP + 1)]
    text = "".join("x" if yes else "." for yes in accepted)
    expected, at = [], 0
    while (first := text.find("x", at)) >= 0:  # by hand: go on until the gap is too wide
        last = first
        while (following := text.find("x", last + 1)) >= 0 and following - last - 1 <= spans.GAP:
            last = following
        if text[first : last + 1].count("x") >= spans.LEAST:
            expected.append((first, last))
        at = last + 1
    assert [(span["first"], span["last"]) for span in told if span] == expected


def test_a_span_has_the_item_that_most_of_its_ticks_have(own: dict[str, ModuleType]) -> None:
    items = [1, 1, 2, 1]
    rows = {
        at: {"accepted": True, "item": item, "score": 0.5, "by": "cloud" if at else "gate"}
        for at, item in enumerate(items)
    }
    span = own["spans"].ended(rows, 4 + own["spans"].GAP)
    assert span == {"item": 1, "first": 0, "last": 3, "score": 0.5, "by_cloud": 3}


# Networks and losses


@pytest.mark.slow
def test_the_paper_sizes_have_the_papers_parameters(own: dict[str, ModuleType]) -> None:
    """The voice model is of that size as it is; the face model stands for the larger ones."""
    train, networks = own["train"], own["networks"]
    assert networks.parameters(train.build("voice")) == pytest.approx(train.PAPER["voice"], rel=0.02)
    assert networks.parameters(train.build("paper_face")) == pytest.approx(train.PAPER["face"], rel=0.01)


def test_the_detectors_target_is_what_its_reader_reads(own: dict[str, ModuleType]) -> None:
    train, senses = own["train"], own["senses"]
    held = (40.0, 24.0, 72.0, 60.0)
    target = train.target_map(held, 64)
    logits = np.where(target[:2] > 0, 4 * target[:2], -9)
    score, box = senses.best_box([*logits.tolist(), *target[2:].tolist()], 64, 128, 128)
    assert score > 0.9
    assert np.allclose(box, (40, 24, 32, 36), atol=1)
    nothing = train.target_map(None, 64)
    assert nothing[:2].max() == 0
    assert nothing[2:].min() > 0  # a box without an area has no logarithm


def test_the_detectors_loss_is_fcos(own: dict[str, ModuleType], tmp_path: Path) -> None:
    from walle_engine import train as engine_train

    train, networks = own["train"], own["networks"]
    rng = np.random.default_rng(2)
    net = networks.Net("plain")
    shift = net.weight("shift", (1, 6, 1, 1), 0.1)
    (moved,) = net.add("Add", ["image", shift])
    model = net.model({"image": ["N", 6, 8, 8]}, {"map": moved})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    trainer = engine_train.Trainer(
        tmp_path / "m.onnx", train.DetectorLoss(), engine_train.SGD(0.0), trainable=["shift"]
    )
    found = np.abs(rng.normal(1, 0.3, (2, 6, 8, 8))).astype(np.float32)
    target = np.stack([train.target_map((40, 24, 72, 60), 64), train.target_map(None, 64)])
    loss = trainer.step({"image": found, "target": target})

    p = found + net.weights["shift"]
    positive = target[:, 0]

    def entropy(logit: Any, true: Any) -> Any:
        return np.log1p(np.exp(logit)) - true * logit

    wrong = (1 / (1 + np.exp(-p[:, 0])) - positive) ** 2
    near, edges, true = np.minimum(p[:, 2:], target[:, 2:]), p[:, 2:], target[:, 2:]

    def area(sides: Any) -> Any:
        return (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])

    apart = -np.log(area(near) / (area(edges) + area(true) - area(near)))
    whole = wrong * entropy(p[:, 0], positive) + positive * (entropy(p[:, 1], target[:, 1]) + apart)
    assert loss == pytest.approx(whole.sum() / (positive.sum() + 1), rel=1e-4)


# The task


def run_tick(
    own: dict[str, ModuleType],
    bundle: Path,
    moment: Any,
    *,
    rows: Any = (),
    cloud: Any = None,
    mode: str = "gate",
) -> FakeHost:
    event = {
        "kind": "custom",
        "event_id": "tick",
        "args": {"stream": "s", "tick": moment.tick.number, "frame": "a.jpg", "sound": "a.pcm"},
    }
    told = {
        "events": [event],
        "inbox": {"a.jpg": moment.jpeg, "a.pcm": moment.sound.tobytes()},
        "tables": {"ticks": list(rows)},
        "params": {"mode": mode},
    }
    with pytest.MonkeyPatch.context() as patch, fake_host(**told, cloud=cloud, bundle_dir=bundle) as host:
        patch.chdir(bundle)  # where the task's own files are for open()
        own["main"].run()
    return host


def watch(own: dict[str, ModuleType], bundle: Path, moments: list[Any], **how: Any) -> list[FakeHost]:
    """Play a stream to the task; each run sees the rows of those before."""
    rows: list[dict[str, Any]] = []
    hosts = []
    for moment in moments:
        hosts.append(run_tick(own, bundle, moment, rows=rows, **how))
        rows += [write["row"] for write in hosts[-1].rows]
    return hosts


def cloud_half(own: dict[str, ModuleType], bundle: Path) -> Any:
    """The cloud half as the control plane runs it: in a context of its own."""
    from walle_task import context

    def answer(request: asking.Request) -> dict[str, Any]:
        outer = context.current()
        try:
            with fake_host(bundle_dir=bundle, capabilities=frozenset({"model"})):
                return own["cloud"].answer(request)
        finally:
            context.set_current(outer)

    return answer


def test_most_ticks_of_a_stream_never_seen_are_decided_rightly(
    own: dict[str, ModuleType], bundle: Path, moments: list[Any]
) -> None:
    hosts = watch(own, bundle, moments, cloud=cloud_half(own, bundle))
    rows = [host.rows[0]["row"] for host in hosts]
    truth = [moment.tick.highlight for moment in moments]
    quality = own["judge"].of_ticks([row["accepted"] for row in rows], truth)
    assert quality.f1 > 0.85
    told = [send["fields"] for host in hosts for send in host.uploads]
    found = [(span["item"], span["first"], span["last"]) for span in told]
    true = [span for span in own["generate"].spans([m.tick for m in moments]) if span[2] < len(moments) - 9]
    assert own["judge"].of_spans(found, true).recall >= 0.5
    asked = [host for host in hosts if host.asked]
    assert len(asked) < 0.5 * len(hosts)
    for host in asked:
        (request,) = host.asked
        assert len(request.data) < len(moments[0].sound.tobytes()) + 8_000
        assert host.rows[0]["row"]["by"] == "cloud"


@pytest.mark.slow_session
def test_the_cloud_is_the_better_judge_of_what_the_device_is_unsure_of(own: dict[str, ModuleType]) -> None:
    train, task = own["train"], EXAMPLE / "task"
    qualities = train.evaluate(train.watch("test", 20, task), task)
    assert qualities["cloud, of what it is asked"].f1 > qualities["device, of what it asks"].f1
    assert qualities["cloud if unsure"].f1 > qualities["device alone"].f1


def test_offline_the_device_decides_by_its_own_word(
    own: dict[str, ModuleType], bundle: Path, moments: list[Any]
) -> None:
    gate = json.loads((EXAMPLE / "task" / "gate.json").read_text())
    assert 0 <= gate["reject"] <= gate["offline"] <= gate["accept"] <= 1
    host = run_tick(own, bundle, moments[0], mode="cloud")  # asks, and there is nobody
    row = host.rows[0]["row"]
    assert (row["by"], row["asked"], row["cloud_ms"], row["up_bytes"]) == ("offline", True, 0.0, 0)
    assert row["accepted"] == (row["score"] >= gate["offline"])
    assert host.logs[0]["message"] == "cloud_unavailable"


def test_the_ways_of_watching_ask_never_and_always(
    own: dict[str, ModuleType], bundle: Path, moments: list[Any]
) -> None:
    answer = {"score": 0.9, "accepted": True, "item": 3, "senses": {"item": 3}, "cloud_ms": 2.5}
    alone = run_tick(own, bundle, moments[0], mode="device", cloud=lambda request: answer)
    assert not alone.asked
    assert alone.rows[0]["row"]["by"] == "gate"
    always = run_tick(own, bundle, moments[0], mode="cloud", cloud=lambda request: answer)
    row = always.rows[0]["row"]
    assert (row["by"], row["accepted"], row["item"], row["cloud_ms"]) == ("cloud", True, 3, 2.5)
    assert row["senses"] == {"item": 3}


def test_what_leaves_the_device_is_declared(
    own: dict[str, ModuleType], bundle: Path, moments: list[Any]
) -> None:
    definition = read_folder(EXAMPLE / "task").definition
    host = run_tick(own, bundle, moments[0], mode="device")
    (write,) = host.rows
    assert write["row"].keys() == definition.tables["ticks"].keys()
    rows = [write["row"] | {"tick": at, "accepted": at < 5, "asked": at == 2} for at in range(9)]
    event = {"kind": "custom", "event_id": "stream_end", "args": {"stream": "s", "ticks": 5}}
    with fake_host(events=[event], tables={"ticks": rows[:5]}, bundle_dir=bundle) as ended:
        summary = own["main"].run()
    sent = {send["name"]: send["fields"] for send in ended.uploads}
    assert sent["highlight"].keys() == definition.uploads["highlight"].keys()
    assert sent["stream_summary"].keys() == definition.uploads["stream_summary"].keys()
    assert (summary["ticks"], summary["asked"]) == (5, 1)
    assert (sent["highlight"]["first"], sent["highlight"]["last"]) == (0, 4)


def test_the_spectrogram_comes_through_as_bytes(own: dict[str, ModuleType]) -> None:
    from walle_task import matrix

    steps = np.linspace(-1.8, 1.5, 30 * 20, dtype=np.float32).reshape(30, 1, 20)
    data = own["main"].quantised(matrix.asarray(steps))
    back = np.asarray(own["cloud"].spectrogram(data))
    assert len(data) == 600
    assert back.shape == steps.shape
    assert np.abs(back - steps).max() <= 1 / 128 + 1e-6


def test_committed_models_are_small(own: dict[str, ModuleType]) -> None:
    sizes = {path.name: path.stat().st_size for path in (EXAMPLE / "task").glob("*/*.onnx")}
    assert len(sizes) == len(own["train"].STEPS)
    assert sum(sizes.values()) < 3_000_000


# What is shown


def test_figures_become_tables_and_a_page(own: dict[str, ModuleType], tmp_path: Path) -> None:
    results, judge = own["results"], own["judge"]
    sums = {
        "ticks": 100,
        "asked": 12,
        "accepted_by_cloud": 3,
        "offline": 0,
        "up_bytes": 9_000,
        "cloud_ms": 200.0,
    }
    sums |= {f"{part}_ms": 1.5 for part in (*results.PARTS, "tick")}
    ways = {}
    for name, share in (("gate", 1), ("device", 0), ("cloud", 8)):
        one = sums | {"cloud_ms": 200.0 * share}
        ways[name] = results.way([one], [{}] * 4, judge.Quality(4, 1, 1)) | {"spans": {"s": [(1, 0, 3)]}}
    models = [
        {"name": prefix + part, "parameters": 10, "side": 64, "ms": 1.0}
        for prefix in ("", "cloud_", "paper_")
        for part in results.PARTS[:4]
    ]
    summary = {
        "ways": ways, "models": models, "truth": {"s": [(1, 0, 4)]}, "words": {name: name for name in ways},
        "streams": 1, "ticks": 100, "highlights": 5, "raw_bytes": 1_200_000,
        "away": {"ticks": 9, "decided_alone": 2, "precision": 1.0, "recall": 0.5},
    }  # fmt: skip
    costs = results.costs(summary)
    assert costs["load_each"] == pytest.approx(-0.875)
    assert costs["gain"] == pytest.approx(7)
    assert costs["asked"] == pytest.approx(0.12)
    assert costs["accepted"] == pytest.approx(0.25)
    results.page(summary).write(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "SYNTHETIC" in html
    assert html.count("<svg") == 4
    assert len(results.tables(summary).renderables) == 5


def test_a_frame_is_drawn_in_half_as_many_rows(own: dict[str, ModuleType], moments: list[Any]) -> None:
    drawn = own["picture"].draw(moments[0].frame.pixels, 32)
    assert drawn.plain.splitlines() == ["▀" * 32] * 16
    assert replace(moments[0].frame).pixels.shape == (128, 128, 3)
