"""Networks for the engine's benchmark: layers and backbones of well-known families with random weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RESNET18_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
# Expansion, channels, repeats, stride of the first repeat.
MOBILENET_V2_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
MAKERS = ("resnet18", "mobilenet_v2")


@dataclass
class Draft:
    """An ONNX graph under construction; weights are scaled so that activations keep their size."""

    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(4))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, *shape: int, fan_in: int) -> str:
        """Add a random tensor of that shape and return its name."""
        values = self.random.standard_normal(shape) * np.sqrt(2 / fan_in)
        return self.constant(values.astype(np.float32))

    def constant(self, value: np.ndarray) -> str:
        """Add a tensor and return its name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """Add a node of one output and return that output's name."""
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=out, **attributes))
        return out

    def conv(self, x: str, channels: tuple[int, int], kernel: int, stride: int = 1, *, group: int = 1) -> str:
        """Add a convolution with bias that keeps (or divides by the stride) the spatial extents."""
        fan_in = channels[0] // group * kernel * kernel
        weight = self.weight(channels[1], channels[0] // group, kernel, kernel, fan_in=fan_in)
        bias = self.weight(channels[1], fan_in=1000)
        return self.add(
            "Conv", x, weight, bias,
            kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=group,
        )  # fmt: skip

    def save(self, path: Path, image: tuple[int, int], output: str, rank: int) -> None:
        """Write the graph with the input ``x`` [N, channels, size, size] and one output of that rank."""
        channels, size = image
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", channels, size, size])
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * rank)
        graph = helper.make_graph(self.nodes, path.stem, [x], [y], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def conv_layer(
    path: Path, channels: tuple[int, int], size: int, kernel: int, stride: int = 1, *, group: int = 1
) -> None:
    """Write one convolution with bias and relu."""
    draft = Draft()
    y = draft.add("Relu", draft.conv("x", channels, kernel, stride, group=group))
    draft.save(path, (channels[0], size), y, 4)


def _head(draft: Draft, x: str, channels: int) -> str:
    pooled = draft.add("Flatten", draft.add("GlobalAveragePool", x))
    return draft.add("Gemm", pooled, draft.weight(channels, 1000, fan_in=channels))


def resnet18(path: Path) -> None:
    """Write the residual network of 18 layers, batch norms folded; input [N, 3, 224, 224]."""
    draft = Draft()
    x = draft.add("Relu", draft.conv("x", (3, 64), 7, 2))
    x = draft.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    width = 64
    for channels, stride in RESNET18_STAGES:
        for step in (stride, 1):
            skip = draft.conv(x, (width, channels), 1, step) if step != 1 or width != channels else x
            y = draft.add("Relu", draft.conv(x, (width, channels), 3, step))
            y = draft.conv(y, (channels, channels), 3)
            x = draft.add("Relu", draft.add("Add", y, skip))
            width = channels
    draft.save(path, (3, 224), _head(draft, x, width), 2)


def mobilenet_v2(path: Path) -> None:
    """Write the network of inverted residuals, batch norms folded; input [N, 3, 224, 224]."""
    draft = Draft()
    low, high = draft.constant(np.float32(0)), draft.constant(np.float32(6))

    def clipped(x: str) -> str:
        return draft.add("Clip", x, low, high)

    x, width = clipped(draft.conv("x", (3, 32), 3, 2)), 32
    for expansion, channels, repeats, first_stride in MOBILENET_V2_STAGES:
        for repeat in range(repeats):
            stride = 1 if repeat else first_stride
            wide = width * expansion
            y = clipped(draft.conv(x, (width, wide), 1)) if expansion > 1 else x
            y = clipped(draft.conv(y, (wide, wide), 3, stride, group=wide))
            y = draft.conv(y, (wide, channels), 1)
            x = draft.add("Add", x, y) if stride == 1 and width == channels else y
            width = channels
    x = clipped(draft.conv(x, (width, 1280), 1))
    draft.save(path, (3, 224), _head(draft, x, 1280), 2)
