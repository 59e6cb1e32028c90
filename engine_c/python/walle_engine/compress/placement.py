"""Which values of a graph are quantised, and which of them share a scale.

Pure: a graph in, a plan out. Rules, in this order:

- what *core* operators (:data:`CORE`) multiply by a weight, and what they make of it (of recurrent cells only
  the weights are codes, and nothing that they read or make);
- an activation behind a core operator belongs to it: what lies between is not quantised; a constant added
  behind ``MatMul`` does not (``joining`` has made a ``Gemm`` of both where that can be):
  kernels of codes would not know it;
- operators that only move or pick elements hand on the codes they get (:data:`HANDS_ON`);
- sums, concatenations and average pools of quantised values are quantised too, so that codes need not become
  floats in between; all parts of a concatenation share one scale and are copied as they are.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from walle_engine import wmodel
from walle_engine.convert.draft import Draft, captures
from walle_shared.errors import ModelError

#: Operators that multiply by a weight, with the axis of its output channels (see :func:`weight_axis`).
CORE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: Operators whose results are elements of their first input.
HANDS_ON = frozenset(
    {
        "DepthToSpace", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "SpaceToDepth", "Split",
        "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
#: Operators that a kernel of codes computes, with scales of their own, when what they read is quantised.
FOLLOWS = frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool"})
RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
CELL_AXIS = 1  # of a unit's numbers in the weights of a recurrent operator
ACTIVATIONS = frozenset({"Relu", "Clip"})


@dataclass(frozen=True)
class Layer:
    """A core operator with what belongs to it.

    Args:
        node: the operator.
        input: the value that it multiplies.
        weight: the constant.
        axis: of the weight's output channels.
        bias: a constant per channel that can be coded; ``""`` if there is none.
        output: the value that is quantised: behind the activation.
    """

    node: wmodel.Node
    input: str
    weight: str
    axis: int
    bias: str
    output: str


@dataclass(frozen=True)
class Cell:
    """A recurrent operator, of which the weights ``[directions, gates * hidden, inputs]`` alone are codes."""

    node: wmodel.Node
    weights: tuple[str, ...]


@dataclass(frozen=True)
class Placement:
    """Where codes lie.

    Args:
        layers: core operators to be quantised, in order.
        cells: recurrent operators whose weights are.
        groups: quantised values; those of one group share a scale.
    """

    layers: tuple[Layer, ...]
    cells: tuple[Cell, ...]
    groups: tuple[tuple[str, ...], ...]

    @property
    def nodes(self) -> tuple[wmodel.Node, ...]:
        """Nodes of layers and cells."""
        return (*(layer.node for layer in self.layers), *(cell.node for cell in self.cells))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of layers and cells."""
        return tuple(node.name for node in self.nodes)

    @property
    def weights(self) -> dict[str, int]:
        """Names of weights that become codes, each with the axis that scales are along."""
        cells = {name: CELL_AXIS for cell in self.cells for name in cell.weights}
        return {layer.weight: layer.axis for layer in self.layers} | cells

    @property
    def values(self) -> tuple[str, ...]:
        """All quantised values."""
        return tuple(name for group in self.groups for name in group)


def place(draft: Draft, *, keep: Sequence[str] = (), only: Iterable[str] | None = None) -> Placement:
    """Find what to quantise.

    Args:
        draft: the model in float32.
        keep: names of nodes, or patterns like ``"head.*"``, that stay in float.
        only: names of nodes; all others stay in float. Omitted: no such limit.

    Raises:
        ModelError: if a pattern fits no layer.
    """
    view = View(draft)
    layers, cells = layers_of(draft), cells_of(draft)
    names = Placement(layers, cells, ()).names
    wanted = (set(names) if only is None else set(only)) - _kept(names, keep)
    layers = tuple(layer for layer in layers if layer.node.name in wanted)
    cells = tuple(cell for cell in cells if cell.node.name in wanted)
    groups = _Groups()
    for layer in layers:
        groups.add(layer.input, layer.output)
    _spread(view, groups)
    return Placement(layers, cells, groups.listed())


def layers_of(draft: Draft) -> tuple[Layer, ...]:
    """List all core operators that multiply by a weight."""
    view = View(draft)
    return tuple(layer for node in draft.nodes if (layer := _layer(view, node)) is not None)


