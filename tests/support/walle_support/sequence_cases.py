"""Cases of operators on sequences - attention, recurrence, normalisation, Einsum, losses, training - for the
conformance suite, with references in NumPy.

Each is the keyword arguments of a ``Case`` of ``tests/conformance/test_engine_ops.py``; an input that is None
is omitted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

type Array = np.ndarray[Any, Any]


def _f(*shape: int, low: float = -2, high: float = 2) -> Array:
    return np.random.default_rng(sum(shape)).uniform(low, high, shape).astype(np.float32)


def _i(*values: int) -> Array:
    return np.array(values, np.int64)


# ---- Normalisation ----


def _standard(x: Array, axes: tuple[int, ...], epsilon: float = 1e-5) -> tuple[Array, Array, Array]:
    mean = x.mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + epsilon)
    return (x - mean) * inverse, mean, inverse


def _layer_norm(x: Array, scale: Array, bias: Array) -> tuple[Array, Array, Array]:
    normal, mean, inverse = _standard(x, (1, 2), 1e-3)
    return normal * scale + bias, mean, inverse


def _group_norm(groups: int) -> Callable[..., Array]:
    def reference(x: Array, scale: Array, bias: Array) -> Array:
        grouped = x.reshape(x.shape[0], groups, -1)
        normal = _standard(grouped, (2,))[0].reshape(x.shape)
        return normal * scale[:, None] + bias[:, None]

    return reference


def _batch_norm_training(x: Array, s: Array, b: Array, mean: Array, variance: Array) -> tuple[Array, ...]:
    normal, own, _ = _standard(x, (0, 2))
    running = mean * 0.7 + own.reshape(-1) * 0.3, variance * 0.7 + x.var((0, 2)) * 0.3
    return normal * s[:, None] + b[:, None], *running


def _over_norm(x: Array, norm: Array) -> Array:
    return x / np.where(norm == 0, 1, norm)


_WITH_ZEROS = np.concatenate([_f(2, 5), np.zeros((1, 5), np.float32)])

NORMS: list[dict[str, Any]] = [
    {"op": "LayerNormalization", "inputs": [_f(4, 3, 5), _f(5), _f(3, 1)], "reference": _layer_norm,
     "attrs": {"axis": 1, "epsilon": 1e-3}, "terms": 15},
    {"op": "RMSNormalization", "inputs": [_f(4, 33), _f(33)], "terms": 33,
     "reference": lambda x, s: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * s},
    {"op": "GroupNormalization", "inputs": [_f(2, 6, 5), _f(6), _f(6)], "reference": _group_norm(2),
     "attrs": {"num_groups": 2}, "terms": 15},
    {"op": "InstanceNormalization", "inputs": [_f(2, 6, 5), _f(6), _f(6)], "reference": _group_norm(6)},
    {"op": "MeanVarianceNormalization", "inputs": [_f(2, 3, 4, 5)], "terms": 40,
     "reference": lambda x: (x - x.mean((0, 2, 3), keepdims=True))
     / (x.std((0, 2, 3), keepdims=True) + 1e-9)},
    {"op": "LpNormalization", "inputs": [_WITH_ZEROS], "terms": 5,
     "reference": lambda x: _over_norm(x, np.sqrt((x * x).sum(1, keepdims=True)))},
    {"op": "LpNormalization", "inputs": [_f(4, 5)], "attrs": {"p": 1, "axis": 0}, "terms": 4,
     "reference": lambda x: _over_norm(x, np.abs(x).sum(0, keepdims=True))},
    {"op": "BatchNormalization", "inputs": [_f(4, 3, 5), _f(3), _f(3), _f(3), _f(3, low=0.5)],
     "reference": _batch_norm_training, "attrs": {"training_mode": 1, "momentum": 0.7}, "terms": 20},
    {"op": "SwiGLU", "inputs": [_f(3, 7), _f(7, 3).T.copy()], "attrs": {"alpha": 0.5},
     "reference": lambda a, b: a / (1 + np.exp(-0.5 * a)) * b},
]  # fmt: skip

# ---- Attention ----


def _softmax(x: Array) -> Array:
    """Over the last axis; zeros where everything is minus infinity."""
    most = x.max(-1, keepdims=True)
    power = np.exp(x - np.where(np.isneginf(most), 0, most))
    total = power.sum(-1, keepdims=True)
    return power / np.where(total == 0, 1, total)


def _split_heads(x: Array, heads: int) -> Array:
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _attention(
    q: Array, k: Array, v: Array, bias: Array | None = None, scale: float | None = None, softcap: float = 0
) -> tuple[Array, Array]:
    """Of [batch, heads, length, size]; the result and the masked scores."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    scores = q @ k.transpose(0, 1, 3, 2) * (scale or 1 / np.sqrt(q.shape[-1]))
    scores = softcap * np.tanh(scores / softcap) if softcap else scores
    scores = scores if bias is None else scores + bias
    return _softmax(scores) @ v, scores


