"""Transposes: two become one, those round an element-wise operator cancel, one may be a flag of Gemm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from walle_engine import wmodel
from walle_engine.convert.rewrites.index import Dim, Index
from walle_engine.convert.rewrites.patterns import Match, either, op, value
from walle_engine.convert.rewrites.row import Alias, Built, Rewrite
from walle_engine.convert.shape_arithmetic import reshape_target

#: Operators that work on each element alone, with no other input.
ELEMENT_WISE = (
    "Abs|Cast|Ceil|Celu|Clip|Cos|Elu|Erf|Exp|Floor|Gelu|HardSigmoid|HardSwish|LeakyRelu|Log|Mish|Neg|Not|"
    "Reciprocal|Relu|Round|Selu|Sigmoid|Sign|Sin|Softplus|Softsign|Sqrt|Swish|Tanh|ThresholdedRelu"
)


def perm_of(node: wmodel.Node, rank: int) -> tuple[int, ...]:
    """The order a Transpose brings dims into; the reverse where it states none."""
    perm = node.attrs.get("perm")
    if not isinstance(perm, Sequence) or len(perm) != rank:
        return tuple(range(rank))[::-1]
    return tuple(int(axis) for axis in perm)


def after(second: Sequence[int], first: Sequence[int]) -> tuple[int, ...]:
    """One order that does what two in a row do."""
    return tuple(first[axis] for axis in second)


def is_identity(perm: Sequence[int]) -> bool:
    """Whether an order leaves everything where it is."""
    return list(perm) == list(range(len(perm)))


def _merged(index: Index, match: Match) -> tuple[int, ...] | None:
    rank = index.rank(match.values["x"])
    if rank is None:
        return None
    return after(perm_of(match.nodes["second"], rank), perm_of(match.nodes["first"], rank))


def _merge(index: Index, match: Match) -> Built:
    perm = _merged(index, match)
    if perm is None:
        return None
    if is_identity(perm):
        return Alias(match.values["x"])
    return [replace(match.nodes["second"], inputs=(match.values["x"],), attrs={"perm": list(perm)})]


def _cancel(index: Index, match: Match) -> Built:
    """Cancel the transposes before and after an element-wise operator."""
    perm, middle = _merged(index, match), match.nodes["middle"]
    if perm is None or not is_identity(perm) or any(index.rank(name) for name in middle.inputs[1:] if name):
        return None
    return [replace(middle, inputs=(match.values["x"], *middle.inputs[1:]), outputs=match.root.outputs)]


def _split_first(index: Index, match: Match) -> Built:
    """Split a dim before a transpose and not behind it: the reshapes that lead to it may cancel then."""
    x, y = index.shape(match.values["x"]), index.shape(match.output)
    if x is None or y is None:
        return None
    perm = perm_of(match.nodes["first"], len(x))
    at, count = _split_dim([x[axis] for axis in perm], y)
    if count < 2:
        return None
    split = perm[at]
    before = (*x[:split], *y[at : at + count], *x[split + 1 :])
    places = [axis + (count - 1) * (axis > split) for axis in perm]
    places[at : at + 1] = range(split, split + count)
    turned = replace(match.nodes["first"], outputs=match.root.outputs, attrs={"perm": places})
    joined = index.producer(match.values["x"])
    if joined is not None and joined.op == "Reshape" and index.shape(joined.inputs[0]) == before:
        return [replace(turned, inputs=joined.inputs[:1])]  # what was split was joined just before
    target = reshape_target(x, before)
    if target is None:
        return None
    middle = index.value(f"{match.output}.split", before, like=match.output)
    shape = index.weight(f"{match.output}.shape", np.array(target, np.int64))
    return [
        wmodel.Node("Reshape", f"{match.root.name}.split", (match.values["x"], shape), (middle,)),
        replace(turned, inputs=(middle,)),
    ]


def _split_dim(before: Sequence[Dim], after_: Sequence[Dim]) -> tuple[int, int]:
    """Which dim a reshape splits while it leaves all others, and into how many; (0, 0) where it does not."""
    count = len(after_) - len(before) + 1
    for at in range(len(before) if count > 1 else 0):
        behind = len(before) - at - 1
        parts = after_[at : at + count]
        same = list(before[:at]) == list(after_[:at]) and list(before[at + 1 :]) == list(
            after_[len(after_) - behind :]
        )
        if same and _is_product(before[at], parts):
            return at, count
    return 0, 0


def _is_product(dim: Dim, parts: Sequence[Dim]) -> bool:
    """Whether a dim may be the product of parts; one without a size must be."""
    sizes = [part for part in parts if isinstance(part, int)]
    if isinstance(dim, int) and len(sizes) == len(parts):
        return math.prod(sizes) == dim
    return isinstance(dim, str) and len(sizes) < len(parts)


def _into_product(index: Index, match: Match) -> Built:
    """Let Gemm read a matrix the other way round; MatMul of two matrices is a Gemm."""
    root, holes = match.root, match.values
    flags = {"transA": holes.get("a_turned"), "transB": holes.get("b_turned")}
    a, b = (holes.get(f"{side}_turned") or holes[side] for side in "ab")
    if index.rank(a) != 2 or index.rank(b) != 2:
        return None
    if any(is_identity(perm_of(node, 2)) for node in match.matched[1:]):
        return None
    attributes = {name: value for name, value in root.attrs.items() if name not in flags}
    for name, turned in flags.items():
        if bool(root.attrs.get(name, 0)) != bool(turned):
            attributes[name] = 1
    inputs = (a, b, holes["c"]) if match.has("c") else (a, b)
    return [wmodel.Node("Gemm", root.name, inputs, root.outputs, attributes)]


_A, _B = value("a"), value("b")
_A_TURNED, _B_TURNED = op("Transpose", value("a_turned")), op("Transpose", value("b_turned"))
_OPERANDS = either(
    *(
        op(ops, a, b, *rest)
        for ops, rest in (("Gemm|MatMul", ()), ("Gemm", (value("c"),)))
        for a, b in ((_A_TURNED, _B_TURNED), (_A_TURNED, _B), (_A, _B_TURNED))
    )
)

ROWS = (
    Rewrite(
        "transpose_merge", op("Transpose", op("Transpose", value("x"), name="first"), name="second"), _merge
    ),
    Rewrite(
        "transpose_cancel",
        op(
            "Transpose",
            either(
                *(
                    op(ELEMENT_WISE, op("Transpose", value("x"), name="first"), *more, name="middle")
                    for more in ((), (value("low"),), (value("low"), value("high")))
                )
            ),
            name="second",
        ),
        _cancel,
    ),
    Rewrite(
        "split_before_transpose",
        op("Reshape", op("Transpose", value("x"), name="first"), value("shape")),
        _split_first,
    ),
    Rewrite("transpose_into_product", _OPERANDS, _into_product),
)
