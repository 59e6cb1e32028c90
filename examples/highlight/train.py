"""Train every model of the example with ``walle_engine.train``, and set the gate.

Streams for training, for calibration and for tests have seeds of their own, so no host, room or decoy of one
is in another. The files written are committed; only a change to networks or streams needs a new run::

    .venv/bin/python examples/highlight/train.py
    .venv/bin/python examples/highlight/train.py --streams 4 --share 0.02 --out /tmp/quick

``--share`` scales all numbers of steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parent / "task"))

import fusion
import judge
import networks
import numpy as np
import onnx
import senses
from cloud import spectrogram
from main import quantised
from onnx import numpy_helper

import generate
from walle_engine import api, train, wmodel
from walle_engine.train.sheet import Sheet
from walle_task import cv
from walle_task.testing import fake_host

HERE = Path(__file__).resolve().parent

type Array = np.ndarray[Any, np.dtype[Any]]
type Batch = dict[str, Array]

#: First seeds of the streams for training, for the fusion model, for the gate, and for tests.
SEEDS = {"train": 10_000, "fuse": 20_000, "gate": 30_000, "test": 40_000}
TICKS = 100

#: How many parameters the paper's models have.
PAPER = {"detector": 8_150_000, "recogniser": 10_870_000, "face": 2_060_000, "voice": 8_000}
VOICE_HIDDEN = {"voice": 42, "cloud_voice": 64}
FUSION_HIDDEN = {"fusion": 10, "cloud_fusion": 10}
CLASSES = senses.ITEMS + 1

SIZES: Mapping[str, networks.Size] = {
    "detector": networks.Size(senses.DEVICE.detector_side, (24, 2), ((48, 2), (96, 2), (96, 1))),
    "recogniser": networks.Size(senses.DEVICE.recogniser_side, (16, 1), ((32, 2), (64, 1), (96, 2), (96, 1))),
    "face": networks.Size(senses.DEVICE.face_side, (8, 1), ((16, 2), (32, 2), (48, 1), (64, 2))),
    "cloud_detector": networks.Size(
        senses.CLOUD.detector_side, (24, 2), ((48, 2), (96, 2), (128, 1), (128, 1)), 96, 1
    ),
    "cloud_recogniser": networks.Size(
        senses.CLOUD.recogniser_side, (24, 2), ((48, 1), (96, 2), (96, 1), (160, 2), (192, 1))
    ),
    "cloud_face": networks.Size(senses.CLOUD.face_side, (16, 2), ((32, 2), (64, 2), (96, 1), (128, 2))),
}
#: For times only: MobileNet's blocks on 224 pixels, with as many channels as give the paper's parameters.
PAPER_SIDE = 224
#: Steps of training, and how many examples each has.
STEPS = {
    "detector": 1_500, "recogniser": 2_500, "face": 2_000, "voice": 2_000, "fusion": 3_000,
    "cloud_detector": 4_500, "cloud_recogniser": 12_000, "cloud_face": 8_000, "cloud_voice": 4_000,
    "cloud_fusion": 3_000,
}  # fmt: skip
BATCH = 32


def build(name: str, seed: int = 0) -> onnx.ModelProto:
    """A model of the example, with random weights; ``paper_`` before a name: of the paper's size."""
    kind = name.removeprefix("cloud_")
    if name.startswith("paper_"):
        return _paper_size(name.removeprefix("paper_"))
    if kind == "detector":
        return networks.detector(SIZES[name], seed)
    if kind == "recogniser":
        return networks.classifier(name, SIZES[name], CLASSES, seed)
    if kind == "face":
        return networks.face(SIZES[name], seed)
    if kind == "fusion":
        return networks.sequence(name, fusion.WINDOW, fusion.FEATURES, FUSION_HIDDEN[name], seed)
    steps = 1 + (generate.SOUND_SAMPLES - networks.WINDOW) // networks.HOP
    return networks.sequence(name, steps, networks.MELS, VOICE_HIDDEN[name], seed)


