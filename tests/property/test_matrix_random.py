"""``walle_task.matrix.random`` draws NumPy's numbers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_task import matrix
from walle_task.matrix.random import default_rng

seeds = st.integers(0, 2**200) | st.lists(st.integers(0, 2**40), min_size=1, max_size=5)
type Numbers = np.ndarray[Any, Any]


@given(seed=seeds, data=st.data())
def test_streams_are_numpys(seed: Any, data: st.DataObject):
    ours, theirs = default_rng(seed), np.random.default_rng(seed)
    for _ in range(6):
        what = data.draw(
            st.sampled_from(["random", "float32", "integers", "permutation", "choice", "once", "uniform"])
        )
        size: Any = data.draw(st.none() | st.integers(0, 9) | st.tuples(st.integers(0, 4), st.integers(0, 4)))
        low, width = (
            data.draw(st.integers(-(2**62), 2**62)),
            data.draw(st.sampled_from([1, 2, 10, 2**31, 2**32, 2**33 + 5, 2**62])),
        )
        if what == "random":
            got, want = ours.random(size), theirs.random(size)
        elif what == "float32":
            got, want = ours.random(size, dtype="float32"), theirs.random(size, dtype=np.float32)
        elif what == "integers":
            got, want = ours.integers(low, low + width, size), theirs.integers(low, low + width, size)
        elif what == "permutation":
            got, want = ours.permutation(13), theirs.permutation(13)
        elif what == "choice":
            got, want = ours.choice(width, size), theirs.choice(width, size)
        elif what == "once":
            got, want = ours.choice(20, 7, replace=False), theirs.choice(20, 7, replace=False)
        else:
            got, want = ours.uniform(-2, 5.5, size), theirs.uniform(-2, 5.5, size)
        np.testing.assert_array_equal(np.asarray(got), want)


@given(seed=seeds, size=st.integers(0, 2000))
def test_normal_and_exponential_numbers_agree_to_thirteen_digits(seed: Any, size: int):
    ours, theirs = default_rng(seed), np.random.default_rng(seed)
    np.testing.assert_allclose(
        np.asarray(ours.standard_normal(size)), theirs.standard_normal(size), rtol=1e-12
    )
    np.testing.assert_allclose(
        np.asarray(ours.exponential(2.5, size)), theirs.exponential(2.5, size), rtol=1e-12
    )
    np.testing.assert_allclose(
        np.asarray(ours.normal(1, 3, size)), theirs.normal(1, 3, size), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(
        np.asarray(ours.lognormal(1, 0.5, size)), theirs.lognormal(1, 0.5, size), rtol=1e-12
    )
    np.testing.assert_allclose(np.asarray(ours.rayleigh(2, size)), theirs.rayleigh(2, size), rtol=1e-12)
    np.testing.assert_allclose(
        np.asarray(ours.gumbel(1, 2, size)), theirs.gumbel(1, 2, size), rtol=1e-9, atol=1e-12
    )


def test_many_drawn_from_many():
    ours, theirs = default_rng(3), np.random.default_rng(3)
    np.testing.assert_array_equal(
        np.asarray(ours.choice(20000, 3000, replace=False)), theirs.choice(20000, 3000, replace=False)
    )
    p = np.arange(1, 101) / 5050
    np.testing.assert_array_equal(
        np.asarray(ours.choice(100, 50, p=matrix.asarray(p))), theirs.choice(100, 50, p=p)
    )
    drawn = np.asarray(ours.choice(100, 60, replace=False, p=matrix.asarray(p)))
    assert len(set(drawn.tolist())) == 60
    rows = np.arange(12).reshape(4, 3)
    again, there = default_rng(4), np.random.default_rng(4)
    np.testing.assert_array_equal(
        np.asarray(again.permutation(matrix.asarray(rows))), there.permutation(rows)
    )
    x = matrix.asarray(np.arange(9))
    again.shuffle(x)
    assert sorted(x.tolist()) == list(range(9))


def test_without_a_seed_the_standard_library_decides(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("random.getrandbits", lambda bits: 2**bits - 1)
    np.testing.assert_array_equal(
        np.asarray(default_rng().random(3)), np.random.default_rng(2**128 - 1).random(3)
    )


def test_mistakes_are_told():
    rng = default_rng(0)
    with pytest.raises(ValueError, match="seed must not be negative"):
        default_rng(-1)
    with pytest.raises(ValueError, match="none from 3 to 2"):
        rng.integers(3, 3)
    with pytest.raises(ValueError, match="beyond int64"):
        rng.integers(0, 2**64)
    with pytest.raises(ValueError, match="cannot draw 5 of 3"):
        rng.choice(3, 5, replace=False)
    with pytest.raises(ValueError, match="add up to 1"):
        rng.choice(2, p=[0.5, 0.6])
    with pytest.raises(ValueError, match="nothing to choose from"):
        rng.choice(0, 1)
    with pytest.raises(ValueError, match="scale must not be negative"):
        rng.normal(0, -1)
    with pytest.raises(OverflowError, match="not finite"):
        rng.uniform(0, float("inf"))
    with pytest.raises(TypeError, match="float64 or float32"):
        rng.random(dtype="int8")
    with pytest.raises(ValueError, match="negative dim"):
        rng.random(-1)
