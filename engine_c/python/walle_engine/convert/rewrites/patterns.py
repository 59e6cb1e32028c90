"""Patterns: trees of operators with named holes, and the one matcher that looks for them.

A pattern is data. ``op("Mul", value("x"), op("Sigmoid", value("x")))`` says what it looks like: every
``value("x")`` is one and the same value, operands of ``Add`` and ``Mul`` may stand either way round,
``number(0.5)`` is a constant of that one number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from walle_engine import wmodel

if TYPE_CHECKING:
    from walle_engine.convert.rewrites.index import Index

COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min"})

# Exporters print a constant with as many digits as its type holds, some with fewer.
NUMBER_TOLERANCE = {"F64": 1e-6, "F32": 1e-6, "F16": 1e-3, "BF16": 1e-2}


@dataclass(frozen=True)
class Value:
    """Any value; the same one wherever ``name`` stands."""

    name: str


@dataclass(frozen=True)
class Constant:
    """A value known at conversion, equal wherever ``name`` stands; of one element where ``scalar``."""

    name: str = ""
    scalar: bool = False
    number: float | None = None


@dataclass(frozen=True)
class Apply:
    """One of some operators with one output, on these inputs (None: on whatever)."""

    ops: frozenset[str]
    inputs: tuple[Pattern, ...] | None
    name: str = ""


@dataclass(frozen=True)
class Either:
    """The first of these that fits."""

    options: tuple[Pattern, ...]


type Pattern = Value | Constant | Apply | Either


@dataclass(frozen=True)
class Match:
    """What a pattern was found to be.

    Args:
        values: name of each hole to the value in it.
        nodes: name of each named operator to the node it is.
        matched: every node of the pattern, some more than once; the last output's is the first.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, wmodel.Node] = field(default_factory=dict)
    matched: tuple[wmodel.Node, ...] = ()

    @property
    def root(self) -> wmodel.Node:
        """The node whose output the pattern is."""
        return self.matched[0]

    @property
    def output(self) -> str:
        """The value the pattern makes."""
        return self.root.outputs[0]

    def has(self, name: str) -> bool:
        """Whether a hole of an alternative is there."""
        return name in self.values


# ---- What patterns are written with


def value(name: str) -> Value:
    """Any value."""
    return Value(name)


def constant(name: str) -> Constant:
    """Any constant."""
    return Constant(name)


def scalar(name: str) -> Constant:
    """A constant of one element."""
    return Constant(name, scalar=True)


def number(wanted: float) -> Constant:
    """A constant of one element, which is ``wanted`` up to the rounding of its type."""
    return Constant(scalar=True, number=wanted)


def op(ops: str, *inputs: Pattern, name: str = "") -> Apply:
    """An operator, or one of several (``"Add|Sub"``); without inputs it may have any."""
    return Apply(frozenset(ops.split("|")), inputs or None, name)


def either(*options: Pattern) -> Either:
    """One of several patterns, tried in this order."""
    return Either(options)


def maybe_cast(inner: Pattern) -> Either:
    """A pattern with a ``Cast`` round it or not."""
    return Either((op("Cast", inner), inner))


def product(a: Pattern, b: Pattern, c: Pattern) -> Either:
    """``a b c``, multiplied in any order."""
    pairs = ((a, b, c), (a, c, b), (b, c, a))
    return Either(tuple(op("Mul", op("Mul", first, second), third) for first, second, third in pairs))


def scaled(inner: Pattern, wanted: float) -> Either:
    """``wanted * inner``, or ``inner / (1 / wanted)``."""
    return Either((op("Mul", inner, number(wanted)), op("Div", inner, number(1 / wanted))))


def ops_of(pattern: Pattern) -> frozenset[str]:
    """The operators that a pattern can end in."""
    if isinstance(pattern, Apply):
        return pattern.ops
    if isinstance(pattern, Either):
        return reduce(frozenset.union, map(ops_of, pattern.options))
    return frozenset()


# ---- The matcher


def find(index: Index, pattern: Pattern, root: str) -> Match | None:
    """Find a pattern that makes the value ``root``; None where there is none that may be replaced.

    It may not be replaced where something outside of it reads a value inside it.
    """
    return next((match for match in _match(index, pattern, root, Match()) if index.owns(match)), None)


def _match(index: Index, pattern: Pattern, name: str, found: Match) -> Iterator[Match]:
    match pattern:
        case Value():
            yield from _bind(index, pattern.name, name, found)
        case Constant():
            if _is_constant(index, pattern, name):
                yield from _bind(index, pattern.name, name, found) if pattern.name else [found]
        case Either():
            for option in pattern.options:
                yield from _match(index, option, name, found)
        case Apply():
            node = index.producer(name)
            if node is not None and node.op in pattern.ops and node.outputs == (name,):
                yield from _match_node(index, pattern, node, found)


def _bind(index: Index, hole: str, name: str, found: Match) -> Iterator[Match]:
    if index.same(found.values.get(hole, name), name):
        yield Match({**found.values, hole: name}, found.nodes, found.matched)


def _is_constant(index: Index, pattern: Constant, name: str) -> bool:
    array = index.constant(name)
    if array is None or (pattern.scalar and array.size != 1):
        return False
    if pattern.number is None:
        return True
    tolerance = NUMBER_TOLERANCE.get(wmodel.dtype_name(array.dtype), 0.0)
    return bool(np.isclose(float(array.reshape(-1)[0]), pattern.number, rtol=tolerance, atol=0.0))


def _match_node(index: Index, pattern: Apply, node: wmodel.Node, found: Match) -> Iterator[Match]:
    nodes = {**found.nodes, pattern.name: node} if pattern.name else found.nodes
    entered = Match(found.values, nodes, (*found.matched, node))
    if pattern.inputs is None:
        yield entered
        return
    inputs = given_inputs(node)
    if len(inputs) != len(pattern.inputs):
        return
    yield from _match_inputs(index, pattern.inputs, inputs, entered)
    if node.op in COMMUTATIVE and len(inputs) == 2:
        yield from _match_inputs(index, pattern.inputs, inputs[::-1], entered)


def _match_inputs(
    index: Index, patterns: Sequence[Pattern], names: Sequence[str], found: Match
) -> Iterator[Match]:
    if not patterns:
        yield found
        return
    for first in _match(index, patterns[0], names[0], found):
        yield from _match_inputs(index, patterns[1:], names[1:], first)


def given_inputs(node: wmodel.Node) -> tuple[str, ...]:
    """A node's inputs without the omitted ones at the end."""
    inputs = node.inputs
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    return inputs
