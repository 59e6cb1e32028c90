"""Nodes that compute what an earlier node computes from the same values."""

from __future__ import annotations

from collections.abc import Hashable

from walle_engine import wmodel
from walle_engine.convert.draft import Draft
from walle_engine.convert.rewrites.index import Index

#: Operators of which two do not make the same.
UNLIKE_THEMSELVES = frozenset(
    {
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
        "Dropout",
    }
)
# Axes, shapes and scales are stored once for each node; larger weights are equal only by mistake.
COMPARED_MAX_BYTES = 256


def merge_duplicates(draft: Draft) -> int:
    """Let one node do where several would make the same; returns how many went."""
    index = Index(draft)
    seen: dict[Hashable, wmodel.Node] = {}
    merged = 0
    for slot in range(len(index)):
        for node in index.nodes_at(slot):
            key = _key(index, node)
            first = seen.setdefault(key, node) if key is not None else node
            if first is not node and index.alias(node, first.outputs[0]):
                merged += 1
                seen[key] = index.producer(first.outputs[0]) or index.producer(node.outputs[0]) or node
    draft.nodes = index.nodes()
    return merged


def _key(index: Index, node: wmodel.Node) -> Hashable | None:
    attributes = tuple(sorted((name, _plain(value)) for name, value in node.attrs.items()))
    if node.op in UNLIKE_THEMSELVES or len(node.outputs) != 1 or None in (value for _, value in attributes):
        return None
    return node.op, tuple(_operand(index, name) for name in node.inputs), attributes


def _operand(index: Index, name: str) -> Hashable:
    array = index.constant(name)
    if array is None or array.nbytes > COMPARED_MAX_BYTES:
        return name
    return array.dtype.str, array.shape, array.tobytes()


def _plain(value: wmodel.Attribute) -> str | None:
    """An attribute as text; None for bodies and tensors."""
    return None if isinstance(value, (wmodel.Graph, dict)) else repr(value)