def _paper_size(kind: str) -> onnx.ModelProto:
    if kind == "voice":
        return voice_of({}, "voice")
    base = networks.Size(PAPER_SIDE, (32, 2), networks.MOBILENET)
    # The detector keeps a stride of 8 from the fourth block on: later ones would make its places too large.
    kept = tuple((made, stride if at < 4 else 1) for at, (made, stride) in enumerate(base.blocks))
    dense = networks.Size(PAPER_SIDE, (32, 2), kept, 256, 4)
    makers: Mapping[str, Callable[[float], onnx.ModelProto]] = {
        "detector": lambda factor: networks.detector(dense.scaled(factor)),
        "recogniser": lambda factor: networks.classifier("recogniser", base.scaled(factor), 1_000),
        "face": lambda factor: networks.face(base.scaled(factor)),
    }
    return networks.of_size(makers[kind], PAPER[kind])


def voice_of(weights: Mapping[str, Array], name: str) -> onnx.ModelProto:
    """The device's voice model: it takes sound, and tells the spectrogram too."""
    made = networks.voice(generate.SOUND_SAMPLES, generate.RATE_HZ, VOICE_HIDDEN[name])
    ordered = [item for item in made.graph.initializer if item.name.endswith((".w", ".r", ".b"))]
    for item, value in zip(ordered, weights.values(), strict=False):
        item.CopyFrom(numpy_helper.from_array(np.asarray(value), item.name))
    return made


# Examples to learn from


@dataclass(frozen=True)
class Example:
    """One tick: what the app would hand over, and the truth."""

    image: Any  # [SIDE, SIDE, 3], as decoded from JPEG
    sound: Array
    tick: generate.Tick
    held: generate.Box | None
    face: generate.Box | None


def examples(kind: str, streams: int) -> Iterator[list[Example]]:
    """The streams of a kind, each as its ticks."""
    for seed in range(SEEDS[kind], SEEDS[kind] + streams):
        yield [
            Example(cv.imdecode(moment.jpeg), moment.sound, moment.tick, moment.frame.held, moment.frame.face)
            for moment in generate.stream(seed, TICKS)
        ]


class Lesson:
    """Inputs of all models and what they ought to answer, of many ticks."""

    def __init__(self, ticks: Sequence[Example], seed: int) -> None:
        self._seed = seed
        self._ticks = ticks
        self.sounds = np.stack([tick.sound for tick in ticks]).astype(np.float32) / 32768
        self.spoken = np.array([[float(tick.tick.spoken)] for tick in ticks], np.float32)

    def pictures(self, side: int) -> Array:
        """All frames as bytes ``[N, 3, side, side]``."""
        return np.concatenate(
            [
                np.asarray(cv.to_tensor(t.image, size=(side, side), swap_rb=True, dtype="uint8"))
                for t in self._ticks
            ]
        )

    def maps(self, side: int) -> Array:
        """The detector's target: is the place in a thing, how near its middle, the edges in strides."""
        return np.stack([target_map(tick.held, side) for tick in self._ticks])

    def faces(self) -> Array:
        """The face model's target: is there one, and its box as shares of the frame."""
        return np.array(
            [[1, *(np.array(t.face) / generate.SIDE)] if t.face else [0] * 5 for t in self._ticks], np.float32
        )

    def crops(self, side: int, copies: int) -> tuple[Array, Array]:
        """What is held, cut out a little differently each time; and anything else."""
        rng = np.random.default_rng(self._seed)
        images, labels = [], []
        for tick in self._ticks:
            for _ in range(copies):
                box, label = self._crop_of(tick, rng)
                crop = senses.square(box, generate.SIDE, generate.SIDE)
                images.append(
                    np.asarray(
                        cv.to_tensor(tick.image, size=(side, side), swap_rb=True, crop=crop, dtype="uint8")
                    )
                )
                labels.append(label)
        return np.concatenate(images), np.array(labels, np.int64)

    def _crop_of(self, tick: Example, rng: np.random.Generator) -> tuple[tuple[int, int, int, int], int]:
        if tick.held is None or rng.random() < 0.1:
            wide = int(rng.integers(16, 48))
            x, y = rng.integers(0, generate.SIDE - wide, 2)
            away = tick.held is None or _overlap(tick.held, (x, y, x + wide, y + wide)) < 0.1
            if away:
                return (int(x), int(y), wide, wide), senses.ITEMS
        assert tick.held is not None
        left, top, right, _ = tick.held
        size = right - left
        moved = rng.normal(0, 0.06, 4) * size
        x, y, wide, high = left + moved[0], top + moved[1], size + moved[2], size + moved[3]
        return (round(x), round(y), max(2, round(wide)), max(2, round(high))), tick.tick.item


