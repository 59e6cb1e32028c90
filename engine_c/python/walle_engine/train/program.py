"""The graph of a training step, made of a model's.

What may change from step to step - parameters, running statistics, what the optimiser keeps - is an input and
an output of it: the output of one step is the input of the next.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from walle_engine import wmodel
from walle_engine.train.codes import Codes, Scalars, with_codes
from walle_engine.train.losses import Loss
from walle_engine.train.optimizers import Optimizer
from walle_engine.train.sheet import FORMATS, PREFIX, Sheet
from walle_shared.errors import ModelError

LOSS = f"{PREFIX}loss"
#: How many steps there were, of which each has its own chance.
COUNT = f"{PREFIX}count"

#: Where operators have what is usually learnt.
_PARAMETERS: Mapping[str, Sequence[int]] = {
    "Add": (0, 1),
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gather": (0,),
    "Gemm": (0, 1, 2),
    "GroupNormalization": (1, 2),
    "GRU": (1, 2, 3),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "LSTM": (1, 2, 3, 7),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
    "RNN": (1, 2, 3),
}
_STATISTICS = (3, 4)  # of BatchNormalization


@dataclass(frozen=True)
class Program:
    """A training step.

    Args:
        graph: what a step computes.
        constants: weights that it adds to the model's.
        trained: names of parameters.
        states: names of what the optimiser keeps, each with its parameter.
        numbers: scalars that each step is fed, by the optimiser's names.
        changes: each input that has a new value after a step, with the output that is it.
        ranges: of values that are rounded: what each is fed by and tells.
    """

    graph: wmodel.Graph
    constants: Mapping[str, wmodel.Weight]
    trained: tuple[str, ...]
    states: Mapping[str, str]
    numbers: Mapping[str, str]
    changes: Mapping[str, str]
    ranges: Mapping[str, Scalars]


def usual_parameters(graph: wmodel.Graph, weights: Mapping[str, Any]) -> list[str]:
    """List the weights that stand where operators have what is learnt, and have a dim."""
    found: dict[str, None] = {}
    for node in graph.nodes:
        for place in _PARAMETERS.get(node.op, ()):
            name = node.inputs[place] if place < len(node.inputs) else ""
            if name in weights and weights[name].dtype in FORMATS and weights[name].shape:
                found[name] = None
    return list(found)


def choose(
    graph: wmodel.Graph, weights: Mapping[str, Any], patterns: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the names of the parameters to train.

    Raises:
        ModelError: if a pattern fits no weight, or one of a type that is not trained, or types differ.
    """
    names: dict[str, None] = {}
    for pattern in usual_parameters(graph, weights) if patterns is None else patterns:
        fitting = [pattern] if pattern in weights else fnmatch.filter(weights, pattern)
        if not fitting:
            raise ModelError(f"no weight fits {pattern!r}: the model has {', '.join(weights) or 'none'}")
        names.update(dict.fromkeys(fitting))
    types = {weights[name].dtype for name in names}
    for name in names:
        if weights[name].dtype not in FORMATS:
            raise ModelError(
                f"weight {name!r} is {weights[name].dtype}: only {' and '.join(FORMATS)} are trained"
            )
    if len(types) > 1:
        raise ModelError(f"what is trained has the types {', '.join(sorted(types))}: train one type")
    if not names:
        raise ModelError("the model has no weight that is usually trained: name some by trainable=[...]")
    return tuple(names)


