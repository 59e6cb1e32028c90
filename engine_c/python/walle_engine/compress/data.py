"""What a model is tried on: batches of its inputs, in memory, with labels where there are any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from walle_engine import wmodel
from walle_shared.errors import ModelError, StorageError

type Array = np.ndarray[Any, Any]
type Batch = Mapping[str, Array]
type Data = Samples | Path | str | Mapping[str, Any] | Iterable[Mapping[str, Any]]

BATCH = 32
#: The array of an ``.npz`` file that is no input but says what is right.
LABELS = "labels"


@dataclass(frozen=True)
class Samples:
    """Batches that a model takes.

    Args:
        batches: inputs by name, each as the model wants it.
        labels: what is right, for all batches one after another; None where nobody knows.
    """

    batches: Sequence[Batch]
    labels: Array | None = None

    def first(self, count: int) -> Samples:
        """Return the first batches, without labels."""
        return Samples(self.batches[:count])


def samples_of(data: Data, inputs: Sequence[wmodel.Value], *, batch: int = BATCH) -> Samples:
    """Bring data into the form of samples.

    Args:
        data: an ``.npz`` file or a mapping with an array per input (and perhaps ``labels``), or a series of
            batches. An array is cut into batches along the input's one dim that has a name; where all are
            numbers, it has one more dim, in front, and each item is a batch.
        inputs: what the model wants.
        batch: how many samples make one.

    Raises:
        ModelError: there are none, an input is missing or has the wrong shape, or a number is not finite.
        StorageError: the file cannot be read.
    """
    if batch < 1:
        raise ModelError(f"batch is {batch}: it must be at least 1")
    if isinstance(data, Samples):
        return _checked(data, inputs)
    if isinstance(data, (str, Path)):
        data = _read(Path(data))
    if not isinstance(data, Mapping):
        batches = [
            {name: np.asarray(value) for name, value in sample.items()} for sample in data
        ]  # kept, as they are gone through more than once
        return _checked(Samples(batches), inputs)
    arrays: dict[str, Array] = {str(name): np.asarray(value) for name, value in data.items()}
    labels = arrays.pop(LABELS, None) if LABELS not in {value.name for value in inputs} else None
    _require_inputs(arrays, inputs)
    return _checked(Samples(_cut(arrays, inputs, batch), labels), inputs)


def batch_axis(value: wmodel.Value) -> int | None:
    """Return the dim along which samples lie: the first that has a name; None where there is none."""
    return next((axis for axis, dim in enumerate(value.shape or ()) if isinstance(dim, str)), None)


def _read(path: Path) -> dict[str, Array]:
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise StorageError(f"{path} is no .npz file: write one by numpy.savez(path, input=array)")
        with file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise StorageError(f"{path} is no .npz file of plain numbers: {error}") from error


def _require_inputs(given: Mapping[str, Array], inputs: Sequence[wmodel.Value]) -> None:
    known = [value.name for value in inputs]
    for name in known:
        if name not in given:
            raise ModelError(f"the data have no input {name!r}: the model's inputs are {', '.join(known)}")
    for name in given:
        if name not in known:
            raise ModelError(f"the model has no input {name!r}: its inputs are {', '.join(known)}")


def _cut(arrays: Mapping[str, Array], inputs: Sequence[wmodel.Value], batch: int) -> list[Batch]:
    pieces: dict[str, list[Array]] = {}
    for value in inputs:
        array, axis = arrays[value.name], batch_axis(value)
        rank = len(value.shape or ())
        if axis is not None and array.ndim == rank:
            ends = range(batch, array.shape[axis], batch)
            pieces[value.name] = np.split(array, list(ends), axis) if array.size else []
        elif array.ndim == rank + 1:
            pieces[value.name] = list(array)
        else:
            raise ModelError(
                f"the array of input {value.name!r} has {array.ndim} dims where it needs {rank}, samples "
                f"along its named dim, or {rank + 1}, batches in front"
            )
    counts = {len(some) for some in pieces.values()}
    if len(counts) > 1:
        raise ModelError(
            "the inputs have different numbers of batches: "
            + ", ".join(f"{name} {len(some)}" for name, some in pieces.items())
        )
    return [{name: some[i] for name, some in pieces.items()} for i in range(counts.pop() if counts else 0)]


def _checked(samples: Samples, inputs: Sequence[wmodel.Value]) -> Samples:
    if not samples.batches:
        raise ModelError("the data hold no sample: give at least one")
    types = {value.name: value.dtype for value in inputs}
    for number, batch in enumerate(samples.batches):
        _require_inputs(batch, inputs)
        for name, array in batch.items():
            if array.dtype.kind not in "fiub":
                raise ModelError(f"batch {number} of input {name!r} is {array.dtype}: numbers are needed")
            if array.size == 0:
                raise ModelError(f"batch {number} of input {name!r} has no elements")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ModelError(
                    f"batch {number} of input {name!r} holds a number that is not finite: "
                    "leave such samples out"
                )
    batches = [
        {name: np.ascontiguousarray(array, _numpy(types[name], array)) for name, array in batch.items()}
        for batch in samples.batches
    ]
    return Samples(batches, samples.labels)


def _numpy(dtype: str, array: Array) -> np.dtype[Any]:
    return wmodel.numpy_dtype(dtype) if dtype in wmodel.DTYPE_BYTES else array.dtype
