"""The networks as ONNX: the kinds that the paper names, in any size.

- detector: FCOS. Each place says whether it is in a thing, how near its middle, and how far its edges are.
- recogniser: MobileNet over a crop.
- face: MobileNet over the whole frame. Is there a face, and where.
- voice: a GRU over a log-mel spectrogram.
- fusion: a GRU over the scores of the last ticks.

Layers are ``Conv`` without bias, ``BatchNormalization`` and ``Relu``; the converter folds the second into the
first. Shapes: images ``[N, C, H, W]``, sequences ``[T, N, F]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

type Array = np.ndarray[Any, np.dtype[Any]]

#: The detector says something of every so many pixels of its input.
STRIDE = 8
#: What the detector says of each place: logits of thing and middle, and distances to four edges, in strides.
MAP_CHANNELS = 6
#: The spectrogram: bands, and samples of a step and from one step to the next.
MELS, WINDOW, HOP = 20, 256, 128
FACE_OUTPUTS = 5  # a logit, and left, top, right, bottom as shares of the frame


@dataclass
class Net:
    """A network under construction; each layer returns the name of what it makes."""

    name: str
    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def add(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node."""
        stem = f"{op.lower()}{len(self.nodes)}"
        names = [stem if outputs == 1 else f"{stem}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, stem, **attributes))
        return names

    def weight(self, name: str, shape: Sequence[int], scale: float) -> str:
        """Add a weight with random values of this spread."""
        self.weights[name] = (self._rng.standard_normal(shape) * scale).astype(np.float32)
        return name

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        """Add a weight with these values."""
        self.weights[name] = np.asarray(values, dtype)
        return name

    def conv(self, x: str, cin: int, cout: int, *, side: int = 3, stride: int = 1, groups: int = 1) -> str:
        """Add convolution, normalisation and Relu."""
        stem = f"conv{len(self.nodes)}"
        fan_in = cin // groups * side * side
        w = self.weight(f"{stem}.w", (cout, cin // groups, side, side), np.sqrt(2 / fan_in))
        (y,) = self.add(
            "Conv",
            [x, w],
            kernel_shape=[side, side],
            strides=[stride] * 2,
            pads=[side // 2] * 4,
            group=groups,
        )
        norms = [
            self.constant(f"{stem}.{name}", np.full(cout, value))
            for name, value in (("scale", 1), ("shift", 0), ("mean", 0), ("variance", 1))
        ]
        (y,) = self.add("BatchNormalization", [y, *norms])
        return self.add("Relu", [y])[0]

    def separable(self, x: str, cin: int, cout: int, stride: int = 1) -> str:
        """Add MobileNet's block: each channel for itself, then all of a place."""
        return self.conv(self.conv(x, cin, cin, stride=stride, groups=cin), cin, cout, side=1)

    def places(self, x: str, cin: int, cout: int, bias: Sequence[float]) -> str:
        """Add a product over the channels of each place, with a bias and nothing after it."""
        stem = f"places{len(self.nodes)}"
        w = self.weight(f"{stem}.w", (cout, cin, 1, 1), 0.02)
        b = self.constant(f"{stem}.b", bias)
        return self.add("Conv", [x, w, b], kernel_shape=[1, 1])[0]

    def dense(self, x: str, cin: int, cout: int) -> str:
        """Add a dense layer."""
        stem = f"dense{len(self.nodes)}"
        w = self.weight(f"{stem}.w", (cout, cin), np.sqrt(1 / cin))
        b = self.constant(f"{stem}.b", np.zeros(cout))
        return self.add("Gemm", [x, w, b], transB=1)[0]

    def gru(self, x: str, cin: int, hidden: int) -> str:
        """Add a GRU over ``[T, N, cin]``; its last state ``[N, hidden]``."""
        stem, scale = f"gru{len(self.nodes)}", np.sqrt(1 / hidden)
        w = self.weight(f"{stem}.w", (1, 3 * hidden, cin), np.sqrt(1 / cin))
        r = self.weight(f"{stem}.r", (1, 3 * hidden, hidden), scale)
        b = self.constant(f"{stem}.b", np.zeros((1, 6 * hidden)))
        _, last = self.add("GRU", [x, w, r, b], 2, hidden_size=hidden, linear_before_reset=1)
        axis = self.constant("axis0", [0], np.int64)
        return self.add("Squeeze", [last, axis])[0]

    def model(self, inputs: Mapping[str, Sequence[int | str]], outputs: Mapping[str, str]) -> onnx.ModelProto:
        """The network; ``outputs`` names values, of shapes that ONNX finds."""
        nodes = [*self.nodes]
        nodes += [helper.make_node("Identity", [value], [name]) for name, value in outputs.items()]
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            self.name,
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(shape)) for n, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items() if name in used],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], producer_name="walle")
        made.ir_version = 10
        return onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)


type Block = tuple[int, int]
"""Channels that a separable block makes, and its stride."""

#: MobileNet's blocks for 224 x 224 pixels.
MOBILENET: tuple[Block, ...] = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How large a network of pictures is.

    Args:
        side: of its square input, in pixels.
        stem: channels of the first layer, and its stride.
        blocks: separable blocks after it.
        neck: channels before what the detector says.
        tower: full convolutions of so many channels there.
    """

    side: int
    stem: Block
    blocks: tuple[Block, ...]
    neck: int = 64
    tower: int = 1

    def scaled(self, factor: float) -> Size:
        """The same with so many times the channels."""
        blocks = tuple((max(8, round(channels * factor)), stride) for channels, stride in self.blocks)
        stem, neck = (max(8, round(channels * factor)) for channels in (self.stem[0], self.neck))
        return Size(self.side, (stem, self.stem[1]), blocks, neck, self.tower)

    @property
    def stride(self) -> int:
        """Pixels of the input from one place of the last block's to the next."""
        return prod(stride for _, stride in (self.stem, *self.blocks))