def _bias(allowed: Array) -> Array:
    return np.where(allowed, 0, -np.inf)


def _causal(queries: int, keys: int, before: int = 0) -> Array:
    return np.arange(keys) <= np.arange(queries)[:, None] + before


def _masked(q: Array, k: Array, v: Array, mask: Array) -> tuple[Array, Array]:
    bias = np.pad(mask, [(0, 0), (0, 2)], constant_values=-np.inf) + _bias(_causal(4, 6))
    y, _ = _attention(q, k, v, bias, softcap=2)
    capped = 2 * np.tanh(q @ k.transpose(0, 1, 3, 2) / np.sqrt(8) / 2)
    return y, capped


def _packed_with_past(q: Array, k: Array, v: Array, mask: Array, *past: Array) -> tuple[Array, ...]:
    heads = [_split_heads(q, 4), _split_heads(k, 2), _split_heads(v, 2)]
    key, value = (np.concatenate(pair, 2) for pair in zip(past, heads[1:], strict=True))
    allowed = mask & _causal(3, 8, 5) & (np.arange(8) >= np.arange(3)[:, None] + 5 - 4)
    y, _ = _attention(heads[0], key, value, _bias(allowed), scale=0.3)
    return y.transpose(0, 2, 1, 3).reshape(2, 3, -1), key, value


def _outer_cache(q: Array, k: Array, v: Array, *rest: Array | None) -> tuple[Array, ...]:
    lengths = rest[-1]
    assert lengths is not None
    before = lengths.reshape(-1, 1, 1, 1) - 3
    allowed = (np.arange(5) <= np.arange(3)[:, None] + before) & (np.arange(5) < lengths.reshape(-1, 1, 1, 1))
    y, scores = _attention(q, k, v, _bias(allowed))
    return y, k, v, _softmax(scores)


def _linear_attention(rule: str, scale: float) -> Callable[..., tuple[Array, Array]]:
    def reference(
        q: Array, k: Array, v: Array, state: Array | None, decay: Array | None = None,
        beta: Array | None = None,
    ) -> tuple[Array, Array]:  # fmt: skip
        query, key, value = _split_heads(q, 4), _split_heads(k, 2), _split_heads(v, 2)
        s = np.zeros((2, 2, key.shape[-1], value.shape[-1])) if state is None else state.astype(np.float64)
        outputs = []
        for t in range(q.shape[1]):
            new = value[:, :, t]
            if decay is not None:
                s = s * np.exp(decay[:, t].reshape(2, 2, -1))[..., None]
            if beta is not None:
                new = beta[:, t][..., None] * (new - np.einsum("bhkv,bhk->bhv", s, key[:, :, t]))
            s = s + key[:, :, t][..., None] * new[..., None, :]
            outputs.append(scale * np.einsum("bhk,bhkv->bhv", query[:, :, t], np.repeat(s, 2, axis=1)))
        return np.stack(outputs, 1).reshape(2, q.shape[1], -1), s

    del rule  # the inputs say it: decay gates, beta corrects
    return reference


def _turn(x: Array, cos: Array, sin: Array, neighbours: bool) -> Array:
    """x: [batch, heads, length, size]; the first 2 * pairs elements turn."""
    pairs = cos.shape[-1]
    first = slice(0, 2 * pairs, 2) if neighbours else slice(0, pairs)
    second = slice(1, 2 * pairs, 2) if neighbours else slice(pairs, 2 * pairs)
    cos, sin = cos[:, None], sin[:, None]
    y = x.copy()
    y[..., first] = cos * x[..., first] - sin * x[..., second]
    y[..., second] = sin * x[..., first] + cos * x[..., second]
    return y


_PLACES = np.array([[3, 0, 6], [1, 2, 2]], np.int64)
_QKV = [_f(2, 3, 4, 8), _f(2, 3, 6, 8), _f(2, 3, 6, 5)]
_PACKED = [_f(2, 3, 16), _f(2, 3, 8), _f(2, 3, 6)]
_RNG = np.random.default_rng(3)
_SEQUENCES = [_f(2, 5, 12), _f(2, 5, 6), _f(2, 5, 8)]

