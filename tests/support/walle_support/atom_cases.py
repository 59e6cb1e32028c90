"""Cases of element-wise, indexing and constructing operators for the conformance suite; references in NumPy.

Each is the keyword arguments of a ``Case`` of ``tests/conformance/test_engine_ops.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

type Array = np.ndarray[Any, Any]


def _f(*shape: int, low: float = -3, high: float = 3) -> Array:
    return np.random.default_rng(sum(shape)).uniform(low, high, shape).astype(np.float32)


def _i(*values: int) -> Array:
    return np.array(values, np.int64)


def _case(op: str, inputs: list[Array], reference: Callable[..., Any], **more: Any) -> dict[str, Any]:
    return {"op": op, "inputs": inputs, "reference": reference} | more


def _narrow(x: Array) -> Array:
    """Back to the type of the input: references see float32 inputs as float64."""
    return x.astype(np.float32)


def _log_sum_exp(x: Array, axis: tuple[int, ...]) -> Array:
    return np.log(np.exp(x).sum(axis=axis, keepdims=True))


def _along(x: Array, axis: int, order: Array) -> tuple[Array, Array]:
    return _narrow(np.take_along_axis(x, order, axis)), order


def _scattered(x: Array, where: Any, updates: Array, fold: Any = None) -> Array:
    result = _narrow(x).copy()
    if fold is None:
        result[where] = updates
    else:
        fold.at(result, where, _narrow(updates))
    return result


def _written(cache: Array, update: Array, starts: Array, extent: int) -> Array:
    result = _narrow(cache).copy()
    for batch, start in enumerate(starts):
        for step in range(update.shape[2]):
            result[batch, :, (start + step) % extent] = update[batch, :, step]
    return result


def _turned(x: Array, lengths: Array) -> Array:
    result = _narrow(x).copy()
    for batch, length in enumerate(lengths):
        result[:length, batch] = result[:length, batch][::-1]
    return result


def _one_hot(indices: Array, depth: int, values: Array, axis: int) -> Array:
    hit = (indices % depth)[..., None] == np.arange(depth)
    hit &= ((indices >= -depth) & (indices < depth))[..., None]
    return np.moveaxis(np.where(hit, values[1], values[0]), -1, axis)


def _elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


_X = _f(2, 3, 5)
_BYTES = np.random.default_rng(3).integers(0, 256, (4, 7)).astype(np.uint8)
_SPECIAL = np.array([1, np.nan, np.inf, -np.inf, 0], np.float32)
_ROWS, _COLUMNS = np.indices((2, 3))

CASES: list[dict[str, Any]] = [
    # Element-wise
    *(_case(op, [_f(40, low=low, high=high)], fn) for op, fn, low, high in (
        ("Asin", np.arcsin, -1, 1), ("Acos", np.arccos, -1, 1), ("Atanh", np.arctanh, -0.9, 0.9),
        ("Asinh", np.arcsinh, -9, 9), ("Acosh", np.arccosh, 1, 9), ("Sinh", np.sinh, -5, 5),
        ("Cosh", np.cosh, -5, 5), ("Softsign", lambda x: x / (1 + np.abs(x)), -3, 3),
        ("Mish", lambda x: x * np.tanh(np.log1p(np.exp(x))), -3, 3),
    )),
    _case("Swish", [_f(40)], lambda x: x / (1 + np.exp(-0.5 * x)), attrs={"alpha": 0.5}),
    _case("Celu", [_f(40)], lambda x: _elu(x / 2) * 2, attrs={"alpha": 2.0}),
    _case("Selu", [_f(40)], lambda x: 1.5 * _elu(x, 0.5), attrs={"alpha": 0.5, "gamma": 1.5}),
    _case("ThresholdedRelu", [_f(40)], lambda x: np.where(x > 0.5, x, 0), attrs={"alpha": 0.5}),
    _case("Shrink", [_f(40)], lambda x: np.where(x < -1, _narrow(x) + np.float32(0.5),
          np.where(x > 1, _narrow(x) - np.float32(0.5), np.float32(0))), attrs={"lambd": 1.0, "bias": 0.5}),
    _case("Shrink", [_BYTES], lambda x: np.where(x > 9, x - 2, 0), attrs={"lambd": 9.5, "bias": 2.0}),
    _case("Mean", [_f(3, 4), _f(4), _f(1)], lambda *x: sum(x) / 3),
    _case("IsNaN", [_SPECIAL], np.isnan),
    _case("IsInf", [_SPECIAL], np.isinf),
    _case("IsInf", [_SPECIAL], np.isneginf, attrs={"detect_positive": 0}),
    _case("CastLike", [_f(3, 4), _i(0)], lambda x, _: x.astype(np.int64)),
    _case("BitCast", [_f(3, 4)], lambda x: _narrow(x).view(np.int32), attrs={"to": "I32"}),
    *(_case(op, [_BYTES, _BYTES[:1]], fn) for op, fn in {
        "BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor,
    }.items()),
    _case("BitwiseNot", [_BYTES], np.invert),
    _case("BitwiseNot", [_BYTES.astype(np.uint64) << np.uint64(60)], np.invert),
    _case("BitShift", [_BYTES, np.array([0, 1, 2, 3, 7, 8, 200], np.uint8)],
          lambda x, n: np.where(n < 8, x << np.minimum(n, 7), 0), attrs={"direction": "LEFT"}),
    _case("BitShift", [_i(-9, -9, -1, 9, 9), _i(1, 64, -1, 2, 99)], lambda *_: _i(-5, -1, -1, 2, 0),
          attrs={"direction": "RIGHT"}),
    _case("Mod", [_i(7, -7, 7, -7), _i(3, 3, -3, -3)], np.mod),
    _case("Mod", [_i(7, -7, 7, -7), _i(3, 3, -3, -3)], np.fmod, attrs={"fmod": 1}),
    _case("Mod", [_f(40), _f(40)[::-1].copy()], lambda a, b: np.fmod(_narrow(a), _narrow(b)),
          attrs={"fmod": 1}),
    # Reductions
    *(_case(op, [_X], lambda x, f=fn: f(x, (0, 2)), attrs={"axes": [0, -1]}, terms=10) for op, fn in {
        "ReduceL1": lambda x, a: np.abs(x).sum(axis=a, keepdims=True),
        "ReduceL2": lambda x, a: np.sqrt((x * x).sum(axis=a, keepdims=True)),
        "ReduceSumSquare": lambda x, a: (x * x).sum(axis=a, keepdims=True),
        "ReduceLogSumExp": _log_sum_exp,
    }.items()),
    _case("ReduceLogSum", [_f(4, 5, low=0.1)], lambda x: np.log(x.sum(1)), attrs={"axes": [1], "keepdims": 0},
          terms=5),
    _case("ReduceL1", [_X], np.abs, attrs={"axes": [], "noop_with_empty_axes": 1}),
    # Along an axis
    _case("CumSum", [_X, _i(1)], lambda x, _: x.cumsum(1), constants=1, terms=3),
    _case("CumSum", [_i(1, 2, 3, 4, 5), _i(0)], lambda *_: _i(14, 12, 9, 5, 0), constants=1,
          attrs={"exclusive": 1, "reverse": 1}),
    _case("CumProd", [_X, _i(-1)], lambda x, _: x.cumprod(2), constants=1, terms=5),
    _case("TopK", [_X, _i(2)], lambda x, _: _along(x, 1, np.argsort(-x, 1)[:, :2]), constants=1,
          attrs={"axis": 1}),
    _case("TopK", [_X, _i(3)], lambda x, _: _along(x, 2, np.argsort(x, 2)[..., :3]), constants=1,
          attrs={"largest": 0}),
    _case("Hardmax", [_X], lambda x: x == x.max(1, keepdims=True), attrs={"axis": 1}),
    _case("ReverseSequence", [_f(4, 3, 2), _i(4, 1, 3)], _turned),
    # Indexed reads and writes
    _case("GatherElements", [_X, _i(0, 2, -1, 1).reshape(2, 2, 1)],
          lambda x, i: _narrow(np.take_along_axis(x[..., :1], i, 1)), attrs={"axis": 1}),
    _case("GatherND", [_X, _i(0, 1, 1, -1).reshape(2, 2)], lambda x, i: _narrow(x[i[:, 0], i[:, 1]])),
    _case("GatherND", [_X, _i(2, 0).reshape(2, 1)], lambda x, i: _narrow(x[np.arange(2), i[:, 0]]),
          attrs={"batch_dims": 1}),
    *(_case(op, [_f(3, 3), _i(1, 0, 2, -1, 1, 0).reshape(2, 3), _f(2, 3)],
            lambda x, i, u: _scattered(x, (i, _COLUMNS), u)) for op in ("ScatterElements", "Scatter")),
    _case("ScatterElements", [_f(2, 5), _i(1, 1, 4, 3, 3, -2).reshape(2, 3), _f(2, 3)],
          lambda x, i, u: _scattered(x, (_ROWS, i), u, np.add), attrs={"axis": 1, "reduction": "add"}),
    _case("ScatterND", [_X, _i(1, 2, 0, 0).reshape(2, 2), _f(2, 5)],
          lambda x, i, u: _scattered(x, (i[:, 0], i[:, 1]), u)),
    *(_case("ScatterND", [_f(6), _i(1, 5, 1).reshape(3, 1), _f(3)],
            lambda x, i, u, f=fn: _scattered(x, i[:, 0], u, f), attrs={"reduction": name})
      for name, fn in {"mul": np.multiply, "max": np.maximum, "min": np.minimum}.items()),
    _case("TensorScatter", [_f(2, 3, 4, 5), _f(2, 3, 2, 5), _i(2, 3)],
          lambda x, u, i: _written(x, u, i, 4), attrs={"mode": "circular"}),
    _case("TensorScatter", [_f(2, 3, 4, 5), _f(2, 3, 2, 5)], lambda x, u: _written(x, u, _i(0, 0), 4)),
    # Made from positions
    _case("Size", [_X], lambda x: np.array(x.size)),
    _case("Range", [_i(9), _i(-2), _i(-3)], lambda *_: np.arange(9, -2, -3), constants=0),
    _case("Range", [np.float32(1), np.float32(2), np.float32(0.3)], lambda *_: 1 + 0.3 * np.arange(4),
          constants=0),
    _case("EyeLike", [_f(4, 6)], lambda _: np.eye(4, 6, -2), attrs={"k": -2, "dtype": "F64"}),
    _case("OneHot", [_i(0, -1, 3, 7).reshape(2, 2), _i(4), _f(2)],
          lambda i, d, v: _narrow(_one_hot(i, 4, v, 1)), attrs={"axis": 1}, constants=1),
    _case("Trilu", [_X, np.array(1, np.int64)], lambda x, _: _narrow(np.triu(x, 1)), constants=1),
    _case("Trilu", [_X, np.array(-1, np.int64)], lambda x, _: _narrow(np.tril(x, -1)), attrs={"upper": 0}),
    _case("CenterCropPad", [_X, _i(4, 2)],
          lambda x, _: np.pad(_narrow(x), [(1, 1), (0, 0), (0, 0)])[..., 1:3],
          attrs={"axes": [0, -1]}, constants=1),
    _case("Pad", [_X, _i(0, 2, 7, 0, 1, 5)],
          lambda x, _: _narrow(np.pad(x, [(0, 0), (2, 1), (7, 5)], mode="wrap")),
          attrs={"mode": "wrap"}, constants=1),
    _case("Pad", [_X, _i(0, 5, 0, 0, 3, 9)],
          lambda x, _: _narrow(np.pad(x, [(0, 0), (5, 3), (0, 9)], mode="reflect")),
          attrs={"mode": "reflect"}, constants=1),
    _case("Pad", [_i(1 << 60, 5), _i(1, 2), np.array((1 << 60) + 1)],
          lambda x, _, v: np.pad(x, (1, 2), constant_values=int(v)), constants=1),
    _case("SpaceToDepth", [_f(1, 2, 4, 6)], attrs={"blocksize": 2, "mode": "CRD"}, reference=lambda x:
          _narrow(x.reshape(1, 2, 2, 2, 3, 2).transpose(0, 1, 3, 5, 2, 4).reshape(1, 8, 2, 3))),
    # Random numbers where the parameters leave no choice; test_engine_random.py looks at the others
    _case("RandomUniform", [], lambda: np.full((2, 3), 1.5, np.float64),
          attrs={"shape": [2, 3], "low": 1.5, "high": 1.5, "dtype": "F64"}),
    _case("RandomNormal", [], lambda: np.full((2, 3), -2, np.float32),
          attrs={"shape": [2, 3], "mean": -2.0, "scale": 0.0}),
    _case("RandomUniformLike", [_X], lambda x: np.full(x.shape, 1.5), attrs={"low": 1.5, "high": 1.5}),
    _case("RandomNormalLike", [_X], lambda x: np.full(x.shape, 4.0), attrs={"mean": 4.0, "scale": 0.0}),
    _case("Bernoulli", [np.array([0, 1, 1, 0], np.float32)], lambda x: x),
    _case("Dropout", [_X], lambda x: (_narrow(x), np.ones(x.shape, bool))),
]  # fmt: skip
