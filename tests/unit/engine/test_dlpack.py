"""DLPack both ways: shared memory, lifetimes, refusals."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from walle_engine import _native, api
from walle_engine.tensor import Tensor
from walle_shared.errors import EngineError


@pytest.fixture
def y(perceptron: Path) -> Tensor:
    output: Tensor = api.load(perceptron).session().run({"x": np.ones((2, 3), np.float32)})["y"]
    return output


def test_numpy_shares_the_memory(y: Tensor) -> None:
    array = np.from_dlpack(y)
    np.testing.assert_array_equal(array, np.asarray(y))
    assert array.ctypes.data == np.asarray(y).ctypes.data
    assert y.__dlpack_device__() == (1, 0)


def test_the_memory_outlives_the_tensor(y: Tensor) -> None:
    expected = y.tolist()
    array = np.from_dlpack(y)
    del y
    gc.collect()
    assert array.tolist() == expected


@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (2, 1)])
def test_a_capsule_nobody_takes_gives_its_memory_back(
    perceptron: Path, version: tuple[int, int] | None
) -> None:
    session = api.load(perceptron).session()
    gc.collect()  # what other tests left in cycles
    before = api.live_blocks()
    tensor = session.run({"x": np.ones((2, 3), np.float32)})["y"]
    capsule = tensor.__dlpack__(max_version=version)
    del tensor
    assert api.live_blocks() == before + 1
    assert ("versioned" in repr(capsule)) == (version is not None and version >= (1, 0))
    del capsule
    gc.collect()
    assert api.live_blocks() == before


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i1", "i8", "u2", "?"])
def test_numpy_arrays_come_in_without_a_copy(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    tensor = Tensor.from_dlpack(array)
    assert tensor.shape == (2, 3)
    assert np.asarray(tensor).ctypes.data == array.ctypes.data
    np.testing.assert_array_equal(np.asarray(tensor), array)


@pytest.mark.parametrize("shape", [(), (0, 3), (1,)])
def test_small_shapes(shape: tuple[int, ...]) -> None:
    tensor = Tensor.from_dlpack(np.zeros(shape, np.float32))
    assert np.asarray(tensor).shape == shape


class Old:
    """A producer from before versions, and of an array type that no buffer shows."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack__(self, stream: object = None) -> object:
        return self.array.__dlpack__()


def test_a_session_takes_what_speaks_dlpack(perceptron: Path) -> None:
    session = api.load(perceptron).session()
    x = np.ones((2, 3), np.float32)
    assert session.run({"x": Old(x)})["y"].tolist() == session.run({"x": x})["y"].tolist()


def test_what_was_lent_goes_back_once() -> None:
    capsule = np.ones(3, np.float32).__dlpack__()
    lent, dtype, shape = _native.dlpack_take(capsule)
    assert (bytes(memoryview(lent)), dtype, shape) == (np.ones(3, np.float32).tobytes(), "F32", (3,))
    with pytest.raises(TypeError, match="taken already"):
        _native.dlpack_take(capsule)


def test_read_only_memory_stays_so() -> None:
    array = np.ones(3, np.float32)
    array.flags.writeable = False
    assert memoryview(Tensor.from_dlpack(array)).readonly


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (np.ones((2, 3), np.float32).T, "not dense"),
        (np.ones(3, np.complex64), "no place here"),
        (np.ones((1,) * 9, np.float32), "rank 9"),
    ],
)
def test_what_cannot_come_in(source: Any, why: str) -> None:
    with pytest.raises(EngineError, match=why):
        Tensor.from_dlpack(source)


def test_what_cannot_go_out(y: Tensor) -> None:
    for wish in ({"copy": True}, {"stream": 1}, {"dl_device": (2, 0)}):
        with pytest.raises(BufferError, match="as it is"):
            y.__dlpack__(**wish)
    with pytest.raises(BufferError, match="as it is"):
        Tensor(b"1234", "F32", (1,)).__dlpack__()
    with pytest.raises(EngineError, match="handle"):
        _native.dlpack_capsule(12345, True)
