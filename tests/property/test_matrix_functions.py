"""Functions of ``walle_task.matrix`` beside NumPy, and array-api-strict for what the standard says."""

import math
import operator
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from walle_task import matrix

NAMES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
INTEGERS = tuple(n for n in NAMES if "int" in n)
REALS = tuple(n for n in NAMES if "int" in n or "float" in n)
FLOATS = ("float32", "float64")
COMPLEX = ("complex64", "complex128")
FLOATING = FLOATS + COMPLEX
NUMERIC = REALS + COMPLEX

UNARY: dict[str, tuple[str, ...]] = {
    "abs": NUMERIC,
    "acos": FLOATING,
    "acosh": FLOATING,
    "asin": FLOATING,
    "asinh": FLOATING,
    "atan": FLOATING,
    "atanh": FLOATING,
    "bitwise_invert": ("bool", *INTEGERS),
    "ceil": REALS,
    "conj": NUMERIC,
    "cos": FLOATING,
    "cosh": FLOATING,
    "exp": FLOATING,
    "expm1": FLOATING,
    "floor": REALS,
    "imag": COMPLEX,
    "isfinite": NUMERIC,
    "isinf": NUMERIC,
    "isnan": NUMERIC,
    "log": FLOATING,
    "log10": FLOATING,
    "log1p": FLOATING,
    "log2": FLOATING,
    "logical_not": ("bool",),
    "negative": NUMERIC,
    "positive": NUMERIC,
    "real": COMPLEX,
    "reciprocal": FLOATING,
    "round": NUMERIC,
    "sign": NUMERIC,
    "signbit": FLOATS,
    "sin": FLOATING,
    "sinh": FLOATING,
    "sqrt": FLOATING,
    "square": NUMERIC,
    "tan": FLOATING,
    "tanh": FLOATING,
    "trunc": REALS,
}
BINARY: dict[str, tuple[str, ...]] = {
    "add": NUMERIC,
    "atan2": FLOATS,
    "bitwise_and": ("bool", *INTEGERS),
    "bitwise_left_shift": INTEGERS,
    "bitwise_or": ("bool", *INTEGERS),
    "bitwise_right_shift": INTEGERS,
    "bitwise_xor": ("bool", *INTEGERS),
    "copysign": FLOATS,
    "divide": FLOATING,
    "equal": NAMES,
    "floor_divide": REALS,
    "greater": REALS,
    "greater_equal": REALS,
    "hypot": FLOATS,
    "less": REALS,
    "less_equal": REALS,
    "logaddexp": FLOATS,
    "logical_and": ("bool",),
    "logical_or": ("bool",),
    "logical_xor": ("bool",),
    "maximum": REALS,
    "minimum": REALS,
    "multiply": NUMERIC,
    "nextafter": FLOATS,
    "not_equal": NAMES,
    "pow": NUMERIC,
    "remainder": REALS,
    "subtract": NUMERIC,
}
# Bounds of the error in units of the last place: of the vector versions of the C library's functions. The
# parts of complex results may cancel: those are judged by the size of the whole number.
ULPS = 8
# Of each of a hundred functions, so that all together take a few seconds.
some_examples = settings(max_examples=settings().max_examples // 5)

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def elements(dtype: str) -> st.SearchStrategy[Any]:
    kind = np.dtype(dtype).kind
    if kind == "f":
        width = 8 * np.dtype(dtype).itemsize
        return st.one_of(
            st.floats(-50, 50, width=width), st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 1.0])
        )
    if kind == "c":
        part = st.floats(-20, 20, width=32)
        return st.builds(complex, part, part)
    return hnp.from_dtype(np.dtype(dtype))


@st.composite
def arrays(draw: st.DrawFn, dtype: str, shape: Any = shapes) -> np.ndarray[Any, Any]:
    """An array in some layout: dense, turned round, every second element, stretched."""
    theirs = draw(hnp.arrays(dtype, shape, elements=elements(dtype)))
    layout = draw(st.sampled_from(["dense", "reversed", "transposed", "gaps"]))
    if layout == "reversed":
        return theirs[(slice(None, None, -1),) * theirs.ndim]
    if layout == "transposed":
        return theirs.T.copy().T
    if layout == "gaps":
        return np.repeat(theirs, 2, axis=-1)[..., ::2] if theirs.ndim else theirs
    return theirs


