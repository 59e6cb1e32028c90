"""Building the nodes that stand for one node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from walle_engine.convert.scopes import Scope, attribute_of
from walle_shared.errors import ModelError, UnsupportedError


class Making:
    """The nodes made so far for ``node``, and how to make more. Values are names."""

    def __init__(self, node: onnx.NodeProto, scope: Scope) -> None:
        self.node = node
        self.nodes: list[onnx.NodeProto] = []
        self._scope = scope

    # ---- Asking

    def attribute(self, name: str, fallback: Any = None) -> Any:
        """Return an attribute; text as text."""
        value = attribute_of(self.node, name, fallback)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, list) and value and isinstance(value[0], bytes):
            return [item.decode("utf-8", "replace") for item in value]
        return value

    def array(self, name: str, dtype: Any = np.float32) -> Any:
        """Return a list attribute as an array, empty where absent; ``NAME_as_tensor`` may hold it instead."""
        tensor = self.attribute(f"{name}_as_tensor")
        if tensor is not None:
            return numpy_helper.to_array(tensor).reshape(-1)
        return np.array(self.attribute(name, []), dtype)

    def element_type(self, index: int = 0) -> int:
        """Return the element type of an input; refuse where it is unknown."""
        known = self._scope.element_type(self.node.input[index])
        if not known:
            raise self.unsupported(f"the type of {self.node.input[index]!r} is unknown")
        return known

    def rank(self, index: int = 0) -> int:
        """Return the rank of an input; refuse where it is unknown."""
        dims = self._scope.dims(self.node.input[index])
        if dims is None:
            raise self.unsupported(f"the rank of {self.node.input[index]!r} is unknown")
        return len(dims)

    def wrong(self, why: str) -> ModelError:
        """Return the error of a node that contradicts itself."""
        return ModelError(
            f"{self.node.op_type} {self.node.name!r}: {why}", op=self.node.op_type, node=self.node.name
        )

    def unsupported(self, why: str) -> UnsupportedError:
        """Return the error of a node that has no form."""
        return UnsupportedError(
            f"{self.node.op_type} {self.node.name!r}: {why}", op=self.node.op_type, node=self.node.name
        )

    # ---- Making

    def emit(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return that."""
        output = self._scope.fresh(f"{self.node.output[0] or self.node.output[-1]}.{op}")
        name = f"{self.node.name or output}/{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name, domain=domain, **attributes))
        return output

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a constant, and return its name."""
        node = self._scope.constant(
            f"{self.node.output[0] or self.node.output[-1]}.constant", np.asarray(value, dtype)
        )
        self.nodes.append(node)
        return str(node.output[0])

    def floats(self, value: str, known: int = 0) -> str:
        """Return a value as float32; ``known`` is its element type."""
        return value if known == TensorProto.FLOAT else self.emit("Cast", value, to=TensorProto.FLOAT)

    def rows(self) -> str:
        """Return input 0 as a matrix; a vector is one row."""
        value: str = self.node.input[0]
        return self.emit("Reshape", value, self.constant([1, -1], np.int64)) if self.rank() == 1 else value

    def float_rows(self) -> str:
        """Return input 0 as a matrix of float32."""
        return self.floats(self.rows(), self.element_type())

    def finish(self, value: str, output: int = 0) -> None:
        """Make a value an output of the node; nothing where the node omits it."""
        if output < len(self.node.output) and self.node.output[output]:
            name = f"{self.node.name or self.node.output[output]}/output{output}"
            self.nodes.append(helper.make_node("Identity", [value], [self.node.output[output]], name))
