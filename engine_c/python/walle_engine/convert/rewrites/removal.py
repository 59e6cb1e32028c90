"""Nodes that hand on their first input as it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from walle_engine import wmodel
from walle_engine.convert.rewrites.index import Index
from walle_engine.convert.rewrites.patterns import (
    Match,
    either,
    given_inputs,
    number,
    op,
    value,
)
from walle_engine.convert.rewrites.row import Alias, Built, Rewrite
from walle_engine.convert.rewrites.transposes import is_identity, perm_of

type Condition = Callable[[Index, wmodel.Node], bool]


def _always(_index: Index, _node: wmodel.Node) -> bool:
    return True


def _alone(_index: Index, node: wmodel.Node) -> bool:
    return len(node.inputs) == 1


def _not_training(index: Index, node: wmodel.Node) -> bool:
    """Whether a Dropout is one of inference, or drops nothing."""
    if len(given_inputs(node)) < 3:
        return True
    training = index.constant(node.inputs[2])
    return training is not None and not training.any()


def _same_type(index: Index, node: wmodel.Node) -> bool:
    return index.dtype(node.inputs[0]) == node.attrs.get("to")


def _same_shape(index: Index, node: wmodel.Node) -> bool:
    before, after = index.shape(node.inputs[0]), index.shape(node.outputs[0])
    return before is not None and before == after


def _same_elements(index: Index, node: wmodel.Node) -> bool:
    """Whether all dims are the same but perhaps one, which must be so too: as many elements as before."""
    before, after = index.shape(node.inputs[0]), index.shape(node.outputs[0])
    if before is None or after is None or len(before) != len(after):
        return False
    others = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    return not others or (len(others) == 1 and 0 not in before and any(isinstance(d, str) for d in others[0]))


def _repeats_once(index: Index, node: wmodel.Node) -> bool:
    repeats = index.constant(node.inputs[1])
    return repeats is not None and bool(np.all(repeats == 1))


def _same_order(index: Index, node: wmodel.Node) -> bool:
    rank = index.rank(node.inputs[0])
    return rank is not None and is_identity(perm_of(node, rank))


def _steps_forward(index: Index, node: wmodel.Node) -> bool:
    """Whether a Slice takes everything, and not backwards."""
    inputs = given_inputs(node)
    steps = index.constant(inputs[4]) if len(inputs) > 4 else np.ones(1)
    return _same_shape(index, node) and steps is not None and bool(np.all(steps == 1))


def _pads_nothing(index: Index, node: wmodel.Node) -> bool:
    pads = index.constant(node.inputs[1])
    return pads is not None and not pads.any()


#: When a node of each operator makes nothing but its first input.
NO_OPS: dict[str, Condition] = {
    "Identity": _always,
    "Dropout": _not_training,
    "Cast": _same_type,
    "CastLike": lambda index, node: index.dtype(node.inputs[0]) == index.dtype(node.inputs[1]) != "",
    "Concat": _alone,
    "Sum": _alone,
    "Mean": _alone,
    "Max": _alone,
    "Min": _alone,
    "Reshape": _same_elements,
    "Flatten": _same_elements,
    "Expand": _same_shape,
    "Tile": _repeats_once,
    "Squeeze": _same_elements,
    "Unsqueeze": _same_elements,
    "Transpose": _same_order,
    "Slice": _steps_forward,
    "Pad": _pads_nothing,
}


def _remove(index: Index, match: Match) -> Built:
    node = match.root
    return Alias(node.inputs[0]) if NO_OPS[node.op](index, node) else None


def _remove_neutral(index: Index, match: Match) -> Built:
    x = match.values["x"]
    shape = index.shape(x)
    return Alias(x) if shape is not None and shape == index.shape(match.output) else None


def _reshape_once(index: Index, match: Match) -> Built:
    """The second of two reshapes says it all, unless it copies dims of the first."""
    second, shape = match.root, index.constant(match.values["shape"])
    if shape is None or (not second.attrs.get("allowzero", 0) and not shape.all()):
        return None
    inputs = (match.nodes["first"].inputs[0], match.values["shape"])
    return [wmodel.Node("Reshape", second.name, inputs, second.outputs, second.attrs)]


ROWS = (
    Rewrite("no_op", op("|".join(NO_OPS)), _remove),
    Rewrite(
        "neutral_constant",
        either(op("Mul", value("x"), number(1)), op("Div", value("x"), number(1))),
        _remove_neutral,
    ),
    Rewrite(
        "reshape_twice",
        op("Reshape", op("Reshape|Flatten|Squeeze|Unsqueeze", name="first"), value("shape")),
        _reshape_once,
    ),
)
