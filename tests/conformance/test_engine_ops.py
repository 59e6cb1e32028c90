"""Every operator against NumPy in double precision, within the tolerance its row of the op table states."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from walle_engine import api
from walle_shared.errors import ModelError
from walle_support import atom_cases, sequence_cases, tree_cases, vision_cases
from walle_support.gradients import assert_gradients, gradient_session

Array = np.ndarray[Any, Any]
_DTYPES = {"float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64", "bool": "BOOL", "uint8": "U8",
           "int8": "I8", "int16": "I16", "uint16": "U16", "uint32": "U32", "uint64": "U64"}  # fmt: skip
_OPS = {op.name: op for op in api.ops()}


@dataclass(frozen=True)
class Case:
    """``op`` of ``inputs`` must give ``reference(*inputs)``; inputs from ``constants`` on are weights.

    An input that is None is omitted. An attribute that is an array is stored as a weight.
    """

    op: str
    inputs: Sequence[Array | None]
    reference: Callable[..., Any]
    attrs: dict[str, Any] = field(default_factory=dict)
    constants: int = 99
    terms: int = 1  # summed per output element

    def __str__(self) -> str:
        said = (f"{k}={v}" for k, v in self.attrs.items() if not isinstance(v, np.ndarray))
        return f"{self.op}-{'-'.join(said)}"


def _session(case: Case, **settings: Any) -> tuple[api.Session, dict[str, Array]]:
    """A session of the case's operator, and what it is to be fed with."""
    builder = api.GraphBuilder(case.op)
    names = ["" if value is None else f"x{i}" for i, value in enumerate(case.inputs)]
    given = [
        (i, name, v) for i, (name, v) in enumerate(zip(names, case.inputs, strict=True)) if v is not None
    ]
    for i, name, value in given:
        if i >= case.constants:
            builder.weight(name, np.ascontiguousarray(value))
        else:
            builder.input(name, _DTYPES[str(value.dtype)], value.shape)
    expected = _expected(case)
    outputs = [f"y{i}" for i in range(len(expected))]
    arrays = {name: value for name, value in case.attrs.items() if isinstance(value, np.ndarray)}
    for name, value in arrays.items():
        builder.weight(name, value)
    attrs = {**case.attrs, **{name: f"@{name}" for name in arrays}}
    builder.node(case.op, names, outputs, name="node", **attrs)
    for output in outputs:
        builder.output(output)
    feeds = {name: value for i, name, value in given if i < case.constants}
    return builder.finish().session(**settings), feeds


def _run(case: Case, **settings: Any) -> list[Array]:
    session, feeds = _session(case, **settings)
    return [np.asarray(value) for value in session.run(feeds).values()]


def _expected(case: Case) -> list[Array]:
    wide = [v if v is None or v.dtype != np.float32 else v.astype(np.float64) for v in case.inputs]
    with np.errstate(all="ignore"):
        result = case.reference(*wide)
    return list(result) if isinstance(result, (list, tuple)) else [np.asarray(result)]


def _assert_close(case: Case, got: Array, want: Array) -> None:
    row = _OPS[case.op]
    assert got.shape == want.shape
    if row.tolerance == "exact" or got.dtype.kind != "f":
        np.testing.assert_array_equal(got, want.astype(got.dtype))
    elif row.tolerance == "ulp":
        rounded = want.astype(got.dtype)
        allowed = row.tolerance_value * np.spacing(np.abs(rounded))
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        assert np.all(same | (np.abs(got - want) <= allowed)), (got, want)
    else:
        largest = max(float(np.abs(want).max(initial=0)), 1.0)
        assert (
            np.abs(got - want).max(initial=0)
            <= row.tolerance_value * 2**-24 * math.sqrt(case.terms) * largest
        )


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


def _f(*shape: int, low: float = -3, high: float = 3) -> Array:
    return _rng().uniform(low, high, shape).astype(np.float32)


def _i(*values: int) -> Array:
    return np.array(values, np.int64)


def _windows(
    x: Array, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], fill: float
) -> Array:
    """``[N, C, out..., taps]`` of what each window sees."""
    rank = len(kernel)
    width = [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))]
    padded = np.pad(x, width, constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=tuple(range(2, 2 + rank)))
    view = view[(slice(None), slice(None), *(slice(None, None, s) for s in strides))]
    return view.reshape(*view.shape[: 2 + rank], -1)