def target_map(held: generate.Box | None, side: int) -> Array:
    """The detector's target for one frame, ``[6, side / 8, side / 8]``."""
    places = side // networks.STRIDE
    target = np.zeros((networks.MAP_CHANNELS, places, places), np.float32)
    target[2:] = 1  # of no account, but a box with an area
    if held is None:
        return target
    left, top, right, bottom = (edge / generate.SIDE * side for edge in held)
    middles = (np.arange(places) + 0.5) * networks.STRIDE
    x, y = middles[None, :], middles[:, None]
    edges = np.stack(np.broadcast_arrays(x - left, y - top, right - x, bottom - y)) / networks.STRIDE
    inside = edges.min(0) > 0
    if not inside.any():  # a small thing between the middles of places: the nearest has it
        far = (x - (left + right) / 2) ** 2 + (y - (top + bottom) / 2) ** 2
        inside = far == far.min()
    edges = np.maximum(edges, 0.05)
    across, down = edges[[0, 2]], edges[[1, 3]]
    middle = np.sqrt(across.min(0) / across.max(0) * down.min(0) / down.max(0))
    target[0], target[1] = inside, middle * inside
    target[2:] = np.where(inside, edges, 1)
    return target


def _overlap(one: generate.Box, other: generate.Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0) * max(high, 0) / max((other[2] - other[0]) * (other[3] - other[1]), 1e-6)


# Losses that the engine's list does not have


@dataclass(frozen=True)
class DetectorLoss:
    """FCOS's: focal loss of things, cross entropy of the middle, ``-log IoU`` of the edges."""

    output: str = "map"

    def inputs(self, output: wmodel.Value) -> tuple[wmodel.Value, ...]:
        """The map as it ought to be."""
        return (wmodel.Value("target", output.dtype, output.shape),)

    def nodes(self, sheet: Sheet, output: str) -> str:
        """Add nodes."""
        many = (networks.MAP_CHANNELS,)
        thing, middle, *edges = sheet.many("Split", (output,), *many, axis=1, num_outputs=many[0])
        positive, near, *true = sheet.many("Split", ("target",), *many, axis=1, num_outputs=many[0])
        count = sheet("Add", sheet("ReduceSum", positive, keepdims=0), sheet.number(1.0))
        focal = sheet("Mul", self._focus(sheet, thing, positive), _cross_entropy(sheet, thing, positive))
        centred = sheet("Mul", positive, _cross_entropy(sheet, middle, near))
        placed = sheet("Mul", positive, self._apart(sheet, edges, true))
        whole = sheet("Add", sheet("Add", focal, centred), placed)
        return sheet("Div", sheet("ReduceSum", whole, keepdims=0), count)

    def _focus(self, sheet: Sheet, logit: str, positive: str) -> str:
        """``(share by which the answer is wrong)**2``, so that what is easy hardly counts."""
        wrong = sheet("Sub", sheet("Sigmoid", logit), positive)
        return sheet("Mul", wrong, wrong)

    def _apart(self, sheet: Sheet, edges: Sequence[str], true: Sequence[str]) -> str:
        """``-log IoU`` of two boxes round one place."""

        def area(sides: Sequence[str]) -> str:
            return sheet("Mul", sheet("Add", sides[0], sides[2]), sheet("Add", sides[1], sides[3]))

        shared = area([sheet("Min", one, other) for one, other in zip(edges, true, strict=True)])
        union = sheet("Sub", sheet("Add", area(edges), area(true)), shared)
        return sheet("Neg", sheet("Log", sheet("Div", shared, union)))


