"""Training that knows of codes: values are rounded as a quantised model will round them.

What rounding does is seen by the loss and passed by its gradient: where a value lies inside the range that
codes cover, its gradient is that of the rounded one (the *straight-through* gradient); outside, it is zero.

Source: Bengio, Leonard and Courville, Estimating or propagating gradients through stochastic neurons, 2013;
Jacob et al., Quantization and training of neural networks for integer-arithmetic-only inference, 2018.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from walle_engine import wmodel
from walle_engine.train.sheet import PREFIX, Sheet
from walle_shared.errors import ModelError

type Range = tuple[float, float]
"""Smallest and largest number."""

MOMENTUM = 0.95  # share of a range that stays when a batch was seen
#: Rounding to multiples of 2**-40 changes nothing that matters, and passes no gradient.
_FINE = 2.0**40
_SMALLEST_SCALE = 2.0**-100


@dataclass(frozen=True)
class WeightCodes:
    """How a weight is coded: symmetric, with a scale per index of an axis that its largest number sets."""

    axis: int
    rank: int
    bits: int = 8


@dataclass(frozen=True)
class Codes:
    """What a quantised model rounds.

    Args:
        weights: by name.
        values: names of values, each with that of its range; several may share one.
        ranges: what was seen of them, to begin with.
        bits: of values' codes.
        momentum: share of a range that stays when a batch was seen; 1 keeps it as it is.
    """

    weights: Mapping[str, WeightCodes] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    bits: int = 8
    momentum: float = MOMENTUM


@dataclass(frozen=True)
class Scalars:
    """Inputs that a range is fed by, and outputs that tell what a batch had of it."""

    low: str
    high: str
    scale: str
    least: tuple[str, ...]
    most: tuple[str, ...]

    def numbers(self, range_: Range, bits: int) -> dict[str, float]:
        """Return what a step is fed: exactly what codes with one for 0 cover."""
        low, high, scale = covered(range_, bits)
        return {self.low: low, self.high: high, self.scale: scale}


def covered(range_: Range, bits: int) -> tuple[float, float, float]:
    """Return the smallest and largest number that codes stand for, and their distance."""
    low, high = min(range_[0], 0.0), max(range_[1], 0.0)
    top = (1 << bits) - 1
    scale = max((high - low) / top, _SMALLEST_SCALE)
    zero_point = min(max(round(-low / scale), 0), top)
    return -zero_point * scale, (top - zero_point) * scale, scale


def moved(range_: Range, least: Sequence[float], most: Sequence[float], momentum: float) -> Range:
    """Return a range after a batch; what is not finite moves nothing."""
    low, high = min(least), max(most)
    if not (math.isfinite(low) and math.isfinite(high)):
        return range_
    share = 1 - momentum
    return range_[0] + share * (low - range_[0]), range_[1] + share * (high - range_[1])


def with_codes(
    graph: wmodel.Graph, nodes: Iterable[wmodel.Node], codes: Codes, sheet: Sheet
) -> tuple[list[wmodel.Node], dict[str, Scalars]]:
    """Round weights and values where their codes will be.

    Args:
        graph: whose inputs are known.
        nodes: of the model.
        codes: what to round.
        sheet: for names and constants; its own nodes stay as they are.

    Returns:
        The nodes, in order, and what each range is fed by and tells.

    Raises:
        ModelError: a value or a range is not there.
    """
    nodes = list(nodes)
    made = {name for node in nodes for name in node.outputs}
    inputs = {value.name for value in graph.inputs}
    for name, of in codes.values.items():
        if name not in made | inputs:
            raise ModelError(f"the model has no value {name!r} to be rounded")
        if of not in codes.ranges:
            raise ModelError(f"value {name!r} has no range {of!r}")
    rounding = _Rounding(sheet, codes)
    renamed = {name: rounding.weight(name, how) for name, how in codes.weights.items()}
    renamed |= {name: rounding.value(name, name) for name in codes.values if name in inputs}
    before, result = rounding.taken(), []
    for node in nodes:
        rounded = [name for name in node.outputs if name in codes.values]
        raw = {name: f"{PREFIX}raw/{name}" for name in rounded}
        result.append(
            replace(
                node,
                inputs=tuple(renamed.get(name, name) for name in node.inputs),
                outputs=tuple(raw.get(name, name) for name in node.outputs),
            )
        )
        for name in rounded:
            rounding.value(raw[name], name, out=name)
            result += rounding.taken()
    return [*before, *result], rounding.scalars()


class _Rounding:
    """Nodes that round, in the order that they are asked for."""

    def __init__(self, sheet: Sheet, codes: Codes) -> None:
        self._sheet, self._codes = Sheet(sheet.dtype, stem="round."), codes
        self._sheet.weights = sheet.weights
        self._least: dict[str, list[str]] = {of: [] for of in codes.ranges}
        self._most: dict[str, list[str]] = {of: [] for of in codes.ranges}

    def taken(self) -> list[wmodel.Node]:
        """Return the nodes made since the last call."""
        nodes = list(self._sheet.nodes[self._returned :])
        self._returned += len(nodes)
        return nodes

    _returned = 0

    def weight(self, name: str, how: WeightCodes) -> str:
        """``w + still(round(w / s) s - w)`` with ``s`` the largest magnitude over the largest code."""
        sheet = self._sheet
        top = (1 << (how.bits - 1)) - 1
        largest = sheet.largest_along(sheet("Abs", name), how.rank, how.axis)
        scale = sheet("Max", sheet("Mul", largest, sheet.number(1 / top)), sheet.number(_SMALLEST_SCALE))
        return self._rounded(name, scale)

    def value(self, x: str, name: str, out: str = "") -> str:
        """The same of what is kept within the range's ends; outside, nothing comes back."""
        sheet, of = self._sheet, self._codes.values[name]
        scalars = _names(of)
        self._least[of].append(sheet("ReduceMin", x, keepdims=0))
        self._most[of].append(sheet("ReduceMax", x, keepdims=0))
        kept = sheet("Min", sheet("Max", x, scalars.low), scalars.high)
        return self._rounded(kept, scalars.scale, out)

    def _rounded(self, x: str, scale: str, out: str = "") -> str:
        sheet = self._sheet
        error = sheet("Sub", sheet("Mul", sheet("Round", sheet("Div", x, scale)), scale), x)
        still = sheet(
            "Mul", sheet("Round", sheet("Mul", error, sheet.number(_FINE))), sheet.number(1 / _FINE)
        )
        if not out:
            return sheet("Add", x, still)
        sheet.nodes.append(wmodel.Node("Add", f"{PREFIX}rounded/{out}", (x, still), (out,)))
        return out

    def scalars(self) -> dict[str, Scalars]:
        """What each range is fed by and tells."""
        return {
            of: replace(_names(of), least=tuple(self._least[of]), most=tuple(self._most[of]))
            for of in self._codes.ranges
            if self._least[of]
        }


def _names(of: str) -> Scalars:
    return Scalars(f"{PREFIX}low/{of}", f"{PREFIX}high/{of}", f"{PREFIX}scale/{of}", (), ())
