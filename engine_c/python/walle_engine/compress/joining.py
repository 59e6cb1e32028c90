"""A product and the constant that is added to it as one ``Gemm``: a bias can be part of integer sums."""

from __future__ import annotations

import numpy as np

from walle_engine import wmodel
from walle_engine.compress.data import Batch
from walle_engine.compress.placement import View
from walle_engine.compress.source import watching
from walle_engine.convert.draft import Draft


def with_biases(draft: Draft, batch: Batch) -> Draft:
    """Return the graph with ``Gemm`` for ``MatMul`` and ``Add`` wherever what is multiplied is a matrix.

    Args:
        draft: left as it is.
        batch: what tells the ranks of values.
    """
    view = View(draft)
    pairs = [(node, add) for node in draft.nodes if (add := _bias_of(view, node)) is not None]
    matrices = _matrices(draft, batch, [node.inputs[0] for node, _ in pairs])
    joined = {id(node): add for node, add in pairs if node.inputs[0] in matrices}
    if not joined:
        return draft
    gone = {id(add) for add in joined.values()}
    result = draft.with_outputs(draft.outputs)
    result.nodes = [
        _gemm(node, joined[id(node)]) if id(node) in joined else node
        for node in draft.nodes
        if id(node) not in gone
    ]
    return result


def _bias_of(view: View, node: wmodel.Node) -> wmodel.Node | None:
    """The addition of one number per column that alone reads a product."""
    weights = view.draft.weights
    weight = weights.get(node.inputs[1]) if node.op == "MatMul" else None
    add = view.only_reader(node.outputs[0]) if weight is not None else None
    if weight is None or weight.ndim != 2 or add is None or add.op != "Add":
        return None
    bias = weights.get(_other(add, node.outputs[0]))
    return add if bias is not None and bias.shape == weight.shape[1:] else None


def _other(add: wmodel.Node, name: str) -> str:
    return next((other for other in add.inputs if other != name), name)


def _gemm(node: wmodel.Node, add: wmodel.Node) -> wmodel.Node:
    inputs = (*node.inputs, _other(add, node.outputs[0]))
    return wmodel.Node("Gemm", node.name, inputs, add.outputs)


def _matrices(draft: Draft, batch: Batch, names: list[str]) -> set[str]:
    """Which of the values have two dims."""
    if not names:
        return set()
    made = [name for name in dict.fromkeys(names) if name not in batch]
    seen = {**batch, **(watching(draft, made).session().run(batch) if made else {})}
    return {name for name in names if np.asarray(seen[name]).ndim == 2}
