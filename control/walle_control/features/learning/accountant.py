"""What noise is worth: the epsilon of differential privacy for a number of noisy rounds. Pure.

The unit of privacy is one device with all its samples, added or left out; each round adds normal noise of
deviation ``multiplier`` times what one device can move the sum by.

``epsilon`` is exact and assumes nothing of who took part: a device may be in every round, and everybody may
know it. Cohorts here are chosen by a hash that devices are told, so this is the figure that is promised.
``epsilon_if_secret`` is what would hold if each round took a random part of all devices and nobody knew whom:
the usual figure of papers, for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

_SQRT2: Final = math.sqrt(2)
_EPSILON_MAX: Final = 1e6

#: Orders at which the Renyi divergence is looked at; whole numbers, for which the sum below is exact.
_ORDERS: Final = (*range(2, 65), 80, 96, 128, 192, 256, 384, 512)


def epsilon(multiplier: float, rounds: int, delta: float) -> float:
    """The epsilon of so many rounds in which a device may take part every time; infinite without noise.

    Rounds of normal noise together are one round of noise that is ``sqrt(rounds)`` times smaller.

    Source: Balle and Wang, Improving the Gaussian Mechanism, ICML 2018, theorem 8, with sensitivity 1.
    """
    if rounds == 0:
        return 0.0
    if multiplier <= 0:
        return math.inf
    mu = math.sqrt(rounds) / multiplier

    def exceeds(value: float) -> bool:
        return _delta_of(mu, value) > delta

    return _least(exceeds)


def _delta_of(mu: float, value: float) -> float:
    tail = _below(-mu / 2 - value / mu)
    # exp(value) overflows long after the tail has vanished.
    return _below(mu / 2 - value / mu) - (math.exp(value + math.log(tail)) if tail > 0 else 0.0)


def _below(value: float) -> float:
    """The distribution function of a normal number, true to its smallest tails."""
    return 0.5 * math.erfc(-value / _SQRT2)


def epsilon_if_secret(share: float, multiplier: float, rounds: int, delta: float) -> float:
    """The same if each round took each device with probability ``share``, unknown to everybody.

    Source: Mironov, Talwar, Zhang, Renyi Differential Privacy of the Sampled Gaussian Mechanism, 2019,
    section 3.3; to (epsilon, delta) by Canonne, Kamath, Steinke, The Discrete Gaussian, 2020, proposition 12.
    """
    if rounds == 0 or share <= 0:
        return 0.0
    if multiplier <= 0:
        return math.inf
    return max(0.0, min(_at_orders(min(share, 1.0), multiplier, rounds, delta)))


def _at_orders(share: float, multiplier: float, rounds: int, delta: float) -> Iterator[float]:
    for order in _ORDERS:
        divergence = rounds * _renyi(share, multiplier, order)
        yield divergence + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def _renyi(share: float, multiplier: float, order: int) -> float:
    """The Renyi divergence of one round at a whole order."""
    if share == 1.0:
        return order / (2 * multiplier**2)
    logs = [
        math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
        + k * math.log(share) + (order - k) * math.log1p(-share)
        + (k * k - k) / (2 * multiplier**2)
        for k in range(order + 1)
    ]  # fmt: skip
    highest = max(logs)
    return (highest + math.log(sum(math.exp(each - highest) for each in logs))) / (order - 1)


def multiplier_for(target: float, rounds: int, delta: float) -> float:
    """The least noise multiplier whose ``epsilon`` is at most ``target``."""
    return _least(lambda value: value <= 0 or epsilon(value, rounds, delta) > target)


def _least(fails: Callable[[float], bool]) -> float:
    """The least value that does not fail, found by halving; all above it do not fail either."""
    low, high = 0.0, 1.0
    while fails(high):
        low, high = high, high * 2
        if high > _EPSILON_MAX:
            return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fails(middle) else (low, middle)
    return high
