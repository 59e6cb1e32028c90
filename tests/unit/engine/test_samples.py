"""Random inputs: shapes, types, and that a seed repeats them."""

from __future__ import annotations

import numpy as np
import pytest

from walle_engine.samples import random_array, samples
from walle_engine.wmodel import DTYPE_BYTES, Value, numpy_dtype

IMAGE = Value("x", "F32", ("N", 3))


def test_symbolic_dims_are_tried_in_two_sizes() -> None:
    assert [sample["x"].shape for sample in samples([IMAGE], {}, 0)] == [(1, 3), (3, 3)]


@pytest.mark.parametrize(("value", "sizes"), [(IMAGE, {"N": 7}), (Value("x", "F32", (7, 3)), {})])
def test_known_dims_need_one_sample(value: Value, sizes: dict[str, int]) -> None:
    assert [sample["x"].shape for sample in samples([value], sizes, 0)] == [(7, 3)]


def test_a_seed_repeats_its_numbers() -> None:
    first, again, other = (next(samples([IMAGE], {}, seed))["x"].tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("dtype", list(DTYPE_BYTES))
def test_every_type(dtype: str) -> None:
    array = random_array(Value("x", dtype, (50,)), {}, 1, np.random.default_rng(0))
    assert array.dtype == numpy_dtype(dtype)
    assert len(set(array.tolist())) > 1
    if array.dtype.kind in "iu":
        assert array.min() >= 0
