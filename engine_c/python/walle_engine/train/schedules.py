"""Learning rates over time: functions from the number of steps done to a factor of the optimiser's rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from walle_engine.train.sheet import positive

type Schedule = Callable[[int], float]


def constant(step: int) -> float:
    """Return 1 at every step."""
    del step
    return 1.0


def step_decay(every: int, factor: float) -> Schedule:
    """Multiply the rate by ``factor`` each ``every`` steps."""
    positive("every", every)
    positive("factor", factor)
    return lambda step: factor ** (step // every)


def cosine(steps: int, floor: float = 0.0) -> Schedule:
    """Go from 1 to ``floor`` along half a cosine, in ``steps`` steps, and stay there.

    Source: Loshchilov and Hutter, SGDR, 2017.
    """
    positive("steps", steps)
    positive("floor", floor, zero=True)
    return lambda step: floor + (1 - floor) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2


def warm_up(steps: int, then: Schedule = constant) -> Schedule:
    """Rise from ``1 / steps`` to 1 in ``steps`` steps, then follow another schedule from its start."""
    positive("steps", steps)
    return lambda step: (step + 1) / steps if step < steps else then(step - steps)
