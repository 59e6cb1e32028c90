"""Shape arithmetic of which only a part depends on an input: follow each dim through it.

``Reshape(x, Concat(Gather(Shape(x), 0), [4, 16]))`` asks for ``[N, 4, 16]``. What is made of known dims
becomes constant; a shape with unknown ones becomes a constant where Reshape can find them itself (``0`` and
``-1``). And where that tells the size of a dim that shape inference gave up on, every value with that dim
learns it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from walle_engine import wmodel
from walle_engine.convert.draft import Draft

type Dim = int | str | None  # a symbol, or None for a size that has no name

# Source: no tensor has more dims than this, so no shape has more entries.
MAX_ENTRIES = 64


@dataclass(frozen=True)
class Dims:
    """A whole number, or a row of them."""

    entries: tuple[Dim, ...]
    is_scalar: bool = False

    def like(self, entries: Sequence[Dim]) -> Dims:
        """The same kind with other entries."""
        return Dims(tuple(entries), self.is_scalar)


def fold_shapes(draft: Draft) -> int:
    """Replace shape arithmetic by constants where its result is known; returns how many nodes that were."""
    return _Pass(draft).run()


def reshape_target(source: Sequence[Dim], wanted: Sequence[Dim]) -> list[int] | None:
    """The shape by which Reshape makes ``wanted`` of ``source`` whatever the symbols are, or None."""
    target: list[int] = []
    for axis, dim in enumerate(wanted):
        if isinstance(dim, int):
            target.append(dim)
        elif dim is not None and axis < len(source) and source[axis] == dim:
            target.append(0)
        else:
            target.append(-1)
    known = all(dim > 0 for dim in wanted if isinstance(dim, int))
    return target if known and target.count(-1) <= 1 else None


def rest_of(source: Sequence[Dim], others: Sequence[Dim]) -> Dim:
    """The dim that ``-1`` stands for beside others; None where it has no name."""
    left, taken = Counter(source), Counter(others)
    left, taken = left - taken, taken - left
    if any(not isinstance(dim, int) for dim in taken):
        return None
    symbols = [dim for dim in left.elements() if not isinstance(dim, int)]
    elements = math.prod(dim for dim in left.elements() if isinstance(dim, int))
    wanted = math.prod(dim for dim in taken.elements() if isinstance(dim, int))
    if not symbols:
        return elements // wanted if wanted > 0 and elements % wanted == 0 else None
    return symbols[0] if len(symbols) == 1 and elements == wanted else None


class _Pass:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._values = draft.known_values()
        self._known: dict[str, Dims] = {}
        self._same: dict[str, int | str] = {}  # what a symbol turned out to be

    def run(self) -> int:
        kept: list[wmodel.Node] = []
        for node in self._draft.nodes:
            made = self._follow(node)
            if made is None:
                kept.append(self._reshape(node) if node.op == "Reshape" else node)
                continue
            name = node.outputs[0]
            self._known[name] = made
            if all(isinstance(entry, int) for entry in made.entries):
                shape = () if made.is_scalar else (len(made.entries),)
                self._draft.weights[name] = np.array(made.entries, np.int64).reshape(shape)
            else:
                kept.append(node)
        folded = len(self._draft.nodes) - len(kept)
        self._draft.nodes = kept
        self._draft.values = {
            name: replace(value, shape=self._shape(name)) for name, value in self._draft.values.items()
        }
        return folded

    # ---- Following

    def _follow(self, node: wmodel.Node) -> Dims | None:
        rule = _RULES.get(node.op)
        if rule is None or len(node.outputs) != 1:
            return None
        if node.op == "Shape":
            shape = self._shape(node.inputs[0])
            attributes: Mapping[str, Any] = node.attrs
            return None if shape is None else Dims(shape[attributes.get("start", 0) : attributes.get("end")])
        inputs = [self._dims(name) for name in node.inputs]
        if any(dims is None for dims in inputs):
            return None
        made = rule([dims for dims in inputs if dims], node.attrs)
        return made if made and len(made.entries) <= MAX_ENTRIES else None

    def _dims(self, name: str) -> Dims | None:
        """What is known of a value as a row of whole numbers."""
        array = self._draft.constant(name)
        if array is None:
            return self._known.get(name)
        if array.dtype != np.int64 or array.ndim > 1 or array.size > MAX_ENTRIES:
            return None
        return Dims(tuple(int(entry) for entry in array.reshape(-1)), array.ndim == 0)

    def _shape(self, name: str) -> tuple[int | str, ...] | None:
        array = self._draft.constant(name)
        shape = (
            array.shape if array is not None else self._values[name].shape if name in self._values else None
        )
        return None if shape is None else tuple(self._resolved(dim) for dim in shape)

    def _resolved(self, dim: int | str) -> int | str:
        while isinstance(dim, str) and dim in self._same:
            dim = self._same[dim]
        return dim

    # ---- What a Reshape says

    def _reshape(self, node: wmodel.Node) -> wmodel.Node:
        wanted, source = self._known.get(node.inputs[1]), self._shape(node.inputs[0])
        if wanted is None or source is None:
            return node
        entries = [self._resolved(dim) if isinstance(dim, str) else dim for dim in wanted.entries]
        if entries.count(-1) == 1:
            entries[entries.index(-1)] = rest_of(source, [entry for entry in entries if entry != -1])
        if not all(isinstance(entry, str) or (entry is not None and entry > 0) for entry in entries):
            return node
        self._learn(node.outputs[0], entries)
        target = reshape_target(source, entries)
        if target is None:
            return node
        name = f"{node.inputs[1]}.of.{node.outputs[0]}"
        if name in self._values or name in self._draft.weights:
            return node
        self._draft.weights[name] = np.array(target, np.int64)
        return replace(node, inputs=(node.inputs[0], name), attrs={})

    def _learn(self, name: str, entries: Sequence[Dim]) -> None:
        """Note which symbols of a value's shape are dims known by another name."""
        shape = self._shape(name)
        if shape is None or len(shape) != len(entries):
            return
        given = {dim for value in self._draft.inputs for dim in value.shape or ()}
        for dim, entry in zip(shape, entries, strict=True):
            if isinstance(dim, str) and entry is not None and dim != entry and dim not in given:
                self._same[dim] = entry


