"""Old forms of operators brought to their newest, so that the engine has to know only that.

``UPGRADES`` is the whole list: an operator, the first version of the operator set that has the new form, and
the function that rewrites a node of an older version. What changed in types alone needs no row. Operators of
``ai.onnx.ml`` have a package of their own.

Source: the change log of ONNX's operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from walle_engine.convert import ml
from walle_engine.convert.scopes import (
    Scope,
    attribute_of,
    bodies,
    drop_attributes,
    set_attribute,
    set_input,
)
from walle_shared.errors import UnsupportedError

TRAINING = "ai.onnx.preview.training"

# Changes its first argument, which is a copy, and returns the nodes that stand for it.
type Apply = Callable[[onnx.NodeProto, Scope], list[onnx.NodeProto]]


@dataclass(frozen=True)
class Upgrade:
    """One row: ``apply`` takes nodes of ``op`` from before version ``since``."""

    op: str
    since: int
    apply: Apply


def upgrade(nodes: Iterable[onnx.NodeProto], version: int, scope: Scope) -> list[onnx.NodeProto]:
    """Return the newest form of nodes, those of the default domain of ``version``; bodies are upgraded too.

    Raises:
        UnsupportedError: naming a node whose old form has no new one.
    """
    new: list[onnx.NodeProto] = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for body in bodies(copy):
            inner = upgrade(body.node, version, scope)
            del body.node[:]
            body.node.extend(inner)
        if node.domain in ("", "ai.onnx"):
            new += _upgrade_node(copy, version, scope)
        elif node.op_type == "Gradient" and node.domain == TRAINING:
            new.append(_gradient(copy))
        else:
            new += ml.in_our_form(copy, scope)
    return new


def _gradient(node: onnx.NodeProto) -> onnx.NodeProto:
    """ONNX names what is differentiated, ours takes it last, and both where the graph computes it."""
    chosen, held = ([name.decode() for name in attribute_of(node, key, [])] for key in ("xs", "zs"))
    if list(node.input) != [*chosen, *held]:
        raise UnsupportedError(
            f"Gradient {node.name!r} is taken at other values than its xs and zs: give it those",
            op=node.op_type,
            node=node.name,
        )
    loss = attribute_of(node, "y", b"").decode()
    return helper.make_node("Gradient", [*chosen, loss], list(node.output), name=node.name)


def _upgrade_node(node: onnx.NodeProto, version: int, scope: Scope) -> list[onnx.NodeProto]:
    nodes = [node]
    for row in _ROWS.get(node.op_type, ()):
        if version < row.since:
            nodes = [m for n in nodes for m in (row.apply(n, scope) if n.op_type == row.op else [n])]
    return nodes


def _refuse(node: onnx.NodeProto, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{node.op_type} {node.name!r} is of an old form: {why}. Export the model with a newer opset",
        op=node.op_type,
        node=node.name,
    )


def _drop(*names: str) -> Apply:
    """Attributes that mean nothing any more, or nothing at inference."""

    def apply(node: onnx.NodeProto, _scope: Scope) -> list[onnx.NodeProto]:
        drop_attributes(node, *names)
        return [node]

    return apply


def _default(name: str, value: Any) -> Apply:
    """A default that has changed is stated."""

    def apply(node: onnx.NodeProto, _scope: Scope) -> list[onnx.NodeProto]:
        if attribute_of(node, name) is None:
            set_attribute(node, name, value)
        return [node]

    return apply


def _rename_values(name: str, renamed: dict[str, str]) -> Apply:
    def apply(node: onnx.NodeProto, _scope: Scope) -> list[onnx.NodeProto]:
        value = attribute_of(node, name, b"").decode()
        if value in renamed:
            set_attribute(node, name, renamed[value])
        return [node]

    return apply


def _to_inputs(*names: str, first: int = 1) -> Apply:
    """Integer lists that became inputs, in this order from position ``first`` on."""

    def apply(node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
        made = []
        for position, name in enumerate(names, first):
            value = attribute_of(node, name)
            if value is not None:
                made.append(scope.constant(f"{node.output[0]}.{name}", np.array(value, np.int64)))
                set_input(node, position, made[-1].output[0])
        drop_attributes(node, *names)
        return [*made, node]

    return apply


def _scalars_to_inputs(**positions: int) -> Apply:
    """Numbers that became scalar inputs of the data's type."""

    def apply(node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
        made = []
        element = scope.element_type(node.input[0]) or TensorProto.FLOAT
        dtype = helper.tensor_dtype_to_np_dtype(element)
        for name, position in positions.items():
            value = attribute_of(node, name)
            if value is not None:
                made.append(scope.constant(f"{node.output[0]}.{name}", np.array(value, dtype)))
                set_input(node, position, made[-1].output[0])
        drop_attributes(node, *positions)
        return [*made, node]

    return apply


def _top_k(node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
    k = scope.constant(f"{node.output[0]}.k", np.array([attribute_of(node, "k")], np.int64))
    drop_attributes(node, "k")
    set_input(node, 1, k.output[0])
    return [k, node]


def _old_pad(node: onnx.NodeProto, _scope: Scope) -> list[onnx.NodeProto]:
    if (old := attribute_of(node, "paddings")) is not None:
        set_attribute(node, "pads", old)
        drop_attributes(node, "paddings")
    return [node]


def _tile(node: onnx.NodeProto, _scope: Scope) -> list[onnx.NodeProto]:
    raise _refuse(node, "it repeats along one axis only")


def _scan(node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
    """The first Scan ran over each row of a batch; now that is a scan of its own round the other."""
    if node.input[0]:
        raise _refuse(node, "its sequences have lengths of their own")
    if any(attribute_of(node, "directions", [])):
        raise _refuse(node, "it runs backwards over a batch")
    body = attribute_of(node, "body")
    rows = [scope.fresh(f"{name}.row") for name in node.input[1:]]
    results = [scope.fresh(f"{name}.row") for name in node.output]
    count = attribute_of(node, "num_scan_inputs")
    inner = helper.make_node("Scan", rows, results, body=body, num_scan_inputs=count)
    outer = helper.make_graph(
        [inner],
        "rows",
        [_row_of(scope, name, row) for name, row in zip(node.input[1:], rows, strict=True)],
        [_row_of(scope, name, row) for name, row in zip(node.output, results, strict=True)],
    )
    return [
        helper.make_node(
            "Scan", node.input[1:], node.output, node.name, body=outer, num_scan_inputs=len(rows)
        )
    ]


def _row_of(scope: Scope, name: str, row: str) -> onnx.ValueInfoProto:
    """The type of a value without its first dim."""
    dims = scope.dims(name)
    shape = None if dims is None else list(dims[1:])
    return helper.make_tensor_value_info(row, scope.element_type(name), shape)


def _cast(node: onnx.NodeProto, _scope: Scope) -> list[onnx.NodeProto]:
    to = attribute_of(node, "to")
    if isinstance(to, bytes):
        set_attribute(node, "to", TensorProto.DataType.Value(to.decode()))
    return [node]


def _rank(node: onnx.NodeProto, position: int, scope: Scope) -> int:
    dims = scope.dims(node.input[position])
    if dims is None:
        raise _refuse(
            node, f"what it means depends on the rank of {node.input[position]!r}, which is unknown"
        )
    return len(dims)


def _align(node: onnx.NodeProto, axes: list[int], scope: Scope) -> list[onnx.NodeProto]:
    """Give the second input dims of 1 at ``axes`` of the result."""
    if not axes:
        return [node]
    constant = scope.constant(f"{node.output[0]}.axes", np.array(axes, np.int64))
    aligned = scope.fresh(f"{node.input[1]}.aligned")
    spread = helper.make_node("Unsqueeze", [node.input[1], constant.output[0]], [aligned])
    node.input[1] = aligned
    return [constant, spread, node]


def _broadcast(node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
    """``axis`` says which dim of the first input the second's first one meets."""
    axis = attribute_of(node, "axis")
    drop_attributes(node, "axis", "broadcast", "consumed_inputs")
    if axis is None:
        return [node]
    a, b = _rank(node, 0, scope), _rank(node, 1, scope)
    axis += a if axis < 0 else 0
    return _align(node, list(range(b, a - axis)), scope)


def _slope(node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
    """One slope per channel meets the second dim, not the last."""
    rank = _rank(node, 0, scope)
    if _rank(node, 1, scope) != 1 or scope.dims(node.input[1]) == (1,) or rank < 3:
        return [node]
    return _align(node, list(range(1, rank - 1)), scope)


def _flattened(node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
    """Softmax and its kin once worked on all dims from ``axis`` on as one."""
    rank = _rank(node, 0, scope)
    axis = attribute_of(node, "axis", 1)
    axis += rank if axis < 0 else 0
    set_attribute(node, "axis", -1)
    if axis == rank - 1:
        return [node]
    source, target = node.input[0], node.output[0]
    shape, flat, result = (scope.fresh(f"{target}.{part}") for part in ("shape", "flat", "result"))
    node.input[0], node.output[0] = flat, result
    return [
        helper.make_node("Shape", [source], [shape]),
        helper.make_node("Flatten", [source], [flat], axis=axis),
        node,
        helper.make_node("Reshape", [result, shape], [target]),
    ]


def _resize(node: onnx.NodeProto, _scope: Scope) -> list[onnx.NodeProto]:
    """The first Resize, and Upsample before it, sampled at ``floor(x / scale)``."""
    node.op_type = "Resize"
    scales = node.input[1]
    node.input[1] = ""
    node.input.append(scales)
    set_attribute(node, "coordinate_transformation_mode", "asymmetric")
    set_attribute(node, "nearest_mode", "floor")
    return [node]


def _first_upsample(node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
    scales = attribute_of(node, "scales")
    if scales is None:
        scales = [1.0, 1.0, attribute_of(node, "height_scale"), attribute_of(node, "width_scale")]
    made = scope.constant(f"{node.output[0]}.scales", np.array(scales, np.float32))
    drop_attributes(node, "scales", "height_scale", "width_scale")
    set_input(node, 1, made.output[0])
    return [made, node]


def _scatter(node: onnx.NodeProto, _scope: Scope) -> list[onnx.NodeProto]:
    node.op_type = "ScatterElements"
    return [node]


def _axis_input(node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
    axis = scope.constant(f"{node.output[0]}.axis", np.array(attribute_of(node, "axis", 1), np.int64))
    drop_attributes(node, "axis")
    set_input(node, 2, axis.output[0])
    return [axis, node]


def _dropout(node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
    """The ratio matters to who trains the model."""
    drop_attributes(node, "is_test")
    return _scalars_to_inputs(ratio=1)(node, scope)


_AXES_SINCE_18 = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSumSquare",
)  # fmt: skip
_ONCE_IN_PLACE = (
    "Abs", "BatchNormalization", "Ceil", "Clip", "Dropout", "Elu", "Exp", "Floor", "HardSigmoid",
    "InstanceNormalization", "LeakyRelu", "Log", "Max", "Mean", "Min", "Neg", "PRelu", "Reciprocal", "Relu",
    "Reshape", "Selu", "Sigmoid", "Sqrt", "Sum", "Tanh",
)  # fmt: skip
_ONCE_ONE_SIDED = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")

UPGRADES = (
    *(Upgrade(op, 6, _drop("consumed_inputs")) for op in _ONCE_IN_PLACE),
    *(Upgrade(op, 7, _broadcast) for op in _ONCE_ONE_SIDED),
    *(Upgrade(op, 13, _to_inputs("axes")) for op in ("ReduceSum", "Squeeze", "Unsqueeze")),
    *(Upgrade(op, 13, _flattened) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    *(Upgrade(op, 18, _to_inputs("axes")) for op in _AXES_SINCE_18),
    *(Upgrade(op, 7, _drop("output_sequence")) for op in ("RNN", "LSTM", "GRU")),
    Upgrade("BatchNormalization", 9, _drop("is_test", "spatial")),
    Upgrade("Cast", 6, _cast),
    Upgrade("Clip", 11, _scalars_to_inputs(min=1, max=2)),
    Upgrade("Concat", 4, _default("axis", 1)),
    Upgrade("DFT", 20, _axis_input),
    Upgrade("Dropout", 12, _dropout),
    Upgrade("GRU", 3, _rename_values("direction", {"foward": "forward"})),  # codespell:ignore
    Upgrade("Gemm", 7, _drop("broadcast")),
    Upgrade("GridSample", 20, _rename_values("mode", {"bilinear": "linear", "bicubic": "cubic"})),
    Upgrade("PRelu", 7, _slope),
    Upgrade("Pad", 2, _old_pad),
    Upgrade("Pad", 11, _to_inputs("pads")),
    Upgrade("Pad", 11, _scalars_to_inputs(value=2)),
    Upgrade("Reshape", 5, _to_inputs("shape")),
    Upgrade("Resize", 11, _resize),
    Upgrade("Scan", 9, _scan),
    Upgrade("Scatter", 11, _scatter),
    Upgrade("Selu", 6, _default("alpha", 1.6732)),
    Upgrade("Selu", 6, _default("gamma", 1.0507)),
    Upgrade("Slice", 10, _to_inputs("starts", "ends", "axes")),
    Upgrade("Split", 13, _to_inputs("split")),
    Upgrade("Tile", 6, _tile),
    Upgrade("TopK", 10, _top_k),
    Upgrade("Upsample", 9, _first_upsample),
    Upgrade("Upsample", 10, _resize),
)
_ROWS: dict[str, list[Upgrade]] = {}
for _row in UPGRADES:
    _ROWS.setdefault(_row.op, []).append(_row)