def detector(size: Size, seed: int = 0) -> onnx.ModelProto:
    """FCOS on one level: ``image`` to ``map [N, 6, side / 8, side / 8]``, distances already positive."""
    net = Net("detector", seed)
    x, channels = _backbone(net, size)
    x = net.conv(x, channels, size.neck, side=1)
    for _ in range(size.tower):
        x = net.conv(x, size.neck, size.neck)
    # A place is hardly ever in a thing: what it says first of all is no.
    found = net.places(x, size.neck, MAP_CHANNELS, [-3.0, 0.0, 0.5, 0.5, 0.5, 0.5])
    split = net.constant("split", [2, 4], np.int64)
    scores, edges = net.add("Split", [found, split], 2, axis=1)
    (edges,) = net.add("Exp", [edges])
    (whole,) = net.add("Concat", [scores, edges], axis=1)
    return net.model({"image": ["N", 3, size.side, size.side]}, {"map": whole})


def classifier(name: str, size: Size, outputs: int, seed: int = 0) -> onnx.ModelProto:
    """MobileNet: ``image`` to ``scores [N, outputs]``, before any softmax or sigmoid."""
    net = Net(name, seed)
    x, channels = _backbone(net, size)
    (x,) = net.add("GlobalAveragePool", [x])
    (x,) = net.add("Flatten", [x])
    return net.model({"image": ["N", 3, size.side, size.side]}, {"scores": net.dense(x, channels, outputs)})


def face(size: Size, seed: int = 0) -> onnx.ModelProto:
    """MobileNet that keeps places apart: ``image`` to ``face [N, 5]``, a logit and a box."""
    net = Net("face", seed)
    x, channels = _backbone(net, size)
    side = -(-size.side // size.stride)
    x = net.conv(x, channels, channels // 4, side=1)
    (x,) = net.add("Flatten", [x])
    found = net.dense(x, channels // 4 * side * side, FACE_OUTPUTS)
    return net.model({"image": ["N", 3, size.side, size.side]}, {"face": found})


def sequence(name: str, steps: int, features: int, hidden: int, seed: int = 0) -> onnx.ModelProto:
    """A GRU and one logit: ``steps [T, N, features]`` to ``score [N, 1]``."""
    net = Net(name, seed)
    last = net.gru("steps", features, hidden)
    return net.model({"steps": [steps, "N", features]}, {"score": net.dense(last, hidden, 1)})


def voice(samples: int, rate_hz: int, hidden: int, seed: int = 0) -> onnx.ModelProto:
    """``sound [N, samples]`` to ``score [N, 1]``, and to ``steps``, the spectrogram that the GRU reads."""
    net = Net("voice", seed)
    steps = spectrogram(net, rate_hz)
    last = net.gru(steps, MELS, hidden)
    return net.model({"sound": ["N", samples]}, {"score": net.dense(last, hidden, 1), "steps": steps})


def ear(samples: int, rate_hz: int) -> onnx.ModelProto:
    """The first half of ``voice`` alone: ``sound`` to ``steps``."""
    net = Net("ear")
    return net.model({"sound": ["N", samples]}, {"steps": spectrogram(net, rate_hz)})


def spectrogram(net: Net, rate_hz: int) -> str:
    """``sound [N, samples]`` from -1 to 1 to the logarithms of ``[T, N, MELS]`` energies, about -1 to 1."""
    (window,) = net.add("HannWindow", [net.constant("window_size", WINDOW, np.int64)])
    hop = net.constant("hop", HOP, np.int64)
    (signal,) = net.add("Unsqueeze", ["sound", net.constant("last", [2], np.int64)])
    (waves,) = net.add("STFT", [signal, hop, window], onesided=1)  # [N, T, WINDOW / 2 + 1, 2]
    (energy,) = net.add("ReduceSumSquare", [waves, net.constant("parts", [3], np.int64)], keepdims=0)
    sizes = (("mels", MELS), ("bins", WINDOW), ("rate", rate_hz))
    counts = [net.constant(name, value, np.int64) for name, value in sizes]
    edges = [net.constant("lowest", 80.0), net.constant("highest", 3_800.0)]
    (mels,) = net.add("MelWeightMatrix", [*counts, *edges])
    (heard,) = net.add("MatMul", [energy, mels])
    (heard,) = net.add("Add", [heard, net.constant("silence", 1e-4)])
    (heard,) = net.add("Log", [heard])
    (heard,) = net.add("Mul", [heard, net.constant("loudness", 0.2)])
    return net.add("Transpose", [heard], perm=[1, 0, 2])[0]


def _backbone(net: Net, size: Size) -> tuple[str, int]:
    channels, stride = size.stem
    x = net.conv("image", 3, channels, stride=stride)
    for made, stride in size.blocks:
        x = net.separable(x, channels, made, stride)
        channels = made
    return x, channels


def parameters(model: onnx.ModelProto) -> int:
    """How many numbers the network learns: filters, biases, scales and shifts."""
    learnt = (".w", ".r", ".b", ".scale", ".shift")
    return sum(int(np.prod(item.dims)) for item in model.graph.initializer if item.name.endswith(learnt))


def of_size(make: Callable[[float], onnx.ModelProto], wanted: int) -> onnx.ModelProto:
    """The network whose number of parameters is nearest to ``wanted``; ``make`` takes a width."""
    low, high = 0.1, 2.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if parameters(make(middle)) < wanted else (low, middle)
    return make(high)
