"""Indexing, manipulation and creation of ``walle_task.matrix`` beside NumPy."""

import math
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from walle_task import matrix

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
some = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)


def same(ours: matrix.Array, theirs: Any) -> None:
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert ours.dtype.name == theirs.dtype.name
    np.testing.assert_array_equal(np.asarray(ours), theirs)


def numbered(shape: tuple[int, ...], dtype: str = "int32") -> np.ndarray[Any, Any]:
    return np.arange(math.prod(shape)).reshape(shape).astype(dtype)


@given(data=st.data())
def test_basic_indexing_gives_views(data: st.DataObject):
    x = numbered(data.draw(shapes))
    key = data.draw(hnp.basic_indices(x.shape, allow_newaxis=True, max_dims=8))
    ours = matrix.asarray(x)
    same(ours[key], x[key])
    x[key] = 7
    same(ours, x)


@st.composite
def mixed_keys(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """A slice, an integer, an array of integers or a mask for each axis."""
    count = draw(st.integers(1, 2))
    together = draw(
        hnp.mutually_broadcastable_shapes(num_shapes=len(shape), max_dims=count, max_side=3)
    ).input_shapes
    key: list[Any] = []
    for axis, dim in enumerate(shape):
        kind = draw(st.sampled_from(["slice", "integer", "array", "array", "list"]))
        if kind == "slice":
            key.append(slice(None, None, draw(st.sampled_from([1, 2, -1]))))
        elif kind == "integer":
            key.append(draw(st.integers(-dim, dim - 1)))
        else:
            found = draw(hnp.arrays("int64", together[axis], elements=st.integers(-dim, dim - 1)))
            key.append(found.tolist() if kind == "list" and found.ndim else found)
    return tuple(key)


@given(data=st.data())
def test_indexing_by_arrays(data: st.DataObject):
    x = numbered(data.draw(some))
    key = data.draw(mixed_keys(x.shape))
    own = tuple(matrix.asarray(one) if isinstance(one, np.ndarray) else one for one in key)
    ours = matrix.asarray(x.copy())
    same(ours[own], x[key])
    value = data.draw(st.integers(-9, 9))
    ours[own] = value
    x[key] = value
    same(ours, x)


@given(data=st.data())
def test_masks_choose_and_assign(data: st.DataObject):
    x = numbered(data.draw(shapes), data.draw(st.sampled_from(["int8", "float32", "complex128"])))
    rank = data.draw(st.integers(0, x.ndim))
    mask = data.draw(hnp.arrays("bool", x.shape[:rank]))
    ours = matrix.asarray(x.copy())
    same(ours[matrix.asarray(mask)], x[mask])
    ours[matrix.asarray(mask)] = 3
    x[mask] = 3
    same(ours, x)
    ours[matrix.asarray(mask), ...] = matrix.asarray(x)[matrix.asarray(mask)] * 2
    x[mask, ...] = x[mask] * 2
    same(ours, x)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (3, IndexError),
        (-4, IndexError),
        ((0, 0, 0), IndexError),
        ("x", IndexError),
        (1.5, IndexError),
        ((..., ...), IndexError),
        ([0, 9], IndexError),
        (np.zeros(4, bool), IndexError),
        (slice(0, 1, 0), ValueError),
        (np.zeros(2), IndexError),
        ((np.zeros(2, int), np.zeros(3, int)), IndexError),
        ({}, IndexError),
    ],
)
def test_keys_that_fit_nothing_are_refused(key: Any, error: type[Exception]):
    x = matrix.zeros((3, 2))
    with pytest.raises(error):
        x[key]
    with pytest.raises(error):
        x[key] = 1


@given(data=st.data())
def test_elements_keep_their_order_in_other_shapes(data: st.DataObject):
    x = numbered(data.draw(shapes))
    turned = np.transpose(x, data.draw(st.permutations(range(x.ndim))))
    ours = matrix.asarray(turned)
    same(matrix.reshape(ours, (-1,)) if x.size else matrix.reshape(ours, (0,)), turned.reshape(-1))
    order = data.draw(st.permutations(range(x.ndim)))
    same(matrix.permute_dims(ours, tuple(order)), np.transpose(turned, order))
    axes = data.draw(st.sampled_from([None, *range(x.ndim)]))
    same(matrix.flip(ours, axis=axes), np.flip(turned, axis=axes))
    if x.size % 2 == 0 and x.size:
        same(matrix.reshape(ours, (2, -1)), turned.reshape(2, -1))
    same(matrix.squeeze(ours), np.squeeze(turned))
    place = data.draw(st.integers(-x.ndim - 1, x.ndim))
    same(matrix.expand_dims(ours, axis=place), np.expand_dims(turned, place))
    if x.ndim:
        source, to = data.draw(st.integers(0, x.ndim - 1)), data.draw(st.integers(-x.ndim, x.ndim - 1))
        same(matrix.moveaxis(ours, source, to), np.moveaxis(turned, source, to))