def cells_of(draft: Draft) -> tuple[Cell, ...]:
    """List all recurrent operators with constant float32 weights."""
    found = []
    for node in draft.nodes:
        names = node.inputs[1:3] if node.op in RECURRENT else ()
        weights = [draft.weights[name] for name in names if name in draft.weights]
        if len(weights) == 2 and all(one.dtype == np.float32 and one.ndim == 3 for one in weights):
            found.append(Cell(node, names))
    return tuple(found)


def weight_axis(node: wmodel.Node, rank: int) -> int | None:
    """Return the axis of a weight's output channels; None where it has none of its own."""
    if node.op == "Conv":
        return 0
    if node.op == "ConvTranspose":
        return 1 if node.attrs.get("group", 1) == 1 else None
    if node.op == "Gemm":
        return 0 if node.attrs.get("transB", 0) else 1
    return rank - 1 if rank >= 2 else None


def _kept(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    kept: set[str] = set()
    for pattern in patterns:
        fitting = fnmatch.filter(names, pattern) if pattern not in names else [pattern]
        if not fitting:
            raise ModelError(
                f"no layer fits {pattern!r}: those that can be quantised are {', '.join(names) or 'none'}"
            )
        kept.update(fitting)
    return kept


class View:
    """A draft with its uses counted."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.readers: dict[str, list[wmodel.Node]] = {}
        for node in draft.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self.elsewhere = Counter(value.name for value in draft.outputs)
        self.elsewhere.update(name for node in draft.nodes for name in captures(node))

    def only_reader(self, name: str) -> wmodel.Node | None:
        """The one node that reads a value which nothing else does."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and not self.elsewhere[name] else None


def _layer(view: View, node: wmodel.Node) -> Layer | None:
    weights = view.draft.weights
    if node.op not in CORE or len(node.inputs) < 2 or node.inputs[0] in weights:
        return None
    weight = weights.get(node.inputs[1])
    if weight is None or weight.dtype.name != "float32" or not weight.size:
        return None
    axis = weight_axis(node, weight.ndim)
    if axis is None:
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    plain = node.attrs.get("alpha", 1.0) == 1.0 and node.attrs.get("beta", 1.0) == 1.0
    fits = bias in weights and weights[bias].shape == (weight.shape[axis],) and plain
    return Layer(node, node.inputs[0], node.inputs[1], axis, bias if fits else "", _end(view, node))


def _end(view: View, node: wmodel.Node) -> str:
    """The value behind a node and its activation."""
    value = node.outputs[0]
    reader = view.only_reader(value)
    if reader is not None and _is_activation(view, reader, value):
        value = reader.outputs[0]
    return value


def _is_activation(view: View, node: wmodel.Node, value: str) -> bool:
    return (
        node.op in ACTIVATIONS
        and node.inputs[0] == value
        and all(not name or name in view.draft.weights for name in node.inputs[1:])
    )


class _Groups:
    """Sets of values that share a scale; a forest with the first value of each as its root.

    Attributes:
        changes: how often something was added or joined.
    """

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self.changes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._parent

    def add(self, *names: str) -> None:
        for name in names:
            if name not in self._parent:
                self._parent[name] = name
                self.changes += 1

    def join(self, first: str, *others: str) -> None:
        self.add(first, *others)
        for other in others:
            roots = self._root(first), self._root(other)
            if roots[0] != roots[1]:
                self._parent[roots[1]] = roots[0]
                self.changes += 1

    def _root(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def listed(self) -> tuple[tuple[str, ...], ...]:
        groups: dict[str, list[str]] = {}
        for name in self._parent:
            groups.setdefault(self._root(name), []).append(name)
        return tuple(tuple(group) for group in groups.values())


def _spread(view: View, groups: _Groups) -> None:
    """Let operators pass codes on, until none passes more."""
    before = -1
    while before != groups.changes:
        before = groups.changes
        for node in view.draft.nodes:
            if node.op in HANDS_ON and node.inputs[0] in groups:
                groups.join(node.inputs[0], *filter(None, node.outputs))
            elif node.op in FOLLOWS:
                _follow(view, groups, node)


def _follow(view: View, groups: _Groups, node: wmodel.Node) -> None:
    """Quantise a sum, concatenation or pool that reads codes."""
    constant = any(name in view.draft.weights for name in node.inputs)
    if constant or not any(name in groups for name in node.inputs):
        return
    if node.op == "Concat":
        groups.join(*node.inputs, *node.outputs)
        return
    groups.add(*node.inputs, _end(view, node) if node.op == "Add" else node.outputs[0])
