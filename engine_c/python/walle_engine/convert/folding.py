"""Fold what is known at conversion: operators on constants, and shapes that inference found to be fixed.

Exporters leave chains of shape arithmetic (``Shape``, ``Gather``, ``Concat``, ``Reshape``); this removes the
parts that do not depend on an input. An operator folds by its row in ``FOLDERS``; one without a row is left
to the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from walle_engine import wmodel
from walle_engine.convert.draft import Array, Draft
from walle_shared.errors import ModelError

# Folding must not trade a cheap operator for a large file (an Expand of a scalar, say).
FOLDED_MAX_BYTES = 1 << 20

_SPREADING = ("Add", "Sub", "Mul", "Div", "Equal", "Where")

# Inputs (None for an omitted one) and attributes to the one output.
type Folder = Callable[[Sequence[Any], Mapping[str, Any]], Any]


def fold_constants(draft: Draft) -> int:
    """Replace foldable nodes by weights; returns how many.

    Raises:
        ModelError: if an operator cannot be applied to its constants.
    """
    kept: list[wmodel.Node] = []
    for node in draft.nodes:
        value = _fold_node(draft, node)
        if value is None:
            kept.append(node)
        else:
            draft.weights[node.outputs[0]] = value
    folded = len(draft.nodes) - len(kept)
    draft.nodes = kept
    return folded


def _fold_node(draft: Draft, node: wmodel.Node) -> Array | None:
    if len(node.outputs) != 1:
        return None
    if node.op == "Shape":
        return _fixed_shape(draft, node)
    folder = FOLDERS.get(node.op)
    inputs = [draft.constant(name) for name in node.inputs]
    if folder is None or any(value is None and name for value, name in zip(inputs, node.inputs, strict=True)):
        return None
    largest = max((i.nbytes for i in inputs if i is not None), default=0)
    limit = max(FOLDED_MAX_BYTES, largest)
    try:
        if _result_bytes(node, [array for array in inputs if array is not None]) > limit:
            return None
        with np.errstate(all="ignore"):  # whole numbers wrap, as those of the engine do
            folded = folder(inputs, {k: _resolved(draft, v) for k, v in node.attrs.items()})
    except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
        raise ModelError(
            f"{node.op} {node.name!r} cannot be applied to its constants: {error}", op=node.op, node=node.name
        ) from error
    if folded is None:  # too large to store: the session makes it
        return None
    value = np.asarray(folded)
    return value if value.nbytes <= limit else None


def _result_bytes(node: wmodel.Node, arrays: Sequence[Array]) -> int:
    """How large a result will be at most, for operators that can make more of their inputs than they are."""
    if node.op in _SPREADING:
        itemsize = max(array.itemsize for array in arrays)
        return math.prod(np.broadcast_shapes(*(array.shape for array in arrays))) * itemsize
    if node.op == "Gather" and arrays[0].size:
        axis = node.attrs.get("axis", 0)
        rows = arrays[0].shape[axis] if isinstance(axis, int) else 1
        return arrays[0].nbytes // rows * arrays[1].size
    if node.op == "Concat":
        return sum(array.nbytes for array in arrays)
    return 0


def _resolved(draft: Draft, attribute: wmodel.Attribute) -> Any:
    return draft.weights[attribute["tensor"]] if isinstance(attribute, Mapping) else attribute


def _fixed_shape(draft: Draft, node: wmodel.Node) -> Array | None:
    name = node.inputs[0]
    constant = draft.constant(name)
    known = {value.name: value.shape for value in draft.inputs} | {
        n: v.shape for n, v in draft.values.items()
    }
    shape = constant.shape if constant is not None else known.get(name)
    if shape is None:
        return None
    attrs: Mapping[str, Any] = node.attrs
    part = shape[attrs.get("start", 0) : attrs.get("end")]
    return np.array(part, np.int64) if all(isinstance(dim, int) for dim in part) else None


def _axes(inputs: Sequence[Any]) -> Any:
    return None if len(inputs) < 2 or inputs[1] is None else tuple(int(axis) for axis in inputs[1])


def _divide(a: Any, b: Any) -> Any:
    if not np.issubdtype(a.dtype, np.integer):
        return a / b
    if np.any(b == 0):
        raise ZeroDivisionError("integer division by zero")
    return np.sign(a) * np.sign(b) * (abs(a) // abs(b))  # ONNX truncates, NumPy floors


def _reshape(x: Any, wanted: Any, *, allow_zero: bool) -> Any:
    dims = [x.shape[i] if dim == 0 and not allow_zero else int(dim) for i, dim in enumerate(wanted)]
    return x.reshape(dims)


def _slice(inputs: Sequence[Any]) -> Any:
    x, starts, ends = inputs[:3]
    axes = inputs[3] if len(inputs) > 3 and inputs[3] is not None else range(len(starts))
    steps = inputs[4] if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    cut = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        first, last, stride = int(start), int(end), int(step)
        # Going down to the very first element cannot be said with a negative NumPy end.
        cut[int(axis)] = slice(first, None if stride < 0 and last < -x.shape[int(axis)] else last, stride)
    return x[tuple(cut)]


def _filled(shape: Any, attrs: Mapping[str, Any]) -> Any:
    value = attrs.get("value", np.zeros(1, np.float32))
    if np.prod(shape, dtype=np.float64) * value.itemsize > FOLDED_MAX_BYTES:
        return None
    return np.full([int(dim) for dim in shape], value.reshape(-1)[0], value.dtype)


FOLDERS: dict[str, Folder] = {
    "Identity": lambda i, _: i[0],
    "Cast": lambda i, a: i[0].astype(wmodel.numpy_dtype(a["to"])),
    "Gather": lambda i, a: np.take(i[0], i[1], axis=a.get("axis", 0)),
    "Concat": lambda i, a: np.concatenate(i, axis=a["axis"]),
    "Unsqueeze": lambda i, _: np.expand_dims(i[0], _axes(i)),
    "Squeeze": lambda i, _: np.squeeze(i[0], _axes(i)),
    "Slice": lambda i, _: _slice(i),
    "Reshape": lambda i, a: _reshape(i[0], i[1], allow_zero=bool(a.get("allowzero", 0))),
    "Transpose": lambda i, a: np.transpose(i[0], a.get("perm")),
    "Add": lambda i, _: i[0] + i[1],
    "Sub": lambda i, _: i[0] - i[1],
    "Mul": lambda i, _: i[0] * i[1],
    "Div": lambda i, _: _divide(i[0], i[1]),
    "Neg": lambda i, _: -i[0],
    "Sqrt": lambda i, _: np.sqrt(i[0]),
    "Equal": lambda i, _: i[0] == i[1],
    "Where": lambda i, _: np.where(i[0], i[1], i[2]),
    "ConstantOfShape": lambda i, a: _filled(i[0], a),
}