def _conv(
    x: Array, w: Array, b: Array | None, strides: Sequence[int], pads: Sequence[int], group: int = 1
) -> Array:
    rank = x.ndim - 2
    seen = _windows(x, w.shape[2:], strides, pads, 0)  # [N, C, out..., taps]
    parts = []
    for g in range(group):
        own = seen[:, g * w.shape[1] : (g + 1) * w.shape[1]]
        kernel = w[g * (w.shape[0] // group) : (g + 1) * (w.shape[0] // group)].reshape(
            -1, w.shape[1], seen.shape[-1]
        )
        parts.append(np.einsum("nc...t,oct->no...", own, kernel))
    y = np.concatenate(parts, axis=1)
    return y if b is None else y + b.reshape(-1, *(1,) * rank)


def _softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    c = x - x.mean(-1, keepdims=True)
    return c / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5) * scale + bias


_erf = np.vectorize(math.erf, otypes=[np.float64])
_X = _f(2, 3, 5)
_BN = [_f(3, low=0.5, high=2) for _ in range(4)]

_CASES = [
    *(Case(op, [_f(3, 37)], fn) for op, fn in {
        "Neg": np.negative, "Abs": np.abs, "Exp": np.exp, "Tanh": np.tanh, "Erf": _erf, "Floor": np.floor,
        "Ceil": np.ceil, "Round": np.rint, "Sign": np.sign, "Sin": np.sin, "Cos": np.cos, "Tan": np.tan,
        "Atan": np.arctan, "Relu": lambda x: np.maximum(x, 0), "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "Reciprocal": np.reciprocal, "Softplus": lambda x: np.log1p(np.exp(x)),
    }.items()),
    Case("Log", [_f(40, low=0.1)], np.log),
    Case("Sqrt", [_f(40, low=0)], np.sqrt),
    *(Case(op, [_f(2, 3, 4), _f(3, 1)], lambda a, b, f=fn: f(a.astype("f4"), b.astype("f4"))) for op, fn in {
        "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Max": np.maximum,
        "Min": np.minimum,
    }.items()),
    *(Case(op, [_i(5, -7, 3), _i(2, 2, -2)], fn) for op, fn in {
        "Add": np.add, "Mul": np.multiply, "Less": np.less, "Equal": np.equal,
        "GreaterOrEqual": np.greater_equal, "LessOrEqual": np.less_equal, "Greater": np.greater,
    }.items()),
    *(Case(op, [_f(3, 4) > 0, _f(4) > 0], fn) for op, fn in {
        "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
    }.items()),
    Case("Not", [_f(3, 4) > 0], np.logical_not),
    Case("Pow", [_f(3, 4, low=0.1), _f(4)], np.power),
    Case("Sum", [_f(3, 4), _f(4), _f(1)], lambda *x: sum(x)),
    Case("Where", [_f(3, 1) > 0, _f(3, 4), _f(4)], np.where),
    Case("Cast", [_f(3, 4)], lambda x: x.astype(np.int64), {"to": "I64"}),
    Case("Cast", [_i(0, 2, -3)], lambda x: x != 0, {"to": "BOOL"}),
    Case("MatMul", [_f(7, 33), _f(33, 19)], np.matmul, terms=33),
    Case("MatMul", [_f(2, 1, 7, 33), _f(3, 33, 19)], np.matmul, terms=33),
    Case("MatMul", [_f(4, 7, 33), _f(33, 19)], np.matmul, constants=1, terms=33),
    Case("MatMul", [_f(33), _f(2, 33, 4)], np.matmul, terms=33),
    Case("MatMul", [_f(300, 700), _f(700, 1100)], np.matmul, constants=1, terms=700),
    Case("MatMul", [np.arange(6, dtype="i4").reshape(2, 3), np.ones((3, 2), "i4")], np.matmul),
    Case("Gemm", [_f(9, 5), _f(7, 9), _f(7)], lambda a, b, c: 0.5 * a.T @ b.T + 2 * c,
         {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}, constants=1, terms=9),
    *(Case(op, [_X], lambda x, f=fn: f(x, axis=(0, 2), keepdims=True), {"axes": [0, -1]}, terms=10)
      for op, fn in {
        "ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min,
        "ReduceProd": np.prod,
    }.items()),
    Case("ReduceSum", [_X], lambda x: x.sum(), {"keepdims": 0}, terms=30),
    Case("ArgMax", [_X], lambda x: x.argmax(1, keepdims=True), {"axis": 1}),
    Case("ArgMin", [_X], lambda x: x.argmin(-1), {"axis": -1, "keepdims": 0}),
    Case("Gather", [_X, _i(2, -1, 0)], lambda x, i: x.astype("f4").take(i, axis=1), {"axis": 1}),
    Case("Identity", [_X], lambda x: x),
    Case("Dropout", [_X], lambda x: x),
    Case("Reshape", [_X, _i(0, -1)], lambda x, _: x.reshape(2, 15), constants=1),
    Case("Flatten", [_X], lambda x: x.reshape(6, 5), {"axis": 2}),
    Case("Squeeze", [_f(1, 3, 1)], lambda x: x.reshape(3)),
    Case("Unsqueeze", [_X, _i(0, -1)], lambda x, _: x[None, ..., None], constants=1),
    Case("Transpose", [_X], lambda x: x.transpose(1, 2, 0), {"perm": [1, 2, 0]}),
    Case("Concat", [_f(2, 3), _f(2, 1), _f(2, 4)], lambda *x: np.concatenate(x, 1), {"axis": 1}),
    Case("Slice", [_X, _i(4, 0), _i(-100, 2), _i(2, 1), _i(-2, 1)], lambda x, *_: x[:, 0:2, ::-2],
         constants=1),
    Case("Split", [_X, _i(1, 4)], lambda x, _: np.split(x, [1], 2), {"axis": 2}, constants=1),
    Case("Pad", [_X, _i(0, 1, 2, 1, 0, -1), np.float32(7)], constants=1,
         reference=lambda x, *_: np.pad(x[..., :-1], [(0, 1), (1, 0), (2, 0)], constant_values=7)),
    Case("Pad", [_X, _i(0, 1, 2, 0, 2, 3)], lambda x, _: np.pad(x, [(0, 0), (1, 2), (2, 3)], mode="reflect"),
         {"mode": "reflect"}, constants=1),
    Case("Pad", [_X, _i(1, 0, 2, 0, 0, 3)], lambda x, _: np.pad(x, [(1, 0), (0, 0), (2, 3)], mode="edge"),
         {"mode": "edge"}, constants=1),
    Case("Expand", [_f(3, 1), _i(2, 1, 4)], lambda x, _: np.broadcast_to(x, (2, 3, 4)), constants=1),
    Case("Tile", [_X, _i(2, 1, 3)], lambda x, r: np.tile(x, r), constants=1),
    Case("DepthToSpace", [_f(1, 8, 2, 3)], attrs={"blocksize": 2}, reference=lambda x:
         x.reshape(1, 2, 2, 2, 2, 3).transpose(0, 3, 4, 1, 5, 2).reshape(1, 2, 4, 6)),
    Case("DepthToSpace", [_f(1, 8, 2, 3)], attrs={"blocksize": 2, "mode": "CRD"}, reference=lambda x:
         x.reshape(1, 2, 2, 2, 2, 3).transpose(0, 1, 4, 2, 5, 3).reshape(1, 2, 4, 6)),
    Case("SpaceToDepth", [_f(1, 2, 4, 6)], attrs={"blocksize": 2}, reference=lambda x:
         x.reshape(1, 2, 2, 2, 3, 2).transpose(0, 3, 5, 1, 2, 4).reshape(1, 8, 2, 3)),
    Case("Conv", [_f(2, 4, 9, 11), _f(6, 4, 3, 3), _f(6)],
         lambda x, w, b: _conv(x, w, b, (2, 1), (1, 0, 2, 1)), {"strides": [2, 1], "pads": [1, 0, 2, 1]},
         constants=1, terms=36),
    Case("Conv", [_f(2, 4, 6, 5), _f(8, 2, 1, 1)], lambda x, w: _conv(x, w, None, (1, 1), (0, 0, 0, 0), 2),
         {"group": 2}, terms=2),
    Case("Conv", [_f(1, 4, 9), _f(4, 1, 3), _f(4)], lambda x, w, b: _conv(x, w, b, (1,), (1, 1), 4),
         {"group": 4, "pads": [1, 1]}, constants=1, terms=3),
    Case("Conv", [_f(1, 2, 9, 9), _f(3, 2, 3, 3)], lambda x, w: _conv(x, w, None, (2, 2), (1, 1, 1, 1)),
         {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, terms=18),
    Case("MaxPool", [_f(2, 3, 7, 8)], lambda x: _windows(x, (3, 2), (2, 2), (1, 0, 1, 0), -np.inf).max(-1),
         {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 0]}),
    Case("MaxPool", [_f(2, 3, 7)], lambda x: _windows(x, (2,), (2,), (0, 1), -np.inf).max(-1),
         {"kernel_shape": [2], "strides": [2], "ceil_mode": 1}),
    Case("AveragePool", [_f(2, 3, 7, 8)],
         lambda x: np.nanmean(_windows(x, (3, 3), (1, 1), (1,) * 4, np.nan), -1),
         {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, terms=9),
    Case("AveragePool", [_f(2, 3, 7, 8)], lambda x: _windows(x, (3, 3), (1, 1), (1,) * 4, 0).mean(-1),
         {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, terms=9),
    Case("GlobalAveragePool", [_f(2, 3, 7, 8)], lambda x: x.mean((2, 3), keepdims=True), terms=56),
    Case("GlobalMaxPool", [_f(2, 3, 7, 8)], lambda x: x.max((2, 3), keepdims=True)),
    Case("BatchNormalization", [_f(2, 3, 4), *_BN], constants=1, reference=lambda x, s, b, m, v:
         (x - m[:, None]) / np.sqrt(v[:, None] + 1e-5) * s[:, None] + b[:, None]),
    Case("LayerNormalization", [_f(4, 33), _f(33), _f(33)], _layer_norm, constants=1, terms=33),
    Case("Softmax", [_f(4, 33)], _softmax, terms=33),
    Case("Softmax", [_f(4, 5, 3)], lambda x: _softmax(x, 1), {"axis": 1}, terms=5),
    Case("LogSoftmax", [_f(4, 33)], lambda x: np.log(_softmax(x)), terms=33),
    Case("Gelu", [_f(50)], lambda x: x / 2 * (1 + _erf(x / math.sqrt(2)))),
    Case("Gelu", [_f(50)], lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
         {"approximate": "tanh"}),
    Case("HardSigmoid", [_f(50)], lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    Case("HardSwish", [_f(50)], lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    Case("LeakyRelu", [_f(50)], lambda x: np.where(x > 0, x, np.float32(0.1) * x), {"alpha": 0.1}),
    Case("PRelu", [_f(2, 3, 4), _f(3, 1)], lambda x, a: np.where(x > 0, x, a * x)),
    Case("Elu", [_f(50)], lambda x: np.where(x > 0, x, 2 * np.expm1(x)), {"alpha": 2.0}),
    Case("Clip", [_f(50), np.float32(-1), np.float32(2)], lambda x, low, high: np.clip(x, low, high),
         constants=1),
    *(Case(**case) for case in vision_cases.CASES),
    *(Case(**case) for case in atom_cases.CASES),
    *(Case(**case) for case in sequence_cases.CASES),
    *(Case(**case) for case in tree_cases.CASES),
    Case("Shape", [_X], lambda x: np.array(x.shape)),
    Case("ConstantOfShape", [_i(2, 3)], lambda s: np.zeros(s, np.float32), constants=0),
    Case("Constant", [], lambda: np.array([1, 2], np.float32), {"value_floats": [1.0, 2.0]}),
]  # fmt: skip

_SETTINGS: list[dict[str, Any]] = [
    {},
    {"merge": False, "claims": False, "fuse": False, "reuse": False},
    {"claims": False, "vertical": False, "verify": True},
    {"claims": False, "horizontal": False, "verify": True},
    {"search": "reference"},
    {"threads": 2},
]


@pytest.mark.parametrize("case", _CASES, ids=str)
def test_matches_numpy_under_every_setting(case: Case) -> None:
    expected = _expected(case)
    for settings in _SETTINGS:
        for got, want in zip(_run(case, **settings), expected, strict=True):
            _assert_close(case, got, want)


def test_every_operator_has_a_case() -> None:
    # Those without a rule run outside of programs: see test_module_ops.py.
    in_programs = {op.name for op in _OPS.values() if op.rule != "none"}
    # A Gradient is one of something: every case below has it.
    assert {case.op for case in _CASES} == in_programs - {"Gradient"}


# ---- Gradients ----

#: What the loss does not depend on to first order: steps, counts and chance.
_FLAT = {"Floor", "Ceil", "Round", "Sign", "EyeLike", "RandomUniformLike", "RandomNormalLike", "Bernoulli"}
#: What is no atom, no raster and no loop, and has no formula.
_OPAQUE = {"GridSample", "RoiAlign", "DeformConv", "Det", "TreeEnsemble"}
#: Operators whose float constants are settings.
_SET = {"Resize", "Upsample", "Pad", "Clip", "Range", "MelWeightMatrix"}
#: Those that make integers of floats; their references say floats.
_ROUNDING = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearMatMul", "QLinearConv", "QLinearAdd"}
_ROUNDING |= {"QLinearGlobalAveragePool"}


def _is_smooth(case: Case) -> bool:
    """Does the case have inputs and outputs that may change by a little?"""
    slope = _Slope(case)
    small = all(value.size < 10_000 for value in slope.inputs.values())
    return bool(slope.chosen and slope.shapes) and small and case.op not in _ROUNDING


class _Slope:
    """A case in double precision, its numbers moved a little so that no two are equal."""

    def __init__(self, case: Case) -> None:
        rng = np.random.default_rng(4)
        self.case = case
        self.names: list[str] = []
        self.inputs: dict[str, Array] = {}
        self.constants: dict[str, Array] = {}
        for i, given in enumerate(case.inputs):
            self.names.append("" if given is None else f"x{i}")
            if given is None:
                continue
            value = np.ascontiguousarray(given)
            held = i >= case.constants and (value.dtype.kind != "f" or case.op in _SET)
            if value.dtype.kind == "f":
                value = value.astype(np.float64)
                value = value if held else value + rng.uniform(0, 0.05, value.shape)
            (self.constants if held else self.inputs)[f"x{i}"] = value
        self.chosen = [name for name, value in self.inputs.items() if value.dtype.kind == "f"]
        self.shapes = {f"y{i}": y.shape for i, y in enumerate(_expected(case)) if y.dtype.kind == "f"}
        if case.op == "LayerNormalization":  # its statistics are of single precision
            self.shapes = {"y0": self.shapes["y0"]}

    def nodes(self, builder: api.GraphBuilder) -> list[str]:
        arrays = {name: value for name, value in self.case.attrs.items() if isinstance(value, np.ndarray)}
        for name, value in {**self.constants, **arrays}.items():
            builder.weight(name, value.astype(np.float64) if value.dtype == np.float32 else value)
        outputs = [f"y{i}" for i in range(len(_expected(self.case)))]
        attrs = {**self.case.attrs, **{name: f"@{name}" for name in arrays}}
        builder.node(self.case.op, self.names, outputs, name="node", **attrs)
        return outputs

    def losses(self) -> list[dict[str, tuple[int, ...]]]:
        """Of all outputs together, and of each by itself, which leaves what only others show inside."""
        if len(self.shapes) == 1:
            return [self.shapes]
        return [self.shapes, *({name: shape} for name, shape in self.shapes.items())]

    def session(self) -> api.Session:
        return gradient_session(self.nodes, self.inputs, self.shapes, self.chosen)


@pytest.mark.parametrize("case", [case for case in _CASES if _is_smooth(case)], ids=str)
def test_gradients_are_slopes(case: Case) -> None:
    slope = _Slope(case)
    if case.op in _FLAT:
        with pytest.raises(ModelError, match="does not depend"):
            slope.session().run(slope.inputs)
        return
    if case.op in _OPAQUE:
        with pytest.raises(ModelError, match=f"{case.op} 'node': it has no gradient"):
            slope.session().run(slope.inputs)
        return
    for shapes in slope.losses():
        session = gradient_session(slope.nodes, slope.inputs, shapes, slope.chosen)
        assert_gradients(session, slope.inputs, slope.chosen)


#: Of each atomic operator, and each that only moves elements, one case.
_ATOMS = {case.op: case for case in reversed(_CASES) if _OPS[case.op].op_class in ("ATOMIC", "TRANSFORM")}


@pytest.mark.slow_session
@pytest.mark.skipif(not api.devices(), reason="no OpenCL device: pocl-opencl-icd makes one of the processor")
@pytest.mark.parametrize("op", sorted(_ATOMS))
def test_a_device_has_every_atom(op: str) -> None:
    case = _ATOMS[op]
    if op.startswith("Random"):  # a tape plays numbers of a seed alone
        case = replace(case, attrs={**case.attrs, "seed": 1.0})
    session, feeds = _session(case, backend="opencl")
    results = session.run(feeds)
    for got, want in zip(results.values(), _expected(case), strict=True):
        _assert_close(case, np.asarray(got), want)
    assert {step["place"] for step in session.explain()["steps"]} <= {"opencl"}
