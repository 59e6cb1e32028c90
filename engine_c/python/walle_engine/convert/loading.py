"""From an ONNX file to a draft: read, check, inline functions, bring to our opset, infer shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.inliner
import onnx.shape_inference
import onnx.version_converter
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from walle_engine import wmodel
from walle_engine.convert.draft import Draft
from walle_shared.errors import ModelError, StorageError, UnsupportedError

_DTYPES: dict[int, str] = {
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
}

# From here on every operator's newest form is reached without the version converter.
OLDEST_UNCONVERTED_OPSET = 13


@dataclass(frozen=True)
class Loaded:
    """A draft and what it was made from; ``model`` is the original at our opset."""

    draft: Draft
    model: onnx.ModelProto
    opset: int
    untranslated: tuple[tuple[str, str], ...]  # (op, node) that have no form in our graphs


def load(path: Path) -> Loaded:
    """Read an ONNX file, with external data beside it.

    Raises:
        StorageError: if it cannot be read.
        ModelError: if it is not a valid ONNX model.
        UnsupportedError: if its opset cannot be brought to ours.
    """
    return translate(_read(path), str(path))


def translate(model: onnx.ModelProto, origin: str = "the model") -> Loaded:
    """Turn a checked model in memory, external data included, into a draft.

    Args:
        model: left as it is.
        origin: what messages call it.

    Raises:
        ModelError: if its shapes or types contradict each other.
        UnsupportedError: if its opset cannot be brought to ours.
    """
    opset = opset_of(model)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    model = _with_our_opset(model, opset)
    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"{origin}: the shapes or types contradict each other: {error}") from error
    draft, untranslated = _to_draft(model)
    return Loaded(draft, model, opset, untranslated)


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set; 0 where the model imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model if _is_small(model) else path)
    except FileNotFoundError as error:
        raise StorageError(f"cannot read {error.filename or path}: no such file") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except DecodeError as error:
        raise ModelError(f"{path} is not an ONNX model: export it again") from error
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path} is not a valid ONNX model: {error}") from error
    return model


def _is_small(model: onnx.ModelProto) -> bool:
    return bool(model.ByteSize() < onnx.checker.MAXIMUM_PROTOBUF)


def _with_our_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    if opset == 0 or opset >= OLDEST_UNCONVERTED_OPSET or _means_the_same(model, opset):
        return model
    try:
        return onnx.version_converter.convert_version(model, wmodel.OPSET)
    # The version converter is C++ and raises whatever its assertions become; all mean the same to the author.
    except RuntimeError as error:
        raise UnsupportedError(
            f"the model uses opset {opset}, which cannot be brought to {wmodel.OPSET}: "
            f"export it with opset {wmodel.OPSET}"
        ) from error


def _means_the_same(model: onnx.ModelProto, opset: int) -> bool:
    """Whether every operator is defined by the same text in the model's opset and in ours."""
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        if any(
            attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in node.attribute
        ):
            return False
        try:
            theirs = onnx.defs.get_schema(node.op_type, opset).since_version
            ours = onnx.defs.get_schema(node.op_type, wmodel.OPSET).since_version
        except onnx.defs.SchemaError:
            return False
        if theirs != ours:
            return False
    return True


def _to_draft(model: onnx.ModelProto) -> tuple[Draft, tuple[tuple[str, str], ...]]:
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    draft = Draft(
        name=graph.name or "model",
        producer=" ".join(part for part in (model.producer_name, model.producer_version) if part),
        inputs=[_value(info) for info in graph.input if info.name not in weights],
        outputs=[_value(info) for info in graph.output],
        nodes=[],
        weights=weights,
        values={info.name: _value(info) for info in graph.value_info if _is_known(info)},
    )
    untranslated = [("sparse initializer", tensor.values.name) for tensor in graph.sparse_initializer]
    names: set[str] = set()
    for index, node in enumerate(graph.node):
        name = node.name if node.name and node.name not in names else f"{node.op_type}_{index}"
        names.add(name)
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            draft.weights[node.output[0]] = _constant(node, name)
        elif node.domain not in ("", "ai.onnx"):
            untranslated.append((f"{node.domain}.{node.op_type}", name))
        elif all(_is_translatable(attribute) for attribute in node.attribute):
            stated = [a for a in node.attribute if not _is_default(node.op_type, a)]
            attributes = {a.name: _attribute(a, name, draft) for a in stated}
            for key in _DTYPE_ATTRIBUTES & attributes.keys():
                number = attributes[key]
                assert isinstance(number, int)
                attributes[key] = _dtype_named(number, node.op_type, name)
            draft.nodes.append(
                wmodel.Node(node.op_type, name, tuple(node.input), tuple(node.output), attributes)
            )
        else:
            untranslated.append((node.op_type, name))
    return draft, tuple(untranslated)


def _has_tensor_type(info: onnx.ValueInfoProto) -> bool:
    return info.type.tensor_type.elem_type in _DTYPES


def _is_known(info: onnx.ValueInfoProto) -> bool:
    return _has_tensor_type(info) and info.type.tensor_type.HasField("shape")


def _value(info: onnx.ValueInfoProto) -> wmodel.Value:
    if not _has_tensor_type(info):
        raise UnsupportedError(
            f"{info.name!r} is not a tensor of a type this engine has: remove it from the model"
        )
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        raise UnsupportedError(
            f"the rank of {info.name!r} is unknown: state its shape when exporting the model"
        )
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{info.name}.{axis}"
        for axis, dim in enumerate(tensor.shape.dim)
    )
    return wmodel.Value(info.name, _DTYPES[tensor.elem_type], shape)


_SCALAR_KINDS = {AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING}
_LIST_KINDS = {AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS}


def _is_translatable(attribute: AttributeProto) -> bool:
    return attribute.type in _SCALAR_KINDS | _LIST_KINDS | {AttributeProto.TENSOR}


def _is_default(op: str, attribute: AttributeProto) -> bool:
    """Whether an attribute says what holds anyway; an engine need not know it then."""
    known = onnx.defs.get_schema(op, wmodel.OPSET).attributes.get(attribute.name)
    if known is None or known.required or known.default_value.type == AttributeProto.UNDEFINED:
        return False
    default: Any = helper.get_attribute_value(known.default_value)
    return bool(default == helper.get_attribute_value(attribute))


# Attributes that hold one of ONNX's type numbers where our graphs have a type's name.
_DTYPE_ATTRIBUTES = {"to", "dtype"}


def _dtype_named(number: int, op: str, name: str) -> str:
    if number not in _DTYPES:
        raise UnsupportedError(
            f"{op} {name!r} is to ONNX type {number}, which this engine does not have: use one of "
            f"{', '.join(wmodel.DTYPE_BYTES)}",
            op=op,
            node=name,
        )
    return _DTYPES[number]


def _attribute(attribute: AttributeProto, node_name: str, draft: Draft) -> wmodel.Attribute:
    value: Any = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        entry = draft.fresh_name(f"{node_name}.{attribute.name}")
        draft.weights[entry] = numpy_helper.to_array(value)
        return {"tensor": entry}
    if attribute.type in _LIST_KINDS:
        return [_plain(item) for item in value]
    scalar: int | float | str = _plain(value)
    return scalar


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _constant(node: onnx.NodeProto, name: str) -> np.ndarray[Any, Any]:
    attribute = node.attribute[0]
    value: Any = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value)
    if attribute.name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    raise UnsupportedError(
        f"constant {name!r} holds no numbers but {attribute.name}: remove it from the model",
        op="Constant",
        node=name,
    )
