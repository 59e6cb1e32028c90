"""Chance: from the operating system on a device, and repeated by every run of a simulation.

The functions are those of Python's own ``random``, on a generator that belongs to the run. Python's own
module works too, but then a simulated run cannot be repeated.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from typing import TYPE_CHECKING, Any

from walle_task.context import current

if TYPE_CHECKING:
    from random import Random

__all__ = ["choice", "gauss", "generator", "randint", "random", "sample", "shuffle", "uniform"]


def generator() -> Random:
    """The run's own generator: seeded by the operating system, or by the simulation."""
    context = current()
    if context.generator is None:
        from random import Random  # on first use: most slots never need its memory

        seed = None if context.simulation is None else context.simulation.seed
        context.generator = Random(seed)
    return context.generator


def random() -> float:
    """A number from 0 up to, but not including, 1."""
    return generator().random()


def uniform(low: float, high: float) -> float:
    """A number between ``low`` and ``high``."""
    return generator().uniform(low, high)


def gauss(mean: float = 0.0, deviation: float = 1.0) -> float:
    """A number of a normal distribution."""
    return generator().gauss(mean, deviation)


def randint(low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return generator().randint(low, high)


def choice[T](options: Sequence[T]) -> T:
    """One of ``options``, which must not be empty."""
    return generator().choice(options)


def sample[T](population: Sequence[T], count: int) -> list[T]:
    """``count`` of ``population``, none twice."""
    return generator().sample(population, count)


def shuffle(items: MutableSequence[Any]) -> None:
    """Put ``items`` into another order, in place."""
    generator().shuffle(items)
