"""Cases of operators on images and signals for the conformance suite, with references in NumPy.

Each is the keyword arguments of a ``Case`` of ``tests/conformance/test_engine_ops.py``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

type Array = np.ndarray[Any, Any]


def _f(*shape: int, low: float = -3, high: float = 3) -> Array:
    return np.random.default_rng(sum(shape)).uniform(low, high, shape).astype(np.float32)


def _i(*values: int) -> Array:
    return np.array(values, np.int64)


def _bytes(*shape: int, dtype: Any = np.uint8) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(sum(shape)).integers(info.min, int(info.max) + 1, shape).astype(dtype)


def _conv(x: Array, w: Array, pad: int = 0, group: int = 1) -> Array:
    """Convolution of stride 1 in the type of ``x``."""
    x = np.pad(x, [(0, 0), (0, 0), *[(pad, pad)] * (x.ndim - 2)])
    extents = [n - k + 1 for n, k in zip(x.shape[2:], w.shape[2:], strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *extents), x.dtype)
    ins, outs = w.shape[1], w.shape[0] // group
    for n, o, at in itertools.product(
        range(x.shape[0]), range(w.shape[0]), itertools.product(*map(range, extents))
    ):
        window = tuple(slice(a, a + k) for a, k in zip(at, w.shape[2:], strict=True))
        first = o // outs * ins
        seen: Any = (n, slice(first, first + ins), *window)
        y[(n, o, *at)] = (x[seen] * w[o]).sum()
    return y


def _conv_transpose(
    x: Array, w: Array, b: Array, stride: int, dilation: int, pads: Sequence[int], group: int, extra: int = 0
) -> Array:
    rank = x.ndim - 2
    full = [
        stride * (n - 1) + extra + (k - 1) * dilation + 1
        for n, k in zip(x.shape[2:], w.shape[2:], strict=True)
    ]
    y = np.zeros((x.shape[0], w.shape[1] * group, *full), x.dtype)
    for c, tap in itertools.product(range(x.shape[1]), itertools.product(*map(range, w.shape[2:]))):
        first = c // (x.shape[1] // group) * w.shape[1]
        target = tuple(
            slice(t * dilation, t * dilation + stride * (n - 1) + 1, stride)
            for t, n in zip(tap, x.shape[2:], strict=True)
        )
        for o in range(w.shape[1]):
            y[(slice(None), first + o, *target)] += x[:, c] * w[(c, o, *tap)]
    cut = tuple(slice(pads[i], n - pads[rank + i]) for i, n in enumerate(full))
    return y[(slice(None), slice(None), *cut)] + b.reshape(-1, *(1,) * rank)


def _conv_filter_gradient(
    x: Array, gradient: Array, kernel: Sequence[int], stride: int, dilation: int, pads: Sequence[int],
    group: int,
) -> Array:  # fmt: skip
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))])
    ins, outs = x.shape[1] // group, gradient.shape[1] // group
    w = np.zeros((gradient.shape[1], ins, *kernel), x.dtype)
    for o, c, tap in itertools.product(*map(range, w.shape[:2]), itertools.product(*map(range, kernel))):
        seen = tuple(
            slice(t * dilation, t * dilation + stride * (n - 1) + 1, stride)
            for t, n in zip(tap, gradient.shape[2:], strict=True)
        )
        w[(o, c, *tap)] = (x[(slice(None), o // outs * ins + c, *seen)] * gradient[:, o]).sum()
    return w


def _seen(
    x: Array, extents: Sequence[int], kernel: Sequence[int], stride: int, dilation: int, pads: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], dict[tuple[int, ...], float]]]:
    """Each place of a pool's output, with the places of the input that it sees and what is there."""
    for n, c, *at in np.ndindex(*x.shape[:2], *extents):
        seen = {}
        for tap in itertools.product(*map(range, kernel)):
            place = tuple(a * stride + t * dilation - pad for a, t, pad in zip(at, tap, pads, strict=True))
            if all(0 <= p < extent for p, extent in zip(place, x.shape[2:], strict=True)):
                seen[n, c, *place] = x[n, c, *place]
        yield (n, c, *at), seen


