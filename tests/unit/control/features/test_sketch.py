"""Quantiles of a stream: within the promised error, whatever the order and however it was split."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_control.features.rollouts.sketch import SMALLEST, QuantileSketch

VALUES = st.lists(st.floats(0, 1e12), min_size=1, max_size=200)


def sketch_of(values):
    sketch = QuantileSketch()
    for value in values:
        sketch.add(value)
    return sketch


@given(VALUES, st.floats(0, 1))
def test_a_quantile_is_within_its_error(values, part):
    found = sketch_of(values).quantile(part)
    true = max(sorted(values)[max(1, math.ceil(part * len(values))) - 1], SMALLEST)
    assert found == pytest.approx(true, rel=0.01 + 1e-9)


@given(VALUES, VALUES)
def test_merged_sketches_are_the_sketch_of_both_streams(one, other):
    merged = sketch_of(one)
    merged.merge(sketch_of(other))
    whole = sketch_of(one + other)
    assert merged.count == whole.count
    assert [merged.quantile(q / 10) for q in range(11)] == [whole.quantile(q / 10) for q in range(11)]


def test_an_empty_sketch_knows_nothing():
    assert QuantileSketch().quantile(0.5) is None


def test_sketches_of_other_accuracy_do_not_merge():
    with pytest.raises(ValueError, match="do not merge"):
        QuantileSketch(0.01).merge(QuantileSketch(0.02))
    with pytest.raises(ValueError, match="accuracy"):
        QuantileSketch(1.0)