def same(ours: matrix.Array, theirs: Any, ulps: int = 0) -> None:
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert ours.dtype.name == theirs.dtype.name
    seen = np.asarray(ours)
    if ulps == 0 or theirs.dtype.kind not in "fc":
        np.testing.assert_array_equal(seen, theirs)
        return
    tolerance = ulps * np.finfo(theirs.dtype).eps
    finite = np.isfinite(theirs) & np.isfinite(seen)
    np.testing.assert_allclose(seen[finite], theirs[finite], rtol=tolerance, atol=np.finfo(theirs.dtype).tiny)
    if theirs.dtype.kind == "f":
        np.testing.assert_array_equal(seen[~finite], theirs[~finite])


EXACT = {
    "abs",
    "add",
    "subtract",
    "multiply",
    "divide",
    "negative",
    "positive",
    "square",
    "sqrt",
    "floor",
    "ceil",
    "trunc",
    "round",
    "sign",
    "signbit",
    "maximum",
    "minimum",
    "copysign",
    "nextafter",
    "remainder",
    "reciprocal",
}


@pytest.mark.parametrize("name", UNARY)
@some_examples
@given(data=st.data())
def test_functions_of_one_array(name: str, data: st.DataObject):
    dtype = data.draw(st.sampled_from(UNARY[name]))
    x = data.draw(arrays(dtype))
    with np.errstate(all="ignore"):
        theirs = getattr(np, name)(x)
    exact = name in EXACT and np.dtype(dtype).kind != "c"
    if np.dtype(dtype).kind == "c" and theirs.dtype.kind == "c":
        assume(bool(np.all(np.isfinite(theirs))))
        close_complex(getattr(matrix, name)(matrix.asarray(x)), theirs)
        return
    same(getattr(matrix, name)(matrix.asarray(x)), theirs, 0 if exact else ULPS)


def close_complex(ours: matrix.Array, theirs: np.ndarray[Any, Any]) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype.name == theirs.dtype.name
    bound = 64 * np.finfo(theirs.dtype).eps
    assert np.all(np.abs(np.asarray(ours) - theirs) <= bound * np.abs(theirs) + bound)


@pytest.mark.parametrize("name", BINARY)
@some_examples
@given(data=st.data())
def test_functions_of_two_arrays(name: str, data: st.DataObject):
    first = data.draw(st.sampled_from(BINARY[name]))
    second = data.draw(st.sampled_from(BINARY[name]))
    both = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4, min_side=0))
    x, y = data.draw(arrays(first, both.input_shapes[0])), data.draw(arrays(second, both.input_shapes[1]))
    if name == "pow" and np.result_type(x, y).kind == "i":
        y = np.abs(np.clip(y, -60, 60))
    if name in ("bitwise_left_shift", "bitwise_right_shift"):
        y = np.asarray(y % 8, dtype=second)
        assume(np.result_type(x, y).kind in "iu")
    if name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
        assume(np.result_type(x, y).kind in "biu")
    with np.errstate(all="ignore"):
        theirs = getattr(np, name)(x, y)
    kind = np.result_type(x, y).kind
    if kind == "c" and theirs.dtype.kind == "c":
        assume(bool(np.all(np.isfinite(theirs))))
        close_complex(getattr(matrix, name)(matrix.asarray(x), matrix.asarray(y)), theirs)
        return
    ours = getattr(matrix, name)(matrix.asarray(x), matrix.asarray(y))
    if name == "floor_divide" and kind == "f":
        finite = np.isfinite(theirs)  # of infinities, the standard allows either answer
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(np.asarray(ours)[finite], theirs[finite])
        return
    same(ours, theirs, 0 if name in EXACT else ULPS)


