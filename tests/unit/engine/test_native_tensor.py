"""The extension's Tensor: buffer protocol, conversion from Python numbers, handles, refusals."""

from __future__ import annotations

import array
import inspect
import math
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from walle_engine import _native, wmodel
from walle_engine._native import Tensor
from walle_shared.errors import EngineError

DTYPES = list(wmodel.DTYPE_BYTES)
FORMATS = {
    "F32": "f", "F64": "d", "F16": "e", "BF16": "H", "I8": "b", "I16": "h", "I32": "i", "I64": "q",
    "U8": "B", "U16": "H", "U32": "I", "U64": "Q", "BOOL": "?",
}  # fmt: skip
STORED = {
    "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "F8_E8M0", "F4_E2M1", "I4", "U4", "I2", "U2",
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_buffer_is_exact_and_shared(dtype: str) -> None:
    tensor = Tensor((2, 3, 4), dtype)
    view = memoryview(tensor)
    size = wmodel.DTYPE_BYTES[dtype]
    assert (view.format, view.itemsize, view.nbytes) == (FORMATS.get(dtype, "B"), size, 24 * size)
    assert (view.shape, view.strides) == ((2, 3, 4), (12 * size, 4 * size, size))
    assert view.contiguous
    assert not view.readonly
    view.cast("B")[-size:] = b"\x01" * size
    assert view.tobytes() == bytes(23 * size) + b"\x01" * size == bytes(memoryview(tensor))


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d not in {"BF16", "BOOL", "STRING"} | STORED])
def test_numpy_sees_the_same_numbers(dtype: str) -> None:
    numbers = [[0, 1, 2], [3, 4, 127]]
    seen = np.asarray(Tensor((2, 3), dtype, numbers))
    assert seen.dtype == wmodel.numpy_dtype(dtype)
    assert seen.tolist() == numbers


@pytest.mark.parametrize("dtype", sorted(STORED))
def test_types_that_only_store_show_their_bits(dtype: str) -> None:
    bits = np.array([0, 1, 3, 2], np.uint8)
    for tensor in (Tensor((4,), dtype, bits), Tensor((4,), dtype, [0, 1, 3, 2])):
        assert tensor.dtype == dtype
        assert tensor.tolist() == np.asarray(tensor).tolist() == [0, 1, 3, 2]


def test_memory_starts_at_a_cache_line() -> None:
    tensors = [Tensor((size,)) for size in (1, 3, 1000)]
    assert all(np.asarray(tensor).ctypes.data % 64 == 0 for tensor in tensors)


@pytest.mark.parametrize(
    ("dtype", "numbers"),
    [
        ("F16", [1.0, -2.5, 65504.0, 2**-24, math.inf]),
        ("I8", [-128, 127]),
        ("I16", [-(2**15), 2**15 - 1]),
        ("I32", [-(2**31), 2**31 - 1]),
        ("I64", [-(2**63), 2**63 - 1]),
        ("U8", [0, 255]),
        ("U16", [0, 2**16 - 1]),
        ("U32", [0, 2**32 - 1]),
        ("U64", [0, 2**64 - 1]),
        ("BOOL", [True, False]),
    ],
)
def test_extreme_numbers_survive(dtype: str, numbers: list[Any]) -> None:
    assert Tensor((len(numbers),), dtype, numbers).tolist() == numbers


def test_bfloat16_rounds_to_nearest_even() -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 4096, dtype=np.uint32)
    numbers = np.concatenate([bits.view(np.float32), np.float32([1.00390625, 1.01171875, math.inf, -0.0])])
    with np.errstate(invalid="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16).astype(np.float64)
    actual = Tensor((len(numbers),), "BF16", numbers.tolist()).tolist()
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("dtype", "number"),
    [("I8", 128), ("I8", -129), ("U8", 256), ("U8", -1), ("U64", 2**64), ("I64", 2**63), ("F16", 65536.0)],
)
def test_numbers_that_do_not_fit(dtype: str, number: float) -> None:
    before = _native.live_blocks()
    with pytest.raises(OverflowError):
        Tensor((1,), dtype, [number])
    assert _native.live_blocks() == before


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ([[1, 2], [3]], ValueError),
        ([[1, 2], 3], TypeError),
        ([[1, 2]], ValueError),
        ([1, 2, 3], ValueError),
        ([["a", "b"], ["c", "d"]], TypeError),
        ("text", TypeError),
        (5, TypeError),
        ({1: 2}, TypeError),
        (array.array("d", [1, 2, 3, 4]), TypeError),
        (array.array("f", [1, 2, 3]), ValueError),
        (b"123", ValueError),
    ],
)
def test_data_that_does_not_fit_two_by_two_floats(data: object, error: type[Exception]) -> None:
    before = _native.live_blocks()
    with pytest.raises(error):
        Tensor((2, 2), "F32", data)
    assert _native.live_blocks() == before


