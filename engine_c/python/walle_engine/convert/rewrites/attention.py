"""Scaled dot-product attention, ``softmax(scale Q K^T + mask) V``, and the reshapes round its heads."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

import numpy as np

from walle_engine import wmodel
from walle_engine.convert.rewrites.index import Dim, Index
from walle_engine.convert.rewrites.patterns import Match, Pattern, either, op, scalar, value
from walle_engine.convert.rewrites.row import Built, Rewrite
from walle_engine.convert.rewrites.transposes import is_identity, perm_of

_HEADS_FIRST = (0, 2, 1, 3)  # [batch, length, heads, size] and back
_FACTORS = ("q_factor", "k_factor", "factor")


def _perhaps_scaled(x: Pattern, name: str) -> Pattern:
    return either(op("Mul", x, scalar(name)), op("Div", x, scalar(f"{name}_divisor")), x)


_TURNED = op("Transpose", value("k"), name="turn")
_SCORES = _perhaps_scaled(
    op("MatMul", _perhaps_scaled(value("q"), "q_factor"), _perhaps_scaled(_TURNED, "k_factor")), "factor"
)
_WEIGHTS = op("Softmax", either(op("Add", _SCORES, value("mask")), _SCORES), name="softmax")
_ATTENTION = op("MatMul", _WEIGHTS, value("v"))


def _attention(index: Index, match: Match) -> Built:
    q, k, v = (index.shape(match.values[name]) for name in "qkv")
    if q is None or k is None or v is None or len(q) not in (3, 4) or not len(q) == len(k) == len(v):
        return None
    perm = perm_of(match.nodes["turn"], len(k))
    turned = tuple(k[axis] for axis in perm)
    if not q[:-2] == turned[:-2] == v[:-2]:
        return None  # MatMul would repeat the heads of one
    if match.nodes["softmax"].attrs.get("axis", -1) not in (-1, len(q) - 1):
        return None
    mask = match.values.get("mask")
    reach = _reach(index.shape(mask), (*q[:-1], turned[-1]), v[-2]) if mask else _Reach.ALL
    scale = _scale(index, match)
    if reach is _Reach.UNFIT or scale is None:
        return None
    return _build(index, match, (*perm[:-2], perm[-1], perm[-2]), scale, reach)


class _Reach(Enum):
    """Whether a mask, spread to the scores without spreading them, reaches over all keys."""

    ALL = auto()
    UNKNOWN = auto()  # its last dim has another name than the number of keys
    UNFIT = auto()


def _reach(mask: tuple[Dim, ...] | None, scores: Sequence[Dim], keys: Dim) -> _Reach:
    if not mask or len(mask) > len(scores):
        return _Reach.UNFIT
    *others, last = mask
    if not all(dim in (1, score) for dim, score in zip(others[::-1], scores[-2::-1], strict=False)):
        return _Reach.UNFIT
    if last in (scores[-1], keys):
        return _Reach.ALL
    # The operator would take what one number says of all keys for what it says of the first.
    return _Reach.UNKNOWN if isinstance(last, str) else _Reach.UNFIT


def _scale(index: Index, match: Match) -> float | None:
    scale = 1.0
    for name in _FACTORS:
        for hole, inverse in ((name, False), (f"{name}_divisor", True)):
            array = index.constant(match.values.get(hole, ""))
            if array is not None:
                factor = float(array.reshape(-1)[0])
                if inverse and factor == 0:
                    return None
                scale *= 1 / factor if inverse else factor
    return scale if 0 < scale < float("inf") else None


def _build(index: Index, match: Match, perm: Sequence[int], scale: float, reach: _Reach) -> list[wmodel.Node]:
    """The operator on four dims; of three, the first becomes that of the heads of one batch."""
    name = match.root.name
    operands = [match.values[hole] for hole in "qkv"]
    nodes: list[wmodel.Node] = []
    if not is_identity(perm):
        keys = operands[1]
        dims = index.shape(keys) or ()
        operands[1] = index.value(f"{keys}.upright", [dims[axis] for axis in perm], like=keys)
        nodes.append(wmodel.Node("Transpose", f"{name}.keys", (keys,), (operands[1],), {"perm": list(perm)}))
    mask = [match.values["mask"]] if match.has("mask") else []
    if reach is _Reach.UNKNOWN:
        mask = [_stretched(index, mask[0], match.values["k"], perm[-2], name, nodes)]
    if len(perm) == 4:
        return [*nodes, _node(name, [*operands, *mask], match.output, scale)]
    axes = index.weight(f"{name}.axes", np.zeros(1, np.int64))
    lifted = [
        index.value(f"{source}.heads", (1, *(index.shape(source) or ())), like=source) for source in operands
    ]
    for hole, source, target in zip("qkv", operands, lifted, strict=True):
        nodes.append(wmodel.Node("Unsqueeze", f"{name}.{hole}", (source, axes), (target,)))
    result = index.value(f"{match.output}.heads", (1, *(index.shape(match.output) or ())), like=match.output)
    nodes.append(_node(name, [*lifted, *mask], result, scale))
    return [*nodes, wmodel.Node("Squeeze", f"{name}.result", (result, axes), match.root.outputs)]


def _stretched(index: Index, mask: str, keys: str, axis: int, name: str, nodes: list[wmodel.Node]) -> str:
    """Add the nodes that spread a mask over all keys, which are its own at most."""
    count, wide = index.fresh(f"{name}.key_count"), index.fresh(f"{mask}.wide")
    nodes.append(
        wmodel.Node("Shape", f"{name}.key_count", (keys,), (count,), {"start": axis, "end": axis + 1})
    )
    nodes.append(wmodel.Node("Expand", f"{name}.mask", (mask, count), (wide,)))
    return wide


def _node(name: str, inputs: Sequence[str], output: str, scale: float) -> wmodel.Node:
    return wmodel.Node("Attention", name, tuple(inputs), (output,), {"scale": scale})


def _split(name: str) -> Pattern:
    return op(
        "Transpose",
        op("Reshape", value(name), value(f"{name}_shape"), name=f"{name}_split"),
        name=f"{name}_turn",
    )


_SPLIT = tuple(_split(name) for name in "qkv")
_JOINED = op(
    "Reshape",
    op(
        "Transpose",
        either(
            op("Attention", *_SPLIT, value("mask"), name="attention"),
            op("Attention", *_SPLIT, name="attention"),
        ),
        name="turn",
    ),
    value("shape"),
)


def _packed(index: Index, match: Match) -> Built:
    turns = (match.nodes[name] for name in ("q_turn", "k_turn", "v_turn", "turn"))
    if any(tuple(perm_of(turn, 4)) != _HEADS_FIRST for turn in turns):
        return None
    heads = {_heads(index, match, name) for name in "qkv"}
    q, v, y = (index.shape(name) for name in (match.values["q"], match.values["v"], match.output))
    if len(heads) != 1 or None in heads or not q or not v or y != (*q[:2], v[2]):
        return None
    count = next(iter(heads)) or 0
    attention = match.nodes["attention"]
    inputs = (*(match.values[name] for name in "qkv"), *attention.inputs[3:])
    attributes = {**attention.attrs, "q_num_heads": count, "kv_num_heads": count}
    return [wmodel.Node("Attention", attention.name, inputs, match.root.outputs, attributes)]


def _heads(index: Index, match: Match, name: str) -> int | None:
    """Into how many heads a reshape splits the last of three dims; None where it does something else."""
    whole = index.shape(match.values[name])
    parts = index.shape(match.nodes[f"{name}_split"].outputs[0])
    if not whole or not parts or len(whole) != 3 or len(parts) != 4 or whole[:2] != parts[:2]:
        return None
    heads, size, width = parts[2], parts[3], whole[2]
    if not (isinstance(heads, int) and isinstance(size, int) and isinstance(width, int)):
        return None
    return heads if heads * size == width and heads > 0 else None


ROWS = (
    Rewrite("attention", _ATTENTION, _attention),
    Rewrite("attention_heads", _JOINED, _packed),
)