@given(data=st.data())
def test_joining_and_repeating(data: st.DataObject):
    shape = data.draw(some)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    first = numbered(shape, "int16")
    second = numbered(shape, data.draw(st.sampled_from(["int64", "float32", "uint8"])))
    parts = [matrix.asarray(first), matrix.asarray(second)]
    same(matrix.concat(parts, axis=axis), np.concatenate([first, second], axis=axis))
    same(matrix.concat(parts, axis=None), np.concatenate([first, second], axis=None))
    same(matrix.stack(parts, axis=axis), np.stack([first, second], axis=axis))
    shift = data.draw(st.integers(-9, 9))
    same(matrix.roll(parts[0], shift, axis=axis), np.roll(first, shift, axis=axis))
    same(matrix.roll(parts[0], shift), np.roll(first, shift))
    counts = data.draw(hnp.arrays("int64", shape[axis], elements=st.integers(0, 3)))
    same(matrix.repeat(parts[0], matrix.asarray(counts), axis=axis), np.repeat(first, counts, axis=axis))
    same(matrix.repeat(parts[0], 2), np.repeat(first, 2))
    times = tuple(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)))
    same(matrix.tile(parts[0], times), np.tile(first, times))
    pieces = matrix.unstack(parts[0], axis=axis)
    assert len(pieces) == shape[axis]
    same(pieces[0], np.moveaxis(first, axis, 0)[0])
    same(matrix.broadcast_to(parts[0], (2, *shape)), np.broadcast_to(first, (2, *shape)))


@given(data=st.data())
def test_taking(data: st.DataObject):
    x = numbered(data.draw(some), "float64")
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    indices = data.draw(hnp.arrays("int64", 4, elements=st.integers(0, x.shape[axis] - 1)))
    same(matrix.take(matrix.asarray(x), matrix.asarray(indices), axis=axis), np.take(x, indices, axis=axis))
    order = np.argsort(-x, axis=axis)
    ours = matrix.take_along_axis(matrix.asarray(x), matrix.asarray(order), axis=axis)
    same(ours, np.take_along_axis(x, order, axis=axis))


def test_a_range_is_rounded_where_numpys_is():
    for start, stop, step in (
        (7.38, 11, 1),
        (0.1, 3, 0.3),
        (-1e-9, 5, 1.1),
        (1e16, 1e16 + 9, 1),
        (5, 1, -0.7),
    ):
        same(matrix.arange(start, stop, step), np.arange(start, stop, step))


@given(data=st.data())
def test_ranges_and_grids(data: st.DataObject):
    numbers = st.one_of(st.integers(-50, 50), st.floats(-50, 50).map(lambda x: round(x, 2)))
    start, stop = data.draw(numbers), data.draw(numbers)
    step = data.draw(st.sampled_from([1, 2, -1, 0.5, -3]))
    same(matrix.arange(start, stop, step), np.arange(start, stop, step))
    count, endpoint = data.draw(st.integers(0, 20)), data.draw(st.booleans())
    same(
        matrix.linspace(start, stop, count, endpoint=endpoint),
        np.linspace(start, stop, count, endpoint=endpoint),
    )
    rows, columns, k = (data.draw(st.integers(low, 5)) for low in (0, 0, -6))
    same(matrix.eye(rows, columns, k=k), np.eye(rows, columns, k))
    x = numbered((2, rows, columns))
    same(matrix.tril(matrix.asarray(x), k=k), np.tril(x, k))
    same(matrix.triu(matrix.asarray(x), k=k), np.triu(x, k))
    sides = [numbered((n,)) for n in data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))]
    for indexing in ("xy", "ij"):
        ours = matrix.meshgrid(*(matrix.asarray(side) for side in sides), indexing=indexing)
        for one, other in zip(ours, np.meshgrid(*sides, indexing=indexing), strict=True):
            same(one, other)