# ---- The rules: inputs that are known and attributes to the result, or None

type _Rule = Callable[[Sequence[Dims], Mapping[str, Any]], Dims | None]


def _whole(dims: Dims) -> list[int] | None:
    """The entries where all are known."""
    numbers = [entry for entry in dims.entries if isinstance(entry, int)]
    return numbers if len(numbers) == len(dims.entries) else None


def _gather(inputs: Sequence[Dims], attributes: Mapping[str, Any]) -> Dims | None:
    data, places = inputs[0].entries, _whole(inputs[1])
    if inputs[0].is_scalar or places is None or attributes.get("axis", 0) not in (0, -1):
        return None
    if not all(-len(data) <= place < len(data) for place in places):
        return None
    return inputs[1].like([data[place] for place in places])


def _slice(inputs: Sequence[Dims], _attributes: Mapping[str, Any]) -> Dims | None:
    bounds = [_whole(part) for part in inputs[1:]]
    if inputs[0].is_scalar or len(bounds) < 2 or not all(bound and len(bound) == 1 for bound in bounds):
        return None
    start, end, axis, step = (*(bound[0] for bound in bounds if bound), *(0, 1)[len(bounds) - 2 :])
    return Dims(inputs[0].entries[start:end]) if axis in (0, -1) and step == 1 else None


def _concat(inputs: Sequence[Dims], _attributes: Mapping[str, Any]) -> Dims | None:
    if any(part.is_scalar for part in inputs):
        return None
    return Dims(tuple(entry for part in inputs for entry in part.entries))


def _unsqueeze(inputs: Sequence[Dims], _attributes: Mapping[str, Any]) -> Dims | None:
    return Dims(inputs[0].entries) if inputs[0].is_scalar and inputs[1].entries in ((0,), (-1,)) else None


def _squeeze(inputs: Sequence[Dims], _attributes: Mapping[str, Any]) -> Dims | None:
    return Dims(inputs[0].entries, is_scalar=True) if len(inputs[0].entries) == 1 else None


def _cast(inputs: Sequence[Dims], attributes: Mapping[str, Any]) -> Dims | None:
    return inputs[0] if attributes.get("to") == "I64" else None


def _multiply(inputs: Sequence[Dims], _attributes: Mapping[str, Any]) -> Dims | None:
    a, b = inputs
    if len(a.entries) != 1 or len(b.entries) != 1:
        return None
    x, y = a.entries[0], b.entries[0]
    if isinstance(x, int) and isinstance(y, int):
        product: Dim = x * y if abs(x * y) < 1 << 63 else None
    else:
        product = y if x == 1 else x if y == 1 else None
    return Dims((product,), a.is_scalar and b.is_scalar)


_RULES: dict[str, _Rule] = {
    "Shape": lambda _inputs, _attributes: None,  # depends on no value; see _follow
    "Identity": lambda inputs, _: inputs[0],
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Cast": _cast,
    "Mul": _multiply,
}
