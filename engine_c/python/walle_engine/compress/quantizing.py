"""Post-training quantisation: calibrate, place codes, and leave in float what harms most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from walle_engine.compress.data import BATCH, Data, Samples, samples_of
from walle_engine.compress.joining import with_biases
from walle_engine.compress.numbers import Scale
from walle_engine.compress.observing import Progress, no_progress, observe
from walle_engine.compress.placement import Placement, cells_of, layers_of, place
from walle_engine.compress.qdq import Quantized, quantized
from walle_engine.compress.ranges import PERCENTILE, Method, Range
from walle_engine.compress.report import report_on
from walle_engine.compress.source import Source, read_draft
from walle_engine.convert.draft import Draft
from walle_shared.errors import ModelError

#: Batches that the harm of single layers is measured on.
JUDGED_BATCHES = 4


def quantize(
    source: Source,
    calibration: Data,
    *,
    judge: Data | None = None,
    method: Method = "minmax",
    percentile: float = PERCENTILE,
    weight_bits: int = 8,
    keep: Sequence[str] = (),
    max_drop: float | None = None,
    metric: str | None = None,
    output: str | None = None,
    batch: int = BATCH,
    threads: int = 1,
    progress: Progress = no_progress,
) -> Quantized:
    """Turn a float model into one whose layers multiply 8-bit integers.

    Args:
        source: a ``.wmodel`` or ``.onnx`` file.
        calibration: what its values look like, see :func:`walle_engine.compress.data.samples_of`; some
            hundred samples will do.
        judge: what ``max_drop`` is about; omitted: ``calibration``.
        method: how ranges are chosen: ``"minmax"``, ``"kl"`` or ``"percentile"``.
        percentile: share that the last covers, in percent.
        weight_bits: of weights, 2 to 8, one scale per output channel.
        keep: names of layers, or patterns, that stay in float.
        max_drop: leave the most harmful layers in float, one after the other, until the model is at most so
            much worse (see :func:`walle_engine.compress.report.drop_of`).
        metric: what labels are judged by.
        output: the output that they are for.
        batch: samples in one.
        threads: of the sessions.
        progress: told of each batch and each layer.

    Raises:
        ModelError: nothing to quantise, data that do not fit or are not finite, no layer that fits ``keep``.
        EngineError: what the engine says of the model.
    """
    draft = read_draft(source)
    samples = samples_of(calibration, draft.inputs, batch=batch)
    draft = with_biases(draft, samples.batches[0])
    placement = require_layers(draft, place(draft, keep=keep))
    ranges = observe(
        draft, placement.values, samples,
        method=method, percentile=percentile, threads=threads, progress=progress,
    )  # fmt: skip
    judged = samples if judge is None else samples_of(judge, draft.inputs, batch=batch)
    work = _Work(draft, judged, ranges, weight_bits, metric, output, threads)
    if max_drop is None:
        return work.with_layers(placement)
    return _within(work, placement, max_drop, progress)


def scales_of(placement: Placement, ranges: Mapping[str, Range]) -> dict[str, Scale]:
    """Return the scale of each value: one for all of a group, which covers what any of them needs."""
    scales: dict[str, Scale] = {}
    for group in placement.groups:
        if not all(name in ranges for name in group):
            continue  # of another type than float32
        whole = ranges[group[0]]
        for name in group[1:]:
            whole = whole.joined(ranges[name])
        scales.update(dict.fromkeys(group, Scale.of(whole)))
    return scales


def harm_of_layers(
    source: Source, calibration: Data, *, method: Method = "minmax", weight_bits: int = 8, threads: int = 1
) -> dict[str, float]:
    """Return how much worse each layer makes the model when it alone is quantised, the worst first.

    Harm is the length of the difference over that of the original, of the output that is worst off.
    """
    draft = read_draft(source)
    samples = samples_of(calibration, draft.inputs)
    draft = with_biases(draft, samples.batches[0])
    placement = require_layers(draft, place(draft))
    ranges = observe(draft, placement.values, samples, method=method, threads=threads)
    work = _Work(draft, samples, ranges, weight_bits, None, None, threads)
    return _harms(work, placement, no_progress)


@dataclass(frozen=True)
class _Work:
    """A calibrated model that can be quantised in part."""

    draft: Draft
    samples: Samples
    ranges: Mapping[str, Range]
    weight_bits: int
    metric: str | None
    output: str | None
    threads: int

    def with_layers(self, placement: Placement) -> Quantized:
        scales = scales_of(placement, self.ranges)
        return quantized(self.draft, placement, scales, weight_bits=self.weight_bits)

    def drop(self, made: Quantized) -> float:
        return report_on(
            self.draft, made.draft, self.samples,
            metric=self.metric, output=self.output, threads=self.threads, timed=False,
        ).drop  # fmt: skip

    def harm(self, made: Quantized) -> float:
        few = self.samples.first(JUDGED_BATCHES)
        report = report_on(self.draft, made.draft, few, threads=self.threads, timed=False)
        return max(10 ** (-one.sqnr_db / 20) for one in report.outputs)


def _harms(work: _Work, placement: Placement, progress: Progress) -> dict[str, float]:
    names = placement.names
    harms: dict[str, float] = {}
    for done, name in enumerate(names):
        harms[name] = work.harm(work.with_layers(place(work.draft, only=[name])))
        progress("judging layers", done + 1, len(names))
    return dict(sorted(harms.items(), key=lambda item: -item[1]))


def _within(work: _Work, placement: Placement, max_drop: float, progress: Progress) -> Quantized:
    """Greedy: while the model is too bad, the layer that alone does most harm goes back to float."""
    best = work.with_layers(placement)
    if work.drop(best) <= max_drop:
        return best
    left = list(placement.names)
    *harmful, last = _harms(work, placement, progress)
    for name in harmful:
        left.remove(name)
        best = work.with_layers(place(work.draft, only=left))
        if work.drop(best) <= max_drop:
            return best
    raise ModelError(
        f"the model is worse by more than {max_drop} even where {last!r} is the only quantised layer: "
        "allow more, give better data, or fine-tune it",
        node=last,
    )


def require_layers(draft: Draft, placement: Placement) -> Placement:
    """Return the placement, which has layers.

    Raises:
        ModelError: if it has none.
    """
    if placement.names:
        return placement
    if layers_of(draft) or cells_of(draft):
        raise ModelError("all layers are to stay in float: keep fewer")
    if any(node.op == "QuantizeLinear" for node in draft.nodes):
        raise ModelError("the model is quantised already: give the float model that it was made of")
    raise ModelError(
        "the model has nothing to quantise: no Conv, Gemm, MatMul or recurrent cell that multiplies by a "
        "float32 weight"
    )
