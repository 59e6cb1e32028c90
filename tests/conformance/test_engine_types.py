"""Types: conversions against ml_dtypes and NumPy, arithmetic of every type, edges of values, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from walle_engine import api, wmodel
from walle_shared.errors import EngineError

type Array = np.ndarray[Any, Any]

MINIFLOATS = ("F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "F4_E2M1")
INTEGERS = ("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")
ARITHMETIC = (*INTEGERS, "F16", "BF16", "F32", "F64")
_BUFFERS = {*INTEGERS, "F16", "F32", "F64", "BOOL"}  # NumPy's own; the others travel as their bits
NUMBERS = tuple(dtype for dtype in wmodel.DTYPE_BYTES if dtype not in ("STRING", "F8_E8M0"))


def _run(op: str, inputs: list[Array], constants: int = 99, **attrs: Any) -> Array:
    """One node; inputs from ``constants`` on are weights."""
    builder = api.GraphBuilder(op)
    feeds: dict[str, Array] = {}
    names = [f"x{i}" for i in range(len(inputs))]
    for i, (name, value) in enumerate(zip(names, inputs, strict=True)):
        dtype = wmodel.dtype_name(value.dtype)
        bits = value if dtype in _BUFFERS else value.view(f"u{value.dtype.itemsize}")
        if i >= constants:
            builder.weight(name, bits, dtype)
        else:
            builder.input(name, dtype, value.shape)
            feeds[name] = bits
    builder.node(op, names, ["y"], name="node", **attrs)
    builder.output("y")
    result = builder.finish().session().run(feeds)["y"]
    return np.asarray(result).view(wmodel.numpy_dtype(result.dtype))


def _numpy(dtype: str) -> np.dtype[Any]:
    return wmodel.numpy_dtype(dtype)


# ---- Conversions ----


@pytest.mark.parametrize("source", NUMBERS)
def test_every_pair_of_types_converts(source: str) -> None:
    """0 and 1 are in every type; -2, 2 and 3 where both have them."""
    for target in NUMBERS:
        signed = all(dtype[0] in "IFB" and dtype != "BOOL" for dtype in (source, target))
        small = {source, target} & {"BOOL", "I2"}
        numbers = [0, 1, *([] if small else [2, 3]), *([-2] if signed and not small else [])]
        x = np.array(numbers, np.float64).astype(_numpy(source))
        got = _run("Cast", [x], to=target)
        assert got.dtype == _numpy(target)
        np.testing.assert_array_equal(got.astype(np.float64), x.astype(np.float64), f"{source} to {target}")


@pytest.mark.parametrize("dtype", [*MINIFLOATS, "F8_E8M0"])
def test_every_code_of_a_small_float_decodes(dtype: str) -> None:
    codes = np.arange(16 if dtype == "F4_E2M1" else 256, dtype=np.uint8).view(_numpy(dtype))
    np.testing.assert_array_equal(_run("Cast", [codes], to="F32"), codes.astype(np.float32))


@pytest.mark.parametrize("source", ["F32", "F64", "F16"])
@pytest.mark.parametrize("dtype", MINIFLOATS)
def test_small_floats_round_to_nearest_even_and_saturate(dtype: str, source: str) -> None:
    rng = np.random.default_rng(5)
    middle = (
        np.arange(16 if dtype == "F4_E2M1" else 256, dtype=np.uint8).view(_numpy(dtype)).astype(np.float64)
    )
    middle = np.sort(middle[np.isfinite(middle)])
    ties = (middle[1:] + middle[:-1]) / 2
    scale = float(np.abs(middle).max())
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.concatenate([ties, middle, rng.normal(size=300), rng.normal(size=300) * scale]).astype(
            _numpy(source)
        )
    plain = x.astype(_numpy(dtype))
    np.testing.assert_array_equal(
        _run("Cast", [x], to=dtype, saturate=0).view(np.uint8), plain.view(np.uint8)
    )
    clipped = np.clip(x, middle[0], middle[-1]).astype(_numpy(dtype))
    np.testing.assert_array_equal(_run("Cast", [x], to=dtype).view(np.uint8), clipped.view(np.uint8))


@pytest.mark.parametrize(
    ("dtype", "plain", "saturated"),
    [
        ("F8_E4M3", [0x7F, 0x7F, 0xFF], [0x7F, 0x7E, 0xFE]),
        ("F8_E4M3FNUZ", [0x80, 0x80, 0x80], [0x80, 0x7F, 0xFF]),
        ("F8_E5M2", [0x7E, 0x7C, 0xFC], [0x7E, 0x7B, 0xFB]),
        ("F8_E5M2FNUZ", [0x80, 0x80, 0x80], [0x80, 0x7F, 0xFF]),
    ],
)
def test_small_floats_of_special_values(dtype: str, plain: list[int], saturated: list[int]) -> None:
    x = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert _run("Cast", [x], to=dtype, saturate=0).view(np.uint8).tolist() == plain
    assert _run("Cast", [x], to=dtype).view(np.uint8).tolist() == saturated


@pytest.mark.parametrize(
    ("mode", "codes"),
    [("up", [127, 128, 128, 126]), ("down", [127, 127, 127, 126]), ("nearest", [127, 128, 127, 126])],
)
def test_powers_of_two_round_as_asked(mode: str, codes: list[int]) -> None:
    x = np.array([1.0, 1.5, 1.25, 0.5], np.float32)
    assert _run("Cast", [x], to="F8_E8M0", round_mode=mode).view(np.uint8).tolist() == codes


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_halves_of_doubles_are_rounded_once(dtype: str) -> None:
    """Just above a tie: rounding to float32 first would land on it and lose the direction."""
    step = 2.0**-10 if dtype == "F16" else 2.0**-7
    x = np.array(
        [1 + step / 2, 1 + step / 2 + 2.0**-40, 1 + 1.5 * step - 2.0**-40, -(1 + step / 2 + 2.0**-40)]
    )
    got = _run("Cast", [x], to=dtype).astype(np.float64)
    assert got.tolist() == [1.0, 1 + step, 1 + step, -(1 + step)]


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_every_half_widens_and_what_lies_between_rounds_to_nearest_even(dtype: str) -> None:
    halves = np.arange(65536, dtype=np.uint16).view(_numpy(dtype))
    wide = _run("Cast", [halves], to="F32")
    np.testing.assert_array_equal(wide, halves.astype(np.float32))
    numbers = np.unique(wide[np.isfinite(wide)]).astype(np.float64)
    middles = ((numbers[1:] + numbers[:-1]) / 2).astype(np.float32)
    near = [np.nextafter(middles, np.float32(way), dtype=np.float32) for way in (-np.inf, np.inf)]
    special = np.array([np.inf, -np.inf, np.nan, -np.nan, 65520, 3.4e38, 1e-45, -0.0], np.float32)
    x = np.concatenate([wide, middles, *near, special])
    with np.errstate(over="ignore", invalid="ignore"):
        got, expected = (y.astype(np.float32) for y in (_run("Cast", [x], to=dtype), x.astype(_numpy(dtype))))
    np.testing.assert_array_equal(got, expected)


def test_large_numbers_keep_their_value() -> None:
    top = np.array([2**64 - 1, 2**63, 2**53 + 1], np.uint64)
    assert _run("Cast", [top], to="F64").tolist() == top.astype(np.float64).tolist()
    assert _run("Cast", [np.array([2.0**63, 1e30, 5.9])], to="U64").tolist() == [2**63, 2**64 - 1, 5]
    assert _run("Cast", [np.array([np.nan, 1e30, -1e30, -5.9])], to="I64").tolist() == [
        0,
        2**63 - 1,
        -(2**63),
        -5,
    ]


@pytest.mark.parametrize("target", ["I8", "U8", "I16", "U16", "I32", "U32", "I4", "U4", "I2", "U2"])
def test_integers_wrap(target: str) -> None:
    x = np.array([-(2**40) - 3, 2**40 + 5, -1, 255, 300], np.int64)
    np.testing.assert_array_equal(
        _run("Cast", [x], to=target).astype(np.int64), x.astype(_numpy(target)).astype(np.int64)
    )


def test_cast_like_takes_only_the_type() -> None:
    like = np.zeros((0, 7), _numpy("F8_E5M2"))
    assert _run("CastLike", [np.array([1.5], np.float32), like]).dtype == _numpy("F8_E5M2")


# ---- Arithmetic ----


def _samples(dtype: str, count: int = 40) -> Array:
    rng = np.random.default_rng(len(dtype) + count)
    if dtype[0] in "IU":
        info = np.iinfo(_numpy(dtype))
        return rng.integers(info.min, info.max, count, dtype=_numpy(dtype), endpoint=True)
    return rng.uniform(-4, 4, count).astype(_numpy(dtype))


@pytest.mark.parametrize("dtype", ARITHMETIC)
@pytest.mark.parametrize(
    ("op", "function"),
    [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Max", np.maximum), ("Min", np.minimum),
     ("Less", np.less), ("GreaterOrEqual", np.greater_equal), ("Equal", np.equal)],
)  # fmt: skip
def test_arithmetic_of_every_type(op: str, function: Callable[..., Array], dtype: str) -> None:
    a, b = _samples(dtype), _samples(dtype, 41)[:40]
    with np.errstate(over="ignore", invalid="ignore"):
        want = function(a, b)
    got = _run(op, [a, b])
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_division_and_remainders(dtype: str) -> None:
    a, b = _samples(dtype), _samples(dtype, 41)[:40]
    b[:4] = [1, 2, 3, 7]
    b[b == 0] = 1
    wide_a, wide_b = a.astype(object), b.astype(object)
    quotient = [
        abs(p) // abs(q) * (-1 if (p < 0) != (q < 0) else 1) for p, q in zip(wide_a, wide_b, strict=True)
    ]
    np.testing.assert_array_equal(_run("Div", [a, b]), np.array(quotient, object).astype(a.dtype))
    np.testing.assert_array_equal(_run("Mod", [a, b]), np.mod(a, b))
    np.testing.assert_array_equal(_run("Mod", [a, b], fmod=1), np.fmod(a, b))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_edges(dtype: str) -> None:
    info = np.iinfo(_numpy(dtype))
    edges = np.array([info.min, info.max, 0], _numpy(dtype))
    zero = np.zeros(3, _numpy(dtype))
    assert _run("Div", [edges, zero]).tolist() == [0, 0, 0]
    assert _run("Mod", [edges, zero]).tolist() == [0, 0, 0]
    assert _run("Clip", [edges, edges[:1].reshape(()), edges[2:].reshape(())]).tolist() == [info.min, 0, 0]
    assert int(_run("ArgMax", [edges], keepdims=0)) == 1
    assert _run("TopK", [edges, np.array([1], np.int64)], constants=1).tolist() == [info.max]
    if info.min < 0:
        assert _run("Div", [edges, zero - 1]).tolist() == [info.min, -info.max, 0]
        assert _run("Abs", [edges]).tolist() == [info.min, info.max, 0]


@pytest.mark.parametrize(
    ("base", "exponent"), [("I32", "F32"), ("I64", "F64"), ("F32", "I64"), ("U8", "I32")]
)
def test_powers_of_mixed_types(base: str, exponent: str) -> None:
    a = np.array([1, 2, 3, 4], _numpy(base))
    b = np.array([3, 2, 2, 3], _numpy(exponent))
    got = _run("Pow", [a, b])
    assert got.dtype == a.dtype
    assert got.tolist() == [1, 4, 9, 64]


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_composites_of_halves_round_once(dtype: str) -> None:
    x = np.linspace(-3, 3, 64).astype(_numpy(dtype))
    wide = x.astype(np.float64)
    want = np.where(wide > 0, wide, np.expm1(np.minimum(wide, 0))).astype(np.float32).astype(x.dtype)
    got = _run("Celu", [x])
    assert got.dtype == x.dtype
    # The last bit of float32 may tip a tie; nothing more may differ.
    assert np.sum(got != want) <= 1


# ---- Reductions ----


@pytest.mark.parametrize("dtype", ["F32", "F16", "I32", "U8", "BOOL", "U64"])
def test_extremes_of_nothing(dtype: str) -> None:
    x = np.zeros((2, 0), _numpy(dtype))
    low, high = (_run(op, [x], axes=[1], keepdims=0) for op in ("ReduceMax", "ReduceMin"))
    if dtype[0] == "F":
        assert (low.tolist(), high.tolist()) == ([-np.inf] * 2, [np.inf] * 2)
    elif dtype == "BOOL":
        assert (low.tolist(), high.tolist()) == ([False] * 2, [True] * 2)
    else:
        info = np.iinfo(x.dtype)
        assert (low.tolist(), high.tolist()) == ([info.min] * 2, [info.max] * 2)


def test_other_reductions_of_nothing() -> None:
    x = np.zeros((2, 0), np.float32)
    wanted = {"ReduceSum": 0, "ReduceProd": 1, "ReduceL1": 0, "ReduceL2": 0, "ReduceSumSquare": 0,
              "ReduceLogSum": -np.inf, "ReduceLogSumExp": -np.inf}  # fmt: skip
    for op, value in wanted.items():
        assert _run(op, [x], axes=[1]).tolist() == [[value], [value]], op


def test_log_sum_exp_of_infinities() -> None:
    x = np.array([[-np.inf, -np.inf], [np.inf, 0], [900, 900]], np.float32)
    got = _run("ReduceLogSumExp", [x], axes=[1], keepdims=0)
    np.testing.assert_allclose(got, [-np.inf, np.inf, 900 + np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["I32", "I64", "U32", "F16", "BF16", "F64"])
def test_reductions_around_a_sum_keep_the_type(dtype: str) -> None:
    x = np.array([[3, 4], [6, 8]], _numpy(dtype))
    for op, want in {"ReduceL1": [7, 14], "ReduceL2": [5, 10], "ReduceSumSquare": [25, 100]}.items():
        got = _run(op, [x], axes=[1], keepdims=0)
        assert got.dtype == x.dtype
        assert got.astype(np.float64).tolist() == want
    assert _run("ReduceMean", [x], axes=[1], keepdims=0).astype(np.float64).tolist() == (
        [3, 7] if dtype[0] in "IU" else [3.5, 7]
    )


# ---- Moving and indexing ----


@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_type_moves(dtype: str) -> None:
    x = np.array([[0, 1, 0], [1, 0, 1]], np.float64).astype(_numpy(dtype))
    index = np.array([[1, 0, 1]], np.int64)
    for got, want in (
        (_run("Transpose", [x]), x.T),
        (_run("Where", [x.astype(bool), x, x[::-1].copy()]), np.where(x.astype(bool), x, x[::-1])),
        (_run("GatherElements", [x, index]), np.take_along_axis(x, index, 0)),
        (_run("ScatterElements", [x, index, x[:1]]), [[0, 1, 0], [0, 0, 0]]),
        (_run("Trilu", [x]), np.triu(x.astype(np.float64))),
    ):
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(got.astype(np.float64), np.asarray(want).astype(np.float64))


@pytest.mark.parametrize("k", [1, 2, 5, 29, 30])
@pytest.mark.parametrize("largest", [0, 1])
def test_the_first_of_equals_comes_first(k: int, largest: int) -> None:
    x = np.random.default_rng(k).integers(0, 6, (4, 30, 3)).astype(np.float32)
    x[0, 7, 0] = np.nan  # counts as the largest
    builder = api.GraphBuilder()
    builder.input("x", "F32", x.shape)
    builder.weight("k", np.array([k]))
    builder.node("TopK", ["x", "k"], ["values", "indices"], axis=1, largest=largest)
    builder.output("values")
    builder.output("indices")
    result = builder.finish().session().run({"x": x})
    rank = np.where(np.isnan(x), np.float32(9), x)
    want = np.argsort(-rank if largest else rank, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(np.asarray(result["indices"]), want)
    np.testing.assert_array_equal(np.asarray(result["values"]), np.take_along_axis(x, want, 1))


def test_sums_scattered_into_halves_are_rounded_once() -> None:
    x, index = np.array([2048], np.float16), np.zeros((3, 1), np.int64)
    assert _run("ScatterND", [x, index, np.ones(3, np.float16)], reduction="add").tolist() == [2052]


# ---- What is refused ----

_PAIR, _PLANE = np.zeros(2, np.float32), np.zeros((2, 2), np.float32)


def _i(numbers: list[Any]) -> Array:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    ("op", "inputs", "constants", "attrs", "message"),
    [
        ("BitShift", [np.zeros(2, np.uint8)] * 2, 99, {"direction": "UP"}, "must be 'LEFT' or 'RIGHT'"),
        ("BitwiseAnd", [_PAIR] * 2, 99, {}, "integers are required, not F32"),
        ("IsNaN", [np.zeros(2, np.int32)], 99, {}, "floats are required, not I32"),
        ("BitCast", [_PAIR], 99, {"to": "I64"}, "different widths"),
        ("BitCast", [np.zeros(2, np.uint8)], 99, {"to": "U4"}, "different widths"),
        ("Cast", [_PAIR], 99, {"to": "F9"}, "'F9' is unknown"),
        ("Cast", [_PAIR], 99, {}, "'to' is required"),
        ("Cast", [_PAIR], 99, {"to": "F8_E8M0", "round_mode": "odd"}, "'round_mode' must be"),
        ("TopK", [_PAIR, _i([3])], 1, {}, "3 of the 2 elements"),
        ("TopK", [_PAIR, _i([-1])], 1, {}, "-1 of the 2 elements"),
        ("GatherElements", [_PLANE, _i([[2]])], 99, {}, "index 2"),
        ("GatherElements", [_PLANE, np.zeros((1, 3), np.int64)], 99, {}, "more indices than"),
        ("GatherND", [_PLANE, np.zeros((1, 3), np.int64)], 99, {}, "3 components"),
        ("GatherND", [_PLANE, np.zeros((1, 0), np.int64)], 99, {}, "0 components"),
        ("GatherND", [_PLANE, np.zeros((1, 1), np.int64)], 99, {"batch_dims": -1}, "do not fit"),
        ("ScatterND", [_PAIR, _i([[5]]), np.zeros(1, np.float32)], 99, {}, "index 5"),
        ("ScatterND", [_PAIR, _i([[0]]), _PAIR], 99, {},
         "a slice of it per index"),
        ("ScatterElements", [_PAIR, np.zeros(1, np.int64), np.zeros(1, np.float32)], 99,
         {"reduction": "xor"}, "must be none, add"),
        ("TensorScatter", [np.zeros((1, 4, 2), np.float32), np.zeros((1, 2, 2), np.float32), _i([3])],
         99, {}, "index 4"),
        ("ReverseSequence", [_PLANE, np.zeros(2, np.int64)], 99, {"time_axis": 1}, "0 and 1"),
        ("ReverseSequence", [_PLANE, _i([3, 1])], 99, {}, "index"),
        ("OneHot", [np.zeros(2, np.int64), np.array(-4), _PAIR], 1, {}, "depth -4"),
        ("Range", [np.array(0), np.array(5), np.array(0)], 0, {}, "a step of 0"),
        ("Range", [np.float32(0), np.float32(np.inf), np.float32(1)], 0, {}, "no reasonable number"),
        ("EyeLike", [np.zeros(3, np.float32)], 99, {}, "a matrix is required"),
        ("Trilu", [np.zeros(3, np.float32)], 99, {}, "rank 2 or more"),
        ("CenterCropPad", [_PLANE, _i([-1])], 1, {"axes": [0]}, "extent -1"),
        ("Pad", [np.zeros(1, np.float32), _i([1, 1])], 1, {"mode": "reflect"}, "too small"),
        ("Pad", [np.zeros(0, np.float32), _i([1, 1])], 1, {"mode": "wrap"}, "too small"),
        ("Pad", [np.zeros(3, np.float32), _i([1, 1])], 1, {"mode": "mirror"}, "must be 'constant'"),
        ("Celu", [_PAIR], 99, {"alpha": 0.0}, "must not be 0"),
        ("CumSum", [_PAIR, np.array(1)], 1, {}, "axis 1 is outside"),
    ],
)  # fmt: skip
def test_misuse_is_named(
    op: str, inputs: list[Array], constants: int, attrs: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        _run(op, inputs, constants, **attrs)
    assert (caught.value.op, caught.value.node) == (op, "node")
