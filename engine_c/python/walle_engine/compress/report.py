"""What compression cost and what it saved: two models side by side on the same data."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from walle_engine import api, wmodel
from walle_engine.compress.data import Samples, batch_axis
from walle_engine.compress.metrics import Comparison, Difference, metric_for
from walle_engine.compress.source import to_bytes, watching
from walle_engine.convert.draft import Draft
from walle_shared.errors import ModelError

type Array = np.ndarray[Any, Any]

TIMED_RUNS = 15
TIMED_S = 0.5  # of each model, at most


@dataclass(frozen=True)
class Task:
    """How right both models are.

    Args:
        metric: its name.
        output: the output that is judged.
        original: of the float model.
        compressed: of the other.
        samples: how many there were.
    """

    metric: str
    output: str
    original: float
    compressed: float
    samples: int


@dataclass(frozen=True)
class Report:
    """A compressed model beside the one that it was made from.

    Args:
        size_before: bytes of the original's file.
        size_after: bytes of the file.
        ms_before: median time of a run on the first batch.
        ms_after: of the compressed model.
        outputs: how far each output is off.
        layers: how far the result of each quantised layer is off, the worst first.
        task: how right both are; None without labels.
        drop: how much worse the compressed model is, see :func:`drop_of`.
    """

    size_before: int
    size_after: int
    ms_before: float
    ms_after: float
    outputs: tuple[Difference, ...]
    layers: tuple[Difference, ...]
    task: Task | None
    drop: float


def report_on(
    original: Draft,
    compressed: Draft,
    samples: Samples,
    *,
    layers: Sequence[tuple[str, str]] = (),
    metric: str | None = None,
    output: str | None = None,
    threads: int = 1,
    timed: bool = True,
) -> Report:
    """Run both models on data and compare.

    Args:
        original: the float model.
        compressed: what was made of it; its values of the same names stand for the original's.
        samples: what to run them on.
        layers: names of layers, each with the value that is its result.
        metric: ``"accuracy"``, ``"auc"`` or ``"mse"``; omitted: what fits the labels.
        output: the output that labels are for; omitted: the first.
        threads: of the sessions.
        timed: whether to time runs; times are 0 without.

    Raises:
        ModelError: labels do not fit, or there is no such output.
    """
    judged = _judged(original, output)
    outputs, right = _compare_outputs(original, compressed, samples, judged, metric, threads)
    before, after = to_bytes(original), to_bytes(compressed)
    times = _times([before, after], samples, threads) if timed else [0.0, 0.0]
    return Report(
        size_before=len(before),
        size_after=len(after),
        ms_before=times[0],
        ms_after=times[1],
        outputs=outputs,
        layers=compare_values(original, compressed, samples, dict(layers), threads),
        task=right,
        drop=drop_of(outputs, right, judged.name),
    )


def drop_of(outputs: Sequence[Difference], task: Task | None, judged: str) -> float:
    """Say in one number how much worse a model is.

    With labels, the metric of the original less that of the compressed model. Without, one less the share of
    samples with the same largest score; where outputs are no scores, the difference's length over the
    original's, of the worst output.
    """
    if task is not None:
        return task.original - task.compressed
    by_name = {one.name: one for one in outputs}
    top1 = by_name[judged].top1
    return 1 - top1 if top1 is not None else max(10 ** (-one.sqnr_db / 20) for one in outputs)


def compare_values(
    original: Draft, compressed: Draft, samples: Samples, layers: dict[str, str], threads: int
) -> tuple[Difference, ...]:
    """Compare results of layers, the worst first; values that one of both lacks are left out."""
    made = {name for node in compressed.nodes for name in node.outputs}
    wanted = {layer: value for layer, value in layers.items() if value in made}
    if not wanted:
        return ()
    sessions = [
        watching(draft, list(dict.fromkeys(wanted.values()))).session(threads=threads)
        for draft in (original, compressed)
    ]
    comparisons = {layer: Comparison(layer) for layer in wanted}
    for batch in samples.batches:
        first, second = (session.run(batch) for session in sessions)
        for layer, value in wanted.items():
            comparisons[layer].add(np.asarray(first[value]), np.asarray(second[value]))
    return tuple(sorted((one.result() for one in comparisons.values()), key=lambda one: one.sqnr_db))


def _judged(draft: Draft, output: str | None) -> wmodel.Value:
    for value in draft.outputs:
        if output in (None, value.name):
            return value
    known = ", ".join(value.name for value in draft.outputs)
    raise ModelError(f"the model has no output {output!r}: its outputs are {known}")


def _compare_outputs(
    original: Draft,
    compressed: Draft,
    samples: Samples,
    judged: wmodel.Value,
    metric: str | None,
    threads: int,
) -> tuple[tuple[Difference, ...], Task | None]:
    sessions = [api.load_bytes(to_bytes(draft)).session(threads=threads) for draft in (original, compressed)]
    comparisons: dict[str, Comparison] = {}
    kept: list[list[Array]] = [[], []]
    axis = batch_axis(judged) or 0
    for batch in samples.batches:
        results = [
            {name: np.asarray(value) for name, value in session.run(batch).items()} for session in sessions
        ]
        for name, expected in results[0].items():
            comparisons.setdefault(name, Comparison(name)).add(expected, results[1][name])
        if samples.labels is not None:
            for some, result in zip(kept, results, strict=True):
                some.append(np.moveaxis(result[judged.name], axis, 0))
    differences = tuple(one.result() for one in comparisons.values())
    if samples.labels is None:
        return differences, None
    return differences, _task(judged.name, [np.concatenate(some) for some in kept], samples.labels, metric)


def _task(output: str, scores: Sequence[Array], labels: Array, metric: str | None) -> Task:
    if len(labels) != len(scores[0]):
        raise ModelError(f"there are {len(labels)} labels for {len(scores[0])} samples: give one for each")
    name, measure = metric_for(metric, scores[0], labels)
    return Task(name, output, measure(scores[0], labels), measure(scores[1], labels), len(labels))


def _times(files: Sequence[bytes], samples: Samples, threads: int) -> list[float]:
    """Median milliseconds of each model on the first batch, taken in turns."""
    sessions = [api.load_bytes(data).session(threads=threads) for data in files]
    batch = samples.batches[0]
    taken: list[list[float]] = [[] for _ in sessions]
    for session in sessions:
        session.run(batch)
    until = time.perf_counter() + TIMED_S * len(sessions)
    for _ in range(TIMED_RUNS):
        for session, times in zip(sessions, taken, strict=True):
            started = time.perf_counter()
            session.run(batch)
            times.append((time.perf_counter() - started) * 1e3)
        if time.perf_counter() > until:
            break
    return [statistics.median(times) for times in taken]
