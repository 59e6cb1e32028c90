"""Graph rewrites that make a model smaller without changing what it computes.

Each is a row of ``REWRITES``: a chain of operators, each the only user of the one before, and a function that
returns the one node that replaces the chain (and keeps its last output's name), or None where it does not
apply.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from walle_engine import wmodel
from walle_engine.convert.draft import Draft

type Chain = tuple[wmodel.Node, ...]


@dataclass(frozen=True)
class Rewrite:
    """One row: what it is called, which chain it matches, how it replaces it."""

    name: str
    chain: tuple[str, ...]
    apply: Callable[[Draft, Chain], wmodel.Node | None]


def rewrite(draft: Draft) -> dict[str, int]:
    """Apply every row wherever it fits, until none does; returns how often each was applied."""
    applied: Counter[str] = Counter()
    changed = True
    while changed:
        changed = False
        for row in REWRITES:
            for last in list(draft.nodes):
                chain = _match(draft, row.chain, last)
                new = row.apply(draft, chain) if chain else None
                if chain and new:
                    draft.replace_node(last, new)
                    draft.nodes = [node for node in draft.nodes if node not in chain[:-1]]
                    applied[row.name] += 1
                    changed = True
    draft.prune()
    return dict(applied)


def _match(draft: Draft, ops: tuple[str, ...], last: wmodel.Node) -> Chain | None:
    """The chain that ends in ``last``, linked through first inputs, or None."""
    if last.op != ops[-1] or last not in draft.nodes:
        return None
    producers, uses = draft.producers(), draft.uses()
    chain = [last]
    for op in reversed(ops[:-1]):
        link = chain[0].inputs[0]
        before = producers.get(link)
        if before is None or before.op != op or uses[link] != 1 or before.outputs[0] != link:
            return None
        chain.insert(0, before)
    return tuple(chain)


def _fold_batch_norm(draft: Draft, chain: Chain) -> wmodel.Node | None:
    """Fold an inference batch normalisation into the weights of the layer before it.

    ``y = g (x - m) / sqrt(v + e) + b`` of ``x = W u + c`` is ``(s W) u + (s (c - m) + b)`` with
    ``s = g / sqrt(v + e)`` per output channel. Computed in float64, stored in the type of ``W``.
    """
    layer, norm = chain
    constants = [draft.constant(name) for name in norm.inputs[1:5]]
    data, weight_name, bias_name = (*layer.inputs, "")[:3]
    weight = draft.constant(weight_name)
    bias = draft.constant(bias_name)
    channel_axis = _channel_axis(layer)
    if (
        weight is None
        or channel_axis is None
        or (bias_name and bias is None)
        or any(c is None for c in constants)
    ):
        return None
    if norm.attrs.get("training_mode", 0) or any(norm.outputs[1:]):
        return None
    gain, shift, mean, variance = (np.asarray(c, np.float64) for c in constants)
    epsilon = norm.attrs.get("epsilon", 1e-5)
    assert isinstance(epsilon, (int, float))
    scale = gain / np.sqrt(variance + epsilon)
    old_bias = np.zeros_like(mean) if bias is None else np.asarray(bias, np.float64)
    per_channel = [1] * weight.ndim
    per_channel[channel_axis] = -1
    new_weight = draft.fresh_name(f"{weight_name}.normalised")
    draft.weights[new_weight] = (weight.astype(np.float64) * scale.reshape(per_channel)).astype(weight.dtype)
    new_bias = draft.fresh_name(f"{norm.name}.bias")
    draft.weights[new_bias] = (scale * (old_bias - mean) + shift).astype(weight.dtype)
    return replace(layer, inputs=(data, new_weight, new_bias), outputs=norm.outputs[:1])


def _channel_axis(layer: wmodel.Node) -> int | None:
    """The weight axis that counts output channels; None where a scale of the product stands in the way."""
    if layer.op == "Conv":
        return 0
    if layer.attrs.get("alpha", 1.0) != 1.0 or layer.attrs.get("beta", 1.0) != 1.0:
        return None
    return 0 if layer.attrs.get("transB", 0) else 1


REWRITES = (
    Rewrite("batch_norm_into_conv", ("Conv", "BatchNormalization"), _fold_batch_norm),
    Rewrite("batch_norm_into_gemm", ("Gemm", "BatchNormalization"), _fold_batch_norm),
)