@given(data=st.data())
def test_promotion_is_the_standards(data: st.DataObject):
    first, second = data.draw(st.sampled_from(NAMES)), data.draw(st.sampled_from(NAMES))
    ours = matrix.result_type(getattr(matrix, first), getattr(matrix, second))
    assert ours.name == np.result_type(np.dtype(first), np.dtype(second)).name
    try:
        theirs = strict.result_type(getattr(strict, first), getattr(strict, second))
    except TypeError:
        return  # the standard leaves it open
    assert ours.name == str(theirs).rsplit(".", maxsplit=1)[-1]


OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
@some_examples
@given(data=st.data())
def test_python_numbers_follow_arrays(op: Any, data: st.DataObject):
    dtype = data.draw(st.sampled_from(REALS))
    x = data.draw(arrays(dtype))
    number = data.draw(st.sampled_from([0, 1, 2, 3, 7, 1.5, -2.0, 0.5]))
    reflected = data.draw(st.booleans())
    if op is operator.pow and reflected:
        x = np.abs(x.clip(-20, 20)).astype(dtype)
    if op is operator.pow and np.dtype(dtype).kind in "iu" and isinstance(number, float):
        assume(number > 0)
    with np.errstate(all="ignore"):
        theirs = op(number, x) if reflected else op(x, number)
    ours = op(number, matrix.asarray(x)) if reflected else op(matrix.asarray(x), number)
    if op is operator.floordiv and np.dtype(theirs.dtype).kind == "f":
        finite = np.isfinite(theirs)
        np.testing.assert_array_equal(np.asarray(ours)[finite], theirs[finite])
        return
    same(ours, theirs, ULPS if op is operator.pow else 0)


@given(data=st.data())
def test_operators_in_place_write_where_the_array_is(data: st.DataObject):
    dtype = data.draw(st.sampled_from(FLOATS + INTEGERS))
    x = data.draw(arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))).copy()
    ours = matrix.asarray(x.copy())
    view, seen = ours[::2], x[::2]
    with np.errstate(all="ignore"):
        view += 3
        seen += 3
        view *= view
        seen *= seen
        ours -= ours[::-1]
        x -= x[::-1].copy()
    same(ours, x)


REDUCTIONS = {
    "sum": NUMERIC,
    "prod": NUMERIC,
    "max": REALS,
    "min": REALS,
    "any": NAMES,
    "all": NAMES,
    "mean": FLOATING,
    "var": FLOATS,
    "std": FLOATS,
}


@pytest.mark.parametrize("name", REDUCTIONS)
@some_examples
@given(data=st.data())
def test_reductions(name: str, data: st.DataObject):
    dtype = data.draw(st.sampled_from(REDUCTIONS[name]))
    x = data.draw(arrays(dtype))
    axes = tuple(data.draw(st.sets(st.sampled_from(range(x.ndim))))) if x.ndim else ()
    axis = data.draw(st.sampled_from([None, axes]))
    if axis is None:
        axes = tuple(range(x.ndim))
    keepdims = data.draw(st.booleans())
    if name in ("max", "min"):
        assume(all(x.shape[i] for i in axes))
    if np.dtype(dtype).kind in "fc" and name not in ("max", "min"):
        assume(bool(np.all(np.isfinite(x))))
    options: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
    if name in ("var", "std"):
        options["correction"] = data.draw(st.sampled_from([0, 1]))
        assume(math.prod(x.shape[i] for i in axes) > options["correction"])
    if name == "mean":
        assume(all(x.shape[i] for i in axes))
    ours = getattr(matrix, name)(matrix.asarray(x), **options)
    wide = {"f": "float64", "c": "complex128"}.get(np.dtype(dtype).kind)
    reference = x.astype(wide) if wide else x
    with np.errstate(all="ignore"):
        theirs = getattr(np, name)(reference, **options)
    if name in ("any", "all", "max", "min") or not wide:
        same(ours, np.asarray(theirs, dtype=ours.dtype.name if name in ("max", "min") else None))
        return
    assert ours.shape == theirs.shape
    assert ours.dtype.name == dtype
    with np.errstate(over="ignore"):
        scale = 1 + np.prod(1 + np.abs(reference)) if name == "prod" else 1 + np.sum(np.abs(reference)) ** 2
    assume(scale < np.finfo(dtype).max)  # what overflows has no error to bound
    assert np.all(np.abs(np.asarray(ours) - theirs) <= 8 * np.finfo(dtype).eps * scale)