@dataclass(frozen=True)
class FaceLoss:
    """Cross entropy of whether there is a face, and how far its box is off where there is one."""

    output: str = "face"

    def inputs(self, output: wmodel.Value) -> tuple[wmodel.Value, ...]:
        """What it ought to be."""
        return (wmodel.Value("target", output.dtype, output.shape),)

    def nodes(self, sheet: Sheet, output: str) -> str:
        """Add nodes."""
        logit, *box = sheet.many("Split", (output,), 5, axis=1, num_outputs=5)
        there, *true = sheet.many("Split", ("target",), 5, axis=1, num_outputs=5)
        loss = _cross_entropy(sheet, logit, there)
        for one, other in zip(box, true, strict=True):
            loss = sheet("Add", loss, sheet("Mul", there, sheet("Abs", sheet("Sub", one, other))))
        return sheet("ReduceMean", loss, keepdims=0)


def _cross_entropy(sheet: Sheet, logit: str, target: str) -> str:
    """``-t log p - (1 - t) log(1 - p)`` with ``p = sigmoid(logit)``."""
    return sheet("Sub", sheet("Softplus", logit), sheet("Mul", target, logit))


# Training


def pixels(images: Array) -> Array:
    """Bytes as models take them."""
    return ((images.astype(np.float32) / 255 - senses.MEAN) / senses.STD).astype(np.float32)