@pytest.mark.parametrize("name", ["empty", "zeros", "ones"])
def test_making_arrays(name: str):
    for dtype in ("bool", "int8", "float32", "complex64"):
        ours = getattr(matrix, name)((2, 3), dtype=getattr(matrix, dtype))
        assert (ours.shape, ours.dtype.name) == ((2, 3), dtype)
        like = getattr(matrix, f"{name}_like")(ours, dtype="int64")
        assert (like.shape, like.dtype.name) == ((2, 3), "int64")
        if name != "empty":
            same(ours, getattr(np, name)((2, 3), dtype=dtype))
    same(matrix.full((2,), 7), np.full((2,), 7))
    same(matrix.full_like(matrix.zeros(3), 2.5), np.full(3, 2.5))


@given(data=st.data())
def test_products_along_axes(data: st.DataObject):
    x = numbered(data.draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=4)), "float64")
    same(matrix.vecdot(matrix.asarray(x), matrix.asarray(x)), np.vecdot(x, x))
    for axes in (0, 1):
        y = np.moveaxis(x, 0, -1) if axes == 0 else x.T
        same(matrix.tensordot(matrix.asarray(x), matrix.asarray(y), axes=axes), np.tensordot(x, y, axes=axes))
    same(
        matrix.tensordot(matrix.asarray(x), matrix.asarray(x), axes=([0], [0])),
        np.tensordot(x, x, axes=([0], [0])),
    )
    same(matrix.matrix_transpose(matrix.asarray(x)), np.matrix_transpose(x))


def test_limits_and_kinds_of_dtypes():
    for name in ("float32", "float64", "complex64", "complex128"):
        ours, theirs = matrix.finfo(getattr(matrix, name)), np.finfo(name)
        assert (ours.bits, ours.eps, ours.max, ours.min, ours.smallest_normal) == (
            theirs.bits,
            float(theirs.eps),
            float(theirs.max),
            float(theirs.min),
            float(theirs.smallest_normal),
        )
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        ours_int, theirs_int = matrix.iinfo(getattr(matrix, name)), np.iinfo(name)
        assert (ours_int.bits, ours_int.max, ours_int.min) == (
            theirs_int.bits,
            theirs_int.max,
            theirs_int.min,
        )
    kinds = (
        "bool",
        "signed integer",
        "unsigned integer",
        "integral",
        "real floating",
        "complex floating",
        "numeric",
    )
    for name in matrix.__array_namespace_info__().dtypes():
        for kind in kinds:
            assert matrix.isdtype(getattr(matrix, name), kind) == strict.isdtype(getattr(strict, name), kind)
        for to in matrix.__array_namespace_info__().dtypes():
            try:
                theirs_cast = strict.can_cast(getattr(strict, name), getattr(strict, to))
            except TypeError:
                continue
            assert matrix.can_cast(getattr(matrix, name), getattr(matrix, to)) >= theirs_cast
    with pytest.raises(TypeError, match="use iinfo"):
        matrix.finfo(matrix.int8)
    with pytest.raises(TypeError, match="use finfo"):
        matrix.iinfo(matrix.float32)
    with pytest.raises(ValueError, match="no kind"):
        matrix.isdtype(matrix.int8, "integer")


@pytest.mark.parametrize(
    "value",
    [
        [1.0, 2.5],
        [[1, 2], [3, 4]],
        [True, False],
        [1e10, 1.0],
        [1e-5, 1.0],
        [0.1, 0.123456789],
        3.5,
        [1 + 2j, -0.5j],
        [math.nan, 1.0, math.inf],
        list(range(2000)),
        [[0.5] * 30] * 2,
        [1 / 3],
        [1e-3, 1.0],
    ],
)
def test_printing_is_numpys(value: Any):
    assert str(matrix.asarray(value)) == str(np.asarray(value))
    assert repr(matrix.asarray(value)) == repr(np.asarray(value)).replace(", shape=(2000,)", "")


@given(data=st.data())
def test_dlpack_goes_both_ways(data: st.DataObject):
    x = numbered(data.draw(some), data.draw(st.sampled_from(["int8", "float64", "complex64"])))[..., ::-1]
    ours = matrix.from_dlpack(x)
    same(ours, x)
    assert np.shares_memory(np.asarray(ours), x)
    own = matrix.asarray(x, copy=True)
    theirs = np.from_dlpack(own.T)
    same(own.T, theirs)
    assert np.shares_memory(theirs, np.asarray(own))
    assert own.__dlpack_device__() == (1, 0)
