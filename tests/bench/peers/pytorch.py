"""PyTorch, eager or compiled: the ONNX graph as the module a person would write.

A product with a bias becomes ``linear``, GELU by erf ``gelu``, attention ``scaled_dot_product_attention``;
any other operator is one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

DISTRIBUTION = "torch"


def load(job: Mapping[str, Any]) -> Callable[[], Sequence[object]]:
    """Build the module, and compile it where the settings say so."""
    torch.set_num_threads(job["threads"])
    module: Any = translated(job["model"])
    inputs = _tensors(job)
    if job["settings"].get("compile"):
        from torch._inductor import config

        config.freezing = True
        module = torch.compile(module)

    def run() -> Sequence[object]:
        with torch.inference_mode():
            return module(*inputs)

    return run


def save_traced(job: Mapping[str, Any], path: Path) -> None:
    """Write the module as TorchScript."""
    with torch.no_grad():
        torch.jit.trace(translated(job["model"]), _tensors(job), check_trace=False).save(path)


def shape_and_type(array: np.ndarray) -> str:
    """Say a shape the way pnnx reads it: ``[1,128]i64``."""
    return f"[{','.join(map(str, array.shape))}]{array.dtype.kind}{array.dtype.itemsize * 8}"


def _tensors(job: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(torch.from_numpy(value) for value in job["inputs"].values())


def translated(path: str) -> Any:
    """The model of an ONNX file as a module, its code written out in a straight line."""
    return _Translation(onnx.load(path).graph).module.eval()


class _Translation:
    """Turns nodes into lines of code; what the lines need becomes attributes of the module."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.module = torch.nn.Module()
        self._constants = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
        self._held: dict[str, str] = {}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._kept = {value.name for value in graph.output}
        self._done: set[str] = set()
        lines = [line for node in graph.node if node.name not in self._done for line in self._lines(node)]
        inputs, outputs = (
            ", ".join(value.name for value in values) for values in (graph.input, graph.output)
        )
        body = "\n    ".join([*lines, f"return ({outputs},)"])
        scope: dict[str, Any] = {"torch": torch, "functional": functional}
        exec(f"def forward(self, {inputs}):\n    {body}", scope)
        self.module.forward = scope["forward"].__get__(self.module)

    def _lines(self, node: onnx.NodeProto) -> Iterable[str]:
        fused = self._linear(node) or self._gelu(node) or self._attention(node)
        if fused:
            last, value = fused
            return [f"{last.output[0]} = {value}"]
        if node.op_type not in _OPS:
            raise NotImplementedError(f"no translation of {node.op_type}")
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        value = _OPS[node.op_type](self, node, attributes)
        targets = ", ".join(name or "_" for name in node.output)
        return [f"{targets}{',' if node.op_type == 'Split' else ''} = {value}"]

    def arg(self, node: onnx.NodeProto, index: int) -> str:
        """An input as an expression."""
        name = node.input[index]
        if name not in self._constants:
            return name
        if name not in self._held:  # once, however many nodes share it
            self._held[name] = self.hold(self._constants[name])
        return self._held[name]

    def args(self, node: onnx.NodeProto) -> str:
        """All inputs as expressions."""
        return ", ".join(self.arg(node, index) for index in range(len(node.input)))

    def known(self, node: onnx.NodeProto, index: int) -> Any:
        """The value of a constant input."""
        return self._constants[node.input[index]]

    def hold(self, array: np.ndarray) -> str:
        """Keep a constant in the module; numbers are written into the code."""
        if array.size == 1 and array.ndim == 0:
            return repr(array.item())
        name = f"c{len(list(self.module.buffers()))}"
        self.module.register_buffer(name, torch.from_numpy(np.array(array)))
        return f"self.{name}"

    def hold_module(self, module: Any) -> str:
        """Keep a part that has weights of its own."""
        name = f"m{len(list(self.module.children()))}"
        self.module.add_module(name, module)
        return f"self.{name}"

    def _next(self, node: onnx.NodeProto, op: str) -> onnx.NodeProto | None:
        """The only reader of a node's output, if it is that operator."""
        readers = self._readers.get(node.output[0], [])
        lone = len(readers) == 1 and node.output[0] not in self._kept
        return readers[0] if lone and readers[0].op_type == op else None

    def _linear(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, str] | None:
        weight = self._constants.get(node.input[1]) if node.op_type == "MatMul" else None
        add = self._next(node, "Add") if weight is not None and weight.ndim == 2 else None
        bias = self._constants.get(add.input[1]) if add is not None else None
        if add is None or weight is None or bias is None or bias.ndim != 1:
            return None
        self._done.add(add.name)
        return add, f"functional.linear({self.arg(node, 0)}, {self.hold(weight.T.copy())}, {self.hold(bias)})"

    def _gelu(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, str] | None:
        chain = self._chain(node, ("Div", "Erf", "Add", "Mul", "Mul"))
        return (chain[-1], f"functional.gelu({self.arg(node, 0)})") if chain else None

    def _attention(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, str] | None:
        """With an additive mask, keys transposed, scores divided by the root of the head's width."""
        chain = self._chain(node, ("MatMul", "Div", "Add", "Softmax", "MatMul"))
        if not chain:
            return None
        queries, keys, mask, values = node.input[0], node.input[1], chain[2].input[1], chain[4].input[1]
        call = "functional.scaled_dot_product_attention"
        return chain[-1], f"{call}({queries}, {keys}.transpose(-1, -2), {values}, {mask})"

    def _chain(self, node: onnx.NodeProto, ops: Sequence[str]) -> list[onnx.NodeProto]:
        """The node and its readers, if they are these operators and nobody else reads between."""
        chain = [node] if node.op_type == ops[0] else []
        for op in ops[1:]:
            following = self._next(chain[-1], op) if chain else None
            if following is None:
                return []
            chain.append(following)
        self._done.update(part.name for part in chain[1:])
        return chain


