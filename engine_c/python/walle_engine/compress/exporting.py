"""A draft as an ONNX model, for other engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.defs
from onnx import TensorProto, helper, numpy_helper

from walle_engine import wmodel
from walle_engine.compress.names import fresh_name, names_of
from walle_engine.compress.numbers import unpack_nibbles
from walle_engine.convert.draft import Array, Draft
from walle_engine.convert.drafting import DTYPES, TYPE_ATTRIBUTES
from walle_engine.convert.scopes import DOMAINS
from walle_shared.errors import ModelError, UnsupportedError

#: The oldest operator set that has all of QDQ: int4 and blocks.
OPSET = 21
ML_OPSET = 5
_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}


def to_onnx(draft: Draft) -> onnx.ModelProto:
    """Return the model in ONNX's form, checked.

    Raises:
        UnsupportedError: if it holds something that ONNX has no form for.
        ModelError: if the type of an input or output is not known.
    """
    draft = standard(draft)
    domains = {node.name: _domain(node) for node in draft.nodes}
    graph = helper.make_graph(
        [_node(node, draft, domains.get(node.name, "")) for node in draft.nodes],
        draft.name or "model",
        [_value(value) for value in draft.inputs],
        [_value(value) for value in draft.outputs],
        [numpy_helper.from_array(array, name) for name, array in draft.weights.items()],
    )
    problem: Exception | None = None
    for opset in range(OPSET, wmodel.OPSET + 1):  # the oldest that does: other engines lag behind
        opsets = _opsets(opset, set(domains.values()))
        model = helper.make_model(graph, opset_imports=opsets, producer_name=draft.producer)
        model.ir_version = helper.find_min_ir_version_for(opsets, ignore_unknown=True)
        try:
            onnx.checker.check_model(model, full_check=True)
        # The checker is C++ behind bindings, whose exceptions are those of whatever it stumbles on.
        except Exception as error:  # noqa: BLE001
            problem = error
        else:
            return model
    raise UnsupportedError(f"the model has no ONNX form: {problem}")


def write_onnx(draft: Draft, path: Path) -> None:
    """Write the model as an ONNX file.

    Raises:
        UnsupportedError: as :func:`to_onnx`.
        StorageError: if it cannot be written.
    """
    data = to_onnx(draft).SerializeToString()
    with wmodel.staged_file(path) as staged:
        staged.write_bytes(data)


def _opsets(opset: int, domains: set[str]) -> list[onnx.OperatorSetIdProto]:
    versions = {"ai.onnx.ml": ML_OPSET}
    return [
        helper.make_opsetid("", opset),
        *(helper.make_opsetid(name, versions.get(name, 1)) for name in sorted(domains - {""})),
    ]


def _domain(node: wmodel.Node) -> str:
    for domain in DOMAINS:
        if onnx.defs.has(node.op, domain):
            return domain
    raise UnsupportedError(f"{node.op} {node.name!r}: ONNX has no such operator", op=node.op, node=node.name)


def _node(node: wmodel.Node, draft: Draft, domain: str) -> onnx.NodeProto:
    made = helper.make_node(node.op, node.inputs, node.outputs, node.name, domain=domain or None)
    for name, value in node.attrs.items():
        made.attribute.append(helper.make_attribute(name, _attribute(name, value, draft)))
    return made


def _attribute(name: str, value: Any, draft: Draft) -> Any:
    if isinstance(value, wmodel.Graph):
        return _body(value, draft)
    if isinstance(value, Mapping):
        return numpy_helper.from_array(draft.weights[value["tensor"]], value["tensor"])
    if name in TYPE_ATTRIBUTES and isinstance(value, str):
        return _NUMBERS[value]
    return value


def _body(graph: wmodel.Graph, draft: Draft) -> onnx.GraphProto:
    return helper.make_graph(
        [_node(node, draft, _domain(node)) for node in graph.nodes],
        graph.name,
        [_value(value, strict=False) for value in graph.inputs],
        [_value(value, strict=False) for value in graph.outputs],
    )


def _value(value: wmodel.Value, *, strict: bool = True) -> onnx.ValueInfoProto:
    if value.kind != "tensor" or (value.dtype not in _NUMBERS and strict):
        raise ModelError(f"{value.name!r} is no tensor of a known type, which ONNX's form needs")
    number = _NUMBERS.get(value.dtype, TensorProto.UNDEFINED)
    return helper.make_tensor_value_info(value.name, number, value.shape)


# ---- What is ONNX Runtime's own, in ONNX's operators


def standard(draft: Draft) -> Draft:
    """Return the graph with ``MatMulNBits`` as a product with a blocked ``DequantizeLinear``."""
    if all(node.op != "MatMulNBits" for node in draft.nodes):
        return draft
    result = draft.with_outputs(draft.outputs)
    taken = names_of(draft)
    result.nodes = [
        made
        for node in draft.nodes
        for made in (_as_product(node, result, taken) if node.op == "MatMulNBits" else (node,))
    ]
    result.prune()
    return result


def _as_product(node: wmodel.Node, draft: Draft, taken: set[str]) -> list[wmodel.Node]:
    x, stored_codes, stored_scales, *stored_zeros = node.inputs
    k, n, bits, block = (_integer(node, name) for name in ("K", "N", "bits", "block_size"))
    blocks = -(-k // block)
    dtype = wmodel.numpy_dtype("U4" if bits == 4 else "U8")

    def constant(wish: str, value: Any) -> str:
        name = fresh_name(taken, f"{stored_codes}.{wish}")
        draft.weights[name] = np.ascontiguousarray(value)
        return name

    def unpacked(stored: Any, count: int) -> Any:
        rows = stored.reshape(n, -1)
        return unpack_nibbles(rows, count) if bits == 4 else rows[:, :count]

    codes: Array = unpacked(draft.weights[stored_codes], blocks * block)[:, :k].T.astype(dtype)
    scales: Array = draft.weights[stored_scales].reshape(n, blocks).T
    zeros: Array = np.full((blocks, n), 1 << (bits - 1))
    for name in stored_zeros:
        zeros = unpacked(draft.weights[name], blocks).T
    attrs: dict[str, wmodel.Attribute] = {"axis": 0, "block_size": block}
    if blocks == 1:  # a scale per column
        attrs = {"axis": 1}
        scales, zeros = scales.reshape(n), zeros.reshape(n)
    inputs = constant("codes", codes), constant("scales", scales), constant("zeros", zeros.astype(dtype))
    wide = fresh_name(taken, f"{node.name}.wide")
    return [
        wmodel.Node("DequantizeLinear", wide, inputs, (wide,), attrs),
        wmodel.Node("MatMul", node.name, (x, wide), node.outputs),
    ]


def _integer(node: wmodel.Node, name: str) -> int:
    value = node.attrs[name]
    assert isinstance(value, int)
    return value
