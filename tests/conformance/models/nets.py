"""Random-weight versions of the benchmark families and of further architectures, built with the ONNX helper.

Each function of ``FAMILIES`` gives a model with the family's structure: its kinds of blocks, in their order
and with their strides, at ``scale`` of the published widths. ``OTHERS`` holds what exercises the rest of the
engine: control flow, data-dependent shapes, growing caches, upsampling.

    python tests/conformance/models/nets.py FAMILY OUT.onnx [SCALE]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
type Array = np.ndarray[Any, Any]


class Net:
    """A graph under construction; every method adds nodes and returns the name of their result."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def weight(self, *shape: int, fan: int = 0) -> str:
        """Normal numbers that keep a layer's output as large as its input; ``fan`` inputs are summed."""
        return self.const((self.rng.standard_normal(shape) / math.sqrt(fan or 1)).astype(np.float32))

    def const(self, value: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        names = [f"{kind.lower()}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, f"{kind}_{len(self.nodes)}", **attrs))
        return names[0] if outputs == 1 else names

    def conv(
        self, x: str, c_in: int, c_out: int, k: int, *, stride: int = 1, group: int = 1, act: str = "Relu"
    ) -> str:
        """Convolution, batch normalisation, activation."""
        w = self.weight(c_out, c_in // group, k, k, fan=k * k * c_in // group)
        pad = k // 2
        y = self.op("Conv", x, w, strides=[stride, stride], pads=[pad] * 4, group=group, kernel_shape=[k, k])
        norm = [self.const(self.rng.uniform(*r, c_out).astype(np.float32)) for r in _NORM_RANGES]
        y = self.op("BatchNormalization", y, *norm)
        if act == "Relu6":
            return self.op("Clip", y, self.const(np.float32(0)), self.const(np.float32(6)))
        return self.op(act, y) if act else y

    def dense(self, x: str, n_in: int, n_out: int) -> str:
        return self.op("Gemm", x, self.weight(n_out, n_in, fan=n_in), self.weight(n_out), transB=1)

    def linear(self, x: str, n_in: int, n_out: int) -> str:
        """A dense layer over the last dim of any rank."""
        return self.op("Add", self.op("MatMul", x, self.weight(n_in, n_out, fan=n_in)), self.weight(n_out))

    def pool(self, x: str, k: int, stride: int, pad: int) -> str:
        return self.op("MaxPool", x, kernel_shape=[k, k], strides=[stride, stride], pads=[pad] * 4)

    def classify(self, x: str, channels: int, classes: int) -> str:
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.op("Softmax", self.dense(flat, channels, classes), axis=-1)

    def model(self, name: str, *outputs: str) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        graph = helper.make_graph(self.nodes, name, self.inputs, infos, self.weights)
        for info in infos:
            info.ClearField("type")
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        known = {info.name: info for info in inferred.graph.output}
        del model.graph.output[:]
        model.graph.output.extend(known[o] for o in outputs)
        return model


# Gain, shift, mean, variance.
_NORM_RANGES = ((0.8, 1.2), (-0.1, 0.1), (-0.1, 0.1), (0.8, 1.2))


def _width(channels: int, scale: float) -> int:
    """At least 8, and a multiple of 8."""
    return max(8, int(channels * scale) // 8 * 8)


def resnet(depths: Sequence[int], *, bottleneck: bool, scale: float) -> onnx.ModelProto:
    net = Net()
    x = net.input("image", ["N", 3, 64, 64])
    channels = _width(64, scale)
    x = net.pool(net.conv(x, 3, channels, 7, stride=2), 3, 2, 1)
    for stage, depth in enumerate(depths):
        width = _width(64 * 2**stage, scale)
        out = width * 4 if bottleneck else width
        for block in range(depth):
            stride = 2 if stage and not block else 1
            if bottleneck:
                y = net.conv(net.conv(x, channels, width, 1), width, width, 3, stride=stride)
                y = net.conv(y, width, out, 1, act="")
            else:
                y = net.conv(net.conv(x, channels, width, 3, stride=stride), width, out, 3, act="")
            short = (
                net.conv(x, channels, out, 1, stride=stride, act="") if stride > 1 or channels != out else x
            )
            x, channels = net.op("Relu", net.op("Add", y, short)), out
    return net.model("resnet", net.classify(x, channels, 10))


def mobilenet_v1(scale: float) -> onnx.ModelProto:
    net = Net()
    channels = _width(32, scale)
    x = net.conv(net.input("image", ["N", 3, 64, 64]), 3, channels, 3, stride=2, act="Relu6")
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for wide, stride in plan:
        x = net.conv(x, channels, channels, 3, stride=stride, group=channels, act="Relu6")
        x = net.conv(x, channels, _width(wide, scale), 1, act="Relu6")
        channels = _width(wide, scale)
    return net.model("mobilenet_v1", net.classify(x, channels, 10))


def mobilenet_v2(scale: float) -> onnx.ModelProto:
    net = Net()
    channels = _width(32, scale)
    x = net.conv(net.input("image", ["N", 3, 64, 64]), 3, channels, 3, stride=2, act="Relu6")
    plan = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    for expand, wide, repeats, first in plan:
        out = _width(wide, scale)
        for block in range(repeats):
            stride = 1 if block else first
            hidden = channels * expand
            y = net.conv(x, channels, hidden, 1, act="Relu6") if expand > 1 else x
            y = net.conv(y, hidden, hidden, 3, stride=stride, group=hidden, act="Relu6")
            y = net.conv(y, hidden, out, 1, act="")
            x = net.op("Add", x, y) if stride == 1 and channels == out else y
            channels = out
    x = net.conv(x, channels, _width(1280, scale), 1, act="Relu6")
    return net.model("mobilenet_v2", net.classify(x, _width(1280, scale), 10))


def squeezenet(scale: float) -> onnx.ModelProto:
    net = Net()

    def plain(x: str, c_in: int, c_out: int, k: int, stride: int = 1, pad: int = 0) -> str:
        w = net.weight(c_out, c_in, k, k, fan=k * k * c_in)
        return net.op("Relu", net.op("Conv", x, w, net.weight(c_out), strides=[stride] * 2, pads=[pad] * 4))

    channels = _width(64, scale)
    x = net.pool(plain(net.input("image", ["N", 3, 64, 64]), 3, channels, 3, 2), 3, 2, 0)
    for index, (narrow, wide) in enumerate([(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (64, 256)]):
        s, e = _width(narrow, scale), _width(wide, scale)
        squeezed = plain(x, channels, s, 1)
        x = net.op("Concat", plain(squeezed, s, e, 1), plain(squeezed, s, e, 3, 1, 1), axis=1)
        channels = 2 * e
        if index in (1, 3):
            x = net.pool(x, 3, 2, 0)
    x = net.op("GlobalAveragePool", plain(x, channels, 10, 1))
    return net.model("squeezenet", net.op("Softmax", net.op("Flatten", x), axis=-1))


def shufflenet_v2(scale: float) -> onnx.ModelProto:
    net = Net()

    def shuffle(x: str, channels: int, side: int) -> str:
        split = net.op("Reshape", x, net.const(np.array([-1, 2, channels // 2, side, side], np.int64)))
        mixed = net.op("Transpose", split, perm=[0, 2, 1, 3, 4])
        return net.op("Reshape", mixed, net.const(np.array([-1, channels, side, side], np.int64)))

    def branch(x: str, c_in: int, c: int, stride: int) -> str:
        y = net.conv(x, c_in, c, 1)
        return net.conv(net.conv(y, c, c, 3, stride=stride, group=c, act=""), c, c, 1)

    channels, side = _width(24, scale), 16
    x = net.pool(net.conv(net.input("image", ["N", 3, 64, 64]), 3, channels, 3, stride=2), 3, 2, 1)
    for wide, repeats in ((116, 4), (232, 8), (464, 4)):
        half = _width(wide, scale) // 2
        side //= 2
        other = net.conv(
            net.conv(x, channels, channels, 3, stride=2, group=channels, act=""), channels, half, 1
        )
        x = shuffle(net.op("Concat", other, branch(x, channels, half, 2), axis=1), 2 * half, side)
        channels = 2 * half
        for _ in range(repeats - 1):
            sizes = net.const(np.array([half, half], np.int64))
            kept, y = net.op("Split", x, sizes, axis=1, outputs=2)
            x = shuffle(net.op("Concat", kept, branch(y, half, half, 1), axis=1), channels, side)
    x = net.conv(x, channels, _width(1024, scale), 1)
    return net.model("shufflenet_v2", net.classify(x, _width(1024, scale), 10))


def bert(scale: float) -> onnx.ModelProto:
    net = Net()
    hidden, heads, layers, length = _width(512, scale), 4, 4, 24
    ids = net.input("ids", ["N", length], TensorProto.INT64)
    mask = net.input("mask", ["N", length])
    x = net.op("Gather", net.weight(100, hidden), ids)
    x = _norm(net, net.op("Add", x, net.weight(1, length, hidden)), hidden)
    # A mask of 0 keeps a token out.
    lifted = net.op("Unsqueeze", mask, net.const(np.array([1, 2], np.int64)))
    hidden_ones = net.op("Mul", net.op("Sub", net.const(np.float32(1)), lifted), net.const(np.float32(-1e4)))
    for _ in range(layers):
        x = _norm(net, net.op("Add", x, _attend(net, x, hidden, heads, length, hidden_ones)), hidden)
        wide = _gelu(net, net.linear(x, hidden, 4 * hidden))
        x = _norm(net, net.op("Add", x, net.linear(wide, 4 * hidden, hidden)), hidden)
    first = net.op("Gather", x, net.const(np.int64(0)), axis=1)
    return net.model("bert", x, net.op("Tanh", net.dense(first, hidden, hidden)))


def _norm(net: Net, x: str, hidden: int) -> str:
    return net.op("LayerNormalization", x, net.weight(hidden), net.weight(hidden), axis=-1)


def _gelu(net: Net, x: str) -> str:
    """As exporters wrote it before it was an operator."""
    e = net.op("Erf", net.op("Div", x, net.const(np.float32(math.sqrt(2)))))
    product = net.op("Mul", x, net.op("Add", e, net.const(np.float32(1))))
    return net.op("Mul", product, net.const(np.float32(0.5)))


def _attend(net: Net, x: str, hidden: int, heads: int, length: int, mask: str) -> str:
    def split(y: str, perm: list[int]) -> str:
        shape = net.const(np.array([0, length, heads, hidden // heads], np.int64))
        return net.op("Transpose", net.op("Reshape", y, shape), perm=perm)

    q, k, v = (net.linear(x, hidden, hidden) for _ in range(3))
    scores = net.op("MatMul", split(q, [0, 2, 1, 3]), split(k, [0, 2, 3, 1]))
    scores = net.op("Mul", scores, net.const(np.float32(1 / math.sqrt(hidden // heads))))
    weights = net.op("Softmax", net.op("Add", scores, mask), axis=-1)
    mixed = net.op("Transpose", net.op("MatMul", weights, split(v, [0, 2, 1, 3])), perm=[0, 2, 1, 3])
    joined = net.op("Reshape", mixed, net.const(np.array([0, length, hidden], np.int64)))
    return net.linear(joined, hidden, hidden)


def din(scale: float) -> onnx.ModelProto:
    """Deep interest network: the items of a user's past, weighed by their likeness to a candidate."""
    net = Net()
    width, length = _width(32, scale), 20
    past = net.input("past", ["N", length], TensorProto.INT64)
    candidate = net.input("candidate", ["N"], TensorProto.INT64)
    table = net.weight(200, width)
    history = net.op("Gather", table, past)
    item = net.op("Gather", table, candidate)
    spread = net.op("Unsqueeze", item, net.const(np.array([1], np.int64)))
    shape = net.op("Shape", history)
    wide = net.op("Expand", spread, shape)
    pair = [wide, history, net.op("Sub", wide, history), net.op("Mul", wide, history)]
    y = net.op("Sigmoid", net.linear(net.op("Concat", *pair, axis=-1), 4 * width, 80))
    score = net.linear(net.op("Sigmoid", net.linear(y, 80, 40)), 40, 1)
    interest = net.op(
        "ReduceSum", net.op("Mul", score, history), net.const(np.array([1], np.int64)), keepdims=0
    )
    joined = net.op("Concat", interest, item, net.op("Mul", interest, item), axis=1)
    hidden = net.op("PRelu", net.dense(joined, 3 * width, 200), net.weight(200))
    hidden = net.op("PRelu", net.dense(hidden, 200, 80), net.weight(80))
    return net.model("din", net.op("Sigmoid", net.dense(hidden, 80, 1)))


def voice(kind: str, scale: float) -> onnx.ModelProto:
    """A recurrent keyword spotter over [time, batch, features]."""
    net = Net()
    steps, features, hidden = 20, 40, _width(128, scale)
    gates = {"LSTM": 4, "GRU": 3}[kind]
    x = net.input("frames", [steps, "N", features])
    size = features
    for direction in ("bidirectional", "forward"):
        d = 2 if direction == "bidirectional" else 1
        w = net.weight(d, gates * hidden, size, fan=size)
        r = net.weight(d, gates * hidden, hidden, fan=hidden)
        b = net.weight(d, 2 * gates * hidden)
        extra = {"linear_before_reset": 1} if kind == "GRU" else {}
        outputs = net.op(kind, x, w, r, b, outputs=2, hidden_size=hidden, direction=direction, **extra)
        merged = net.op("Transpose", outputs[0], perm=[0, 2, 1, 3])
        x = net.op("Reshape", merged, net.const(np.array([steps, -1, d * hidden], np.int64)))
        size = d * hidden
    last = net.op("Gather", x, net.const(np.int64(-1)), axis=0)
    return net.model(f"voice_{kind.lower()}", net.op("LogSoftmax", net.dense(last, size, 12), axis=-1))


def unet(scale: float) -> onnx.ModelProto:
    """Down by pooling, up by transposed convolution and by resizing, with a short cut at each level."""
    net = Net()
    c = _width(64, scale)
    x = net.input("image", ["N", 3, 32, 32])
    top = net.conv(net.conv(x, 3, c, 3), c, c, 3)
    middle = net.conv(net.pool(top, 2, 2, 0), c, 2 * c, 3)
    bottom = net.conv(net.pool(middle, 2, 2, 0), 2 * c, 4 * c, 3)
    up = net.op("ConvTranspose", bottom, net.weight(4 * c, 2 * c, 2, 2, fan=4 * c), strides=[2, 2])
    middle = net.conv(net.op("Concat", up, middle, axis=1), 4 * c, 2 * c, 3)
    scales = net.const(np.array([1, 1, 2, 2], np.float32))
    mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    up = net.op("Resize", middle, "", scales, **mode)
    top = net.conv(net.op("Concat", up, top, axis=1), 3 * c, c, 3)
    return net.model("unet", net.op("Sigmoid", net.conv(top, c, 1, 1, act="")))


def detector(scale: float) -> onnx.ModelProto:
    """Boxes and scores for each cell of a feature map, thinned by non-maximum suppression."""
    net = Net()
    c, classes, cells = _width(64, scale), 4, 64
    x = net.conv(net.input("image", [1, 3, 32, 32]), 3, c, 3, stride=2)
    x = net.conv(x, c, c, 3, stride=2)

    def head(channels: int) -> str:
        w = net.weight(channels, c, 3, 3, fan=9 * c)
        maps = net.op("Conv", x, w, net.weight(channels), pads=[1, 1, 1, 1])
        return net.op("Reshape", maps, net.const(np.array([1, channels, cells], np.int64)))

    place = net.op("Sigmoid", net.op("Transpose", head(4), perm=[0, 2, 1]))
    scores = net.op("Sigmoid", head(classes))
    limits = [net.const(value) for value in (np.int64(5), np.float32(0.4), np.float32(0.5))]
    chosen = net.op("NonMaxSuppression", place, scores, *limits, center_point_box=1)
    box_index = net.op("Gather", chosen, net.const(np.array([0, 2], np.int64)), axis=1)
    boxes = net.op("GatherND", place, box_index)
    return net.model("detector", boxes, net.op("GatherND", scores, chosen))


def decoder_step(scale: float) -> onnx.ModelProto:
    """One token through a transformer decoder that keeps keys and values of the past."""
    net = Net()
    heads, head = 4, _width(64, scale)
    hidden = heads * head
    token = net.input("token", ["N", 1], TensorProto.INT64)
    x = net.op("Gather", net.weight(50, hidden), token)
    caches = []
    for layer in range(2):
        past = [net.input(f"past_{kind}_{layer}", ["N", heads, "T", head]) for kind in "kv"]
        normed = _norm(net, x, hidden)
        shape = net.const(np.array([0, 1, heads, head], np.int64))
        q, k, v = (
            net.op(
                "Transpose", net.op("Reshape", net.linear(normed, hidden, hidden), shape), perm=[0, 2, 1, 3]
            )
            for _ in range(3)
        )
        keys, values = (net.op("Concat", p, new, axis=2) for p, new in zip(past, (k, v), strict=True))
        caches += [keys, values]
        scores = net.op("MatMul", q, net.op("Transpose", keys, perm=[0, 1, 3, 2]))
        scores = net.op("Div", scores, net.const(np.float32(math.sqrt(head))))
        mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), values)
        joined = net.op(
            "Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), net.const(np.array([0, 1, hidden]))
        )
        x = net.op("Add", x, net.linear(joined, hidden, hidden))
        wide = _gelu(net, net.linear(_norm(net, x, hidden), hidden, 4 * hidden))
        x = net.op("Add", x, net.linear(wide, 4 * hidden, hidden))
    return net.model("decoder_step", net.linear(x, hidden, 50), *caches)


def greedy_loop(scale: float) -> onnx.ModelProto:
    """A recurrent cell in a Loop: it runs while its state keeps moving, and emits every state."""
    net = Net()
    width = _width(64, scale)
    start = net.input("start", ["N", width])
    w = net.weight(width, width, fan=2 * width)
    limit, moved = net.const(np.int64(12)), net.const(np.float32(1e-2))
    body = [
        helper.make_node("MatMul", ["state", w], ["product"]),
        helper.make_node("Tanh", ["product"], ["next"]),
        helper.make_node("Sub", ["next", "state"], ["step"]),
        helper.make_node("Abs", ["step"], ["size"]),
        helper.make_node("ReduceMax", ["size"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", moved], ["go_on"]),
        helper.make_node("Identity", ["next"], ["emitted"]),
    ]
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", width])
    flag = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("alive", "go_on")]
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [])
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", width]) for n in ("next", "emitted")]
    graph = helper.make_graph(body, "body", [count, flag[0], state], [flag[1], *results])
    always = net.const(np.array(True))
    last, states = net.op("Loop", limit, always, start, outputs=2, body=graph)
    rows = net.const(np.array([-1, width], np.int64))  # how many there are is only known while running
    answer = net.linear(net.op("Reshape", last, rows), width, 5)
    return net.model("greedy_loop", answer, net.op("Reshape", states, rows))


def vision_transformer(scale: float) -> onnx.ModelProto:
    net = Net()
    hidden, heads, tokens = _width(256, scale), 4, 17
    image = net.input("image", ["N", 3, 32, 32])
    w = net.weight(hidden, 3, 8, 8, fan=192)
    patches = net.op("Conv", image, w, net.weight(hidden), strides=[8, 8])
    flat = net.op("Reshape", patches, net.const(np.array([0, hidden, 16], np.int64)))
    x = net.op("Transpose", flat, perm=[0, 2, 1])
    batch = net.op("Shape", x, start=0, end=1)
    tail = net.const(np.array([1, hidden], np.int64))
    first = net.op("Expand", net.weight(1, 1, hidden), net.op("Concat", batch, tail, axis=0))
    x = net.op("Add", net.op("Concat", first, x, axis=1), net.weight(1, tokens, hidden))
    nothing = net.const(np.zeros((1, 1, 1, 1), np.float32))
    for _ in range(3):
        x = net.op("Add", x, _attend(net, _norm(net, x, hidden), hidden, heads, tokens, nothing))
        wide = _gelu(net, net.linear(_norm(net, x, hidden), hidden, 4 * hidden))
        x = net.op("Add", x, net.linear(wide, 4 * hidden, hidden))
    head = net.op("Gather", _norm(net, x, hidden), net.const(np.int64(0)), axis=1)
    return net.model("vision_transformer", net.dense(head, hidden, 10))


def temporal_net(scale: float) -> onnx.ModelProto:
    """Dilated causal convolutions over a signal, gated as in WaveNet."""
    net = Net()
    c, length = _width(64, scale), 64
    x = net.op("Conv", net.input("signal", ["N", 1, length]), net.weight(c, 1, 1), net.weight(c))
    skips = []
    for dilation in (1, 2, 4, 8):
        pads = net.const(np.array([0, 0, dilation, 0, 0, 0], np.int64))
        padded = net.op("Pad", x, pads)
        both = net.op(
            "Conv", padded, net.weight(2 * c, c, 2, fan=2 * c), net.weight(2 * c), dilations=[dilation]
        )
        a, b = net.op("Split", both, axis=1, num_outputs=2, outputs=2)
        gated = net.op("Mul", net.op("Tanh", a), net.op("Sigmoid", b))
        skips.append(net.op("Conv", gated, net.weight(c, c, 1, fan=c)))
        x = net.op("Add", x, skips[-1])
    total = net.op("Relu", net.op("Sum", *skips))
    return net.model("temporal_net", net.op("Conv", total, net.weight(16, c, 1, fan=c), net.weight(16)))


def style_net(scale: float) -> onnx.ModelProto:
    """Image to image with reflection padding and instance normalisation."""
    net = Net()

    def block(x: str, c_in: int, c_out: int, stride: int = 1) -> str:
        pads = net.const(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
        padded = net.op("Pad", x, pads, mode="reflect")
        y = net.op("Conv", padded, net.weight(c_out, c_in, 3, 3, fan=9 * c_in), strides=[stride] * 2)
        return net.op("InstanceNormalization", y, net.weight(c_out), net.weight(c_out))

    c = _width(64, scale)
    x = net.op("LeakyRelu", block(net.input("image", ["N", 3, 32, 32]), 3, c, 2), alpha=0.2)
    for _ in range(2):
        x = net.op("Add", x, block(net.op("Relu", block(x, c, c)), c, c))
    scales = net.const(np.array([1, 1, 2, 2], np.float32))
    attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return net.model("style_net", net.op("Tanh", block(net.op("Resize", x, "", scales, **attrs), c, 3)))


def mixture(scale: float) -> onnx.ModelProto:
    """Two experts of several, chosen for each row and mixed by their scores."""
    net = Net()
    width, experts = _width(64, scale), 4
    x = net.input("rows", ["N", width])
    k = net.const(np.array([2], np.int64))
    scores, chosen = net.op("TopK", net.dense(x, width, experts), k, axis=-1, outputs=2)
    shares = net.op("Softmax", scores, axis=-1)
    banks = net.op("Gather", net.weight(experts, width, width, fan=width), chosen)
    rows = net.op("Unsqueeze", x, net.const(np.array([1, 2], np.int64)))
    mixed = net.op("Squeeze", net.op("MatMul", rows, banks), net.const(np.array([2], np.int64)))
    weighed = net.op(
        "Mul", net.op("Relu", mixed), net.op("Unsqueeze", shares, net.const(np.array([2], np.int64)))
    )
    total = net.op("ReduceSum", weighed, net.const(np.array([1], np.int64)), keepdims=0)
    return net.model("mixture", net.dense(total, width, 6))


FAMILIES: dict[str, Callable[[float], onnx.ModelProto]] = {
    "resnet18": lambda scale: resnet([2, 2, 2, 2], bottleneck=False, scale=scale),
    "resnet50": lambda scale: resnet([3, 4, 6, 3], bottleneck=True, scale=scale),
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "squeezenet": squeezenet,
    "shufflenet_v2": shufflenet_v2,
    "bert": bert,
    "din": din,
    "voice_lstm": lambda scale: voice("LSTM", scale),
    "voice_gru": lambda scale: voice("GRU", scale),
}

OTHERS: dict[str, Callable[[float], onnx.ModelProto]] = {
    "unet": unet,
    "detector": detector,
    "decoder_step": decoder_step,
    "greedy_loop": greedy_loop,
    "vision_transformer": vision_transformer,
    "temporal_net": temporal_net,
    "style_net": style_net,
    "mixture": mixture,
}


def main() -> None:
    family, path, *rest = sys.argv[1:]
    onnx.save({**FAMILIES, **OTHERS}[family](float(rest[0]) if rest else 1.0), path)


if __name__ == "__main__":
    main()
