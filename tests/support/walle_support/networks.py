"""Networks with random weights, laid out as exporters write them: ShuffleNet V2, a BERT encoder and DIN.

Sources: Ma et al., "ShuffleNet V2" (ECCV 2018), the 1.0x row of table 5; Devlin et al., "BERT" (2019), the
encoder alone; Zhou et al., "Deep Interest Network" (KDD 2018), figure 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from walle_engine import api

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Network:
    """A model and inputs that suit it."""

    model: api.Model
    inputs: Mapping[str, Array]


class _Net:
    """A graph builder that names values by itself and invents weights."""

    def __init__(self, name: str) -> None:
        self.builder = api.GraphBuilder(name)
        self.rng = np.random.default_rng(0)
        self.inputs: dict[str, Array] = {}
        self._count = 0

    def name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def input(self, name: str, value: Array) -> str:
        dtype = {"float32": "F32", "int64": "I64", "bool": "BOOL"}[str(value.dtype)]
        self.builder.input(name, dtype, value.shape)
        self.inputs[name] = value
        return name

    def constant(self, value: Array) -> str:
        name = self.name()
        self.builder.weight(name, np.ascontiguousarray(value))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def weight(self, *shape: int, terms: int = 1) -> str:
        """Random, scaled so that sums of ``terms`` products keep their size."""
        return self.constant(self.rng.normal(0, 1 / math.sqrt(terms), shape).astype(np.float32))

    def op(self, op: str, *inputs: str, **attrs: object) -> str:
        (output,) = self.ops(op, 1, *inputs, **attrs)
        return output

    def ops(self, op: str, outputs: int, *inputs: str, **attrs: object) -> list[str]:
        names = [self.name() for _ in range(outputs)]
        self.builder.node(op, inputs, names, name=f"{op}_{self._count}", **attrs)
        return names

    def linear(self, x: str, ins: int, outs: int) -> str:
        return self.op("Add", self.op("MatMul", x, self.weight(ins, outs, terms=ins)), self.weight(outs))

    def finish(self, *outputs: str) -> Network:
        for output in outputs:
            self.builder.output(output)
        return Network(self.builder.finish(), self.inputs)


def _conv(
    net: _Net,
    x: str,
    ins: int,
    outs: int,
    kernel: int = 1,
    stride: int = 1,
    group: int = 1,
    relu: bool = True,
) -> str:
    weight = net.weight(outs, ins // group, kernel, kernel, terms=ins // group * kernel * kernel)
    pads = [kernel // 2] * 4
    x = net.op("Conv", x, weight, net.weight(outs), strides=[stride] * 2, pads=pads, group=group)
    return net.op("Relu", x) if relu else x


def _shuffle(net: _Net, x: str, channels: int, side: int) -> str:
    x = net.op("Reshape", x, net.ints(1, 2, channels // 2, side, side))
    x = net.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", x, net.ints(1, channels, side, side))


def shufflenet(side: int = 224) -> Network:
    """ShuffleNet V2 1.0x for one image of ``side`` x ``side`` pixels."""
    net = _Net("shufflenet-v2")
    x = net.input("image", net.rng.normal(size=(1, 3, side, side)).astype(np.float32))
    x = _conv(net, x, 3, 24, kernel=3, stride=2)
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    ins, side = 24, side // 4
    for channels, repeats in ((116, 4), (232, 8), (464, 4)):
        half = channels // 2
        side //= 2
        left = _conv(net, x, ins, ins, kernel=3, stride=2, group=ins, relu=False)
        right = _conv(net, x, ins, half)
        right = _conv(net, right, half, half, kernel=3, stride=2, group=half, relu=False)
        x = net.op("Concat", _conv(net, left, ins, half), _conv(net, right, half, half), axis=1)
        x = _shuffle(net, x, channels, side)
        for _ in range(repeats - 1):
            left, right = net.ops("Split", 2, x, net.ints(half, half), axis=1)
            right = _conv(net, right, half, half)
            right = _conv(net, right, half, half, kernel=3, group=half, relu=False)
            x = net.op("Concat", left, _conv(net, right, half, half), axis=1)
            x = _shuffle(net, x, channels, side)
        ins = channels
    x = net.op("GlobalAveragePool", _conv(net, x, ins, 1024))
    return net.finish(net.linear(net.op("Flatten", x), 1024, 1000))


def _attention(net: _Net, x: str, tokens: int, width: int, heads: int) -> str:
    parts = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):  # queries, keys, values
        part = net.op("Reshape", net.linear(x, width, width), net.ints(1, tokens, heads, width // heads))
        parts.append(net.op("Transpose", part, perm=perm))
    scale = net.constant(np.array(math.sqrt(width // heads), np.float32))
    scores = net.op("Softmax", net.op("Div", net.op("MatMul", parts[0], parts[1]), scale), axis=-1)
    mixed = net.op("Transpose", net.op("MatMul", scores, parts[2]), perm=[0, 2, 1, 3])
    return net.linear(net.op("Reshape", mixed, net.ints(1, tokens, width)), width, width)


def bert(tokens: int = 128, width: int = 256, heads: int = 4, layers: int = 4, words: int = 1000) -> Network:
    """A BERT encoder over ``tokens`` words; by default of the published "mini" size."""
    net = _Net("bert")
    ids = net.input("ids", net.rng.integers(0, words, (1, tokens)))
    places = net.op("Slice", net.weight(1, 2 * tokens, width), *(net.ints(v) for v in (0, tokens, 1)))
    x = net.op("Add", net.op("Gather", net.weight(words, width), ids), places)
    for _ in range(layers):
        for part in (_attention, _feed_forward):
            mixed = part(net, x, tokens, width, heads)
            x = net.op("LayerNormalization", net.op("Add", x, mixed), net.weight(width), net.weight(width))
    first = net.op("Gather", x, net.ints(0), axis=1)
    return net.finish(x, net.op("Tanh", net.linear(first, width, width)))


def _feed_forward(net: _Net, x: str, tokens: int, width: int, heads: int) -> str:
    return net.linear(net.op("Gelu", net.linear(x, width, 4 * width)), 4 * width, width)


def din(batch: int = 32, history: int = 100, width: int = 18, items: int = 5000) -> Network:
    """A deep interest network: attention of a candidate over a user's history."""
    net = _Net("din")
    both = 2 * width
    tables = [net.weight(items, width), net.weight(items // 10, width)]

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
    scores = net.op("Reshape", net.linear(x, 40, 1), net.ints(batch, 1, history))
    scores = net.op("Where", seen, scores, net.constant(np.array(-1e9, np.float32)))
    weights = net.op("Softmax", net.op("Div", scores, net.constant(np.array(math.sqrt(both), np.float32))))
    interest = net.op("Reshape", net.op("MatMul", weights, past), net.ints(batch, both))
    x = net.op("Concat", interest, candidate, net.op("Mul", interest, candidate), axis=-1)
    slope = net.constant(np.array(0.25, np.float32))
    for ins, outs in ((3 * both, 200), (200, 80)):
        x = net.op("PRelu", net.linear(x, ins, outs), slope)
    return net.finish(net.op("Softmax", net.linear(x, 80, 2)))


NETWORKS: Mapping[str, Callable[[], Network]] = {
    "ShuffleNet V2": shufflenet, "BERT": bert, "DIN": din,
}  # fmt: skip


def small() -> Sequence[tuple[str, Network]]:
    """The same at sizes that run in milliseconds."""
    return [
        ("ShuffleNet V2", shufflenet(64)),
        ("BERT", bert(tokens=9, width=32, heads=4, layers=2)),
        ("DIN", din(batch=3, history=7)),
    ]