def _call(name: str) -> Callable[..., str]:
    return lambda net, node, attrs: f"{name}({net.args(node)})"


def _infix(sign: str) -> Callable[..., str]:
    return lambda net, node, attrs: f"{net.arg(node, 0)} {sign} {net.arg(node, 1)}"


def _ints(net: _Translation, node: onnx.NodeProto, index: int) -> tuple[int, ...]:
    return tuple(int(value) for value in net.known(node, index).ravel())


def _conv(net: _Translation, node: onnx.NodeProto, attrs: Mapping[str, Any]) -> str:
    padding = tuple(attrs["pads"][:2])
    return f"torch.conv2d({net.args(node)}, {attrs['strides']}, {padding}, 1, {attrs['group']})"


def _max_pool(net: _Translation, node: onnx.NodeProto, attrs: Mapping[str, Any]) -> str:
    where = f"{attrs['kernel_shape']}, {attrs['strides']}, {tuple(attrs['pads'][:2])}"
    return f"functional.max_pool2d({net.arg(node, 0)}, {where})"


def _gemm(net: _Translation, node: onnx.NodeProto, attrs: Mapping[str, Any]) -> str:
    weight = net.hold(net.known(node, 1).T.copy())
    return f"functional.linear({net.arg(node, 0)}, {weight}, {net.arg(node, 2)})"


def _squeeze(name: str) -> Callable[..., str]:
    def translate(net: _Translation, node: onnx.NodeProto, attrs: Mapping[str, Any]) -> str:
        axes = _ints(net, node, 1)
        return net.arg(node, 0) + "".join(f".{name}({axis})" for axis in axes)

    return translate


def _gather(net: _Translation, node: onnx.NodeProto, attrs: Mapping[str, Any]) -> str:
    if node.input[1] in net._constants:
        return f"{net.arg(node, 0)}.select({attrs.get('axis', 0)}, {int(net.known(node, 1))})"
    return f"functional.embedding({net.arg(node, 1)}, {net.arg(node, 0)})"


def _layer_norm(net: _Translation, node: onnx.NodeProto, attrs: Mapping[str, Any]) -> str:
    x, scale, bias = (net.arg(node, index) for index in range(3))
    return f"functional.layer_norm({x}, {net.known(node, 1).shape}, {scale}, {bias}, {attrs['epsilon']})"


def _cast(net: _Translation, node: onnx.NodeProto, attrs: Mapping[str, Any]) -> str:
    return f"{net.arg(node, 0)}.{'float' if attrs['to'] == onnx.TensorProto.FLOAT else 'long'}()"


#: Where ONNX keeps each of PyTorch's gates.
GATES = {"LSTM": (torch.nn.LSTM, (0, 2, 3, 1)), "GRU": (torch.nn.GRU, (1, 0, 2))}


def _recurrent(net: _Translation, node: onnx.NodeProto, attrs: Mapping[str, Any]) -> str:
    make, order = GATES[node.op_type]
    width = attrs["hidden_size"]
    weights = [net.known(node, index)[0] for index in (1, 2)]
    weights += list(net.known(node, 3)[0].reshape(2, -1))
    layer = make(weights[0].shape[1], width)
    with torch.no_grad():
        for target, weight in zip(layer.parameters(), weights, strict=True):
            gates = weight.reshape(len(order), width, -1)[list(order)]
            target.copy_(torch.from_numpy(gates.reshape(tuple(target.shape))))
    parts = "(y[0].unsqueeze(1), *y[1])" if node.op_type == "LSTM" else "(y[0].unsqueeze(1), y[1])"
    return f"(lambda y: {parts})({net.hold_module(layer)}({net.arg(node, 0)}))"


_OPS: Mapping[str, Callable[..., str]] = {
    "Add": _infix("+"), "Sub": _infix("-"), "Mul": _infix("*"), "Div": _infix("/"), "MatMul": _infix("@"),
    "Relu": _call("torch.relu"), "Sigmoid": _call("torch.sigmoid"), "Tanh": _call("torch.tanh"),
    "Erf": _call("torch.erf"), "Where": _call("torch.where"), "PRelu": _call("torch.prelu"),
    "Clip": _call("torch.clamp"), "Conv": _conv, "MaxPool": _max_pool, "Gemm": _gemm, "Gather": _gather,
    "LayerNormalization": _layer_norm, "Cast": _cast, "LSTM": _recurrent, "GRU": _recurrent,
    "Squeeze": _squeeze("squeeze"), "Unsqueeze": _squeeze("unsqueeze"),
    "GlobalAveragePool": lambda net, node, attrs: f"functional.adaptive_avg_pool2d({net.arg(node, 0)}, 1)",
    "Flatten": lambda net, node, attrs: f"{net.arg(node, 0)}.flatten(1)",
    "Softmax": lambda net, node, attrs: f"torch.softmax({net.arg(node, 0)}, {attrs['axis']})",
    "Concat": lambda net, node, attrs: f"torch.cat(({net.args(node)}), {attrs['axis']})",
    "Reshape": lambda net, node, attrs: f"{net.arg(node, 0)}.reshape({_ints(net, node, 1)})",
    "Expand": lambda net, node, attrs: f"{net.arg(node, 0)}.expand({_ints(net, node, 1)})",
    "Transpose": lambda net, node, attrs: f"{net.arg(node, 0)}.permute({attrs['perm']})",
    "Split": lambda net, node, attrs: f"{net.arg(node, 0)}.split({_ints(net, node, 1)}, {attrs['axis']})",
}  # fmt: skip
