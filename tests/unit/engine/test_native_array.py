"""The array type: what it is made of, what it lends, what it refuses."""

import zlib
from typing import Any

import numpy as np
import pytest

from walle_engine import _native
from walle_engine._native import Array, Tensor, asarray

NAMES = tuple(_native.dtypes)


def sample(dtype: str) -> np.ndarray[Any, Any]:
    return (np.arange(24) % 7).reshape(2, 3, 4).astype(dtype)


@pytest.mark.parametrize("name", NAMES)
def test_numpy_memory_is_seen_in_place_and_back(name: str):
    theirs = sample(name)
    ours = asarray(theirs[:, ::-1, ::2])
    assert ours.dtype.name == name
    assert ours.tolist() == theirs[:, ::-1, ::2].tolist()
    seen = np.asarray(ours)
    assert np.shares_memory(seen, theirs)
    assert seen.dtype == theirs.dtype
    theirs[0, 2, 0] = 1
    assert ours.tolist() == theirs[:, ::-1, ::2].tolist()


def test_lent_truths_are_any_bytes_and_become_truths():
    lent = bytearray([2, 0, 255, 0, 1, 0])
    for mask, chosen in ((memoryview(lent).cast("?"), [0, 2, 4]), (memoryview(lent).cast("?")[::-2], [])):
        truths = asarray(mask)
        assert asarray(truths, dtype="int64").tolist() == [int(bool(x)) for x in mask]
        assert asarray([*range(len(mask))])[truths].tolist() == chosen


def test_a_mask_that_changes_under_way_harms_nothing():
    lent = bytearray([1, 1, 0])
    truths = asarray(memoryview(lent).cast("?"))
    lent[:] = [255, 255, 255]
    assert asarray([5, 6, 7])[truths].tolist() == [5, 6, 7]


@pytest.mark.parametrize("name", NAMES)
def test_any_dtype_converts_to_any(name: str):
    theirs = sample(name)
    for to in NAMES:
        if theirs.dtype.kind == "c" and np.dtype(to).kind != "c":
            continue
        assert asarray(theirs, dtype=to).tolist() == theirs.astype(to).tolist()


def test_nested_numbers_take_the_dtype_that_holds_them():
    cases: list[tuple[Any, str]] = [
        ([[True], [False]], "bool"),
        ([1, True], "int64"),
        ([1, 2.5], "float64"),
        ([1, 2j], "complex128"),
        ([], "float64"),
        (2**63, "uint64"),
        (3, "int64"),
    ]
    for value, dtype in cases:
        assert asarray(value).tolist() == np.asarray(value).tolist()
        assert asarray(value).dtype.name == dtype
    row = asarray([1, 2], dtype="int8")
    assert asarray([row, [3, 4]]).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ([1, [2]], ValueError, "rows differ"),
        ([[1, 2], [3]], ValueError, "rows differ"),
        ("text", TypeError, "a str cannot be an array"),
        ([None], TypeError, "a NoneType cannot be an array"),
        ([[[[[[[[[1]]]]]]]]], ValueError, "more than 8 deep"),
        (np.zeros((1,) * 9), TypeError, "9 dims"),
        (np.array(["x"]), TypeError, "a buffer of format"),
    ],
)
def test_what_is_no_array_is_refused(value: object, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        asarray(value)


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(OverflowError, match="300 does not fit uint8"):
        asarray([300], dtype="uint8")
    with pytest.raises(TypeError, match="complex numbers do not fit float32"):
        asarray([1j], dtype="float32")
    with pytest.raises(TypeError, match="is no dtype"):
        asarray([1], dtype="float128")


def test_tensors_and_arrays_share_memory():
    tensor = Tensor([2, 2], "F32", [1, 2, 3, 4])
    ours = asarray(tensor)
    memoryview(tensor).cast("B").cast("f")[0] = 9.0
    assert ours.tolist() == [[9.0, 2.0], [3.0, 4.0]]
    assert asarray(Tensor([2], "F16", [1, 2])).dtype.name == "float32"
    with pytest.raises(TypeError, match="no array holds elements of F8_E5M2"):
        asarray(Tensor([2], "F8_E5M2"))


def test_handles_carry_an_array_and_copy_only_views():
    ours = asarray([[1, 2], [3, 4]], dtype="int16")
    blocks = _native.live_blocks()
    there = Array.from_handle(ours.handle())
    assert _native.live_blocks() == blocks
    assert there.tolist() == [[1, 2], [3, 4]]
    assert Array.from_handle(ours.T.handle()).tolist() == [[1, 3], [2, 4]]
    with pytest.raises(TypeError, match="complex"):
        asarray([1j]).handle()
    with pytest.raises(ValueError, match="unknown"):
        Array.from_handle(12345)


def test_memory_is_given_back():
    blocks = _native.live_blocks()
    ours = asarray([[1.0, 2.0], [3.0, 4.0]])
    views = [ours.T, ours.mT, asarray(ours)]
    del ours
    assert views[0].tolist() == [[1.0, 3.0], [2.0, 4.0]]
    del views
    assert _native.live_blocks() == blocks


def test_buffers_are_lent_as_they_lie():
    ours = asarray([[1, 2], [3, 4]], dtype="int32")
    assert memoryview(ours).tolist() == [[1, 2], [3, 4]]
    assert memoryview(ours.T).tolist() == [[1, 3], [2, 4]]
    assert bytes(ours) == np.asarray(ours).tobytes()
    assert bytes(ours.T) == np.asarray(ours.T).tobytes()
    with pytest.raises(BufferError, match="copy"):
        zlib.crc32(ours.T)
    with pytest.raises(TypeError):
        Array()  # type: ignore[call-arg]
