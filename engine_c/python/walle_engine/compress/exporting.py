"""A draft as an ONNX model, for other engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx.defs
from onnx import TensorProto, helper, numpy_helper

from walle_engine import wmodel
from walle_engine.convert.draft import Draft
from walle_engine.convert.drafting import DTYPES, TYPE_ATTRIBUTES
from walle_engine.convert.scopes import DOMAINS
from walle_shared.errors import ModelError, UnsupportedError

#: The oldest operator set that has all of QDQ: int4 and blocks. What needs a newer one gets ours.
OPSET = 21
ML_OPSET = 5
IR_VERSION = 10  # Source: ONNX's table of versions, for opset 21
_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
CONTRIBUTED = "com.microsoft"  # ONNX Runtime's own operators
CONTRIBUTED_OPS = frozenset({"MatMulNBits"})


def to_onnx(draft: Draft) -> onnx.ModelProto:
    """Return the model in ONNX's form, checked.

    Raises:
        UnsupportedError: if it holds something that ONNX has no form for.
        ModelError: if the type of an input or output is not known.
    """
    domains = {node.name: _domain(node) for node in draft.nodes}
    graph = helper.make_graph(
        [_node(node, draft, domains.get(node.name, "")) for node in draft.nodes],
        draft.name or "model",
        [_value(value) for value in draft.inputs],
        [_value(value) for value in draft.outputs],
        [numpy_helper.from_array(array, name) for name, array in draft.weights.items()],
    )
    problem: Exception | None = None
    for opset in (OPSET, wmodel.OPSET):
        model = helper.make_model(
            graph, opset_imports=_opsets(opset, set(domains.values())), producer_name=draft.producer
        )
        model.ir_version = IR_VERSION if opset == OPSET else onnx.IR_VERSION
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
    if node.op in CONTRIBUTED_OPS:
        return CONTRIBUTED
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
