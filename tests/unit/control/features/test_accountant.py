"""Epsilons against those of Google's dp-accounting 0.6 (Renyi and privacy-loss accountants) and of papers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_control.features.learning.accountant import epsilon, epsilon_if_secret, multiplier_for


@pytest.mark.parametrize(
    ("share", "multiplier", "rounds", "delta", "expected"),
    [
        (1.0, 1.0, 1, 1e-5, 4.752728336819822),
        (1.0, 5.0, 20, 1e-5, 4.161911642354481),
        (1.0, 0.7, 3, 1e-6, 15.136657495927675),
        (0.01, 4.0, 10_000, 1e-5, 1.0354900660362436),
        (256 / 60_000, 1.1, 14_062, 1e-5, 2.5969811785948815),
        (0.1, 1.0, 50, 1e-6, 6.789020341167033),
    ],
)
def test_of_secret_samples(share: float, multiplier: float, rounds: int, delta: float, expected: float):
    assert epsilon_if_secret(share, multiplier, rounds, delta) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("multiplier", "rounds", "delta", "expected"),
    [
        (1.0, 1, 1e-5, 4.377178466841999),
        (5.0, 20, 1e-5, 3.8486109398481476),
        (3.1, 20, 1e-5, 6.730535762015493),
        (0.7, 3, 1e-6, 14.267335925036571),
    ],
)
def test_of_everybody(multiplier: float, rounds: int, delta: float, expected: float):
    assert epsilon(multiplier, rounds, delta) == pytest.approx(expected, rel=1e-6)  # theirs is a grid


def test_is_below_the_figure_of_the_first_moments_accountant():
    # Abadi et al., Deep Learning with Differential Privacy, 2016, section 5.1: 1.26 for these.
    assert epsilon_if_secret(0.01, 4.0, 10_000, 1e-5) < 1.26


@given(
    st.floats(0.3, 20), st.integers(1, 500), st.floats(1e-9, 1e-3), st.floats(0.01, 1.0), st.integers(1, 20)
)
@settings(max_examples=30)
def test_more_rounds_and_less_noise_cost_more(
    multiplier: float, rounds: int, delta: float, share: float, more: int
):
    exact = epsilon(multiplier, rounds, delta)
    assert exact <= epsilon_if_secret(1.0, multiplier, rounds, delta) * (1 + 1e-9)
    assert epsilon(multiplier, rounds + more, delta) >= exact
    assert epsilon(multiplier * 2, rounds, delta) <= exact
    assert epsilon_if_secret(share, multiplier, rounds, delta) <= (
        epsilon_if_secret(1.0, multiplier, rounds, delta) * (1 + 1e-9)
    )


def test_the_ends():
    assert epsilon(0.0, 1, 1e-5) == epsilon_if_secret(0.5, 0.0, 1, 1e-5) == math.inf
    assert epsilon(1.0, 0, 1e-5) == epsilon_if_secret(0.0, 1.0, 5, 1e-5) == 0.0
    assert epsilon(multiplier_for(8.0, 20, 1e-5), 20, 1e-5) == pytest.approx(8.0)
