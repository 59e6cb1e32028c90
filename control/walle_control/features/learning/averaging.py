"""From the updates of a round to the next model: how they are summed, what the server makes of that. Pure.

Rules that choose:

1. What one device does to the result is bounded: updates come clipped (``updates.check``), counts of samples
   are capped, and with noise every device counts alike.
2. With noise the sum is divided by the number of updates that the plan aims at, not by how many came: a
   divisor that depends on who came would tell of it, and change by how much one device moves the result.
   So the result moves by at most ``clip_norm / goal`` when a device is added or left out.
3. Trimmed mean and median look at all updates for each number, which noise for one device's share of a sum
   does not cover: they go without noise.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import numpy as np

from walle_control.features.learning.updates import Vector
from walle_shared.errors import ConfigError

Rule = Literal["mean", "trimmed_mean", "median"]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)
Optimizer = Literal["fedavg", "momentum", "adam"]
OPTIMIZERS: Final[tuple[Optimizer, ...]] = get_args(Optimizer)


@dataclass(frozen=True, slots=True)
class Summing:
    """How updates become one.

    Attributes:
        rule: see the module.
        trim: the part of the devices that ``trimmed_mean`` leaves out at either end, for each number.
        samples_cap: a device counts as its samples, at most so many.
        goal: how many updates a round aims at.
        noise_norm: deviation of the noise on the sum, in the unit of the updates; 0: none.
    """

    rule: Rule = "mean"
    trim: float = 0.1
    samples_cap: int = 100
    goal: int = 100
    noise_norm: float = 0.0


def combine(
    updates: Sequence[Vector], samples: Sequence[int], how: Summing, rng: np.random.Generator | None = None
) -> Vector:
    """One update of many.

    Args:
        updates: checked ones, of one size; at least one.
        samples: how many each device learnt from.
        how: the rule.
        rng: the noise; by default a generator that the operating system seeds.

    Raises:
        ConfigError: the rule goes without noise.
    """
    if how.rule != "mean":
        if how.noise_norm:
            raise ConfigError(f"{how.rule} goes without noise: its noise covers means only")
        stacked = np.stack(updates)
        return _median(stacked) if how.rule == "median" else _trimmed_mean(stacked, how.trim)
    if how.noise_norm:
        total = np.sum(updates, axis=0, dtype=np.float64)
        total += (rng or _generator()).normal(0.0, how.noise_norm, total.shape)
        return (total / how.goal).astype(np.float32)
    return _weighted_mean(updates, [min(count, how.samples_cap) for count in samples])


def _weighted_mean(updates: Sequence[Vector], weights: Sequence[int]) -> Vector:
    total = np.zeros(updates[0].shape, np.float64)
    for update, weight in zip(updates, weights, strict=True):
        total += np.float64(weight) * update
    return (total / sum(weights)).astype(np.float32)


def _trimmed_mean(stacked: Any, trim: float) -> Vector:
    """Source: Yin et al., Byzantine-Robust Distributed Learning, ICML 2018, definition 2."""
    cut = min(int(trim * len(stacked)), (len(stacked) - 1) // 2)
    kept = np.sort(stacked, axis=0)[cut : len(stacked) - cut]
    return np.asarray(kept.mean(axis=0, dtype=np.float64), np.float32)


def _median(stacked: Any) -> Vector:
    return np.asarray(np.median(stacked, axis=0), np.float32)


def _generator() -> np.random.Generator:
    return np.random.default_rng(secrets.randbits(256))


@dataclass(frozen=True, slots=True)
class ServerState:
    """The model between rounds, and what the optimiser keeps."""

    weights: Vector
    first: Vector | None = None
    second: Vector | None = None


def _sum(*terms: tuple[float, Vector]) -> Vector:
    """A weighted sum in float32."""
    total: Vector = np.zeros_like(terms[0][1], np.float32)
    for factor, vector in terms:
        np.add(total, np.multiply(vector, np.float32(factor), dtype=np.float32), out=total)
    return total


def _fedavg(state: ServerState, update: Vector, rate: float) -> ServerState:
    return replace(state, weights=_sum((1.0, state.weights), (rate, update)))


def _momentum(state: ServerState, update: Vector, rate: float) -> ServerState:
    """Source: Hsu, Qi, Brown, Measuring the Effects of Non-Identical Data Distribution, 2019: FedAvgM."""
    first = update if state.first is None else _sum((0.9, state.first), (1.0, update))
    return replace(state, weights=_sum((1.0, state.weights), (rate, first)), first=first)


def _adam(state: ServerState, update: Vector, rate: float) -> ServerState:
    """Source: Reddi et al., Adaptive Federated Optimization, ICLR 2021, algorithm 2: FedAdam."""
    zeros = np.zeros_like(update)
    first = _sum((0.9, zeros if state.first is None else state.first), (0.1, update))
    second = _sum((0.99, zeros if state.second is None else state.second), (0.01, np.square(update)))
    step = np.divide(first, np.sqrt(second) + np.float32(1e-3), dtype=np.float32)
    return ServerState(_sum((1.0, state.weights), (rate, step)), first, second)


_STEPS: Final[Mapping[Optimizer, Callable[[ServerState, Vector, float], ServerState]]] = {
    "fedavg": _fedavg,
    "momentum": _momentum,
    "adam": _adam,
}


def advance(optimizer: Optimizer, state: ServerState, update: Vector, rate: float) -> ServerState:
    """The model after a round: ``update`` taken for the direction in which the loss falls."""
    return _STEPS[optimizer](state, update, rate)
