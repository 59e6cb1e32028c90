"""Names of values: fresh ones, and nodes with others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from walle_engine import wmodel
from walle_engine.convert.draft import Draft


def fresh_name(taken: set[str], wish: str) -> str:
    """Return a name that nothing has, and take it."""
    name, number = wish, 1
    while name in taken:
        name, number = f"{wish}.{number}", number + 1
    taken.add(name)
    return name


def names_of(draft: Draft) -> set[str]:
    """Return all names of values and weights, those in bodies too."""
    return {
        *draft.weights,
        *(value.name for value in draft.inputs),
        *(name for node in draft.nodes for name in node.outputs),
        *(name for node in draft.nodes for name in _names_in_bodies(node)),
    }


def _names_in_bodies(node: wmodel.Node) -> set[str]:
    found: set[str] = set()
    for body in node.attrs.values():
        if isinstance(body, wmodel.Graph):
            found.update(value.name for value in body.inputs)
            for inner in body.nodes:
                found.update((*inner.outputs, *_names_in_bodies(inner)))
    return found


def renamed_outputs(node: wmodel.Node, names: Mapping[str, str]) -> wmodel.Node:
    """Return the node with other names of some outputs."""
    return replace(node, outputs=tuple(names.get(name, name) for name in node.outputs))


def renamed_inputs(node: wmodel.Node, names: Mapping[str, str]) -> wmodel.Node:
    """Return the node with other names of some inputs."""
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))
