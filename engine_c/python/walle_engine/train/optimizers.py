"""How a parameter moves, given its gradient. With the defaults, the steps are those of ``torch.optim``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from walle_engine.train.sheet import Sheet, positive


class Optimizer(Protocol):
    """A rule of updating."""

    @property
    def rate(self) -> float:
        """The learning rate, before a schedule."""
        ...

    @property
    def states(self) -> tuple[str, ...]:
        """Names of what is kept of each parameter from step to step; zeros at first."""
        ...

    def numbers(self, step: int, rate: float) -> dict[str, float]:
        """What the nodes of step ``step`` (the first is 1) are fed besides, by name."""
        ...

    def update(
        self, sheet: Sheet, x: str, gradient: str, states: Sequence[str], numbers: Mapping[str, str]
    ) -> tuple[str, list[str]]:
        """Add nodes; return the new parameter and the new states."""
        ...


def _decayed(sheet: Sheet, x: str, gradient: str, decay: float) -> str:
    return sheet("Add", gradient, sheet("Mul", x, sheet.number(decay))) if decay else gradient


@dataclass(frozen=True)
class SGD:
    """``v = momentum * v + g; x -= rate * v``, where ``g`` has ``weight_decay * x`` added.

    Args:
        rate: the learning rate.
        momentum: share of the last move that goes on; 0 keeps none.
        weight_decay: of the squared length of the parameters in the loss, halved.
        nesterov: look one move ahead.
    """

    rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        positive("rate", self.rate, zero=True)
        positive("momentum", self.momentum, zero=True)
        positive("weight_decay", self.weight_decay, zero=True)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of what is kept of each parameter."""
        return ("velocity",) if self.momentum else ()

    def numbers(self, step: int, rate: float) -> dict[str, float]:
        """Return what step ``step`` is fed."""
        del step
        return {"rate": rate}

    def update(
        self, sheet: Sheet, x: str, gradient: str, states: Sequence[str], numbers: Mapping[str, str]
    ) -> tuple[str, list[str]]:
        """Add nodes; return the new parameter and the new states."""
        move = gradient = _decayed(sheet, x, gradient, self.weight_decay)
        kept = []
        if self.momentum:
            momentum = sheet.number(self.momentum)
            move = sheet("Add", sheet("Mul", states[0], momentum), gradient)
            kept = [move]
            if self.nesterov:
                move = sheet("Add", gradient, sheet("Mul", move, momentum))
        return sheet("Sub", x, sheet("Mul", move, numbers["rate"])), kept


@dataclass(frozen=True)
class Adam:
    """``m, v``: running means of ``g`` and ``g**2``; ``x -= rate * m / (sqrt(v) + epsilon)``, both unbiased.

    Args:
        rate: the learning rate.
        betas: shares of ``m`` and ``v`` that stay in a step.
        epsilon: keeps the quotient finite.
        weight_decay: added to the gradient as ``weight_decay * x``.
        decoupled: decay the parameter itself instead: ``x -= rate * weight_decay * x`` (AdamW).
    """

    rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False

    def __post_init__(self) -> None:
        positive("rate", self.rate, zero=True)
        positive("epsilon", self.epsilon)
        positive("weight_decay", self.weight_decay, zero=True)
        for beta in self.betas:
            positive("1 - beta", 1 - beta)
            positive("beta", beta, zero=True)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of what is kept of each parameter."""
        return ("mean", "square")

    def numbers(self, step: int, rate: float) -> dict[str, float]:
        """Return what step ``step`` is fed."""
        first, second = (1 - beta**step for beta in self.betas)
        decay = rate * self.weight_decay if self.decoupled else 0.0
        return {"rate": rate / first, "spread": 1 / math.sqrt(second), "kept": 1 - decay}

    def update(
        self, sheet: Sheet, x: str, gradient: str, states: Sequence[str], numbers: Mapping[str, str]
    ) -> tuple[str, list[str]]:
        """Add nodes; return the new parameter and the new states."""
        if self.decoupled:
            x = sheet("Mul", x, numbers["kept"])
        else:
            gradient = _decayed(sheet, x, gradient, self.weight_decay)
        mean = _blend(sheet, self.betas[0], states[0], gradient)
        square = _blend(sheet, self.betas[1], states[1], sheet("Mul", gradient, gradient))
        spread = sheet("Mul", sheet("Sqrt", square), numbers["spread"])
        move = sheet("Div", mean, sheet("Add", spread, sheet.number(self.epsilon)))
        return sheet("Sub", x, sheet("Mul", move, numbers["rate"])), [mean, square]


def AdamW(  # noqa: N802 - a kind of Adam, and called like one
    rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> Adam:
    """Return Adam with decoupled weight decay."""
    return Adam(rate, betas, epsilon, weight_decay, decoupled=True)


def _blend(sheet: Sheet, share: float, old: str, fresh: str) -> str:
    kept, added = sheet("Mul", old, sheet.number(share)), sheet("Mul", fresh, sheet.number(1 - share))
    return sheet("Add", kept, added)