ATTENTION: list[dict[str, Any]] = [
    {"op": "Attention", "inputs": _QKV, "reference": lambda q, k, v: _attention(q, k, v)[0]},
    {"op": "Attention", "inputs": [*_QKV, _RNG.random((3, 4, 6)) > 0.4],
     "reference": lambda q, k, v, mask: _attention(q, k, v, _bias(mask))[0]},
    {"op": "Attention", "inputs": [*_QKV, _f(4, 4)],
     "reference": lambda *x: (_masked(*x)[0], np.concatenate([x[1]], 2), x[2], _masked(*x)[1]),
     "attrs": {"is_causal": 1, "softcap": 2.0, "qk_matmul_output_mode": 1}},
    {"op": "Attention",
     "inputs": [*_PACKED, _RNG.random((3, 8)) > 0.2, _f(2, 2, 5, 4), _f(2, 2, 5, 3)],
     "reference": _packed_with_past,
     "attrs": {"is_causal": 1, "q_num_heads": 4, "kv_num_heads": 2, "scale": 0.3, "left_window_size": 4}},
    {"op": "Attention",
     "inputs": [_f(2, 4, 3, 8), _f(2, 2, 5, 8), _f(2, 2, 5, 8), None, None, None, _i(2, 5)],
     "reference": _outer_cache, "attrs": {"is_causal": 1, "qk_matmul_output_mode": 3}},
    {"op": "LinearAttention", "inputs": _SEQUENCES, "reference": lambda *x: _linear_attention("linear", 0.5)(
        *x, None), "attrs": {"update_rule": "linear", "scale": 0.5, "q_num_heads": 4, "kv_num_heads": 2}},
    {"op": "LinearAttention",
     "inputs": [*_SEQUENCES, _f(2, 2, 3, 4), _f(2, 5, 6, high=0), _f(2, 5, 2, low=0, high=1)],
     "reference": _linear_attention("gated_delta", 1 / np.sqrt(3)),
     "attrs": {"q_num_heads": 4, "kv_num_heads": 2}},
    {"op": "RotaryEmbedding", "inputs": [_f(2, 4, 3, 8), _f(7, 4), _f(7, 4), _PLACES],
     "reference": lambda x, cos, sin, at: _turn(x, cos[at], sin[at], True), "attrs": {"interleaved": 1}},
    {"op": "RotaryEmbedding", "inputs": [_f(2, 3, 32), _f(2, 3, 2), _f(2, 3, 2)],
     "reference": lambda x, cos, sin: _turn(_split_heads(x, 4), cos, sin, False)
     .transpose(0, 2, 1, 3).reshape(2, 3, 32),
     "attrs": {"num_heads": 4, "rotary_embedding_dim": 4}},
]  # fmt: skip

# ---- Recurrence: references of one direction over x [steps, batch, inputs] ----


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _rnn(x: Array, w: Array, r: Array, b: Array, h: Array, lengths: Array) -> tuple[Array, Array]:
    outputs = []
    for t, row in enumerate(x):
        new = np.clip(row @ w.T + h @ r.T + b.reshape(2, -1).sum(0), -1, 1)
        new = np.where(new >= 0, new, 0.2 * new)
        live = (t < lengths)[:, None]
        h = np.where(live, new, h)
        outputs.append(np.where(live, new, 0))
    return np.stack(outputs), h


def _gru(x: Array, w: Array, r: Array, b: Array, h: Array, linear: bool) -> tuple[Array, Array]:
    n = h.shape[-1]
    wb, rb = np.split(b, 2)
    outputs = []
    for row in x:
        given, inner = row @ w.T + wb, h @ r.T + rb
        z, reset = (_sigmoid(given[:, i * n : (i + 1) * n] + inner[:, i * n : (i + 1) * n]) for i in range(2))
        new = reset * inner[:, 2 * n :] if linear else (reset * h) @ r[2 * n :].T + rb[2 * n :]
        h = (1 - z) * np.tanh(given[:, 2 * n :] + new) + z * h
        outputs.append(h)
    return np.stack(outputs), h


