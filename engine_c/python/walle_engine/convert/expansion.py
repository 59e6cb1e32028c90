"""Operators the engine has no row for, expanded by the definition ONNX itself gives of them.

ONNX states many operators as functions of simpler ones, some depending on the types of the inputs. Each round
replaces every such node, bodies included, and infers the types of what it put there, until nothing is left to
expand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import onnx
import onnx.defs
from onnx import AttributeProto

from walle_engine.convert.inference import infer
from walle_engine.convert.scopes import DOMAINS, Scope, bodies, graphs
from walle_engine.convert.upgrades import upgrade

MAX_ROUNDS = 16  # Source: ONNX's functions nest 3 deep; more means one that is stated in terms of itself

type IsKnown = Callable[[onnx.NodeProto], bool]


def expand(model: onnx.ModelProto, is_known: IsKnown, opset: int) -> onnx.ModelProto:
    """Return the model with every node expanded that the engine does not know and ONNX defines.

    Args:
        model: upgraded to ``opset``, its types inferred; changed in place.
        is_known: whether the engine runs a node.
        opset: the version of the default domain.
    """
    for _ in range(MAX_ROUNDS):
        if not _expand_graph(model.graph, is_known, opset, Scope.of(model)):
            break
        model = infer(model)
    return model


def state_defaults(model: onnx.ModelProto) -> None:
    """Give each node the defaults of its attributes where ONNX defines its operator as a function.

    ONNX's inference looks into the function without them, and calls the model wrong.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for graph in graphs(model.graph):
        for node in graph.node:
            schema = _schema(node, versions.get(node.domain, 0))
            if schema is not None and schema.has_function:
                stated = {attribute.name for attribute in node.attribute}
                node.attribute.extend(default for default in _defaults(schema) if default.name not in stated)


def _expand_graph(graph: onnx.GraphProto, is_known: IsKnown, opset: int, scope: Scope) -> bool:
    nodes: list[onnx.NodeProto] = []
    changed = False
    for node in graph.node:
        for body in bodies(node):
            changed |= _expand_graph(body, is_known, opset, scope)
        function = None if is_known(node) else _definition(node, opset, scope)
        if function is None:
            nodes.append(node)
            continue
        changed = True
        inlined = _inline(function, node, scope)
        versions = {entry.domain: entry.version for entry in function.opset_import}
        nodes += upgrade(inlined, versions.get("", opset), scope)
    if changed:
        kept = [_copy(node) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)
    return changed


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _definition(node: onnx.NodeProto, opset: int, scope: Scope) -> onnx.FunctionProto | None:
    """The node's function, or None where ONNX has none for it."""
    schema = _schema(node, opset)
    if schema is None:
        return None
    if schema.has_context_dependent_function:
        if any(name and name not in scope.types for name in node.input):
            return None
        types = [scope.types.get(name, onnx.TypeProto()).SerializeToString() for name in node.input]
        version = max(v for v in schema.context_dependent_function_opset_versions if v <= opset)
        text = schema.get_context_dependent_function_with_opset_version(
            version, node.SerializeToString(), types
        )
    elif schema.has_function:
        version = max(v for v in schema.function_opset_versions if v <= opset)
        text = schema.get_function_with_opset_version(version)
    else:
        return None
    function: onnx.FunctionProto = onnx.FunctionProto.FromString(text)
    stated = {attribute.name for attribute in function.attribute_proto}
    function.attribute_proto.extend(default for default in _defaults(schema) if default.name not in stated)
    return function


def _schema(node: onnx.NodeProto, version: int) -> Any:
    """The operator's schema (onnx's stubs lack what concerns functions), or None."""
    if node.domain not in DOMAINS:
        return None
    try:
        return onnx.defs.get_schema(node.op_type, version, "" if node.domain == "ai.onnx" else node.domain)
    except onnx.defs.SchemaError:
        return None


def _defaults(schema: Any) -> Iterator[AttributeProto]:
    for name, attribute in schema.attributes.items():
        if attribute.default_value.type != AttributeProto.UNDEFINED:
            default = AttributeProto()
            default.CopyFrom(attribute.default_value)
            default.name = name
            yield default


def _inline(function: onnx.FunctionProto, node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
    """The function's nodes with the node's values and attributes in place of its own."""
    given = {attribute.name: attribute for attribute in (*function.attribute_proto, *node.attribute)}
    names = {"": ""}
    names |= dict(zip(function.input, (*node.input, *[""] * len(function.input)), strict=False))
    for formal, actual in zip(function.output, (*node.output, *[""] * len(function.output)), strict=False):
        names[formal] = actual or scope.fresh(f"{node.output[0]}.{formal}")
    prefix = f"{node.output[0]}.{node.op_type}"
    for inner in function.node:
        for output in inner.output:
            if output not in names:
                names[output] = scope.fresh(f"{prefix}.{output}")
    return [
        _bind(inner, names, given, f"{node.name or prefix}/{inner.name or inner.op_type}{index}", scope)
        for index, inner in enumerate(function.node)
    ]


def _bind(
    inner: onnx.NodeProto,
    names: dict[str, str],
    given: dict[str, AttributeProto],
    node_name: str,
    scope: Scope,
) -> onnx.NodeProto:
    bound = onnx.NodeProto()
    bound.CopyFrom(inner)
    bound.name = node_name
    _rename(bound.input, names)
    _rename(bound.output, names)
    del bound.attribute[:]
    bound.attribute.extend(_bind_attributes(inner.attribute, given))
    for body in bodies(bound):
        _bind_body(body, names, given, scope)
    return bound


def _bind_attributes(
    attributes: Iterable[AttributeProto], given: dict[str, AttributeProto]
) -> Iterable[AttributeProto]:
    for attribute in attributes:
        value = AttributeProto()
        if not attribute.ref_attr_name:
            value.CopyFrom(attribute)
        elif attribute.ref_attr_name in given:
            value.CopyFrom(given[attribute.ref_attr_name])
            value.name = attribute.name
        else:  # an optional attribute without a default that was not given
            continue
        yield value


def _bind_body(
    body: onnx.GraphProto, outer: dict[str, str], given: dict[str, AttributeProto], scope: Scope
) -> None:
    """A body sees the names round it; its own become fresh, so that no two bodies share one."""
    names = dict(outer)
    made = [*(info.name for info in body.input), *(tensor.name for tensor in body.initializer)]
    made += [output for inner in body.node for output in inner.output]
    names |= {name: scope.fresh(name) for name in made if name}
    for info in (*body.input, *body.output, *body.value_info, *body.initializer):
        info.name = names.get(info.name, info.name)
    nodes = [
        _bind(inner, names, given, f"{inner.name or inner.op_type}{index}", scope)
        for index, inner in enumerate(body.node)
    ]
    del body.node[:]
    body.node.extend(nodes)


def _rename(values: object, names: dict[str, str]) -> None:
    for index, name in enumerate(list(values)):  # type: ignore[call-overload]
        values[index] = names.get(name, name)  # type: ignore[index]
