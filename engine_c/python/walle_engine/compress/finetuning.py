"""Fine-tuning that knows of codes: train a model as it will be once it is quantised, then quantise it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from walle_engine import train, wmodel
from walle_engine.compress.data import BATCH, Data, samples_of
from walle_engine.compress.joining import with_biases
from walle_engine.compress.names import renamed_inputs, renamed_outputs
from walle_engine.compress.numbers import top_of
from walle_engine.compress.observing import observe
from walle_engine.compress.placement import place
from walle_engine.compress.qdq import Quantized, quantized
from walle_engine.compress.quantizing import require_layers, scales_of
from walle_engine.compress.ranges import Method, Range
from walle_engine.compress.source import Source, read_draft, watching, write
from walle_engine.convert.draft import Draft


class FineTuning:
    """A model under training whose layers round as quantised ones do.

    ::

        tuning = FineTuning(
            "digits.wmodel", calibration, train.CrossEntropy("logits"), train.Adam(1e-3), weight_bits=4
        )
        for images, labels in batches:
            tuning.step({"image": images, "target": labels})
        small = tuning.quantized()

    Args:
        source: a float model, or one that :func:`walle_engine.compress.quantize` made.
        calibration: what ranges begin with.
        loss: what is to become small; it may look at any value of the model by name.
        optimizer: how parameters move.
        weight_bits: of weights, 2 to 8.
        method: how first ranges are chosen.
        keep: names of layers, or patterns, that stay in float.
        batch: samples in one of calibration.
        momentum: share of a range that stays when a batch was seen; 1 keeps ranges as they begin.
        threads: of the sessions.
        options: of :class:`walle_engine.train.Trainer`.

    Attributes:
        trainer: what does it.

    Raises:
        ModelError: as :func:`walle_engine.compress.quantize` and ``Trainer``.
    """

    def __init__(
        self,
        source: Source,
        calibration: Data,
        loss: train.Loss,
        optimizer: train.Optimizer,
        *,
        weight_bits: int = 8,
        method: Method = "minmax",
        keep: Sequence[str] = (),
        batch: int = BATCH,
        momentum: float = train.Codes.momentum,
        threads: int = 1,
        **options: Any,
    ) -> None:
        top_of(weight_bits)  # which refuses numbers that make no sense
        draft = float_form(read_draft(source))
        samples = samples_of(calibration, draft.inputs, batch=batch)
        self._draft = with_biases(draft, samples.batches[0])
        self._outputs = list(self._draft.outputs)
        self._bits = weight_bits
        self._placement = require_layers(self._draft, place(self._draft, keep=keep))
        ranges = observe(self._draft, self._placement.values, samples, method=method, threads=threads)
        self._groups = {
            group[0]: group for group in self._placement.groups if all(name in ranges for name in group)
        }
        codes = train.Codes(
            weights={
                name: train.WeightCodes(axis, self._draft.weights[name].ndim, weight_bits)
                for name, axis in self._placement.weights.items()
            },
            values={name: first for first, group in self._groups.items() for name in group},
            ranges={
                first: _joined([ranges[name] for name in group]) for first, group in self._groups.items()
            },
            momentum=momentum,
        )
        with tempfile.TemporaryDirectory(prefix="walle-") as folder:
            path = Path(folder) / "float.wmodel"
            write(_with_output(self._draft, loss.output), path)
            self.trainer = train.Trainer(path, loss, optimizer, codes=codes, threads=threads, **options)

    def step(self, batch: Mapping[str, object]) -> float:
        """Train on one batch; returns the loss before the step, of the rounded model."""
        return self.trainer.step(batch)

    def quantized(self) -> Quantized:
        """Return the model as it is now, quantised."""
        draft = self._draft.with_outputs(self._outputs)
        values = {**self.trainer.parameters, **self.trainer.statistics}
        for name, value in values.items():
            draft.weights[name] = np.array(value, np.float32)
        ranges = {
            name: Range.of(*self.trainer.ranges[first])
            for first, group in self._groups.items()
            for name in group
        }
        scales = scales_of(self._placement, ranges)
        return quantized(draft, self._placement, scales, weight_bits=self._bits)


def _joined(ranges: Sequence[Range]) -> tuple[float, float]:
    return min(one.low for one in ranges), max(one.high for one in ranges)


def _with_output(draft: Draft, name: str) -> Draft:
    """The graph with a value as its first output, so that a loss can look at it."""
    if name in ("", *(value.name for value in draft.outputs)):
        return draft
    made = {value for node in draft.nodes for value in node.outputs}
    if name not in made:
        return draft  # for the trainer to say what there is
    return draft.with_outputs([wmodel.Value(name, "F32", None), *draft.outputs])


def float_form(draft: Draft) -> Draft:
    """Return a quantised model without codes; any other as it is.

    Weights become what their codes say. A pair that cuts below zero becomes the rectifier that it stands for.
    """
    if all(node.op != "DequantizeLinear" for node in draft.nodes):
        return draft
    result = draft.with_outputs(draft.outputs)
    _widen_constants(result)
    producers = result.producers()
    nodes: list[wmodel.Node] = []
    renamed: dict[str, str] = {}  # what a pair read, with the name behind it
    for node in result.nodes:
        before = producers.get(node.inputs[0]) if node.op == "DequantizeLinear" else None
        if before is None or before.op != "QuantizeLinear":
            nodes.append(node)
        elif result.weights[before.inputs[2]].any() and before.inputs[0] in producers:
            renamed[before.inputs[0]] = node.outputs[0]
        else:
            op = "Identity" if result.weights[before.inputs[2]].any() else "Relu"
            nodes.append(wmodel.Node(op, node.name, before.inputs[:1], node.outputs))
    result.nodes = [renamed_outputs(renamed_inputs(node, renamed), renamed) for node in nodes]
    result.prune()
    return result


def _widen_constants(draft: Draft) -> None:
    """Compute now what dequantises constants."""
    known = set(draft.weights)
    constant: list[str] = []
    for node in draft.nodes:
        if all(name in known for name in node.inputs if name):
            known.update(node.outputs)
            constant += node.outputs if node.op == "DequantizeLinear" else ()
    if not constant:
        return
    alone = draft.with_outputs(draft.outputs)
    alone.inputs = []
    results = watching(alone, constant).session().run({})
    draft.nodes = [node for node in draft.nodes if not set(node.outputs) & set(constant)]
    draft.weights.update({name: np.array(results[name]) for name in constant})
