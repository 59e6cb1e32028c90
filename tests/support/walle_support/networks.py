"""Networks with random weights, laid out as exporters write them; the tests and the benchmark share these.

Batch norms are folded. Weights are scaled so that activations keep their size from layer to layer: errors and
saturation are as tame as in a trained network.

Sources: He et al., "Deep Residual Learning" (2016), the stride in a bottleneck's 3x3 as all have it since;
Howard et al., "MobileNets" (2017); Sandler et al., "MobileNetV2" (2018); Iandola et al., "SqueezeNet"
(2016) in its version 1.1; Ma et al., "ShuffleNet V2" (2018), the 1.0x row of table 5; Devlin et al., "BERT"
(2019); Zhou et al., "Deep Interest Network" (2018), figure 2. The voice networks are acoustic models of the
usual size.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from walle_engine import api
from walle_engine.convert import convert

Array = np.ndarray[Any, Any]

#: 17 has LayerNormalization, and every engine we compare with reads it.
OPSET, IR_VERSION = 17, 9
RELU_GAIN = 2.0  # a relu halves the mean square of what it reads
BRANCH_GAIN = 0.1  # of the last layer of a residual branch: sixteen of them less than triple the mean square


@dataclass(frozen=True, slots=True)
class Network:
    """An ONNX model and inputs that suit it."""

    proto: onnx.ModelProto
    inputs: Mapping[str, Array]

    def save(self, path: Path) -> None:
        """Write the model."""
        onnx.save(self.proto, path)

    def load(self) -> api.Model:
        """Convert the model and load it into the engine."""
        with tempfile.TemporaryDirectory() as folder:
            original, converted = Path(folder) / "network.onnx", Path(folder) / "network.wmodel"
            self.save(original)
            convert(original, converted, check=False)
            return api.load(converted)  # mapped: it outlives its name


class _Net:
    """A graph under construction that names values by itself and invents weights."""

    def __init__(self, name: str) -> None:
        self.rng = np.random.default_rng(0)
        self.inputs: dict[str, Array] = {}
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def input(self, name: str, value: Array) -> str:
        self.inputs[name] = value
        return name

    def constant(self, value: Array) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def weight(self, *shape: int, terms: int, gain: float = 1.0) -> str:
        """Random; a sum of ``terms`` products has ``gain`` times the mean square of the other factor."""
        values = self.rng.standard_normal(shape, np.float32)
        return self.constant(values * np.float32(math.sqrt(gain / terms)))

    def bias(self, size: int) -> str:
        return self.weight(size, terms=100)

    def op(self, op: str, *inputs: str, **attrs: object) -> str:
        (output,) = self.ops(op, 1, *inputs, **attrs)
        return output

    def ops(self, op: str, outputs: int, *inputs: str, **attrs: object) -> list[str]:
        at = len(self._nodes)
        names = [f"v{at}_{index}" if outputs > 1 else f"v{at}" for index in range(outputs)]
        self._nodes.append(helper.make_node(op, inputs, names, name=f"{op}_{at}", **attrs))
        return names

    def linear(self, x: str, ins: int, outs: int, gain: float = 1.0) -> str:
        product = self.op("MatMul", x, self.weight(ins, outs, terms=ins, gain=gain))
        return self.op("Add", product, self.bias(outs))

    def conv(
        self, x: str, ins: int, outs: int, kernel: int = 1, stride: int = 1, *, group: int = 1,
        pad: int | None = None, gain: float = RELU_GAIN,
    ) -> str:  # fmt: skip
        """A convolution with bias; by default padded to keep the extents, or divide them by the stride."""
        terms = ins // group * kernel * kernel
        weight = self.weight(outs, ins // group, kernel, kernel, terms=terms, gain=gain)
        return self.op(
            "Conv", x, weight, self.bias(outs), group=group, kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=[kernel // 2 if pad is None else pad] * 4,
        )  # fmt: skip

    def relu_conv(self, *where: Any, **how: Any) -> str:
        return self.op("Relu", self.conv(*where, **how))

    def pool(self, x: str, pad: int = 0) -> str:
        return self.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[pad] * 4)

    def image(self, batch: int, side: int) -> str:
        return self.input("image", self.rng.standard_normal((batch, 3, side, side), np.float32))

    def classify(self, x: str, channels: int, classes: int = 1000) -> str:
        pooled = self.op("Flatten", self.op("GlobalAveragePool", x))
        weight = self.weight(channels, classes, terms=channels)
        return self.op("Gemm", pooled, weight, self.bias(classes))

    def finish(self, *outputs: str) -> Network:
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in self.inputs.items()
        ]
        results = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self._nodes, self._name, inputs, results, self._weights)
        opsets = [helper.make_opsetid("", OPSET)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        inferred = {value.name: value for value in onnx.shape_inference.infer_shapes(proto).graph.output}
        del proto.graph.output[:]
        proto.graph.output.extend(inferred[name] for name in outputs)
        return Network(proto, self.inputs)


# ---- Convolutional -----------------------------------------------------------------------------------------


def _stem(net: _Net, batch: int, side: int) -> str:
    return net.pool(net.relu_conv(net.image(batch, side), 3, 64, 7, 2), pad=1)


def resnet18(side: int = 224, batch: int = 1, widths: Sequence[int] = (64, 128, 256, 512)) -> Network:
    """ResNet-18 for images of ``side`` x ``side`` pixels; ``widths`` are the channels of its stages."""
    net = _Net("resnet18")
    x, width = _stem(net, batch, side), 64
    for channels, first_stride in zip(widths, (1, 2, 2, 2), strict=True):
        for stride in (first_stride, 1):
            skip = net.conv(x, width, channels, 1, stride, gain=1) if width != channels else x
            branch = net.relu_conv(x, width, channels, 3, stride)
            branch = net.conv(branch, channels, channels, 3, gain=BRANCH_GAIN)
            x, width = net.op("Relu", net.op("Add", branch, skip)), channels
    return net.finish(net.classify(x, width))


def resnet50(side: int = 224, batch: int = 1) -> Network:
    """ResNet-50 for images of ``side`` x ``side`` pixels."""
    net = _Net("resnet50")
    x, width = _stem(net, batch, side), 64
    for narrow, repeats, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        wide = 4 * narrow
        for repeat in range(repeats):
            stride = 1 if repeat else first_stride
            skip = x if repeat else net.conv(x, width, wide, 1, stride, gain=1)
            branch = net.relu_conv(x, width, narrow)
            branch = net.relu_conv(branch, narrow, narrow, 3, stride)
            branch = net.conv(branch, narrow, wide, gain=BRANCH_GAIN)
            x, width = net.op("Relu", net.op("Add", branch, skip)), wide
    return net.finish(net.classify(x, width))


def mobilenet_v1(side: int = 224, batch: int = 1) -> Network:
    """MobileNetV1 1.0: depthwise 3x3, then 1x1, thirteen times."""
    net = _Net("mobilenet_v1")
    x, width = net.relu_conv(net.image(batch, side), 3, 32, 3, 2), 32
    blocks = [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ]
    for channels, stride in blocks:
        x = net.relu_conv(x, width, width, 3, stride, group=width)
        x, width = net.relu_conv(x, width, channels), channels
    return net.finish(net.classify(x, width))


def mobilenet_v2(side: int = 224, batch: int = 1) -> Network:
    """MobileNetV2 1.0: inverted residuals with linear bottlenecks."""
    net = _Net("mobilenet_v2")
    low, high = net.number(0), net.number(6)

    def clipped(x: str, *where: int, **how: int) -> str:
        return net.op("Clip", net.conv(x, *where, **how), low, high)

    x, width = clipped(net.image(batch, side), 3, 32, 3, 2), 32
    # Expansion, channels, repeats, stride of the first repeat: table 2 of the paper.
    stages = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    )  # fmt: skip
    for expansion, channels, repeats, first_stride in stages:
        for repeat in range(repeats):
            stride, wide = (1 if repeat else first_stride), width * expansion
            y = clipped(x, width, wide) if expansion > 1 else x
            y = clipped(y, wide, wide, 3, stride, group=wide)
            y = net.conv(y, wide, channels, gain=BRANCH_GAIN if repeat else 1)
            x, width = (net.op("Add", x, y) if repeat else y), channels
    return net.finish(net.classify(clipped(x, width, 1280), 1280))


def squeezenet(side: int = 224, batch: int = 1) -> Network:
    """SqueezeNet 1.1: fire modules, a convolution for a classifier."""
    net = _Net("squeezenet11")
    x, width = net.pool(net.relu_conv(net.image(batch, side), 3, 64, 3, 2, pad=0)), 64
    for squeezed, expanded, pooled in (
        (16, 64, False), (16, 64, True), (32, 128, False), (32, 128, True),
        (48, 192, False), (48, 192, False), (64, 256, False), (64, 256, False),
    ):  # fmt: skip
        x = net.relu_conv(x, width, squeezed)
        x = net.op("Concat", *(net.relu_conv(x, squeezed, expanded, kernel) for kernel in (1, 3)), axis=1)
        x, width = (net.pool(x) if pooled else x), 2 * expanded
    x = net.op("Flatten", net.op("GlobalAveragePool", net.relu_conv(x, width, 1000)))
    return net.finish(net.op("Softmax", x, axis=-1))


def _shuffle(net: _Net, x: str, batch: int, channels: int, side: int) -> str:
    x = net.op("Reshape", x, net.ints(batch, 2, channels // 2, side, side))
    x = net.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", x, net.ints(batch, channels, side, side))


def shufflenet(side: int = 224, batch: int = 1) -> Network:
    """ShuffleNet V2 1.0x for images of ``side`` x ``side`` pixels."""
    net = _Net("shufflenet_v2")
    x = net.pool(net.relu_conv(net.image(batch, side), 3, 24, 3, 2), pad=1)
    ins, side = 24, side // 4
    for channels, repeats in ((116, 4), (232, 8), (464, 4)):
        half, side = channels // 2, side // 2
        left = net.conv(x, ins, ins, 3, 2, group=ins, gain=1)
        right = net.conv(net.relu_conv(x, ins, half), half, half, 3, 2, group=half, gain=1)
        x = net.op("Concat", net.relu_conv(left, ins, half), net.relu_conv(right, half, half), axis=1)
        x = _shuffle(net, x, batch, channels, side)
        for _ in range(repeats - 1):
            left, right = net.ops("Split", 2, x, net.ints(half, half), axis=1)
            right = net.conv(net.relu_conv(right, half, half), half, half, 3, group=half, gain=1)
            x = net.op("Concat", left, net.relu_conv(right, half, half), axis=1)
            x = _shuffle(net, x, batch, channels, side)
        ins = channels
    return net.finish(net.classify(net.relu_conv(x, ins, 1024), 1024))


# ---- Attention ---------------------------------------------------------------------------------------------


def bert(
    tokens: int = 128, width: int = 512, heads: int = 8, layers: int = 4, words: int = 30522, batch: int = 1
) -> Network:
    """A BERT encoder with its pooler, as the usual exporter lays it out: GELU by erf, an additive mask."""
    net = _Net(f"bert_{layers}x{width}")
    ids = net.input("ids", net.rng.integers(0, words, (batch, tokens)))
    kinds = net.input("kinds", (np.arange(tokens) >= tokens // 2).astype(np.int64)[None].repeat(batch, 0))
    seen = net.input(
        "seen", (np.arange(tokens) < tokens - tokens // 8).astype(np.int64)[None].repeat(batch, 0)
    )
    hidden = net.op("Cast", net.op("Unsqueeze", seen, net.ints(1, 2)), to=onnx.TensorProto.FLOAT)
    mask = net.op("Mul", net.op("Sub", net.number(1), hidden), net.number(-10000))
    embedded = (
        net.op("Gather", net.weight(size, width, terms=1), part) for size, part in ((words, ids), (2, kinds))
    )
    places = net.weight(1, tokens, width, terms=1)
    x = _norm(net, net.op("Add", net.op("Add", *embedded), places), width)
    for _ in range(layers):
        x = _norm(net, net.op("Add", _attention(net, x, mask, (batch, tokens, width, heads)), x), width)
        inner = _gelu(net, net.linear(x, width, 4 * width))
        x = _norm(net, net.op("Add", net.linear(inner, 4 * width, width), x), width)
    first = net.op("Gather", x, net.constant(np.array(0, np.int64)), axis=1)
    return net.finish(x, net.op("Tanh", net.linear(first, width, width)))


def _norm(net: _Net, x: str, width: int) -> str:
    scale = net.constant(1 + 0.1 * net.rng.standard_normal(width, np.float32))
    return net.op("LayerNormalization", x, scale, net.bias(width), axis=-1, epsilon=1e-12)


def _gelu(net: _Net, x: str) -> str:
    error = net.op("Erf", net.op("Div", x, net.number(math.sqrt(2))))
    return net.op("Mul", net.op("Mul", x, net.op("Add", error, net.number(1))), net.number(0.5))


def _attention(net: _Net, x: str, mask: str, extents: tuple[int, int, int, int]) -> str:
    batch, tokens, width, heads = extents
    parts = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):  # queries, keys, values
        split = net.ints(batch, tokens, heads, width // heads)
        parts.append(net.op("Transpose", net.op("Reshape", net.linear(x, width, width), split), perm=perm))
    scores = net.op("Div", net.op("MatMul", parts[0], parts[1]), net.number(math.sqrt(width // heads)))
    weights = net.op("Softmax", net.op("Add", scores, mask), axis=-1)
    mixed = net.op("Transpose", net.op("MatMul", weights, parts[2]), perm=[0, 2, 1, 3])
    return net.linear(net.op("Reshape", mixed, net.ints(batch, tokens, width)), width, width)


#: Gain of DIN's scores: at 1 all of a history weighs the same, and the output does not show the attention.
DIN_SHARPNESS = 10000.0


def din(
    batch: int = 1, history: int = 100, width: int = 18, items: int = 50000, sharpness: float = DIN_SHARPNESS
) -> Network:
    """A deep interest network: attention of a candidate over a user's history of items and their kinds.

    Args:
        batch: candidates.
        history: items in each history; the attention's mask hides some.
        width: of an embedding.
        items: how many there are; kinds are a tenth as many.
        sharpness: gain of the attention's last layer; 0 makes every item weigh the same.
    """
    net = _Net("din")
    both = 2 * width
    tables = [net.weight(size, width, terms=1) for size in (items, items // 10)]

    def embed(name: str, *shape: int) -> str:
        parts = [
            net.op("Gather", table, net.input(f"{name}_{kind}", net.rng.integers(0, items // 10, shape)))
            for table, kind in zip(tables, ("item", "kind"), strict=True)
        ]
        return net.op("Concat", *parts, axis=-1)

    candidate, past = embed("candidate", batch), embed("past", batch, history)
    seen = net.input("seen", net.rng.random((batch, 1, history)) < 0.8)
    query = net.op("Unsqueeze", candidate, net.ints(1))
    query = net.op("Expand", query, net.ints(batch, history, both))
    x = net.op("Concat", query, past, net.op("Sub", query, past), net.op("Mul", query, past), axis=-1)
    x = net.op("Sigmoid", net.linear(x, 4 * both, 80))
    x = net.op("Sigmoid", net.linear(x, 80, 40))
    scores = net.op("Reshape", net.linear(x, 40, 1, gain=sharpness), net.ints(batch, 1, history))
    scores = net.op("Where", seen, scores, net.number(-1e9))
    weights = net.op("Softmax", net.op("Div", scores, net.number(math.sqrt(both))), axis=-1)
    interest = net.op("Reshape", net.op("MatMul", weights, past), net.ints(batch, both))
    x = net.op("Concat", interest, candidate, net.op("Mul", interest, candidate), axis=-1)
    slope = net.constant(np.array([0.25], np.float32))
    for ins, outs in ((3 * both, 200), (200, 80)):
        x = net.op("PRelu", net.linear(x, ins, outs, gain=RELU_GAIN), slope)
    return net.finish(net.op("Softmax", net.linear(x, 80, 2), axis=-1))


# ---- Recurrent ---------------------------------------------------------------------------------------------


def voice_lstm(frames: int = 100, width: int = 256, batch: int = 1) -> Network:
    """Two LSTM layers over frames of 40 filter banks, and a letter for each frame."""
    return _voice("LSTM", 4, 2, frames, width, batch)


def voice_gru(frames: int = 100, width: int = 256, batch: int = 1) -> Network:
    """The same with GRU layers, in the form PyTorch exports (the reset gate after the product)."""
    return _voice("GRU", 3, 1, frames, width, batch, linear_before_reset=1)


def _voice(op: str, gates: int, states: int, frames: int, width: int, batch: int, **attrs: int) -> Network:
    net = _Net(f"voice_{op.lower()}")
    banks, letters = 40, 32
    x, ins = net.input("frames", net.rng.standard_normal((frames, batch, banks), np.float32)), banks
    for _ in range(2):
        # As trained networks have them, a product of each kind is about as large as a gate's range.
        weights = (
            net.weight(1, gates * width, ins, terms=ins),
            net.weight(1, gates * width, width, terms=width),
        )
        bias = net.weight(1, 2 * gates * width, terms=100)
        still = [net.constant(np.zeros((1, batch, width), np.float32))] * states
        y = net.ops(op, 1 + states, x, *weights, bias, "", *still, hidden_size=width, **attrs)[0]
        x, ins = net.op("Squeeze", y, net.ints(1)), width
    return net.finish(net.op("Softmax", net.linear(x, width, letters, gain=16), axis=-1))


#: What the benchmark measures: the families of the paper (Walle, OSDI 2022), MobileNetV1, two voice networks.
NETWORKS: Mapping[str, Callable[[], Network]] = {
    "resnet18": resnet18,
    "resnet50": resnet50,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "squeezenet11": squeezenet,
    "shufflenet_v2": shufflenet,
    "bert_mini": bert,
    "bert_base": lambda: bert(tokens=256, width=768, heads=12, layers=12),
    "din": din,
    "voice_lstm": voice_lstm,
    "voice_gru": voice_gru,
}

#: The same families at sizes that nothing was tuned with: odd images and channels, batches, other heads.
VARIANTS: Mapping[str, Callable[[], Network]] = {
    "resnet18 odd": lambda: resnet18(228, widths=(24, 40, 72, 104)),
    "resnet18 x 4": lambda: resnet18(160, batch=4),
    "mobilenet_v2 odd": lambda: mobilenet_v2(200),
    "squeezenet11 x 2": lambda: squeezenet(171, batch=2),
    "shufflenet_v2 288": lambda: shufflenet(288),
    "bert 3 heads": lambda: bert(tokens=77, width=192, heads=3, layers=3, words=1000),
    "voice_lstm x 3": lambda: voice_lstm(160, 192, batch=3),
}


def small() -> Sequence[tuple[str, Network]]:
    """The same at sizes that run in milliseconds."""
    return [
        ("resnet18", resnet18(32)),
        ("resnet50", resnet50(32)),
        ("mobilenet_v1", mobilenet_v1(32)),
        ("mobilenet_v2", mobilenet_v2(32)),
        ("squeezenet11", squeezenet(64)),
        ("shufflenet_v2", shufflenet(64)),
        ("bert", bert(tokens=9, width=32, heads=4, layers=2, words=100)),
        ("din", din(batch=3, history=7, items=100)),
        ("voice_lstm", voice_lstm(5, 12)),
        ("voice_gru", voice_gru(5, 12)),
    ]
