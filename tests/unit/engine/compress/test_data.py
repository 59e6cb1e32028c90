"""Data of all forms become batches; data that are none are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from walle_engine import wmodel
from walle_engine.compress import samples_of
from walle_shared.errors import ModelError, StorageError

_IMAGE = wmodel.Value("image", "F32", ("N", 2))
_STEPS = wmodel.Value("steps", "F32", (3, "N", 2))
_FIXED = wmodel.Value("fixed", "F32", (1, 2))


def test_arrays_are_cut_along_their_named_dim() -> None:
    images, steps = np.arange(10.0).reshape(5, 2), np.arange(30.0).reshape(3, 5, 2)
    samples = samples_of({"image": images, "steps": steps}, [_IMAGE, _STEPS], batch=2)
    assert [batch["image"].shape for batch in samples.batches] == [(2, 2), (2, 2), (1, 2)]
    assert [batch["steps"].shape for batch in samples.batches] == [(3, 2, 2), (3, 2, 2), (3, 1, 2)]
    assert np.array_equal(samples.batches[1]["steps"], steps[:, 2:4])
    assert samples.batches[0]["image"].dtype == np.float32


def test_of_fixed_inputs_the_first_dim_counts_batches() -> None:
    samples = samples_of({"fixed": np.zeros((4, 1, 2))}, [_FIXED])
    assert [batch["fixed"].shape for batch in samples.batches] == [(1, 2)] * 4


def test_labels_come_beside_the_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", image=np.ones((3, 2)), labels=np.arange(3))
    labels = samples_of(tmp_path / "data.npz", [_IMAGE]).labels
    assert labels is not None
    assert labels.tolist() == [0, 1, 2]


def test_a_series_is_gone_through_once() -> None:
    series = ({"image": np.ones((1, 2))} for _ in range(3))
    assert len(samples_of(series, [_IMAGE]).batches) == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "hold no sample"),
        ({"image": np.ones((0, 2))}, "hold no sample"),
        ([{"image": np.ones((0, 2))}], "no elements"),
        ({"image": np.array([[1, np.nan]])}, "not finite"),
        ([{"image": np.array([[np.inf, 0]])}], "not finite"),
        ({"pixels": np.ones((1, 2))}, "no input 'image'"),
        ([{"image": np.ones((1, 2)), "more": np.ones(1)}], "no input 'more'"),
        ({"image": np.ones(2)}, "1 dims where it needs 2"),
        ({"image": np.array([["a", "b"]])}, "numbers are needed"),
    ],
)
def test_what_are_no_data(data: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        samples_of(data, [_IMAGE])


def test_inputs_must_have_as_many_batches() -> None:
    with pytest.raises(ModelError, match="different numbers of batches"):
        samples_of({"image": np.ones((8, 2)), "steps": np.ones((3, 2, 2))}, [_IMAGE, _STEPS], batch=4)
    with pytest.raises(ModelError, match="at least 1"):
        samples_of({"image": np.ones((8, 2))}, [_IMAGE], batch=0)


def test_files_that_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        samples_of(tmp_path / "absent.npz", [_IMAGE])
    (tmp_path / "text.npz").write_text("words")
    with pytest.raises(StorageError, match=r"no \.npz file"):
        samples_of(tmp_path / "text.npz", [_IMAGE])
    np.save(tmp_path / "one.npy", np.ones(2))
    with pytest.raises(StorageError, match=r"no \.npz file"):
        samples_of(tmp_path / "one.npy", [_IMAGE])
