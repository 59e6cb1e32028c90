"""A float graph and ranges in, the same graph with codes out, in ONNX's QDQ form.

::

    x ─ QuantizeLinear ─ DequantizeLinear ─ Conv ─ QuantizeLinear ─ DequantizeLinear ─ y
               int8 weights ─ DequantizeLinear ─┘└─ DequantizeLinear ─ int32 bias

A quantised value keeps its name behind its pair, so that its readers need not change and both models can be
compared value by value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from walle_engine import wmodel
from walle_engine.compress import numbers
from walle_engine.compress.names import fresh_name, names_of, renamed_inputs, renamed_outputs
from walle_engine.compress.numbers import Scale
from walle_engine.compress.placement import ACTIVATIONS, CELL_AXIS, Cell, Layer, Placement, View
from walle_engine.convert.draft import Draft
from walle_shared.errors import ModelError

type Array = np.ndarray[Any, Any]

#: A bias is coded by int32; this leaves room for the sum that it starts.
_LARGEST_BIAS = 1 << 30


@dataclass(frozen=True)
class Quantized:
    """What became of a model.

    Args:
        draft: the graph with its codes.
        scales: of every quantised value.
        layers: names of the quantised layers.
    """

    draft: Draft
    scales: Mapping[str, Scale]
    layers: tuple[str, ...]


def quantized(
    draft: Draft, placement: Placement, scales: Mapping[str, Scale], *, weight_bits: int = 8
) -> Quantized:
    """Put codes into a graph.

    Args:
        draft: the model in float32; left as it is.
        placement: what to quantise.
        scales: for each of its values.
        weight_bits: of the weights' codes, 2 to 8; those of 4 or fewer are of type int4.

    Raises:
        ModelError: a weight is not finite.
    """
    writing = _Writing(draft, scales, weight_bits)
    redundant = _redundant(draft, placement, scales)
    layers = {id(layer.node): layer for layer in placement.layers}
    cells = {id(cell.node): cell for cell in placement.cells}
    for name in placement.values:
        if any(value.name == name for value in draft.inputs):
            writing.code_input(name)
    for node in draft.nodes:
        if id(node) in redundant:
            continue
        if id(node) in layers:
            coded = writing.with_coded_weights(layers[id(node)])
        elif id(node) in cells:
            coded = writing.with_coded_cell(cells[id(node)])
        else:
            coded = node
        writing.add(coded, redundant)
    result = draft.with_outputs(draft.outputs)
    result.nodes, result.weights = writing.nodes, writing.weights
    result.prune()
    return Quantized(result, dict(scales), placement.names)


def _redundant(draft: Draft, placement: Placement, scales: Mapping[str, Scale]) -> dict[int, wmodel.Node]:
    """Activations that do what the codes behind them do anyway, by saturating."""
    values = set(placement.values)
    producers, view = draft.producers(), View(draft)
    found: dict[int, wmodel.Node] = {}
    for node in draft.nodes:
        if node.op not in ACTIVATIONS or node.outputs[0] not in values:
            continue
        before = producers.get(node.inputs[0])
        # A value with codes of its own in front, or more readers, is needed as it is.
        if before is None or node.inputs[0] in values or view.only_reader(node.inputs[0]) is None:
            continue
        scale, (low, high) = scales[node.outputs[0]], _limits(draft, node)
        covers, half = scale.covers, float(scale.scale) / 2  # a limit within half a step has the same code
        if covers.low > low - half and covers.high < high + half:
            found[id(node)] = node
    return found


def _limits(draft: Draft, node: wmodel.Node) -> tuple[float, float]:
    if node.op == "Relu":
        return 0.0, np.inf
    given = [draft.weights[name].item() if name else None for name in node.inputs[1:]]
    low, high = [*given, None, None][:2]
    return -np.inf if low is None else float(low), np.inf if high is None else float(high)


class _Writing:
    """The new graph, node by node."""

    def __init__(self, draft: Draft, scales: Mapping[str, Scale], weight_bits: int) -> None:
        self._scales, self._bits = scales, weight_bits
        self._taken = names_of(draft)
        self._inputs: dict[str, str] = {}  # of the graph, with what stands for them behind their codes
        self._coded: dict[tuple[str, int], tuple[str, Array]] = {}  # weights done, with their scales
        self.nodes: list[wmodel.Node] = []
        self.weights: dict[str, Array] = dict(draft.weights)

    def fresh(self, wish: str) -> str:
        return fresh_name(self._taken, wish)

    def add(self, node: wmodel.Node, redundant: Mapping[int, wmodel.Node]) -> None:
        """Add a node, and pairs behind it; a redundant activation's result is the node's own."""
        skipped = {other.inputs[0]: other.outputs[0] for other in redundant.values()}
        node = renamed_outputs(renamed_inputs(node, self._inputs), skipped)
        coded = [name for name in node.outputs if name in self._scales]
        raw = {name: self.fresh(f"{name}.float") for name in coded}
        self.nodes.append(renamed_outputs(node, raw))
        for name in coded:
            self._pair(raw[name], name, self._scales[name])

    def code_input(self, name: str) -> None:
        """Code an input of the graph, which keeps its name; readers get another."""
        behind = self._inputs[name] = self.fresh(f"{name}.coded")
        self._pair(name, behind, self._scales[name])

    def _pair(self, before: str, after: str, scale: Scale) -> None:
        parameters = (
            self._constant(f"{after}.scale", scale.scale),
            self._constant(f"{after}.zero_point", np.uint8(scale.zero_point)),
        )
        codes = self.fresh(f"{after}.codes")
        self.nodes.append(
            wmodel.Node("QuantizeLinear", self.fresh(f"{after}.quantize"), (before, *parameters), (codes,))
        )
        self.nodes.append(
            wmodel.Node("DequantizeLinear", self.fresh(f"{after}.dequantize"), (codes, *parameters), (after,))
        )

    def _constant(self, wish: str, value: Any) -> str:
        name = self.fresh(wish)
        self.weights[name] = np.asarray(value)
        return name

    def with_coded_weights(self, layer: Layer) -> wmodel.Node:
        """Return the layer's node with codes for its weight and its bias."""
        weight, scales = self._weight(layer)
        inputs = [layer.node.inputs[0], weight, *layer.node.inputs[2:]]
        if layer.bias:
            inputs[2] = self._bias(layer, scales)
        return replace(layer.node, inputs=tuple(inputs))

    def with_coded_cell(self, cell: Cell) -> wmodel.Node:
        """Return a recurrent node with codes for its weights."""
        inputs = list(cell.node.inputs)
        for place, weight in enumerate(cell.weights, 1):
            scales = self._scales_along(weight, CELL_AXIS, cell.node.name)
            inputs[place] = self._coded_constant(weight, CELL_AXIS, scales)
        return replace(cell.node, inputs=tuple(inputs))

    def _weight(self, layer: Layer) -> tuple[str, Array]:
        bias = self.weights[layer.bias] if layer.bias else None
        key = (layer.weight, layer.axis)
        if bias is None and key in self._coded:
            return self._coded[key]
        scales = self._scales_along(layer.weight, layer.axis, layer.node.name)
        if bias is not None:  # a bias much larger than the weights must have a code
            least = np.abs(bias) / (float(self._scales[layer.input].scale) * _LARGEST_BIAS)
            scales = np.maximum(scales, least.astype(np.float32))
        self._coded[key] = self._coded_constant(layer.weight, layer.axis, scales), scales
        return self._coded[key]

    def _scales_along(self, weight: str, axis: int, node: str) -> Array:
        try:
            return numbers.channel_scales(self.weights[weight], axis, self._bits)
        except ModelError as error:
            raise ModelError(f"layer {node!r}: {error}", node=node) from None

    def _coded_constant(self, weight: str, axis: int, scales: Array) -> str:
        codes = numbers.quantize_channels(self.weights[weight], scales, axis, self._bits)
        dtype = np.dtype(np.int8) if self._bits > 4 else wmodel.numpy_dtype("I4")
        inputs = (
            self._constant(f"{weight}.codes", codes.astype(dtype)),
            self._constant(f"{weight}.scale", scales),
            self._constant(f"{weight}.zero_point", np.zeros(scales.shape, dtype)),
        )
        name = self.fresh(f"{weight}.coded")
        self.nodes.append(
            wmodel.Node("DequantizeLinear", self.fresh(f"{name}.dequantize"), inputs, (name,), {"axis": axis})
        )
        return name

    def _bias(self, layer: Layer, scales: Array) -> str:
        factor = (float(self._scales[layer.input].scale) * scales.astype(np.float64)).astype(np.float32)
        codes = np.rint(self.weights[layer.bias].astype(np.float64) / factor).astype(np.int32)
        name = self.fresh(f"{layer.bias}.coded")
        inputs = (
            self._constant(f"{layer.bias}.codes", codes),
            self._constant(f"{layer.bias}.scale", factor),
        )
        self.nodes.append(
            wmodel.Node("DequantizeLinear", self.fresh(f"{name}.dequantize"), inputs, (name,), {"axis": 0})
        )
        return name
