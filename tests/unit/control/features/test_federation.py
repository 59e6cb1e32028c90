"""Devices with different data learn together what none learns alone; the product's own code on both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from walle_control.features.learning.types import PlanWish
from walle_support.federation import Digits, Federation, deal

WISH = PlanWish(
    "1.0.0",
    noise=0.0,
    goal=20,
    epochs=5,
    batch=8,
    rate=0.3,
    clip_norm=2.0,
    samples_cap=50,
    optimizer="fedavg",
)
ROUNDS = 6


@pytest.fixture(scope="module")
def data() -> Digits:
    return deal(20, skew=0.3)


def after_rounds(data: Digits, wish: PlanWish, **more: float) -> float:
    learning = Federation(data, wish, **more)
    found = [learning.round() for _ in range(ROUNDS)][-1]
    learning.close()
    return found


def test_together_is_better_than_alone(data: Digits):
    alone = Federation(data, WISH)
    each = np.mean([alone.local(device, ROUNDS * WISH.epochs) for device in range(0, 20, 4)])
    alone.close()
    assert each < 0.6
    assert after_rounds(data, WISH) > 0.8


@pytest.mark.slow_session
def test_drop_outs_and_noise_are_borne(data: Digits):
    assert after_rounds(data, WISH, dropouts=0.3) > 0.75
    assert after_rounds(data, replace(WISH, noise=0.3)) > 0.65


@pytest.mark.slow_session
def test_a_trimmed_mean_holds_where_the_norm_is_loose(data: Digits):
    loose = replace(WISH, clip_norm=30.0)
    assert after_rounds(data, loose, poisoned=0.1) < 0.5
    assert after_rounds(data, replace(loose, rule="trimmed_mean", trim=0.15), poisoned=0.1) > 0.65