def _lstm(
    x: Array, w: Array, r: Array, b: Array, h: Array, c: Array, p: Array, coupled: bool = False
) -> tuple[Array, Array, Array]:
    pi, po, pf = np.split(p, 3)
    outputs = []
    for row in x:
        i, o, f, new = np.split(row @ w.T + h @ r.T + b.reshape(2, -1).sum(0), 4, axis=1)
        i = _sigmoid(i + pi * c)
        f = 1 - i if coupled else _sigmoid(f + pf * c)
        c = f * c + i * np.tanh(new)
        h = _sigmoid(o + po * c) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), h, c


def _rnn_both(x: Array, w: Array, r: Array, b: Array, lengths: Array, h: Array) -> tuple[Array, Array]:
    ahead, last = _rnn(x, w[0], r[0], b[0], h[0], lengths)
    back = np.zeros_like(ahead)
    first = np.zeros_like(last)
    for n, length in enumerate(lengths):  # each sequence from its own end
        part = x[:length, n : n + 1][::-1]
        y, first[n : n + 1] = _rnn(part, w[1], r[1], b[1], h[1, n : n + 1], np.array([length]))
        back[:length, n : n + 1] = y[::-1]
    return np.stack([ahead, back], 1), np.stack([last, first])


def _gru_first(linear: bool) -> Callable[..., tuple[Array, Array]]:
    """Batch first and backward."""

    def reference(x: Array, w: Array, r: Array, b: Array) -> tuple[Array, Array]:
        y, h = _gru(x.transpose(1, 0, 2)[::-1], w[0], r[0], b[0], np.zeros((x.shape[0], r.shape[-1])), linear)
        return y[::-1].transpose(1, 0, 2)[:, :, None], h[:, None]

    return reference


def _lstm_forward(
    x: Array, w: Array, r: Array, b: Array, _: Array | None, h: Array, c: Array, p: Array
) -> tuple[Array, ...]:
    y, last, cell = _lstm(x, w[0], r[0], b[0], h[0], c[0], p[0])
    return y[:, None], last[None], cell[None]


def _lstm_coupled(x: Array, w: Array, r: Array) -> tuple[Array, ...]:
    zeros = np.zeros((x.shape[1], 5))
    y, last, cell = _lstm(x, w[0], r[0], np.zeros(40), zeros, zeros, np.zeros(15), coupled=True)
    return y[:, None], last[None], cell[None]


RECURRENCE: list[dict[str, Any]] = [
    {"op": "RNN", "inputs": [_f(4, 3, 2), _f(2, 5, 2), _f(2, 5, 5), _f(2, 10), np.array([2, 4, 1], np.int32),
                             _f(2, 3, 5)],
     "reference": _rnn_both, "terms": 20,
     "attrs": {"direction": "bidirectional", "activations": ["LeakyRelu", "LeakyRelu"],
               "activation_alpha": [0.2, 0.2], "clip": 1.0}},
    *({"op": "GRU", "inputs": [_f(3, 4, 2), _f(1, 15, 2), _f(1, 15, 5), _f(1, 30)], "constants": 1,
       "reference": _gru_first(bool(linear)), "terms": 20,
       "attrs": {"direction": "reverse", "layout": 1, "linear_before_reset": linear}} for linear in (0, 1)),
    {"op": "LSTM", "inputs": [_f(4, 3, 2), _f(1, 20, 2), _f(1, 20, 5), _f(1, 40), None, _f(1, 3, 5),
                              _f(1, 3, 5), _f(1, 15)],
     "reference": _lstm_forward, "constants": 1, "terms": 20},
    {"op": "LSTM", "inputs": [_f(4, 3, 2), _f(1, 20, 2), _f(1, 20, 5)], "reference": _lstm_coupled,
     "attrs": {"input_forget": 1}, "terms": 20},
]  # fmt: skip

# ---- Einsum, losses, training ----


def _einsum(equation: str, *shapes: tuple[int, ...], terms: int = 1) -> dict[str, Any]:
    return {
        "op": "Einsum", "inputs": [_f(*shape) for shape in shapes], "attrs": {"equation": equation},
        "reference": lambda *x: np.einsum(equation.replace(" ", ""), *x), "terms": terms,
    }  # fmt: skip


_TARGET = np.array([[0, 2, 3], [3, 1, 9]], np.int64)
_CLASS_WEIGHT = _f(4, low=0.5)


def _likelihood(reduction: str, weight: Array | None, ignored: int | None) -> Callable[..., Array]:
    def reference(x: Array, target: Array, *_: Array) -> Array:
        counts = np.ones(4) if weight is None else weight.astype(np.float64)
        seen = np.ones(target.shape, bool) if ignored is None else target != ignored
        seen &= target < 4
        each = np.where(seen, counts[np.minimum(target, 3)], 0)
        loss = -np.take_along_axis(x, np.minimum(target, 3)[:, None], 1)[:, 0] * each
        if reduction == "none":
            return loss
        return np.asarray(loss.sum() / each.sum() if reduction == "mean" else loss.sum())

    return reference


