"""From an upgraded ONNX graph to a draft: names, types, weights and attributes in our form.

Constants, those of bodies too, become weights of the whole model, under names of their own. Text has no place
among weights and stays in ``Constant`` nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.defs
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from walle_engine import wmodel
from walle_engine.convert.draft import Array, Draft
from walle_engine.convert.scopes import DOMAINS, Scope
from walle_engine.convert.support import Missing, foreign
from walle_shared.errors import ModelError

DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "F32",
    TensorProto.DOUBLE: "F64",
    TensorProto.FLOAT16: "F16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "I8",
    TensorProto.INT16: "I16",
    TensorProto.INT32: "I32",
    TensorProto.INT64: "I64",
    TensorProto.UINT8: "U8",
    TensorProto.UINT16: "U16",
    TensorProto.UINT32: "U32",
    TensorProto.UINT64: "U64",
    TensorProto.BOOL: "BOOL",
    TensorProto.FLOAT8E4M3FN: "F8_E4M3",
    TensorProto.FLOAT8E4M3FNUZ: "F8_E4M3FNUZ",
    TensorProto.FLOAT8E5M2: "F8_E5M2",
    TensorProto.FLOAT8E5M2FNUZ: "F8_E5M2FNUZ",
    TensorProto.FLOAT8E8M0: "F8_E8M0",
    TensorProto.FLOAT4E2M1: "F4_E2M1",
    TensorProto.INT4: "I4",
    TensorProto.UINT4: "U4",
    TensorProto.INT2: "I2",
    TensorProto.UINT2: "U2",
    TensorProto.STRING: "STRING",
}


# A sparse tensor is small on disk whatever its dims say; this is for all of a model together.
DENSE_MAX_BYTES = 1 << 28
_DENSE = "store it as a dense tensor"
_SCALAR_KINDS = {AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING}
_LIST_KINDS = {AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS}
_KINDS = _SCALAR_KINDS | _LIST_KINDS | {AttributeProto.TENSOR, AttributeProto.GRAPH}
# Says what the engine finds out by itself: of what an empty optional would be.
_DROPPED_KINDS = {AttributeProto.TYPE_PROTO}
# Attributes that hold a number of ONNX's for an element type; the engine takes the type's name.
TYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "output_datatype", "precision"}


class Drafting:
    """One translation; ``untranslated`` collects what has no form in our graphs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._weights: dict[str, Array] = {}
        self._node_names: set[str] = set()
        self._taken = Scope.of(model).taken
        self._dense_left_bytes = DENSE_MAX_BYTES
        self.untranslated: list[Missing] = []

    def draft(self) -> Draft:
        """Translate the whole model."""
        graph = self._model.graph
        weights = {tensor.name for tensor in graph.initializer}
        inputs = [self._value(info) for info in graph.input if info.name not in weights]
        nodes = self._nodes(graph, None)
        producer = (self._model.producer_name, self._model.producer_version)
        known = [_value_of(info) for info in graph.value_info]
        return Draft(
            name=graph.name or "model",
            producer=" ".join(part for part in producer if part),
            inputs=inputs,
            outputs=[self._value(info) for info in graph.output],
            nodes=nodes,
            weights=self._weights,
            values={
                value.name: value for value in known if value and value.dtype and value.shape is not None
            },
        )

    def _value(self, info: onnx.ValueInfoProto) -> wmodel.Value:
        value = _value_of(info)
        if value is None:
            kind = f"value of type {info.type.WhichOneof('value')}"
            self.untranslated.append(Missing(kind, info.name, hint="hand in and out tensors instead"))
        return value or wmodel.Value(info.name, "", None)

    def _fresh(self, wish: str) -> str:
        name, count = wish, 1
        while name in self._taken:
            count += 1
            name = f"{wish}.{count}"
        self._taken.add(name)
        return name

    # ---- Nodes

    def _nodes(self, graph: onnx.GraphProto, names: dict[str, str] | None) -> list[wmodel.Node]:
        """Translate constants and nodes.

        Args:
            graph: the model's, or a body.
            names: of a body: its constants' names as weights, which this adds to; None for the model's graph,
                whose constants keep theirs.
        """
        nodes: list[wmodel.Node] = []
        for sparse in graph.sparse_initializer:
            dense = self._dense(sparse)
            if dense is None:
                self.untranslated.append(Missing("sparse initializer", sparse.values.name, hint=_DENSE))
            else:
                nodes += self._constant(sparse.values.name, dense, names)
        for tensor in graph.initializer:
            nodes += self._constant(tensor.name, array_of(tensor), names)
        for node in graph.node:
            name = self._node_name(node)
            if node.op_type == "Constant" and node.domain in DOMAINS:
                value = self._constant_value(node)
                if value is None:
                    what = f"Constant of {node.attribute[0].name}"
                    self.untranslated.append(Missing(what, name, hint=_DENSE))
                else:
                    nodes += self._constant(node.output[0], value, names)
            elif node.domain not in DOMAINS:
                self.untranslated.append(foreign(node.domain, node.op_type, name))
            elif any(
                attribute.type not in _KINDS | _DROPPED_KINDS and not _is_default(node, attribute)
                for attribute in node.attribute
            ):
                kinds = "it has an attribute of a kind no operator of the engine takes: replace the operator"
                self.untranslated.append(Missing(node.op_type, name, node.domain, kinds))
            else:
                nodes.append(self._node(node, name, names or {}))
        return nodes

    def _node_name(self, node: onnx.NodeProto) -> str:
        name, count = node.name, len(self._node_names)
        while not name or name in self._node_names:
            name = f"{node.op_type}_{count}"
            count += 1
        self._node_names.add(name)
        return name

    def _node(self, node: onnx.NodeProto, name: str, names: Mapping[str, str]) -> wmodel.Node:
        attributes = {
            a.name: self._attribute(a, node.op_type, name, names)
            for a in node.attribute
            if a.type not in _DROPPED_KINDS and not _is_default(node, a)
        }
        inputs = tuple(names.get(value, value) for value in node.input)
        return wmodel.Node(node.op_type, name, inputs, tuple(node.output), attributes)

    def _constant(self, name: str, value: Array, names: dict[str, str] | None) -> list[wmodel.Node]:
        """Store a constant; text needs nodes, which are returned."""
        if value.dtype.kind not in "OUST":
            entry = name if names is None else self._fresh(name)
            self._weights[entry] = value
            if names is not None:
                names[name] = entry
            return []
        texts = [_plain(item) for item in value.reshape(-1).tolist()]
        node_name = self._fresh(f"{name}.text")
        if value.ndim == 1:
            return [wmodel.Node("Constant", node_name, (), (name,), {"value_strings": texts})]
        flat, shape = self._fresh(f"{name}.flat"), self._fresh(f"{name}.shape")
        self._weights[shape] = np.array(value.shape, np.int64)
        return [
            wmodel.Node("Constant", node_name, (), (flat,), {"value_strings": texts}),
            wmodel.Node("Reshape", f"{node_name}.shaped", (flat, shape), (name,)),
        ]

    def _dense(self, sparse: onnx.SparseTensorProto) -> Array | None:
        """A sparse tensor with its zeros; None where that is too large, or it is malformed."""
        values, places = array_of(sparse.values), array_of(sparse.indices)
        shape = tuple(sparse.dims)
        size = math.prod(shape)
        if not 0 <= size * values.itemsize <= self._dense_left_bytes or any(dim < 0 for dim in shape):
            return None
        self._dense_left_bytes -= size * values.itemsize
        try:
            flat = places if places.ndim < 2 else np.ravel_multi_index(tuple(places.T), shape)
            dense = np.zeros(size, values.dtype)
            dense[flat] = values
        except (ValueError, IndexError):
            return None
        return dense.reshape(shape)

    def _constant_value(self, node: onnx.NodeProto) -> Array | None:
        """A Constant's value; None for one that has none here."""
        attribute = node.attribute[0]
        value: Any = helper.get_attribute_value(attribute)
        if attribute.name == "sparse_value":
            return self._dense(value)
        if attribute.name == "value":
            return array_of(value)
        if attribute.name in ("value_float", "value_floats"):
            return np.array(value, np.float32)
        if attribute.name in ("value_int", "value_ints"):
            return np.array(value, np.int64)
        if attribute.name in ("value_string", "value_strings"):
            return np.array(
                [_plain(item) for item in value] if isinstance(value, list) else _plain(value), object
            )
        return None

    # ---- Attributes

    def _attribute(
        self, attribute: AttributeProto, op: str, node_name: str, names: Mapping[str, str]
    ) -> wmodel.Attribute:
        value: Any = helper.get_attribute_value(attribute)
        if attribute.type == AttributeProto.GRAPH:
            return self._body(value, names)
        if attribute.type == AttributeProto.TENSOR:
            return self._tensor(attribute.name, array_of(value), node_name)
        if attribute.name in TYPE_ATTRIBUTES and attribute.type == AttributeProto.INT:
            return self._type_name(value, op, node_name)
        return [_plain(item) for item in value] if attribute.type in _LIST_KINDS else _plain(value)

    def _tensor(self, name: str, value: Array, node_name: str) -> wmodel.Attribute:
        if value.dtype.kind in "OUST":
            return [_plain(item) for item in value.reshape(-1).tolist()]
        entry = self._fresh(f"{node_name}.{name}")
        self._weights[entry] = value
        return {"tensor": entry}

    def _type_name(self, number: int, op: str, node_name: str) -> str:
        if number not in DTYPES:
            hint = "the engine has no such element type: use another"
            self.untranslated.append(Missing(f"{op} to type {number}", node_name, hint=hint))
        return DTYPES.get(number, "")

    def _body(self, graph: onnx.GraphProto, outer: Mapping[str, str]) -> wmodel.Graph:
        names = dict(outer)
        nodes = self._nodes(graph, names)
        for info in graph.output:
            if info.name in names:  # a constant, which a body can only hand out as a copy
                copy = self._fresh(f"{info.name}.copy")
                nodes.append(wmodel.Node("Identity", copy, (names[info.name],), (info.name,)))
        inputs, outputs = (
            tuple(_value_of(info) or wmodel.Value(info.name, "", None) for info in infos)
            for infos in (graph.input, graph.output)
        )
        return wmodel.Graph(graph.name or "body", inputs, outputs, tuple(nodes))


