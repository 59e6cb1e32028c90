"""A draft while it is rewritten: who makes each value and who reads it, kept up to date by each change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from walle_engine import wmodel
from walle_engine.convert.draft import Array, Draft, captures

if TYPE_CHECKING:
    from walle_engine.convert.rewrites.patterns import Match

type Dim = int | str


class Index:
    """One pass over a draft.

    Each node of the draft has a slot; a rewrite puts its nodes into the slot of the node it replaces, so that
    the order stays topological.
    """

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._slots: list[list[wmodel.Node]] = [[] for _ in draft.nodes]
        self._makers: dict[str, tuple[wmodel.Node, int]] = {}
        self._readers: dict[str, Counter[int]] = {}
        self._captured: set[str] = set()
        self._outputs = {value.name for value in draft.outputs}
        self._values = draft.known_values()
        self._taken = {*draft.weights, *self._values}
        for slot, node in enumerate(draft.nodes):
            self._add(node, slot)
            self._taken.update(node.outputs)
            self._captured.update(captures(node))

    # ---- Questions

    def __len__(self) -> int:
        return len(self._slots)

    def nodes_at(self, slot: int) -> Sequence[wmodel.Node]:
        """The nodes that are now in a slot."""
        return tuple(self._slots[slot])

    def nodes(self) -> list[wmodel.Node]:
        """All nodes in order."""
        return [node for nodes in self._slots for node in nodes]

    def producer(self, name: str) -> wmodel.Node | None:
        """The node that makes a value."""
        return self._makers[name][0] if name in self._makers else None

    def constant(self, name: str) -> Array | None:
        """A value known at conversion."""
        return self.draft.weights.get(name)

    def same(self, one: str, other: str) -> bool:
        """Whether two names are of one value, or of equal constants."""
        a, b = self.constant(one), self.constant(other)
        if one == other or a is None or b is None:
            return one == other
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())

    def shape(self, name: str) -> tuple[Dim, ...] | None:
        """A value's dims, symbols for those not known; None where the rank is unknown."""
        array = self.constant(name)
        if array is not None:
            return tuple(int(dim) for dim in array.shape)
        return self._values[name].shape if name in self._values else None

    def rank(self, name: str) -> int | None:
        """A value's rank, None where unknown."""
        shape = self.shape(name)
        return None if shape is None else len(shape)

    def dtype(self, name: str) -> str:
        """A value's element type, "" where unknown."""
        array = self.constant(name)
        if array is not None:
            return wmodel.dtype_name(array.dtype)
        return self._values[name].dtype if name in self._values else ""

    def is_output(self, name: str) -> bool:
        """Whether the graph hands a value out."""
        return name in self._outputs

    def reads(self, name: str) -> int:
        """How often nodes and the graph's outputs read a value."""
        return sum(self._readers.get(name, Counter()).values()) + self.is_output(name)

    def owns(self, match: Match) -> bool:
        """Whether nothing outside a match reads what is made inside it."""
        nodes = {id(node): node for node in match.matched}
        inside = Counter(name for node in nodes.values() for name in node.inputs)
        return all(
            self.reads(name) == inside[name]
            for node in nodes.values()
            if node is not match.root
            for name in node.outputs
        )

    # ---- Changes

    def fresh(self, wish: str) -> str:
        """A value name that is not taken, ``wish`` if possible."""
        name, count = wish, 1
        while name in self._taken:
            count += 1
            name = f"{wish}.{count}"
        self._taken.add(name)
        return name

    def value(self, wish: str, shape: Sequence[Dim], like: str) -> str:
        """A fresh name for a value of known shape, of the type of another."""
        name = self.fresh(wish)
        known = wmodel.Value(name, self.dtype(like), tuple(shape))
        self._values[name] = known
        self.draft.values[name] = known
        return name

    def weight(self, wish: str, array: Array) -> str:
        """Store a new constant and return its name."""
        name = self.fresh(wish)
        self.draft.weights[name] = array
        return name

    def replace(self, match: Match, nodes: Sequence[wmodel.Node]) -> None:
        """Put nodes, the last of which makes what the match made, in its place."""
        slot = self._makers[match.output][1]
        position = self._position(match.root, slot)
        for node in {id(node): node for node in match.matched}.values():
            at = self._makers[node.outputs[0]][1]
            place = self._position(node, at)
            del self._slots[at][place]
            position -= at == slot and place < position
            self._remove(node, at)
        self._slots[slot][position:position] = nodes
        for node in nodes:
            self._register(node, slot)

    def alias(self, node: wmodel.Node, source: str) -> bool:
        """Drop a node that only repeats ``source``; False where both names are needed."""
        (target,) = node.outputs
        if target in self._captured or source in self._captured:
            return False
        if self.is_output(target) and (self.is_output(source) or source not in self._makers):
            return False
        slot = self._makers[target][1]
        del self._slots[slot][self._position(node, slot)]
        self._remove(node, slot)
        if self.is_output(target):
            self._rename(source, target)
        else:
            self._rename(target, source)
        return True

    def _rename(self, old: str, new: str) -> None:
        slots = set(self._readers.get(old, ()))
        if old in self._makers:
            slots.add(self._makers[old][1])
        for slot in slots:
            for position, node in enumerate(self._slots[slot]):
                if old in node.inputs or old in node.outputs:
                    inputs = tuple(new if name == old else name for name in node.inputs)
                    outputs = tuple(new if name == old else name for name in node.outputs)
                    renamed = replace(node, inputs=inputs, outputs=outputs)
                    self._remove(node, slot)
                    self._slots[slot][position] = renamed
                    self._register(renamed, slot)

    def _position(self, node: wmodel.Node, slot: int) -> int:
        return next(i for i, other in enumerate(self._slots[slot]) if other is node)

    def _add(self, node: wmodel.Node, slot: int) -> None:
        self._slots[slot].append(node)
        self._register(node, slot)

    def _register(self, node: wmodel.Node, slot: int) -> None:
        for name in _read_by(node):
            self._readers.setdefault(name, Counter())[slot] += 1
        for name in node.outputs:
            if name:
                self._makers[name] = (node, slot)

    def _remove(self, node: wmodel.Node, slot: int) -> None:
        for name in _read_by(node):
            self._readers[name][slot] -= 1
            if not self._readers[name][slot]:
                del self._readers[name][slot]
        for name in node.outputs:
            self._makers.pop(name, None)


def _read_by(node: wmodel.Node) -> Iterator[str]:
    yield from (name for name in node.inputs if name)
    yield from captures(node)