def test_floats_are_not_rounded_into_integers() -> None:
    with pytest.raises(TypeError):
        Tensor((1,), "I32", [1.5])


@pytest.mark.parametrize(
    "data",
    [
        [[1, 2], [3, 4]],
        ((1.0, 2.0), (3.0, 4.0)),
        [1, 2, 3, 4],
        array.array("f", [1, 2, 3, 4]),
        struct.pack("<4f", 1, 2, 3, 4),
        np.array([[1, 3], [2, 4]], np.float32).T,
        Tensor((4,), "F32", [1, 2, 3, 4]),
    ],
    ids=["nested", "tuples", "flat", "array", "bytes", "transposed", "tensor"],
)
def test_data_that_fits(data: object) -> None:
    assert Tensor((2, 2), "F32", data).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_scalars_and_empty_tensors() -> None:
    scalar = Tensor((), "F64", 2.5)
    assert (scalar.shape, scalar.tolist(), scalar.nbytes) == ((), 2.5, 8)
    assert np.asarray(scalar).shape == ()
    empty = Tensor((2, 0, 3), "I32")
    assert (empty.tolist(), empty.nbytes) == ([[], []], 0)
    assert np.asarray(empty).shape == (2, 0, 3)


def test_a_list_that_shrinks_while_it_is_read() -> None:
    class Shrinking:
        def __init__(self, items: list[Any]) -> None:
            self.items = items

        def __float__(self) -> float:
            self.items.clear()
            return 1.0

    items: list[Any] = []
    items.extend([Shrinking(items), 2.0, 3.0])
    with pytest.raises(RuntimeError, match="changed"):
        Tensor((3,), "F32", items)


@pytest.mark.parametrize(
    ("shape", "dtype", "error"),
    [
        ((-1,), "F32", ValueError),
        ((1,) * 9, "F32", ValueError),
        ((2**40, 2**40), "F32", EngineError),
        (("2",), "F32", TypeError),
        (2, "F32", TypeError),
        ((2,), "F31", ValueError),
        ((2,), 7, TypeError),
    ],
)
def test_impossible_shapes_and_types(shape: Any, dtype: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Tensor(shape, dtype)


def test_blocks_live_as_long_as_somebody_holds_them() -> None:
    before = _native.live_blocks()
    tensor = Tensor((4,), "F32", [1, 2, 3, 4])
    view = memoryview(tensor)
    handle = tensor.handle()
    del tensor
    assert _native.live_blocks() == before + 1
    other = Tensor.from_handle(handle)
    view[0] = 9.0
    assert other.tolist() == [9.0, 2.0, 3.0, 4.0]
    view.release()
    del other, view
    assert _native.live_blocks() == before


def test_a_handle_is_good_for_one_import() -> None:
    handle = Tensor((1,)).handle()
    Tensor.from_handle(handle)
    with pytest.raises(ValueError, match="unknown or was imported already"):
        Tensor.from_handle(handle)


@pytest.mark.parametrize("handle", [0, 1, 2**63, 2**64 - 1, 2**64, 2**200, -1])
def test_invented_handles(handle: int) -> None:
    with pytest.raises(ValueError, match="unknown or was imported already"):
        Tensor.from_handle(handle)


def test_a_handle_is_an_integer() -> None:
    with pytest.raises(TypeError, match="a handle is an integer, not str"):
        Tensor.from_handle("1")  # type: ignore[arg-type]


def test_column_major_consumers_are_refused() -> None:
    column_major = inspect.BufferFlags.F_CONTIGUOUS
    with pytest.raises(BufferError, match="row-major"):
        Tensor((2, 2)).__buffer__(column_major)
    assert Tensor((4,)).__buffer__(column_major).nbytes == 16


def test_types_are_closed() -> None:
    with pytest.raises(TypeError):
        type("Sub", (Tensor,), {})
    with pytest.raises(TypeError):
        Tensor.shape = ()  # type: ignore[misc,assignment]
    with pytest.raises(TypeError):
        _native.Session()
    with pytest.raises(AttributeError):
        Tensor((1,)).shape = (2,)  # type: ignore[misc]


def test_repr_names_shape_and_type() -> None:
    assert repr(Tensor((2, 3), "F16")) == "Tensor(shape=(2, 3), dtype='F16')"