def build(
    graph: wmodel.Graph,
    weights: Mapping[str, Any],
    loss: Loss,
    optimizer: Optimizer,
    trained: Sequence[str],
    *,
    clip_norm: float | None,
    clip_value: float | None,
    batch_statistics: bool,
    dropout: bool,
    seed: int,
    codes: Codes | None = None,
) -> Program:
    """Make the graph of a step.

    Raises:
        ModelError: if the model has no such output, or an input of the loss has the name of a value.
    """
    sheet = Sheet(weights[trained[0]].dtype)
    output = _output(graph, loss.output)
    targets = loss.inputs(output)
    _check_names(graph, weights, targets)
    nodes, changes = _with_statistics(graph.nodes, weights, batch_statistics)
    if dropout:
        nodes = _with_dropout(nodes, sheet, seed)
    ranges: dict[str, Scalars] = {}
    if codes is not None:
        nodes, ranges = with_codes(graph, nodes, codes, sheet)
    value = loss.nodes(sheet, output.name)
    gradients = sheet.many("Gradient", (*trained, value), len(trained))
    if clip_value is not None:
        low, high = sheet.number(-clip_value), sheet.number(clip_value)
        gradients = [sheet("Clip", gradient, low, high) for gradient in gradients]
    if clip_norm is not None:
        gradients = _clipped(sheet, gradients, clip_norm)
    numbers = {name: f"{PREFIX}{name}" for name in optimizer.numbers(1, optimizer.rate)}
    states: dict[str, str] = {}
    for name, gradient in zip(trained, gradients, strict=True):
        own = [f"{PREFIX}{state}/{name}" for state in optimizer.states]
        changes[name], fresh = optimizer.update(sheet, name, gradient, own, numbers)
        changes.update(zip(own, fresh, strict=True))
        states.update(dict.fromkeys(own, name))
    sheet.nodes.append(wmodel.Node("Identity", LOSS, (value,), (LOSS,)))
    shapes = {name: weights[states.get(name, name)].shape for name in changes}
    held = (wmodel.Value(name, sheet.dtype, shape) for name, shape in shapes.items())
    fed = (
        wmodel.Value(COUNT, "I64", ()),
        *(wmodel.Value(name, sheet.dtype, ()) for name in numbers.values()),
        *(
            wmodel.Value(name, sheet.dtype, ())
            for one in ranges.values()
            for name in (one.low, one.high, one.scale)
        ),
    )
    told = [name for one in ranges.values() for name in (*one.least, *one.most)]
    step = replace(
        graph,
        name=f"{graph.name} trained",
        inputs=(*graph.inputs, *targets, *held, *fed),
        outputs=tuple(wmodel.Value(name, "", None) for name in (LOSS, *changes.values(), *told)),
        nodes=(*nodes, *sheet.nodes),
    )
    return Program(step, sheet.weights, tuple(trained), states, numbers, changes, ranges)


def _output(graph: wmodel.Graph, name: str) -> wmodel.Value:
    for value in graph.outputs:
        if name in ("", value.name):
            return value
    known = ", ".join(value.name for value in graph.outputs)
    raise ModelError(f"the model has no output {name!r}: its outputs are {known}")


def _check_names(graph: wmodel.Graph, weights: Mapping[str, Any], targets: Sequence[wmodel.Value]) -> None:
    taken = {
        *weights,
        *(value.name for value in graph.inputs),
        *(n for node in graph.nodes for n in node.outputs),
    }
    for target in targets:
        if target.name in taken:
            raise ModelError(
                f"the model has a value {target.name!r} already: give the loss another target=..."
            )
    for name in taken:
        if name.startswith(PREFIX):
            raise ModelError(f"the model has a value {name!r}: such names are for training")


def _with_statistics(
    nodes: Sequence[wmodel.Node], weights: Collection[str], wanted: bool
) -> tuple[list[wmodel.Node], dict[str, str]]:
    """Let batch normalisation go by the batch, and say which running statistics have which new values."""
    changes: dict[str, str] = {}

    def turned(node: wmodel.Node) -> Iterator[wmodel.Node]:
        statistics = [node.inputs[place] for place in _STATISTICS] if node.op == "BatchNormalization" else []
        if not wanted or not statistics or not all(name in weights for name in statistics):
            yield node
            return
        fresh = tuple(f"{PREFIX}fresh/{name}" for name in statistics)
        changes.update(zip(statistics, fresh, strict=True))
        attrs = {**node.attrs, "training_mode": 1}
        yield replace(node, outputs=(node.outputs[0], *fresh), attrs=attrs)

    return [one for node in nodes for one in turned(node)], changes


def _with_dropout(nodes: Sequence[wmodel.Node], sheet: Sheet, seed: int) -> list[wmodel.Node]:
    """Let ``Dropout`` drop, others in each step."""
    trains = f"{PREFIX}trains"

    def turned(node: wmodel.Node) -> wmodel.Node:
        if node.op != "Dropout":
            return node
        sheet.weights[trains] = wmodel.Weight("BOOL", (), b"\1")
        data, ratio, *_ = *node.inputs, ""
        return replace(node, inputs=(data, ratio, trains, COUNT), attrs={"seed": seed})

    return [turned(node) for node in nodes]


def _clipped(sheet: Sheet, gradients: Sequence[str], most: float) -> list[str]:
    """All of them times ``min(1, most / (their length + 1e-6))``, as ``clip_grad_norm_`` has it."""
    squares = [sheet("ReduceSumSquare", gradient, keepdims=0) for gradient in gradients]
    length = sheet("Add", sheet("Sqrt", sheet("Sum", *squares)), sheet.number(1e-6))
    factor = sheet("Min", sheet("Div", sheet.number(most), length), sheet.number(1.0))
    return [sheet("Mul", gradient, factor) for gradient in gradients]