def _value_of(info: onnx.ValueInfoProto) -> wmodel.Value | None:
    """An input or output in our form, with what is known of its type; None for kinds we have not."""
    kind, type_ = "tensor", info.type
    if type_.HasField("optional_type"):
        kind, type_ = "optional", type_.optional_type.elem_type
    if type_.HasField("sequence_type"):
        kind, type_ = kind if kind == "optional" else "sequence", type_.sequence_type.elem_type
    if type_.WhichOneof("value") not in ("tensor_type", None):
        return None
    tensor = type_.tensor_type
    if tensor.elem_type not in DTYPES and tensor.elem_type != TensorProto.UNDEFINED:
        return None
    dtype = DTYPES.get(tensor.elem_type, "")
    if kind != "tensor" or not tensor.HasField("shape"):
        return wmodel.Value(info.name, dtype, None, kind)
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{info.name}.{axis}"
        for axis, dim in enumerate(tensor.shape.dim)
    )
    return wmodel.Value(info.name, dtype, shape)


def _is_default(node: onnx.NodeProto, attribute: AttributeProto) -> bool:
    """Whether an attribute says what holds anyway; an engine need not know it then."""
    if node.op_type == "Optional" and attribute.type == AttributeProto.TYPE_PROTO:
        return True  # what an empty optional might have held
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        known = onnx.defs.get_schema(node.op_type, wmodel.OPSET, domain).attributes.get(attribute.name)
    except onnx.defs.SchemaError:
        return False
    if known is None or known.required or known.default_value.type == AttributeProto.UNDEFINED:
        return False
    default: Any = helper.get_attribute_value(known.default_value)
    return bool(default == helper.get_attribute_value(attribute))


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def array_of(tensor: TensorProto) -> Array:
    """A tensor of a model.

    Raises:
        ModelError: if its bytes are not those of its type and shape, or not there.
    """
    if (
        tensor.data_location == TensorProto.EXTERNAL
    ):  # which would be looked for wherever the program was started
        raise ModelError(f"the data of constant {tensor.name!r} were not loaded", node=tensor.name)
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ModelError(f"constant {tensor.name!r} is malformed: {error}", node=tensor.name) from error
