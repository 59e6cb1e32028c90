"""Ranges beside a plain reading of their definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from walle_engine.compress.ranges import (
    BINS,
    KL_STRIDE,
    UNTOLD,
    Method,
    Observer,
    Range,
    best_cut,
    range_of,
)
from walle_shared.errors import ModelError


def _observed(x: Any, method: Method, parts: int = 3) -> Observer:
    observer = Observer("x")
    for part in np.array_split(x, parts):
        observer.see_range(part)
    observer.start_counting(method)
    for part in np.array_split(x, parts):
        observer.count(part)
    return observer


def _divergence_by_loops(counts: list[float], cut: int, codes: int) -> float:
    inside, beyond = counts[:cut], sum(counts[cut:])
    told = [0.0] * cut
    for code in range(codes):
        bins = range(code * cut // codes, (code + 1) * cut // codes)
        filled = [i for i in bins if inside[i] > 0]
        for i in filled:
            told[i] = sum(inside[j] for j in bins) / len(filled)
    true = [*inside[:-1], inside[-1] + beyond]
    if not sum(told):
        return math.inf
    least = UNTOLD / cut
    return sum(
        p / sum(true) * math.log((p / sum(true)) / max(q / sum(told), least))
        for p, q in zip(true, told, strict=True)
        if p > 0
    )


@pytest.mark.parametrize("codes", [8, 16])
def test_the_best_cut_is_the_one_that_loops_find(codes: int) -> None:
    rng = np.random.default_rng(codes)
    counts = np.histogram(np.abs(rng.standard_t(3, 4000)), 64, (0, 20))[0]
    plain = [float(count) for count in counts]
    plain[0] = plain[1]
    cuts = range(codes, 65, KL_STRIDE)
    found = [_divergence_by_loops(plain, cut, codes) for cut in cuts]
    assert best_cut(counts, codes) == cuts[found.index(min(found))]


def test_divergence_leaves_out_a_few_large_numbers() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal(20_000), [60.0]]).astype(np.float32)
    found = range_of(_observed(x, "kl"), "kl")
    assert 2 < found.high < 20
    assert found.low >= x.min()


def test_zeros_of_a_rectifier_do_not_hide_the_rest() -> None:
    x = np.maximum(np.random.default_rng(1).standard_normal(20_000), 0).astype(np.float32)
    found = range_of(_observed(x, "kl"), "kl")
    assert found.low == 0
    assert found.high > 2.5


def test_minmax_covers_all_and_zero() -> None:
    assert range_of(_observed(np.float32([2, 3, 5]), "minmax"), "minmax") == Range(0, 5)
    assert range_of(_observed(np.float32([-2, -3]), "minmax", 1), "minmax") == Range(-3, 0)


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_percentiles_are_those_of_all_numbers_within_a_bin(percentile: float) -> None:
    x = np.random.default_rng(2).gamma(2.0, 1.0, 30_000).astype(np.float32) - 1
    found = range_of(_observed(x, "percentile"), "percentile", percentile=percentile)
    width = float(x.max() - x.min()) / BINS
    low, high = np.percentile(x, [100 - percentile, percentile])
    assert found.low == pytest.approx(low, abs=2 * width)
    assert found.high == pytest.approx(high, abs=2 * width)


@pytest.mark.parametrize("method", ["minmax", "kl", "percentile"])
@pytest.mark.parametrize("x", [np.zeros(7, np.float32), np.zeros(0, np.float32), np.float32([4.5])])
def test_little_to_see(method: Method, x: Any) -> None:
    found = range_of(_observed(x, method, 1), method)
    assert found.low <= 0 <= found.high
    assert found.high <= max(x, default=0)


def test_what_is_kept_does_not_grow() -> None:
    observer = _observed(np.random.default_rng(3).standard_normal(100_000).astype(np.float32), "kl")
    assert observer.counts.shape == (BINS,)
    assert observer.counts.sum() == 100_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(bad: float) -> None:
    with pytest.raises(ModelError, match=r"'attention' .* not finite"):
        Observer("attention").see_range(np.float32([1, bad]))
