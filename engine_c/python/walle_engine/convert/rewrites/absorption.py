"""Constants that weights can absorb: batch normalisation, scales and shifts behind a layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from walle_engine import wmodel
from walle_engine.convert.draft import Array
from walle_engine.convert.rewrites.index import Index
from walle_engine.convert.rewrites.patterns import Match, constant, either, op
from walle_engine.convert.rewrites.row import Built, Rewrite

_CONVOLUTION = op("Conv|ConvTranspose", name="layer")
_DENSE = op("Gemm", name="layer")
_LAYER = op("Conv|ConvTranspose|Gemm", name="layer")
_STATISTICS = ("gain", "shift", "mean", "variance")


@dataclass(frozen=True)
class _Affine:
    """``scale * y + shift`` per output channel of a layer, in float64; arrays of one or all channels."""

    scale: Array
    shift: Array


def _batch_norm(index: Index, match: Match) -> Built:
    """``g (x - m) / sqrt(v + e) + b`` is ``s x + (b - s m)`` with ``s = g / sqrt(v + e)``."""
    norm = match.root
    gain, shift, mean, variance = (_wide(index, match.values[name]) for name in _STATISTICS)
    epsilon = norm.attrs.get("epsilon", 1e-5)
    if norm.attrs.get("training_mode", 0) or not isinstance(epsilon, (int, float)):
        return None
    if not np.all(variance + epsilon > 0):
        return None
    scale = gain / np.sqrt(variance + epsilon)
    return _absorb(index, match, _Affine(scale, shift - scale * mean))


def _constant(index: Index, match: Match) -> Built:
    name = match.values["constant"]
    per_channel = _per_channel(index, match, name)
    if per_channel is None:
        return None
    one, zero = np.ones(1), np.zeros(1)
    with np.errstate(divide="ignore"):
        affine = {
            "Mul": lambda c: _Affine(c, zero),
            "Div": lambda c: _Affine(1 / c, zero),
            "Add": lambda c: _Affine(one, c),
            "Sub": lambda c: _Affine(one, -c),
        }[match.root.op](per_channel)
    return _absorb(index, match, affine)


def _wide(index: Index, name: str) -> Array:
    array = index.constant(name)
    assert array is not None
    return array.astype(np.float64)


def _per_channel(index: Index, match: Match, name: str) -> Array | None:
    """A constant that is the same for all of a channel, flat; None for any other."""
    layer = match.nodes["layer"]
    weight, array = index.constant(layer.inputs[1]), _wide(index, name)
    axis = _channel_axis(layer)
    if weight is None or axis is None or array.ndim > weight.ndim:
        return None
    dims = (1,) * (weight.ndim - array.ndim) + array.shape
    if dims[1] not in (1, _channels(layer, weight, axis)) or array.size != dims[1]:
        return None
    return array.reshape(-1)


def _channel_axis(layer: wmodel.Node) -> int | None:
    """The weight axis that counts output channels; None where a scale of the product stands in the way."""
    if layer.op != "Gemm":
        return 0 if layer.op == "Conv" else 1
    if layer.attrs.get("alpha", 1.0) != 1.0 or layer.attrs.get("beta", 1.0) != 1.0:
        return None
    return 0 if layer.attrs.get("transB", 0) else 1


def _groups(layer: wmodel.Node) -> int:
    """How many output channels share a place of the weight's channel axis: of ConvTranspose, the groups."""
    group = layer.attrs.get("group", 1)
    return group if layer.op == "ConvTranspose" and isinstance(group, int) else 1


def _channels(layer: wmodel.Node, weight: Array, axis: int) -> int:
    return int(weight.shape[axis]) * _groups(layer)


def _absorb(index: Index, match: Match, affine: _Affine) -> Built:
    """``s (W u + c) + t`` is ``(s W) u + (s c + t)``; computed in float64, stored in the type of ``W``."""
    layer = match.nodes["layer"]
    data, weight_name, bias_name = (*layer.inputs, "")[:3]
    weight, bias, axis = index.constant(weight_name), index.constant(bias_name), _channel_axis(layer)
    if weight is None or axis is None or (bias_name and bias is None) or weight.ndim < 2:
        return None
    channels = _channels(layer, weight, axis)
    flat = np.zeros(1) if bias is None else bias.astype(np.float64)
    if flat.size not in (1, channels) or flat.size != (flat.shape or (1,))[-1]:
        return None  # one per row of the product
    with np.errstate(all="ignore"):  # what is too large is found below
        scaled = _scaled(weight, affine.scale, axis, _groups(layer)).astype(weight.dtype)
        shifted = affine.scale * flat.reshape(-1) + affine.shift
        new_bias = np.broadcast_to(shifted, channels).astype(weight.dtype)
    if not (_is_finite(scaled) and _is_finite(new_bias)):
        return None
    if np.any(affine.scale != 1):
        weight_name = index.weight(f"{weight_name}.scaled", scaled)
    inputs = (data, weight_name, index.weight(f"{match.root.name}.bias", new_bias))
    return [replace(layer, inputs=inputs, outputs=match.root.outputs[:1])]


def _is_finite(array: Array) -> bool:
    return bool(np.all(np.isfinite(array.astype(np.float64))))


def _scaled(weight: Array, scale: Array, axis: int, groups: int) -> Array:
    """A weight times a factor per output channel. ConvTranspose: [in, out / groups, ...], inputs grouped."""
    wide = weight.astype(np.float64)
    if groups == 1:
        return wide * scale.reshape([-1 if i == axis else 1 for i in range(wide.ndim)])
    shares = wide.reshape(groups, -1, *wide.shape[1:])
    per_share = np.broadcast_to(scale, groups * wide.shape[1]).reshape(groups, 1, -1, *[1] * (wide.ndim - 2))
    scaled: Array = (shares * per_share).reshape(wide.shape)
    return scaled


ROWS = (
    Rewrite(
        "batch_norm_into_conv",
        op("BatchNormalization", _CONVOLUTION, *map(constant, _STATISTICS), name="norm"),
        _batch_norm,
    ),
    Rewrite(
        "batch_norm_into_gemm", op("BatchNormalization", _DENSE, *map(constant, _STATISTICS)), _batch_norm
    ),
    Rewrite(
        "constant_into_layer",
        either(op("Mul|Add", _LAYER, constant("constant")), op("Div|Sub", _LAYER, constant("constant"))),
        _constant,
    ),
)
