"""Nodes under construction, with names of their own."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Literal

from walle_engine import wmodel
from walle_shared.errors import ModelError

#: Types that parameters may have, with the buffer format of an element.
FORMATS: Mapping[str, Literal["f", "d"]] = {"F32": "f", "F64": "d"}
#: What values that training adds are called; no model may use it.
PREFIX = "train."


class Sheet:
    """Nodes that follow those of a model; called with an operator, it adds one and returns its output."""

    def __init__(self, dtype: str, stem: str = "") -> None:
        self.dtype = dtype
        self._stem = stem
        self.nodes: list[wmodel.Node] = []
        self.weights: dict[str, wmodel.Weight] = {}

    def __call__(self, op: str, *inputs: str, **attrs: wmodel.Attribute) -> str:
        """Add a node of one output."""
        return self.many(op, inputs, 1, **attrs)[0]

    def many(self, op: str, inputs: tuple[str, ...], outputs: int, **attrs: wmodel.Attribute) -> list[str]:
        """Add a node of several outputs."""
        stem = f"{PREFIX}{self._stem}{len(self.nodes)}"
        names = [f"{stem}.{i}" for i in range(outputs)]
        self.nodes.append(wmodel.Node(op, stem, inputs, tuple(names), attrs))
        return names

    def largest_along(self, x: str, rank: int, axis: int) -> str:
        """Return the largest of all that have the same index of an axis, with dims of 1 for the others."""
        axes = f"{PREFIX}but.{axis}.of.{rank}"
        others = [i for i in range(rank) if i != axis]
        self.weights[axes] = wmodel.Weight("I64", (len(others),), struct.pack(f"<{len(others)}q", *others))
        return self("ReduceMax", x, axes)

    def number(self, value: float) -> str:
        """Return a constant of the parameters' type."""
        name = f"{PREFIX}number.{value!r}"
        data = struct.pack(f"<{FORMATS[self.dtype]}", value)
        self.weights[name] = wmodel.Weight(self.dtype, (), data)
        return name


def positive(name: str, value: float, *, zero: bool = False) -> None:
    """Check a setting.

    Raises:
        ModelError: if it is negative, not finite, or zero where that makes no sense.
    """
    if not (0 <= value < float("inf")) or (value == 0 and not zero):
        raise ModelError(f"{name} is {value}: it must be a positive number{' or 0' if zero else ''}")
