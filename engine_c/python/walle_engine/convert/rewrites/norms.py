"""Normalisations that exporters spell out: layer norm and root-mean-square norm."""

from __future__ import annotations

import numpy as np

from walle_engine import wmodel
from walle_engine.convert.rewrites.index import Index
from walle_engine.convert.rewrites.patterns import (
    Apply,
    Match,
    Pattern,
    constant,
    either,
    maybe_cast,
    number,
    op,
    scalar,
    value,
)
from walle_engine.convert.rewrites.row import Built, Rewrite

_FLOATS = ("F32", "F64", "F16", "BF16")


def _square(x: Pattern) -> Pattern:
    return either(op("Pow", x, number(2)), op("Mul", x, x))


def _mean(x: Pattern, name: str) -> Apply:
    return op("ReduceMean", x, constant("axes"), name=name)


def _over_root(x: Pattern, y: Pattern) -> Pattern:
    """``x / sqrt(y)`` in the ways there are to write it."""
    root = op("Sqrt", y)
    inverse = either(op("Reciprocal", root), op("Div", number(1), root), op("Pow", y, number(-0.5)))
    return either(
        op("Div", x, either(maybe_cast(root), op("Pow", y, number(0.5)))), op("Mul", x, maybe_cast(inverse))
    )


def _times_gain(x: Pattern) -> Pattern:
    return op("Mul", maybe_cast(x), constant("gain"))


_X = value("x")
_CENTRED = op("Sub", _X, _mean(_X, "mean"))
_VARIANCE = op("Add", _mean(_square(maybe_cast(_CENTRED)), "variance"), scalar("epsilon"))
_LAYER = _over_root(_CENTRED, _VARIANCE)

# As TensorFlow has it, gain first: x (g r) + (b - mean (g r)).
_SLOPE = op("Mul", op("Reciprocal", op("Sqrt", _VARIANCE)), constant("gain"))
_SLOPED = op("Add", op("Mul", _X, _SLOPE), op("Sub", constant("bias"), op("Mul", _mean(_X, "mean"), _SLOPE)))

_MEAN_SQUARE = op("Add", _mean(_square(_X), "variance"), scalar("epsilon"))
_ROOT_MEAN = _over_root(_X, _MEAN_SQUARE)


def _layer_norm(index: Index, match: Match) -> Built:
    return _norm(index, match, "LayerNormalization")


def _rms_norm(index: Index, match: Match) -> Built:
    return _norm(index, match, "RMSNormalization")


def _norm(index: Index, match: Match, op_name: str) -> Built:
    x = match.values["x"]
    axis = _first_axis(index, match)
    epsilon = index.constant(match.values["epsilon"])
    if (
        axis is None
        or epsilon is None
        or not float(epsilon.reshape(-1)[0]) >= 0
        or not _casts_keep(index, match)
    ):
        return None
    dtype = index.dtype(x)
    gain = match.values.get("gain") or index.weight(
        f"{match.output}.gain", np.ones(1, wmodel.numpy_dtype(dtype))
    )
    affine = (gain, match.values["bias"]) if match.has("bias") else (gain,)
    if not all(_scales(index, x, name, axis) for name in affine):
        return None
    attributes = {"axis": axis, "epsilon": float(epsilon.reshape(-1)[0])}
    return [wmodel.Node(op_name, match.root.name, (x, *affine), match.root.outputs, attributes)]


def _first_axis(index: Index, match: Match) -> int | None:
    """The axis, counted from the end, from which on everything is normalised; None where that is not so."""
    rank = index.rank(match.values["x"])
    axes = index.constant(match.values["axes"])
    means = [node for name, node in match.nodes.items() if name in ("mean", "variance")]
    if rank is None or axes is None or any(not node.attrs.get("keepdims", 1) for node in means):
        return None
    wanted = sorted(int(axis) % rank for axis in axes.reshape(-1)) if rank else []
    return wanted[0] - rank if wanted and wanted == list(range(wanted[0], rank)) else None


def _scales(index: Index, x: str, name: str, axis: int) -> bool:
    """Whether a constant has x's type, and one element or those of the normalised dims."""
    shape, array = index.shape(x), index.constant(name)
    if shape is None or array is None or index.dtype(x) != index.dtype(name):
        return False
    normalised = shape[axis:]
    return array.ndim <= -axis and (
        array.size == 1 or array.shape == normalised[len(normalised) - array.ndim :]
    )


def _casts_keep(index: Index, match: Match) -> bool:
    """Whether x is floating and every cast on the way is to a floating type."""
    casts = (node.attrs.get("to") for node in match.matched if node.op == "Cast")
    result = index.dtype(match.output)
    x = index.dtype(match.values["x"])
    return x in _FLOATS and result in (x, "") and all(to in _FLOATS for to in casts)


ROWS = (
    Rewrite("layer_norm", op("Add", _times_gain(_LAYER), constant("bias")), _layer_norm),
    Rewrite("layer_norm", _SLOPED, _layer_norm),
    Rewrite("layer_norm", _times_gain(_LAYER), _layer_norm),
    Rewrite("layer_norm", _LAYER, _layer_norm),
    Rewrite("rms_norm", _times_gain(_ROOT_MEAN), _rms_norm),
    Rewrite("rms_norm", _ROOT_MEAN, _rms_norm),
)