def fit(
    name: str, loss: train.Loss, batches: Callable[[Array], Batch], count: int, share: float
) -> onnx.ModelProto:
    """Train one model on batches of ``count`` examples, drawn by their numbers."""
    steps = max(2, round(STEPS[name] * share))
    model = build(name, seed=7)
    rng = np.random.default_rng(11)
    started, losses = time.perf_counter(), []
    with tempfile.TemporaryDirectory(prefix="walle-") as folder:
        source = Path(folder) / "model.onnx"
        source.write_bytes(model.SerializeToString())
        schedule = train.warm_up(min(100, steps), train.cosine(steps))
        trainer = train.Trainer(
            source, loss, train.AdamW(3e-3, weight_decay=1e-3), schedule=schedule, clip_norm=5.0
        )
        for step in range(steps):
            losses.append(trainer.step(batches(rng.integers(0, count, BATCH))))
            if (step + 1) % max(1, steps // 5) == 0:
                print(f"  {name} step {step + 1}/{steps} loss {np.mean(losses[-50:]):.4f}", flush=True)
    learnt = trainer.checkpoint()
    for item in model.graph.initializer:
        if item.name in learnt:
            value = np.frombuffer(learnt[item.name], np.float32).reshape(tuple(item.dims))
            item.CopyFrom(numpy_helper.from_array(value, item.name))
    seconds = time.perf_counter() - started
    print(f"{name}: {networks.parameters(model):,} parameters, {steps} steps in {seconds:.0f} s", flush=True)
    return model


def hear(sounds: Array) -> Array:
    """The spectrograms ``[T, N, MELS]`` of sounds, by the front half of the voice model."""
    with tempfile.TemporaryDirectory(prefix="walle-") as folder:
        ear = converted(networks.ear(generate.SOUND_SAMPLES, generate.RATE_HZ), Path(folder))
        parts = [
            np.array(ear.run({"sound": sounds[at : at + 100]})["steps"]) for at in range(0, len(sounds), 100)
        ]
    return np.concatenate(parts, axis=1)


def converted(model: onnx.ModelProto, folder: Path) -> api.Session:
    """A session of a network, as the control plane would convert it."""
    from walle_engine.convert import convert

    source, target = folder / "model.onnx", folder / "model.wmodel"
    source.write_bytes(model.SerializeToString())
    convert(source, target, check=False)
    return api.load(target).session()


def train_senses(lesson: Lesson, share: float, names: Sequence[str]) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Train those of the models of pictures and sound that are named."""
    for name in names:
        yield name, fit(name, *subject(name, lesson), share)


def subject(name: str, lesson: Lesson) -> tuple[train.Loss, Callable[[Array], Batch], int]:
    """What a model is to learn: its loss, a batch of examples by their numbers, and how many there are."""
    rng = np.random.default_rng(5)  # of its own: a model learns the same, whichever others are trained
    kind = name.removeprefix("cloud_")
    if kind == "voice":
        heard = hear(lesson.sounds)

        def listened(rows: Array) -> Batch:
            return {"steps": np.ascontiguousarray(heard[:, rows]), "target": lesson.spoken[rows]}

        return train.BinaryCrossEntropy(), listened, len(lesson.spoken)
    side = SIZES[name].side
    loss: train.Loss
    if kind == "recogniser":
        images, targets = lesson.crops(side, 2)
        loss = train.CrossEntropy()
    else:
        images = lesson.pictures(side)
        loss, targets = (
            (DetectorLoss(), lesson.maps(side)) if kind == "detector" else (FaceLoss(), lesson.faces())
        )

    def looked_at(rows: Array) -> Batch:
        return {"image": _relit(pixels(images[rows]), rng), "target": targets[rows]}

    return loss, looked_at, len(images)


def _relit(images: Array, rng: np.random.Generator) -> Array:
    """Every picture a little lighter or darker."""
    gain = rng.uniform(0.85, 1.15, (len(images), 1, 1, 1)).astype(np.float32)
    return images * gain + rng.normal(0, 0.1, gain.shape).astype(np.float32)


def weights_of(model: onnx.ModelProto) -> dict[str, Array]:
    """What a network has learnt, in the order of its layers."""
    return {
        item.name: numpy_helper.to_array(item) for item in model.graph.initializer if item.name != "axis0"
    }


def export(name: str, model: onnx.ModelProto, out: Path) -> None:
    """Write a model where the task has it; the device's voice model gets its ear."""
    if name == "voice":
        model = voice_of(weights_of(model), name)
    folder = out / ("cloud" if name.startswith("cloud_") else "model")
    folder.mkdir(parents=True, exist_ok=True)
    onnx.checker.check_model(model, full_check=True)
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


# Fusion, and the gate


@dataclass(frozen=True)
class Watched:
    """A stream as both halves of the task sense it: by number of tick, and the truth."""

    ticks: Sequence[generate.Tick]
    device: Mapping[int, dict[str, Any]]
    cloud: Mapping[int, dict[str, Any]]


@contextmanager
def sensing(task: Path) -> Iterator[None]:
    """With all models of the task at hand, as a task finds them; the cloud's among them."""
    with (
        tempfile.TemporaryDirectory(prefix="walle-") as folder,
        fake_host(bundle_dir=sensing_bundle(task, Path(folder))),
    ):
        yield


def watch(kind: str, streams: int, task: Path) -> list[Watched]:
    """Sense whole streams with the task's own code and models."""
    with sensing(task):
        return [_watch(ticks) for ticks in examples(kind, streams)]


def _watch(ticks: Sequence[Example]) -> Watched:
    device, cloud = {}, {}
    for at in ticks:
        sound = {"sound": (at.sound.astype(np.float32) / 32768)[None]}
        seen, steps = senses.sense(at.image, sound, senses.DEVICE)
        device[at.tick.number] = asdict(seen)
        heard = spectrogram(quantised(steps))  # as it comes through
        again, _ = senses.sense(at.image, {"steps": heard}, senses.CLOUD)
        cloud[at.tick.number] = {**asdict(again), "by_cloud": True}
    return Watched([at.tick for at in ticks], device, cloud)


def sensing_bundle(task: Path, folder: Path) -> Path:
    """A folder with all models, the cloud's among them, as a task finds them."""
    from walle_engine.convert import convert

    (folder / "model").mkdir(parents=True)
    for source in sorted([*task.glob("model/*.onnx"), *task.glob("cloud/*.onnx")]):
        convert(source, folder / "model" / f"{source.stem}.wmodel", check=False)
    return folder


#: What asking may cost: so many of all ticks, those of whose score the device is least sure.
ASKED_SHARE = 0.12
#: The cloud learns from so many times the ticks that are asked, for there to be enough of them.
ASKED_MORE = 2
#: Now and then the tick before is not known: runs of a task may overlap.
UNKNOWN_SHARE = 0.05
#: How often each tick is learnt from, each time with others that are not known.
COPIES = 3


def window(
    past: Mapping[int, dict[str, Any]], newest: dict[str, Any], number: int, rng: np.random.Generator
) -> list[list[float]]:
    """What a fusion model reads for one tick, if what it knows of those before is ``past``."""
    history = {at: past[at] for at in past if at < number and rng.random() > UNKNOWN_SHARE}
    return fusion.window(history | {number: newest}, number)


def device_windows(watched: Sequence[Watched]) -> tuple[Array, Array]:
    """What the device's fusion model reads ``[T, N, F]``, and the truth."""
    rng = np.random.default_rng(3)
    return _stacked(
        (window(stream.device, stream.device[tick.number], tick.number, rng), tick.highlight)
        for stream in watched * COPIES
        for tick in stream.ticks
    )


def cloud_windows(watched: Sequence[Watched], task: Path) -> tuple[Array, Array]:
    """The same for the cloud's.

    Of ticks that the device would ask about, it knows the newest by its own senses and those before by the
    device's. Where it is asked about every tick, it knows all by its own; these are as many, of any ticks.
    """
    rng = np.random.default_rng(4)
    with sensing(task):
        scores = [list(_fused(stream, stream.device, stream.device, "fusion")) for stream in watched]
    flat = [score for row in scores for score in row]
    middle = judge.best_threshold(flat, truth_of(watched))
    low, high = judge.band(flat, middle, ASKED_MORE * ASKED_SHARE)
    every = [(stream, at) for stream in watched for at in range(len(stream.ticks))]
    asked = [
        (stream, at)
        for stream, row in zip(watched, scores, strict=True)
        for at, score in enumerate(row)
        if low <= score < high
    ] * COPIES
    always = [every[row] for row in rng.integers(0, len(every), len(asked))]

    def rows() -> Iterator[tuple[list[list[float]], bool]]:
        for stream, past, at in (
            *((stream, stream.device, at) for stream, at in asked),
            *((stream, stream.cloud, at) for stream, at in always),
        ):
            tick = stream.ticks[at]
            yield window(past, stream.cloud[tick.number], tick.number, rng), tick.highlight

    return _stacked(rows())


def _stacked(rows: Iterable[tuple[list[list[float]], bool]]) -> tuple[Array, Array]:
    steps, truth = zip(*rows, strict=True)
    return (
        np.ascontiguousarray(np.array(steps, np.float32).swapaxes(0, 1)),
        np.array(truth, np.float32)[:, None],
    )


def train_fusion(name: str, watched: Sequence[Watched], task: Path, share: float) -> onnx.ModelProto:
    """Train a fusion model on what the others make of streams that they did not learn from."""
    steps, truth = device_windows(watched) if name == "fusion" else cloud_windows(watched, task)

    def batch(rows: Array) -> Batch:
        return {"steps": np.ascontiguousarray(steps[:, rows]), "target": truth[rows]}

    return fit(name, train.BinaryCrossEntropy(), batch, len(truth), share)


@dataclass(frozen=True)
class Scored:
    """Fusion scores of all ticks of streams, one after the other."""

    device: list[float]
    again: list[float]  # the cloud's, of a tick before which the device sensed
    cloud: list[float]  # the cloud's, of a tick before which it sensed itself


def scored(watched: Sequence[Watched], task: Path) -> Scored:
    """Score all ticks of streams."""
    found = Scored([], [], [])
    with sensing(task):
        for stream in watched:
            found.device.extend(_fused(stream, stream.device, stream.device, "fusion"))
            found.again.extend(_fused(stream, stream.device, stream.cloud, "cloud_fusion"))
            found.cloud.extend(_fused(stream, stream.cloud, stream.cloud, "cloud_fusion"))
    return found


def _fused(
    stream: Watched, past: Mapping[int, dict[str, Any]], newest: Mapping[int, dict[str, Any]], name: str
) -> Iterator[float]:
    for tick in stream.ticks:
        yield fusion.fuse({**past, tick.number: newest[tick.number]}, tick.number, name)


def truth_of(watched: Sequence[Watched]) -> list[bool]:
    """Which ticks of streams are part of a highlight."""
    return [tick.highlight for stream in watched for tick in stream.ticks]


def set_gate(watched: Sequence[Watched], task: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Thresholds by streams that no model learnt from: the device's, and the cloud's.

    ``offline`` is where the device's own word is best, if nobody can be asked; ``accept`` and ``reject``
    leave round it what is asked. The cloud's is where its word on just that makes all decisions best.
    """
    found, true = scored(watched, task), truth_of(watched)
    offline = judge.best_threshold(found.device, true)
    reject, accept = judge.band(found.device, offline, ASKED_SHARE)
    asked = [reject <= score < accept for score in found.device]
    sure = [not unsure for unsure in asked]
    decided = judge.of_ticks([score >= accept for score in _only(found.device, sure)], _only(true, sure))
    theirs = judge.best_threshold(_only(found.again, asked), _only(true, asked), decided)
    return {"accept": accept, "reject": reject, "offline": offline}, {"accept": theirs}


def _only[T](values: Iterable[T], chosen: Iterable[bool]) -> list[T]:
    return [value for value, yes in zip(values, chosen, strict=True) if yes]


def evaluate(watched: Sequence[Watched], task: Path) -> dict[str, judge.Quality]:
    """How good ticks are decided by each way of watching, and who asks how much; printed."""
    mine, theirs = (json.loads((task / name / "gate.json").read_text()) for name in ("", "cloud"))
    true, found = truth_of(watched), scored(watched, task)
    alone = [score >= mine["offline"] for score in found.device]
    looked = [score >= theirs["accept"] for score in found.again]
    always = [score >= theirs["accept"] for score in found.cloud]
    asked = [mine["reject"] <= score < mine["accept"] for score in found.device]
    gated = [again if unsure else own for unsure, again, own in zip(asked, looked, alone, strict=True)]
    unsure = _only(true, asked)
    ways = {
        "device alone": (alone, true),
        "cloud if unsure": (gated, true),
        "cloud": (always, true),
        "device, of what it asks": (_only(alone, asked), unsure),
        "cloud, of what it is asked": (_only(looked, asked), unsure),
    }
    qualities = {name: judge.of_ticks(*way) for name, way in ways.items()}
    for name, (decided, so) in ways.items():
        one = qualities[name]
        rightly = np.mean(np.array(decided) == np.array(so))
        print(
            f"{len(so)} ticks of test streams, {name}: {rightly:.1%} right, precision {one.precision:.1%}, "
            f"recall {one.recall:.1%}, F1 {one.f1:.3f}"
        )
    kept = np.mean(_only(looked, asked))
    print(f"asked {sum(asked) / len(true):.1%}; the cloud accepts {kept:.1%} of these")
    return qualities


def main(argv: list[str] | None = None) -> int:
    """Train, write the models, set the gate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE / "task", help="the task's folder")
    parser.add_argument("--streams", type=int, default=150, help="for training; a third as many for the rest")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of steps")
    parser.add_argument("--only", nargs="*", choices=sorted(STEPS), default=list(STEPS), metavar="MODEL")
    args = parser.parse_args(argv)
    names = [name for name in STEPS if name in args.only and "fusion" not in name]
    if names:
        ticks = [tick for stream in examples("train", args.streams) for tick in stream]
        print(f"{len(ticks)} ticks to learn from", flush=True)
        for name, model in train_senses(Lesson(ticks, 1), args.share, names):
            export(name, model, args.out)
    rest = max(2, args.streams // 3)
    fusions = [name for name in STEPS if name in args.only and "fusion" in name]
    watched = watch("fuse", rest, args.out) if fusions else []
    for name in fusions:
        export(name, train_fusion(name, watched, args.out, args.share), args.out)
    for name, gate in zip(("", "cloud"), set_gate(watch("gate", rest, args.out), args.out), strict=True):
        (args.out / name / "gate.json").write_text(json.dumps(gate, indent=1) + "\n")
        print(f"gate {name or 'device'}: {gate}")
    evaluate(watch("test", rest, args.out), args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
