"""What a pass over ONNX nodes may ask and make: types of values, fresh names, constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

#: The domains whose operators the engine knows, each by its plain name.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")


@dataclass
class Scope:
    """The values of a model, its bodies' included.

    Args:
        types: what shape inference knows, by value name; bodies that use a name twice share it.
        taken: every value name of the model.
    """

    types: Mapping[str, onnx.TypeProto]
    taken: set[str]
    _counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Scope:
        """Collect a model's values; its shapes should have been inferred."""
        types: dict[str, onnx.TypeProto] = {}
        taken: set[str] = set()
        for graph in graphs(model.graph):
            for tensor in graph.initializer:
                types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            for info in (*graph.input, *graph.output, *graph.value_info):
                if info.HasField("type"):
                    types[info.name] = info.type
            taken.update(name for node in graph.node for name in (*node.input, *node.output))
        return cls(types, {*taken, *types})

    def dims(self, name: str) -> tuple[int | None, ...] | None:
        """Return a tensor's dims, None for unknown ones; None altogether where the rank is unknown."""
        tensor = self.types[name].tensor_type if name in self.types else None
        if tensor is None or not tensor.HasField("shape"):
            return None
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)

    def element_type(self, name: str) -> int:
        """Return ONNX's number of a tensor's element type, 0 where unknown."""
        return int(self.types[name].tensor_type.elem_type) if name in self.types else 0

    def fresh(self, wish: str) -> str:
        """Return a value name that nothing has, ``wish`` if possible."""
        name = wish
        while name in self.taken:
            self._counts[wish] = self._counts.get(wish, 1) + 1
            name = f"{wish}.{self._counts[wish]}"
        self.taken.add(name)
        return name

    def constant(self, wish: str, value: Any) -> onnx.NodeProto:
        """Return a node whose one output is ``value``."""
        return helper.make_node(
            "Constant", [], [self.fresh(wish)], value=numpy_helper.from_array(np.asarray(value))
        )


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and every body in it."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from graphs(body)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the bodies a node holds itself."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def attribute_of(node: onnx.NodeProto, name: str, fallback: Any = None) -> Any:
    """Return an attribute's value."""
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return fallback


def drop_attributes(node: onnx.NodeProto, *names: str) -> None:
    """Remove attributes where present."""
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Add an attribute, or change it."""
    drop_attributes(node, name)
    node.attribute.append(helper.make_attribute(name, value))


def set_input(node: onnx.NodeProto, position: int, name: str) -> None:
    """Set an input, omitting those before it that are missing."""
    node.input.extend([""] * (position + 1 - len(node.input)))
    node.input[position] = name