@pytest.mark.parametrize("name", ["cumulative_sum", "cumulative_prod"])
@some_examples
@given(data=st.data())
def test_accumulations(name: str, data: st.DataObject):
    dtype = data.draw(st.sampled_from(REALS))
    x = data.draw(arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)))
    if np.dtype(dtype).kind == "f":
        x = np.nan_to_num(x, posinf=2, neginf=3)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    initial = data.draw(st.booleans())
    ours = getattr(matrix, name)(matrix.asarray(x), axis=axis, include_initial=initial)
    with np.errstate(all="ignore"):
        same(ours, getattr(np, name)(x, axis=axis, include_initial=initial), ULPS)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@some_examples
@given(data=st.data())
def test_places_of_extremes(name: str, data: st.DataObject):
    dtype = data.draw(st.sampled_from(REALS))
    x = data.draw(arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, max_side=5)))
    axis = data.draw(st.sampled_from([None, *range(x.ndim)]))
    keepdims = data.draw(st.booleans())
    ours = getattr(matrix, name)(matrix.asarray(x), axis=axis, keepdims=keepdims)
    same(ours, np.asarray(getattr(np, name)(x, axis=axis, keepdims=keepdims)))


@given(data=st.data())
def test_where_and_clip(data: st.DataObject):
    first, second = data.draw(st.sampled_from(NAMES)), data.draw(st.sampled_from(NAMES))
    all_shapes = data.draw(
        hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=4)
    ).input_shapes
    condition = data.draw(arrays("bool", all_shapes[0]))
    x, y = data.draw(arrays(first, all_shapes[1])), data.draw(arrays(second, all_shapes[2]))
    same(
        matrix.where(matrix.asarray(condition), matrix.asarray(x), matrix.asarray(y)),
        np.where(condition, x, y),
    )
    dtype = data.draw(st.sampled_from(REALS))
    z = data.draw(arrays(dtype))
    low, high = data.draw(st.sampled_from([(0, 5), (None, 3), (1, None), (None, None)]))
    with np.errstate(all="ignore"):
        theirs = np.clip(z, low, high) if (low, high) != (None, None) else z
    same(matrix.clip(matrix.asarray(z), low, high), theirs)


@given(data=st.data())
def test_products_of_matrices(data: st.DataObject):
    dtype = data.draw(st.sampled_from(NUMERIC))
    m, k, n = (data.draw(st.integers(0, 9)) for _ in range(3))
    batch = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3)).input_shapes
    left: tuple[int, ...] = data.draw(st.sampled_from([(k,), (*batch[0], m, k)]))
    right: tuple[int, ...] = data.draw(st.sampled_from([(k,), (*batch[1], k, n)]))
    kind = np.dtype(dtype).kind
    small = st.integers(0, 9) if kind in "iu" else st.integers(-9, 9)
    x = data.draw(hnp.arrays(dtype, left, elements=small))
    y = data.draw(hnp.arrays(dtype, right, elements=small))
    turned = data.draw(st.booleans()) and x.ndim > 1
    x = np.swapaxes(np.swapaxes(x, -1, -2).copy(), -1, -2) if turned else x
    same(matrix.matmul(matrix.asarray(x), matrix.asarray(y)), np.matmul(x, y))  # small integers: exact


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "sizes", [(1, 300, 1), (130, 257, 70), (97, 300, 1100), (2, 500, 700), (700, 500, 2)]
)
def test_larger_products(dtype: str, sizes: tuple[int, int, int]):
    m, k, n = sizes
    random = np.random.default_rng(1)
    x, y = random.standard_normal((m, k)).astype(dtype), random.standard_normal((k, n)).astype(dtype)
    for left, right in ((x, y), (x.T.copy().T, y), (x, y.T.copy().T)):
        ours = np.asarray(matrix.matmul(matrix.asarray(left), matrix.asarray(right)))
        exact = x.astype("float64") @ y.astype("float64")
        bound = k * np.finfo(dtype).eps * (np.abs(x).astype("float64") @ np.abs(y).astype("float64"))
        assert np.all(np.abs(ours - exact) <= bound)
