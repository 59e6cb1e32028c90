"""From a model to a smaller one, with a report of what that cost; refuses what costs too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from walle_engine.compress.data import BATCH, Data, samples_of
from walle_engine.compress.exporting import write_onnx
from walle_engine.compress.observing import Progress, no_progress
from walle_engine.compress.placement import layers_of
from walle_engine.compress.quantizing import quantize
from walle_engine.compress.ranges import PERCENTILE, Method
from walle_engine.compress.report import Report, report_on
from walle_engine.compress.source import Source, read_draft, write
from walle_engine.compress.storing import Stored, store
from walle_engine.compress.weights import quantize_weights
from walle_engine.convert.draft import Draft
from walle_shared.errors import ModelError


@dataclass(frozen=True)
class Compressed:
    """A smaller model.

    Args:
        draft: its graph.
        report: beside the original; None without data.
    """

    draft: Draft
    report: Report | None

    def save(self, path: Path | str) -> None:
        """Write it as a ``.wmodel`` file.

        Raises:
            StorageError: if it cannot be written.
        """
        write(self.draft, Path(path))

    def save_onnx(self, path: Path | str) -> None:
        """Write it as an ONNX file: quantised layers in QDQ form, which ONNX Runtime runs as integers.

        Raises:
            StorageError: if it cannot be written.
            UnsupportedError: if it holds what ONNX has no form for.
        """
        write_onnx(self.draft, Path(path))


def compress(
    source: Source,
    data: Data | None = None,
    *,
    judge: Data | None = None,
    stored: Stored | None = None,
    weights: int | None = None,
    block: int | None = None,
    symmetric: bool = True,
    method: Method = "minmax",
    percentile: float = PERCENTILE,
    weight_bits: int = 8,
    keep: Sequence[str] = (),
    max_drop: float | None = None,
    keep_worst: bool = False,
    metric: str | None = None,
    output: str | None = None,
    batch: int = BATCH,
    threads: int = 1,
    progress: Progress = no_progress,
) -> Compressed:
    """Make a model smaller, and say what that costs.

    Args:
        source: a ``.wmodel`` or ``.onnx`` file.
        data: what the model's values look like: scales are chosen by it.
        judge: what the report is made on; omitted: ``data``.
        stored: keep float32, and store weights as ``"float16"`` or ``"bfloat16"``; needs no data.
        weights: keep float32, and store and run weights alone as codes of 8 or 4 bits; needs no data.
        block: see :func:`walle_engine.compress.quantize_weights`.
        symmetric: as there.
        method: see :func:`walle_engine.compress.quantize`; so are the others that it has.
        percentile: as there.
        weight_bits: as there.
        keep: as there.
        max_drop: how much worse the model may be, see :func:`walle_engine.compress.report.drop_of`.
        keep_worst: leave layers in float until ``max_drop`` holds, rather than fail.
        metric: ``"accuracy"``, ``"auc"`` or ``"mse"``; omitted: what fits the labels.
        output: the output that labels are for; omitted: the first.
        batch: samples in one run.
        threads: of the sessions.
        progress: told of each step.

    Raises:
        ModelError: data are missing or do not fit, there is nothing to compress, or the model would be worse
            than ``max_drop`` allows; then ``node`` names the layer whose result is furthest off.
        EngineError: what the engine says of the model.
    """
    original = read_draft(source)
    judged = data if judge is None else judge
    if max_drop is not None and judged is None:
        raise ModelError("a bound on the drop needs data to measure it on")
    if keep_worst and max_drop is None:
        raise ModelError("leaving the worst layers in float needs a bound on the drop")
    samples = None if judged is None else samples_of(judged, original.inputs, batch=batch)
    if stored is not None and weights is not None:
        raise ModelError("weights are stored in 16 bits or as codes, not both: choose one")
    if stored is not None:
        draft = store(original, stored).draft
    elif weights is not None:
        draft = quantize_weights(original, weights, block=block, symmetric=symmetric, keep=keep).draft
    elif data is None:
        raise ModelError("quantising needs data: an array of some hundred samples for each input")
    else:
        draft = quantize(
            original, data,
            judge=samples, method=method, percentile=percentile, weight_bits=weight_bits, keep=keep,
            max_drop=max_drop if keep_worst else None, metric=metric, output=output, batch=batch,
            threads=threads, progress=progress,
        ).draft  # fmt: skip
    if samples is None:
        return Compressed(draft, None)
    layers = [(layer.node.name, layer.output) for layer in layers_of(original)]
    report = report_on(original, draft, samples, layers=layers, metric=metric, output=output, threads=threads)
    _require_close(report, max_drop)
    return Compressed(draft, report)


def _require_close(report: Report, max_drop: float | None) -> None:
    if max_drop is None or report.drop <= max_drop:
        return
    worst = report.layers[0] if report.layers else None
    where = (
        "" if worst is None else f"; furthest off is layer {worst.name!r} ({worst.sqnr_db:.1f} dB): keep it"
    )
    raise ModelError(
        f"the model would be worse by {report.drop:.4g}, more than {max_drop:.4g}{where}",
        node=worst.name if worst else "",
    )