def _max_pool_gradient(image: Sequence[int], extents: Sequence[int], *window: Any) -> dict[str, Any]:
    """Inputs and reference of ``MaxPoolGradient`` for extents of an image and of the output."""
    x = _f(2, 3, *image)
    y = np.zeros((*x.shape[:2], *extents), np.float32)
    for at, seen in _seen(x, extents, *window):
        y[at] = max(seen.values())

    def reference(x: Array, _: Array, gradient: Array) -> Array:
        given = np.zeros_like(x)
        for at, seen in _seen(x, extents, *window):
            given[max(seen, key=lambda place: seen[place])] += gradient[at]  # of equals the first
        return given

    return {"op": "MaxPoolGradient", "inputs": [x, y, _f(*y.shape)], "terms": 4, "reference": reference}


def _col2im(x: Array, *_: Array) -> Array:
    """Image 5 x 6, block 2 x 3, stride 1 x 2, dilation 2 x 1."""
    y = np.zeros((x.shape[0], x.shape[1] // 6, 5, 6))
    blocks = itertools.product(range(3), range(0, 4, 2))
    for column, (row, left) in enumerate(blocks):
        for tap, (i, j) in enumerate(itertools.product(range(2), range(3))):
            y[:, :, row + 2 * i, left + j] += x[:, tap::6, column]
    return y


def _causal_conv(x: Array, w: Array, b: Array, state: Array) -> list[Array]:
    seen = np.concatenate([state, x], 2)
    sums = _conv(seen, w, group=x.shape[1]) + b[:, None]
    return [sums / (1 + np.exp(-sums)), seen[:, :, x.shape[2] :]]


def _windows(x: Array, kernel: Sequence[int], fill: float, pad: int = 0) -> Array:
    x = np.pad(x, [(0, 0), (0, 0), *[(pad, pad)] * (x.ndim - 2)], constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=tuple(range(2, x.ndim)))
    return view.reshape(*view.shape[: x.ndim], -1)


def _max_with_indices(x: Array, by_column: bool) -> list[Array]:
    """2 x 3 windows padded by 1; index of the largest in the whole tensor."""
    n, c, h, w = x.shape
    order = np.arange(h * w).reshape(w, h).T if by_column else np.arange(h * w).reshape(h, w)
    places = order + (np.arange(n * c) * h * w).reshape(n, c, 1, 1)
    seen, where = _windows(x, (2, 3), -np.inf, 1), _windows(places, (2, 3), -1, 1)
    chosen = seen.argmax(-1)[..., None]
    return [np.take_along_axis(seen, chosen, -1)[..., 0], np.take_along_axis(where, chosen, -1)[..., 0]]


def _lrn(x: Array) -> Array:
    squares = np.pad(x * x, [(0, 0), (1, 2), (0, 0), (0, 0)])
    total = sum(squares[:, j : j + x.shape[1]] for j in range(4))
    return x / (2 + 0.5 / 4 * total) ** 0.6


def _quantize(x: Array, scale: Array, zero_point: Array) -> Array:
    low, high = np.iinfo(zero_point.dtype).min, np.iinfo(zero_point.dtype).max
    return np.asarray(np.clip(np.rint(x.astype("f4") / scale.astype("f4")) + zero_point, low, high))


def _dynamic_quantize(x: Array) -> list[Array]:
    x = x.astype("f4")
    least, most = np.minimum(x.min(), 0), np.maximum(x.max(), 0)
    scale = (most - least) / np.float32(255)
    zero_point = np.clip(np.rint(-least / scale), 0, 255)
    y = np.clip(np.rint(x / scale) + zero_point, 0, 255)
    return [y.astype(np.uint8), np.asarray(scale), np.asarray(zero_point).astype(np.uint8)]


def _qlinear_conv(x: Array, xs: Array, xz: Array, w: Array, ws: Array, wz: Array, ys: Array, yz: Array,
                  b: Array, low: float = -np.inf, high: float = np.inf) -> Array:  # fmt: skip
    sums = _conv(x.astype("i4") - xz, w.astype("i4") - wz.astype("i4").reshape(-1, 1, 1, 1), pad=1)
    scale = (xs.astype("f4") * ws.astype("f4") / ys.astype("f4")).reshape(-1, 1, 1)
    bias = b.reshape(-1, 1, 1)
    if b.dtype.kind == "f":  # it is added to what the sums stand for
        scaled = sums.astype("f4") * scale + bias.astype("f4") / ys.astype("f4")
    else:
        scaled = (sums + bias).astype("f4") * scale
    scaled = np.clip(scaled, np.float32(low) / ys.astype("f4"), np.float32(high) / ys.astype("f4"))
    return np.asarray(np.clip(np.rint(scaled) + yz, 0, 255))


def _qlinear_add(a: Array, a_scale: Array, az: Array, b: Array, b_scale: Array, bz: Array, ys: Array,
                 yz: Array) -> Array:  # fmt: skip
    left = (a.astype("i4") - az).astype("f4") * (a_scale.astype("f4") / ys.astype("f4"))
    right = (b.astype("i4") - bz).astype("f4") * (b_scale.astype("f4") / ys.astype("f4"))
    return np.asarray(np.clip(np.rint(np.maximum(left + right, 0)) + yz, -128, 127))


def _qlinear_mean(x: Array, xs: Array, xz: Array, ys: Array, yz: Array) -> Array:
    sums = (x.astype("i4") - xz).sum((2, 3), keepdims=True).astype("f4")
    factor = xs.astype("f4") / ys.astype("f4") / np.float32(x[0, 0].size)
    return np.asarray(np.clip(np.rint(sums * factor) + yz, 0, 255))


def _qlinear_matmul(a: Array, az_scale: Array, az: Array, b: Array, b_scale: Array, bz: Array, ys: Array,
                    yz: Array, bias: Array | int = 0) -> Array:  # fmt: skip
    sums = (a.astype("i4") - az.reshape(-1, 1)) @ (b.astype("i4") - bz) + bias
    factor = az_scale.astype("f4").reshape(-1, 1) * b_scale.astype("f4") / ys.astype("f4")
    return np.asarray(np.clip(np.rint(sums.astype("f4") * factor) + yz, -128, 127))


def _matmul_nbits(bits: int, k: int, block: int) -> Any:
    """ONNX Runtime's product with rows of codes, the first of two in the low bits of a byte."""

    def unpacked(stored: Array, n: int, count: int) -> Array:
        rows = stored.reshape(n, -1).astype(np.int64)
        codes = rows if bits == 8 else np.stack([rows & 15, rows >> 4], -1).reshape(n, -1)
        return codes[:, :count]

    def product(x: Array, codes: Array, scales: Array, zeros: Array | None = None) -> Array:
        n, blocks = codes.shape[0], -(-k // block)
        zero = np.full((n, blocks), 1 << (bits - 1)) if zeros is None else unpacked(zeros, n, blocks)
        centred = unpacked(codes, n, k) - zero.repeat(block, 1)[:, :k]
        return np.asarray(x @ (centred * scales.reshape(n, blocks).repeat(block, 1)[:, :k]).T)

    return product


def _keys(t: Array, a: float = -0.75) -> Array:
    """The cubic convolution kernel."""
    t = np.abs(t)
    near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def _weights(at: Array, n: int, mode: str, stretch: float = 1, inside: bool = False) -> Array:
    """``[outputs, n]``: what each output takes of each input. Taps outside are clipped, or left out."""
    taps = np.arange(-40, n + 40)
    distance = (taps - at[:, None]) * stretch
    w = np.maximum(1 - np.abs(distance), 0) if mode == "linear" else _keys(distance)
    if inside:
        w = w * ((taps >= 0) & (taps < n))
    w = w / w.sum(1, keepdims=True)
    return np.stack([w[:, np.clip(taps, 0, n - 1) == i].sum(1) for i in range(n)], 1)


def _half_pixel(outputs: int, scale: float) -> Array:
    return (np.arange(outputs) + 0.5) / scale - 0.5


def _resized(x: Array, vertical: Array, horizontal: Array) -> Array:
    return np.asarray(np.einsum("oh,nchw,pw->ncop", vertical, x, horizontal))


def _mel(bands: int, length: int, rate: int, low: float, high: float) -> Array:
    mel = [2595 * math.log10(1 + f / 700) for f in (low, high)]
    hertz = 700 * (10 ** ((np.arange(bands + 2) * (mel[1] - mel[0]) / (bands + 2) + mel[0]) / 2595) - 1)
    edges = np.floor((length + 1) * hertz / rate)
    bins = np.arange(length // 2 + 1)
    return np.stack([np.interp(bins, edges[i : i + 3], [0, 1, 0]) for i in range(bands)], 1)


def _affine_grid(theta: Array, *_: Array) -> Array:
    y, x = np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 5), indexing="ij")
    return np.asarray(np.einsum("hwk,ndk->nhwd", np.stack([x, y, np.ones_like(x)], -1), theta))


def _bilinear(plane: Array, y: float, x: float) -> float:
    """Zero outside."""
    total = 0.0
    for i, j in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
        if 0 <= i < plane.shape[0] and 0 <= j < plane.shape[1]:
            total += plane[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return total


def _grid_sample(x: Array, grid: Array) -> Array:
    at = ((grid + 1) * np.array([x.shape[3], x.shape[2]]) - 1) / 2
    return np.array(
        [[[[_bilinear(p, v, u) for u, v in row] for row in at[n]] for p in x[n]] for n in range(len(x))]
    )


def _reflected_nearest(x: Array, grid: Array) -> Array:
    """Coordinates within one length of the input; corners are aligned."""
    at = np.rint((grid + 1) / 2 * (np.array([x.shape[4], x.shape[3], x.shape[2]]) - 1)).astype(int)
    ends = np.array([x.shape[4], x.shape[3], x.shape[2]]) - 1
    at = ends - np.abs(ends - np.abs(at))
    return np.stack([x[n][:, at[n][..., 2], at[n][..., 1], at[n][..., 0]] for n in range(len(x))])


def _roi_align(x: Array, rois: Array, batch: Array) -> Array:
    """2 x 3 bins of 2 x 2 samples, scaled by 0.5, shifted by half a pixel; regions inside the input."""
    y = np.zeros((len(rois), x.shape[1], 2, 3))
    for r, c, i, j in itertools.product(*map(range, y.shape)):
        x1, y1, x2, y2 = rois[r] / 2 - 0.5
        across, down = (x2 - x1) / 3, (y2 - y1) / 2
        samples = itertools.product((i + 0.25, i + 0.75), (j + 0.25, j + 0.75))
        y[r, c, i, j] = np.mean(
            [_bilinear(x[batch[r], c], y1 + s * down, x1 + t * across) for s, t in samples]
        )
    return y


def _deform_conv(x: Array, w: Array, offset: Array, b: Array, mask: Array) -> Array:
    """3 x 3 taps padded by 1, two groups of offsets."""
    n, channels, height, width = x.shape
    seen = np.zeros((n, channels, 9, height, width))
    for i, c, t, p, q in itertools.product(*map(range, seen.shape)):
        group = c // (channels // 2)
        dy, dx = offset[i, group * 18 + 2 * t : group * 18 + 2 * t + 2, p, q]
        value = _bilinear(x[i, c], p - 1 + t // 3 + dy, q - 1 + t % 3 + dx)
        seen[i, c, t, p, q] = value * mask[i, group * 9 + t, p, q]
    return np.asarray(np.einsum("nctpq,oct->nopq", seen, w.reshape(*w.shape[:2], 9)) + b.reshape(-1, 1, 1))


def _unpool(x: Array, indices: Array, _: Array) -> Array:
    y = np.zeros(2 * 4 * 6)
    y[indices.reshape(-1)] = x.reshape(-1)
    return np.pad(y.reshape(1, 2, 4, 6), [(0, 0), (0, 0), (0, 1), (0, 2)])


def _pairs(z: Array) -> Array:
    return np.stack([z.real, z.imag], -1)


def _stft(x: Array, _: Array, window: Array) -> Array:
    frames = np.lib.stride_tricks.sliding_window_view(x[..., 0], 16, axis=1)[:, ::5]
    return _pairs(np.fft.rfft(frames * window))


_S = np.float32
_NONE = np.zeros(0, np.float32)
_WINDOW = {"kernel_shape": [2, 3], "pads": [1, 1, 1, 1]}

CASES: list[dict[str, Any]] = [
    {"op": "SpaceToDepth", "inputs": [_f(1, 2, 4, 6)], "attrs": {"blocksize": 2, "mode": "CRD"},
     "reference": lambda x: x.reshape(1, 2, 2, 2, 3, 2).transpose(0, 1, 3, 5, 2, 4).reshape(1, 8, 2, 3)},
    {"op": "ConvTranspose", "inputs": [_f(2, 4, 3, 5), _f(4, 3, 2, 3), _f(6)], "constants": 1, "terms": 12,
     "attrs": {"strides": [2, 2], "group": 2, "pads": [1, 0, 0, 1], "output_padding": [1, 1]},
     "reference": lambda x, w, b: _conv_transpose(x, w, b, 2, 1, (1, 0, 0, 1), 2, 1)},
    {"op": "ConvTranspose", "inputs": [_f(1, 2, 7), _f(2, 3, 3), _f(3)], "terms": 6,
     "attrs": {"strides": [3], "dilations": [2]},
     "reference": lambda x, w, b: _conv_transpose(x, w, b, 3, 2, (0, 0), 1)},
    {"op": "ConvTranspose", "inputs": [_f(1, 2, 3, 3), _f(2, 1, 3, 3), _f(1)], "terms": 18,
     "attrs": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
     "reference": lambda x, w, b: _conv_transpose(x, w, b, 2, 1, (0, 0, 1, 1), 1)},
    {"op": "ConvFilterGradient", "inputs": [_f(2, 4, 6, 7), _f(2, 6, 3, 4)], "terms": 24,
     "attrs": {"kernel_shape": [2, 3], "strides": [2, 2], "group": 2, "pads": [1, 0, 0, 2]},
     "reference": lambda x, g: _conv_filter_gradient(x, g, (2, 3), 2, 1, (1, 0, 0, 2), 2)},
    {"op": "ConvFilterGradient", "inputs": [_f(1, 2, 7), _f(1, 3, 5)], "terms": 5,
     "attrs": {"kernel_shape": [2], "dilations": [2]},
     "reference": lambda x, g: _conv_filter_gradient(x, g, (2,), 1, 2, (0, 0), 1)},
    {**_max_pool_gradient((8, 10), (4, 5), (3, 2), 2, 1, (1, 0)),
     "attrs": {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 0]}},
    {**_max_pool_gradient((9,), (3,), (2,), 3, 2, (0,)),
     "attrs": {"kernel_shape": [2], "strides": [3], "dilations": [2]}},
    {"op": "Col2Im", "inputs": [_f(2, 12, 6), _i(5, 6), _i(2, 3)], "constants": 1, "terms": 6,
     "attrs": {"strides": [1, 2], "dilations": [2, 1]}, "reference": _col2im},
    {"op": "CausalConvWithState", "inputs": [_f(2, 3, 6), _f(3, 1, 4), _f(3), _f(2, 3, 3)], "constants": 1,
     "terms": 4, "attrs": {"activation": "silu"}, "reference": _causal_conv},
    {"op": "MaxPool", "inputs": [_f(2, 3, 5, 6)], "attrs": _WINDOW,
     "reference": lambda x: _max_with_indices(x, False)},
    {"op": "MaxPool", "inputs": [_f(2, 3, 5, 6)], "attrs": {**_WINDOW, "storage_order": 1},
     "reference": lambda x: _max_with_indices(x, True)},
    {"op": "MaxPool", "inputs": [np.zeros((1, 1, 3, 4), np.uint8)], "attrs": _WINDOW,
     "reference": lambda x: _max_with_indices(x.astype(float), False)},
    {"op": "LpPool", "inputs": [_f(2, 3, 5, 6)], "attrs": {**_WINDOW, "p": 3}, "terms": 6,
     "reference": lambda x: (np.abs(_windows(x, (2, 3), 0, 1)) ** 3).sum(-1) ** (1 / 3)},
    {"op": "GlobalLpPool", "inputs": [_f(2, 3, 5, 6)], "terms": 30,
     "reference": lambda x: np.sqrt((x * x).sum((2, 3), keepdims=True))},
    {"op": "LRN", "inputs": [_f(2, 5, 3, 4)], "attrs": {"size": 4, "alpha": 0.5, "beta": 0.6, "bias": 2.0},
     "reference": _lrn, "terms": 4},
    {"op": "QuantizeLinear", "inputs": [_f(3, 40, low=-9, high=9), _S(0.05), np.uint8(100)],
     "constants": 1, "reference": _quantize},
    {"op": "QuantizeLinear", "inputs": [_f(3, 4, 5), _f(4, low=0.01, high=0.1), _bytes(4, dtype=np.int8)],
     "attrs": {"axis": -2}, "constants": 1,
     "reference": lambda x, s, z: _quantize(x, s[:, None], z[:, None])},
    {"op": "QuantizeLinear", "inputs": [_f(3, 5, 2), _f(3, 3, 2, low=1e-5, high=1e-3)], "constants": 1,
     "attrs": {"axis": 1, "block_size": 2, "output_dtype": "I16"},
     "reference": lambda x, s: _quantize(x, s.repeat(2, 1)[:, :5], np.zeros((), np.int16))},
    {"op": "DequantizeLinear", "inputs": [_bytes(3, 4, 5), _f(4, low=0.01), _bytes(4)], "constants": 1,
     "reference": lambda x, s, z: (x.astype("f8") - z[:, None]) * s[:, None]},
    {"op": "DequantizeLinear", "inputs": [_bytes(3, 5, 2, dtype=np.int16), _f(3, 3, 2, low=0.01)],
     "constants": 1, "attrs": {"axis": 1, "block_size": 2},
     "reference": lambda x, s: x * s.repeat(2, 1)[:, :5]},
    {"op": "DynamicQuantizeLinear", "inputs": [_f(3, 40, low=-2, high=5)], "reference": _dynamic_quantize},
    {"op": "MatMulInteger", "inputs": [_bytes(3, 5), _bytes(5, 4, dtype=np.int8), _bytes(3), np.int8(-3)],
     "constants": 1, "reference": lambda a, b, az, bz:
         (a.astype("i4") - az[:, None]) @ (b.astype("i4") - bz)},
    {"op": "QLinearMatMul", "constants": 1, "reference": _qlinear_matmul,
     "inputs": [_bytes(3, 5, dtype=np.int8), _f(3, low=0.01), _bytes(3, dtype=np.int8),
                _bytes(5, 4, dtype=np.int8), _S(0.03), np.int8(5), _S(9), np.int8(-7)]},
    {"op": "MatMulNBits", "inputs": [_f(2, 3, 37), _bytes(9, 3, 8), _f(9, 3, low=0.01, high=0.1)],
     "constants": 1, "attrs": {"K": 37, "N": 9, "bits": 4, "block_size": 16}, "terms": 37,
     "reference": _matmul_nbits(4, 37, 16)},
    {"op": "MatMulNBits", "terms": 40, "reference": _matmul_nbits(4, 40, 16),
     "inputs": [_f(40), _bytes(70, 3, 8), _f(210, low=0.01, high=0.1), _bytes(140)],
     "attrs": {"K": 40, "N": 70, "block_size": 16}},
    {"op": "MatMulNBits", "terms": 32, "reference": _matmul_nbits(8, 32, 32), "constants": 1,
     "inputs": [_f(20, 32), _bytes(5, 1, 32), _f(5, low=0.001, high=0.01), _bytes(5)],
     "attrs": {"K": 32, "N": 5, "bits": 8, "block_size": 32}},
    {"op": "ConvInteger", "inputs": [_bytes(2, 3, 5, 6), _bytes(4, 3, 2, 2), np.uint8(9), _bytes(4)],
     "constants": 1, "reference": lambda x, w, xz, wz: _conv(
         x.astype("i4") - xz, w.astype("i4") - wz.astype("i4").reshape(-1, 1, 1, 1))},
    {"op": "QLinearConv", "constants": 1, "attrs": {"pads": [1, 1, 1, 1]}, "reference": _qlinear_conv,
     "inputs": [_bytes(2, 3, 5, 6), _S(0.02), np.uint8(9), _bytes(4, 3, 3, 3), _f(4, low=0.01), _bytes(4),
                _S(20), np.uint8(99), np.array([5000, -3, 0, 77], np.int32)]},
    {"op": "QLinearConv", "constants": 1, "attrs": {"pads": [1, 1, 1, 1], "min": -900.0, "max": 1500.0},
     "reference": lambda *given: _qlinear_conv(*given, low=-900, high=1500),
     "inputs": [_bytes(2, 3, 5, 6), _S(0.5), np.uint8(9), _bytes(4, 3, 3, 3, dtype=np.int8),
                _f(4, low=0.5), np.int8(0), _S(20), np.uint8(99), _f(4, low=-40, high=40)]},
    {"op": "QLinearMatMul", "constants": 1, "attrs": {"transB": 1},
     "reference": lambda a, s, z, b, *rest: _qlinear_matmul(a, s, z, b.T, *rest),
     "inputs": [_bytes(3, 5, dtype=np.int8), _S(0.02), np.int8(4), _bytes(6, 5, dtype=np.int8),
                _f(6, low=0.01), np.int8(0), _S(0.9), np.int8(-7), np.arange(-300, 300, 100, "i4")]},
    {"op": "QLinearAdd", "constants": 1, "attrs": {"min": 0.0}, "reference": _qlinear_add,
     "inputs": [_bytes(2, 3, 4), _S(0.03), np.uint8(120), _bytes(3, 1, dtype=np.int8), _S(0.05), np.int8(-3),
                _S(0.06), np.int8(-100)]},
    {"op": "QLinearGlobalAveragePool", "constants": 1, "reference": _qlinear_mean,
     "inputs": [_bytes(2, 3, 4, 5), _S(0.03), np.uint8(20), _S(0.02), np.uint8(5)]},
    {"op": "Resize", "inputs": [_f(2, 3, 4, 5), _NONE, np.array([1, 1, 2, 3], "f4")], "constants": 1,
     "reference": lambda x, *_: x.astype("f4").repeat(2, 2).repeat(3, 3)},
    {"op": "Resize", "inputs": [_bytes(1, 1, 7, 9), _NONE, np.array([0.6, 0.5], "f4")], "constants": 1,
     "attrs": {"axes": [2, 3], "nearest_mode": "ceil", "coordinate_transformation_mode": "asymmetric"},
     "reference": lambda x, *_: x[:, :, [0, 2, 4, 5]][..., [0, 2, 4, 6]]},
    {"op": "Resize", "inputs": [_f(2, 3, 4, 5), _NONE, _NONE, _i(2, 3, 9, 4)], "constants": 1, "terms": 4,
     "attrs": {"mode": "linear"}, "reference": lambda x, *_: _resized(
         x, _weights(_half_pixel(9, 9 / 4), 4, "linear"), _weights(_half_pixel(4, 4 / 5), 5, "linear"))},
    {"op": "Resize", "inputs": [_f(2, 3, 9, 8), _NONE, _NONE, _i(4, 4)], "constants": 1, "terms": 36,
     "attrs": {"mode": "cubic", "antialias": 1, "axes": [3, 2], "keep_aspect_ratio_policy": "not_larger"},
     "reference": lambda x, *_: _resized(x, _weights(_half_pixel(4, 4 / 9), 9, "cubic", 4 / 9),
                                         _weights(_half_pixel(4, 4 / 9), 8, "cubic", 4 / 9))},
    {"op": "Resize", "inputs": [_f(1, 1, 4, 5), _NONE, np.array([1, 1, 2, 2], "f4")], "constants": 1,
     "attrs": {"mode": "cubic", "exclude_outside": 1, "coordinate_transformation_mode": "align_corners"},
     "reference": lambda x, *_: _resized(x, _weights(np.linspace(0, 3, 8), 4, "cubic", inside=True),
                                         _weights(np.linspace(0, 4, 10), 5, "cubic", inside=True)),
     "terms": 16},
    {"op": "Resize", "inputs": [_f(1, 1, 4, 5), np.array([0, 0.25, 1, 1.25], "f4"), _NONE, _i(4, 5)],
     "constants": 1, "attrs": {"mode": "linear", "extrapolation_value": 9.0, "axes": [2, 3],
                               "coordinate_transformation_mode": "tf_crop_and_resize"},
     "reference": lambda x, *_: np.concatenate([x[..., 1:], np.full((1, 1, 4, 1), 9.0)], 3)},
    {"op": "Upsample", "inputs": [_f(1, 2, 3, 4), np.array([1, 1, 2, 1.5], "f4")], "constants": 1,
     "reference": lambda x, _: x.astype("f4").repeat(2, 2)[..., [0, 0, 1, 2, 2, 3]]},
    {"op": "AffineGrid", "inputs": [_f(2, 2, 3), _i(2, 1, 4, 5)], "constants": 1, "terms": 3,
     "attrs": {"align_corners": 1}, "reference": _affine_grid},
    {"op": "HannWindow", "inputs": [np.array(9)], "constants": 0,
     "reference": lambda n: np.sin(np.pi * np.arange(9) / 9) ** 2},
    {"op": "HammingWindow", "inputs": [np.array(9)], "constants": 0, "attrs": {"periodic": 0},
     "reference": lambda n: 25 / 46 - 21 / 46 * np.cos(2 * np.pi * np.arange(9) / 8)},
    {"op": "BlackmanWindow", "inputs": [np.array(9)], "constants": 0, "attrs": {"output_datatype": "F64"},
     "reference": lambda n: np.blackman(10)[:9]},
    {"op": "MelWeightMatrix", "constants": 0, "reference": lambda *_: _mel(4, 64, 8000, 100, 3500),
     "inputs": [np.array(4), np.array(64), np.array(8000), _S(100), _S(3500)]},
    {"op": "GridSample", "inputs": [_f(2, 3, 4, 5), _f(2, 3, 2, 2, low=-1.2, high=1.2)], "terms": 4,
     "reference": _grid_sample},
    {"op": "GridSample", "inputs": [_f(1, 2, 3, 4, 5), _f(1, 2, 3, 4, 3, low=-2, high=2)], "reference":
     _reflected_nearest, "attrs": {"mode": "nearest", "padding_mode": "reflection", "align_corners": 1}},
    {"op": "RoiAlign", "reference": _roi_align, "terms": 16,
     "attrs": {"output_height": 2, "output_width": 3, "sampling_ratio": 2, "spatial_scale": 0.5},
     "inputs": [_f(2, 3, 6, 7), np.array([[2, 1, 9, 8], [4, 4, 11, 10.5]], "f4"), _i(1, 0)]},
    {"op": "DeformConv", "attrs": {"pads": [1, 1, 1, 1], "offset_group": 2}, "reference": _deform_conv,
     "inputs": [_f(1, 4, 3, 4), _f(2, 4, 3, 3), _f(1, 36, 3, 4), _f(2), _f(1, 18, 3, 4)], "terms": 144},
    {"op": "MaxUnpool", "inputs": [_f(1, 2, 2, 3), _i(0, 3, 5, 12, 15, 16, 25, 27, 29, 38, 40, 47).reshape(
        1, 2, 2, 3), _i(1, 2, 5, 8)], "attrs": {"kernel_shape": [2, 2], "strides": [2, 2]}, "constants": 2,
     "reference": lambda *x: _unpool(*x).astype("f4")},
    {"op": "Det", "inputs": [_f(2, 3, 5, 5)], "reference": np.linalg.det},
    {"op": "DFT", "inputs": [_f(3, 12, 2, 2)], "reference": lambda x:
        _pairs(np.fft.fft(x[..., 0] + 1j * x[..., 1], axis=1)), "attrs": {"axis": 1}},
    {"op": "DFT", "inputs": [_f(2, 600, 1), np.array(462)], "constants": 1, "attrs": {"onesided": 1},
     "reference": lambda x, _: _pairs(np.fft.rfft(x[..., 0], 462))},
    {"op": "DFT", "inputs": [_f(2, 41, 2), np.array(80)], "constants": 1,
     "attrs": {"onesided": 1, "inverse": 1},
     "reference": lambda x, _: np.fft.irfft(x[..., 0] + 1j * x[..., 1], 80)[..., None]},
    {"op": "DFT", "inputs": [_f(2, 67, 2)], "attrs": {"inverse": 1}, "reference": lambda x:
        _pairs(np.fft.ifft(x[..., 0] + 1j * x[..., 1]))},
    {"op": "STFT", "inputs": [_f(2, 64, 1), np.array(5), np.hanning(16).astype("f4")], "constants": 1,
     "reference": _stft},
]  # fmt: skip
