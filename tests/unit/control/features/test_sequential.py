"""Evidence that may be looked at at any time: its defining inequality, by counting and by chance."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_control.features.rollouts.sequential import BETTER, WORSE, OddsTest, log_e_of_rate, rate_interval

ODDS = st.floats(0.01, 20)


@given(st.lists(ODDS, min_size=1, max_size=7), st.sampled_from([WORSE, BETTER]), st.floats(0, 1))
def test_under_the_null_the_e_value_is_at_most_1_on_average(odds, ratios, part):
    """Over all outcomes, for true odds anywhere on the null's side of each observation's odds."""
    total = 0.0
    for outcome in itertools.product((0, 1), repeat=len(odds)):
        test, chance = OddsTest(ratios), 1.0
        for hit, each in zip(outcome, odds, strict=True):
            true = each * part if ratios is WORSE else each / max(part, 1e-3)
            chance *= (true if hit else 1) / (1 + true)
            test.observe(hit, 1 - hit, each)
        total += chance * math.exp(test.log_e)
    assert total <= 1 + 1e-9


@given(st.integers(0, 60), st.integers(0, 60), ODDS)
def test_observations_may_come_one_by_one_or_at_once(hits, misses, odds):
    together, apart = OddsTest(), OddsTest()
    together.observe(hits, misses, odds)
    for _ in range(hits):
        apart.observe(1, 0, odds)
    for _ in range(misses):
        apart.observe(0, 1, odds)
    assert together.log_e == pytest.approx(apart.log_e, abs=1e-9)


def test_looking_after_every_observation_is_free():
    """600 streams at exactly the null, each watched throughout: at most alpha of them ever pass 1/alpha."""
    dice, alpha, alarms = random.Random(7), 0.05, 0
    for _ in range(600):
        test = OddsTest()
        for _ in range(150):
            hit = dice.random() < 0.2
            test.observe(int(hit), int(not hit), 0.25)
        alarms += test.peak >= math.log(1 / alpha)
    assert alarms <= 0.05 * 600


@pytest.mark.parametrize(("hits", "total", "certain"), [(6, 6, True), (20, 40, True), (5, 100, False)])
def test_evidence_of_a_rate_grows_with_the_numbers(hits, total, certain):
    assert (log_e_of_rate(hits, total, 0.05) > math.log(1e5)) == certain


def test_absence_of_failures_is_evidence_for_a_release():
    assert log_e_of_rate(0, 80, 0.05, BETTER) > math.log(20) > log_e_of_rate(0, 30, 0.05, BETTER)


@pytest.mark.parametrize("ratios", [(), (0.5, 2.0), (1.0,), (0.0, 0.5)])
def test_alternatives_lie_on_one_side(ratios):
    with pytest.raises(ValueError, match="ratios"):
        OddsTest(ratios)


@pytest.mark.parametrize("odds", [0.0, -1.0, math.inf, math.nan])
def test_odds_are_positive_and_finite(odds):
    with pytest.raises(ValueError, match="odds"):
        OddsTest().observe(1, 0, odds)


@given(total=st.integers(1, 3_000), data=st.data())
def test_an_interval_holds_the_rate_seen_and_narrows(total, data):
    hits = data.draw(st.integers(0, total))
    low, high = rate_interval(hits, total)
    assert 0 <= low <= hits / total <= high <= 1
    assert (low == 0) >= (hits == 0)
    assert (high == 1) >= (hits == total)
    narrow_low, narrow_high = rate_interval(hits * 20, total * 20)
    assert narrow_low >= low - 1e-9
    assert narrow_high <= high + 1e-9


def test_nothing_seen_says_nothing():
    assert rate_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_an_interval_misses_the_true_rate_rarely_however_often_one_looks(rate):
    rng, runs, missed = random.Random(7), 120, 0
    for _ in range(runs):
        hits = 0
        for total in range(1, 401):
            hits += rng.random() < rate
            if total % 50 == 0:
                low, high = rate_interval(hits, total)
                if not low <= rate <= high:
                    missed += 1
                    break
    assert missed <= runs * 0.05 + 3 * (runs * 0.05 * 0.95) ** 0.5