def _cross_entropy(x: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    logs = x - x.max(1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(1, keepdims=True))
    return _likelihood("mean", weight, 9)(logs, target), logs


def _adagrad(r: Array, t: Array, x: Array, g: Array, h: Array) -> tuple[Array, Array]:
    g = g + 0.01 * x
    h = h + g * g
    return x - r / (1 + t * 0.1) * g / (np.sqrt(h) + 1e-3), h


def _adam(r: Array, t: Array, *lists: Array) -> tuple[Array, ...]:
    new = []
    for x, g, v, h in (lists[0::2], lists[1::2]):
        regular = g + 0.01 * x
        v = 0.8 * v + (1 - 0.8) * regular
        h = 0.9 * h + (1 - 0.9) * regular * regular
        rate = r * np.sqrt(1 - 0.9**t) / (1 - 0.8**t)
        new.append((0.98 * (x - rate * v / (np.sqrt(h) + 1e-3)), v, h))
    return tuple(part for parts in zip(*new, strict=True) for part in parts)


def _momentum(started: bool, nesterov: bool) -> Callable[..., tuple[Array, Array]]:
    def reference(r: Array, _: Array, x: Array, g: Array, v: Array) -> tuple[Array, Array]:
        g = g + 0.01 * x
        v = 0.9 * v + (0.5 if started else 1) * g
        return x - r * (g + 0.9 * v if nesterov else v), v

    return reference


_RATE = np.array(0.1, np.float32)
_LISTS = [_f(3), _f(2, 2), _f(3), _f(2, 2), _f(3), _f(2, 2), _f(3, low=0.1), _f(2, 2, low=0.1)]

TRAINING: list[dict[str, Any]] = [
    _einsum("ij->ji", (3, 4)),
    _einsum("ij,jk", (3, 4), (4, 5), terms=4),
    _einsum("...ii->...i", (2, 3, 3)),
    _einsum("bij , bjk, kl -> lbi", (2, 3, 4), (2, 4, 5), (5, 3), terms=20),
    _einsum("i,j->ij", (3,), (4,)),
    _einsum("a...b,b...->a...", (3, 2, 4), (4, 1), terms=4),
    _einsum("abc->", (2, 3, 4), terms=24),
    _einsum("ijk,ijk->ik", (2, 3, 4), (2, 1, 4), terms=3),
    {"op": "NegativeLogLikelihoodLoss", "inputs": [_f(2, 4, 3), _TARGET, _CLASS_WEIGHT],
     "reference": _likelihood("mean", _CLASS_WEIGHT, 9), "attrs": {"ignore_index": 9}, "terms": 6},
    {"op": "NegativeLogLikelihoodLoss", "inputs": [_f(2, 4, 3), _TARGET],
     "reference": _likelihood("none", None, None), "attrs": {"reduction": "none"}},
    {"op": "SoftmaxCrossEntropyLoss", "inputs": [_f(2, 4, 3), _TARGET, _CLASS_WEIGHT],
     "reference": _cross_entropy, "attrs": {"ignore_index": 9}, "terms": 6},
    {"op": "Adagrad", "inputs": [_RATE, _i(3).reshape(()), _f(4), _f(4, high=1), _f(4, low=0)],
     "reference": _adagrad, "attrs": {"norm_coefficient": 0.01, "epsilon": 1e-3, "decay_factor": 0.1}},
    {"op": "Adam", "inputs": [_RATE, _i(2).reshape(()), *_LISTS], "reference": _adam,
     "attrs": {"norm_coefficient": 0.01, "norm_coefficient_post": 0.02, "epsilon": 1e-3, "alpha": 0.8,
               "beta": 0.9}},
    *({"op": "Momentum", "inputs": [_RATE, _i(t).reshape(()), _f(4), _f(4, high=1), _f(4, low=0)],
       "reference": _momentum(t > 0, mode == "nesterov"),
       "attrs": {"norm_coefficient": 0.01, "alpha": 0.9, "beta": 0.5, "mode": mode}}
      for t, mode in ((0, "standard"), (2, "nesterov"))),
]  # fmt: skip

CASES = [*NORMS, *ATTENTION, *RECURRENCE, *TRAINING]
