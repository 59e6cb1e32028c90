"""A graph while the converter works on it: nodes in topological order, weights as NumPy arrays.

Invariants every pass keeps:

- each value name is produced by exactly one of: a graph input, a weight, a node;
- a node comes after the producers of its inputs;
- a value that survives keeps its ONNX name, so that the check can compare it with the original's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from walle_engine import wmodel

if TYPE_CHECKING:
    import numpy as np

type Array = "np.ndarray[Any, Any]"


@dataclass
class Draft:
    """Mutable graph.

    Args:
        name: the graph's name.
        producer: the program that made the original.
        inputs: graph inputs, weights not among them.
        outputs: graph outputs.
        nodes: operators of the default domain.
        weights: constants by value name.
        values: what shape inference knows of each value.
    """

    name: str
    producer: str
    inputs: list[wmodel.Value]
    outputs: list[wmodel.Value]
    nodes: list[wmodel.Node]
    weights: dict[str, Array] = field(default_factory=dict)
    values: dict[str, wmodel.Value] = field(default_factory=dict)

    def producers(self) -> dict[str, wmodel.Node]:
        """Map each value a node computes to that node."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def known_values(self) -> dict[str, wmodel.Value]:
        """Map the name of each value whose type or shape is known to what is known."""
        return {
            **self.values,
            **{value.name: value for value in self.outputs if value.shape is not None},
            **{value.name: value for value in self.inputs},
        }

    def constant(self, name: str) -> Array | None:
        """Return a value known at conversion, or None."""
        return self.weights.get(name)

    def prune(self) -> None:
        """Drop nodes that no output needs, outputs that nobody uses, then weights that nobody names."""
        needed = {value.name for value in self.outputs}
        kept: list[wmodel.Node] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                kept.append(replace(node, outputs=_used_outputs(node, needed)))
                needed.update(node.inputs, _attribute_tensors(node), captures(node))
        self.nodes = kept[::-1]
        self.weights = {name: array for name, array in self.weights.items() if name in needed}

    def to_graph(self) -> wmodel.Graph:
        """Return the graph as it is stored."""
        return wmodel.Graph(
            self.name, tuple(self.inputs), tuple(self.outputs), tuple(self.nodes), self.producer
        )

    def with_outputs(self, outputs: list[wmodel.Value]) -> Draft:
        """Return the same graph with other outputs."""
        return replace(
            self,
            outputs=outputs,
            nodes=list(self.nodes),
            weights=dict(self.weights),
            values=dict(self.values),
        )

    def weights_to_store(self) -> dict[str, wmodel.Weight]:
        """Return the weights in the form the writer takes."""
        return {name: wmodel.weight_from_array(array) for name, array in self.weights.items()}


def _used_outputs(node: wmodel.Node, needed: Set[str]) -> tuple[str, ...]:
    """The outputs with unused ones omitted, as ONNX omits them: ``""`` in the middle, nothing at the end."""
    outputs = [name if name in needed else "" for name in node.outputs]
    while not outputs[-1]:
        outputs.pop()
    return tuple(outputs)


def _attribute_tensors(node: wmodel.Node) -> Iterator[str]:
    for value in node.attrs.values():
        if isinstance(value, Mapping) and isinstance(value.get("tensor"), str):
            yield value["tensor"]


def captures(node: wmodel.Node) -> Iterator[str]:
    """Yield every name that bodies of a node use, those of the graph round it among them."""
    for body in node.attrs.values():
        if isinstance(body, wmodel.Graph):
            yield from (value.name for value in body.outputs)
            for inner in body.nodes:
                yield from (*inner.inputs, *_attribute_tensors(inner), *captures(inner))
