"""Models of one operator each, over the common families, for the benchmark.

A case is what a reader would say of it, the operator, its inputs and its attributes. An input is the shape of
a random tensor fed at run time; or ``Weight``, of one that the model holds; or an array in place of either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from walle_support.networks import Network

Array = np.ndarray[Any, Any]
type Shape = tuple[int, ...]

#: What every engine that we compare with reads; operators of later sets say theirs.
OPSET, IR_VERSION = 17, 10


@dataclass(frozen=True, slots=True)
class Weight:
    """An input that the model holds: a random tensor of a shape, or a value."""

    value: Shape | Array


@dataclass(frozen=True, slots=True)
class Case:
    """A model of one operator; an input of None is left out."""

    title: str
    op: str
    inputs: Sequence[Shape | Array | Weight | None]
    attrs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    opset: int = OPSET
    outputs: int = 1

    @property
    def name(self) -> str:
        """The operator and what is particular about the case."""
        return f"{self.op} {self.title}"

    def network(self) -> Network:
        """The model, and inputs for it."""
        rng = np.random.default_rng(0)
        names = ["" if value is None else f"x{place}" for place, value in enumerate(self.inputs)]
        fed: dict[str, Array] = {}
        held: list[onnx.TensorProto] = []
        for name, value in zip(names, self.inputs, strict=True):
            if isinstance(value, Weight):
                held.append(numpy_helper.from_array(_tensor(rng, value.value, 0.1), name))
            elif value is not None:
                fed[name] = _tensor(rng, value, 1)
        outputs = [f"y{place}" for place in range(self.outputs)]
        graph = helper.make_graph(
            [helper.make_node(self.op, names, outputs, **self.attrs)],
            "operator",
            [_info(name, value) for name, value in fed.items()],
            [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
            held,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        for value in inferred.graph.output:
            if not value.type.HasField("tensor_type"):  # it does not know GroupNormalization
                value.type.CopyFrom(inferred.graph.input[0].type)
        return Network(inferred, fed)


def _tensor(rng: np.random.Generator, value: Shape | Array, scale: float) -> Array:
    if isinstance(value, tuple):
        return rng.standard_normal(value, np.float32) * np.float32(scale)
    return value


def _info(name: str, value: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _ints(*values: int) -> Weight:
    return Weight(np.array(values, np.int64))


def _number(value: float) -> Weight:
    return Weight(np.array(value, np.float32))


def _indices(shape: Shape, below: int) -> Array:
    return np.random.default_rng(1).integers(0, below, shape, np.int64)


def _conv(
    title: str, x: Shape, filters: int, kernel: int, *, group: int = 1, stride: int = 1, dilation: int = 1
) -> Case:
    pad = dilation * (kernel // 2)
    attrs = {
        "kernel_shape": [kernel] * 2, "strides": [stride] * 2, "dilations": [dilation] * 2, "pads": [pad] * 4,
        "group": group,
    }  # fmt: skip
    weight = Weight((filters, x[1] // group, kernel, kernel))
    return Case(title, "Conv", (x, weight, Weight((filters,))), attrs)


def _transposed(title: str, x: Shape, filters: int, kernel: int, stride: int, pad: int) -> Case:
    attrs = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    weight = Weight((x[1], filters, kernel, kernel))
    return Case(title, "ConvTranspose", (x, weight, Weight((filters,))), attrs)


def _pool(title: str, op: str, x: Shape, kernel: int, stride: int, pad: int = 0) -> Case:
    attrs = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    return Case(title, op, (x,), attrs)


def _resize(title: str, x: Shape, height: float, width: float, **attrs: Any) -> Case:
    scales = Weight(np.array([1, 1, height, width], np.float32))
    return Case(title, "Resize", (x, None, scales), attrs)


def _recurrent(op: str, title: str, steps: int, batch: int, size: int, hidden: int) -> Case:
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    weights = Weight((1, gates * hidden, size)), Weight((1, gates * hidden, hidden))
    bias = Weight((1, 2 * gates * hidden))
    return Case(title, op, ((steps, batch, size), *weights, bias), {"hidden_size": hidden})


def _reduce(op: str, title: str, x: Shape, *axes: int) -> Case:
    if op == "ReduceSum":
        return Case(title, op, (x, _ints(*axes)))
    return Case(title, op, (x,), {"axes": axes})


_ASYMMETRIC = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
_ALIGNED = {"coordinate_transformation_mode": "align_corners"}
_IMAGE = (1, 64, 56, 56)
_SEQUENCE = (1, 128, 768)

CASES: Sequence[Case] = (
    _conv("1x1, 64 to 128", _IMAGE, 128, 1),
    _conv("1x1, 77 to 53, 19x19", (1, 77, 19, 19), 53, 1),
    _conv("1x1 stride 2, 256 to 512", (1, 256, 56, 56), 512, 1, stride=2),
    _conv("3x3, 64 to 64", _IMAGE, 64, 3),
    _conv("3x3, 256 to 256, 14x14", (1, 256, 14, 14), 256, 3),
    _conv("3x3, 37 to 51, 33x33", (1, 37, 33, 33), 51, 3),
    _conv("3x3 stride 2, 128 to 128", (1, 128, 56, 56), 128, 3, stride=2),
    _conv("3x3 dilated by 2, 64 to 64", _IMAGE, 64, 3, dilation=2),
    _conv("5x5, 32 to 64, 28x28", (1, 32, 28, 28), 64, 5),
    _conv("7x7 stride 2, 3 to 64, 224x224", (1, 3, 224, 224), 64, 7, stride=2),
    _conv("3x3, 32 groups, 128 to 128", (1, 128, 56, 56), 128, 3, group=32),
    _conv("3x3, 32 groups, 512 to 512, 14x14", (1, 512, 14, 14), 512, 3, group=32),
    _conv("3x3, 2 groups, 96 to 64, 28x28", (1, 96, 28, 28), 64, 3, group=2),
    _conv("depthwise 3x3, 144", (1, 144, 56, 56), 144, 3, group=144),
    _conv("depthwise 3x3 stride 2, 96, 112x112", (1, 96, 112, 112), 96, 3, group=96, stride=2),
    _conv("depthwise 5x5, 240, 28x28", (1, 240, 28, 28), 240, 5, group=240),
    _conv("depthwise 5x5 stride 2, 75, 57x57", (1, 75, 57, 57), 75, 5, group=75, stride=2),
    _conv("depthwise 7x7, 96", (1, 96, 56, 56), 96, 7, group=96),
    Case(
        "of 1 dim, 9 wide, 64 to 64, 1000",
        "Conv",
        ((1, 64, 1000), Weight((64, 64, 9)), Weight((64,))),
        {"kernel_shape": [9], "pads": [4, 4]},
    ),
    Case(
        "of 3 dims, 3x3x3, 16 to 16, 16x28x28",
        "Conv",
        ((1, 16, 16, 28, 28), Weight((16, 16, 3, 3, 3)), Weight((16,))),
        {"kernel_shape": [3] * 3, "pads": [1] * 6},
    ),
    _transposed("2x2 stride 2, 64 to 32", _IMAGE, 32, 2, 2, 0),
    _transposed("4x4 stride 2, 128 to 64, 28x28", (1, 128, 28, 28), 64, 4, 2, 1),
    _transposed("3x3, 64 to 64, 28x28", (1, 64, 28, 28), 64, 3, 1, 1),
    Case("1x768 by 768x3072", "MatMul", ((1, 768), Weight((768, 3072)))),
    Case("8x768 by 768x3072", "MatMul", ((8, 768), Weight((768, 3072)))),
    Case("64x512 by 512x512", "MatMul", ((64, 512), Weight((512, 512)))),
    Case("128x768 by 768x768", "MatMul", ((128, 768), Weight((768, 768)))),
    Case("101x203 by 203x307, both fed", "MatMul", ((101, 203), (203, 307))),
    Case("batch of 12, 128x64 by 64x128", "MatMul", ((12, 128, 64), (12, 64, 128))),
    Case("batch of 64, 16x16 by 16x16", "MatMul", ((64, 16, 16), (64, 16, 16))),
    Case(
        "32x1024 by 1000x1024 turned",
        "Gemm",
        ((32, 1024), Weight((1000, 1024)), Weight((1000,))),
        {"transB": 1},
    ),
    _pool("3x3 stride 2, 64, 112x112", "MaxPool", (1, 64, 112, 112), 3, 2, 1),
    _pool("2x2 stride 2, 37, 51x51", "MaxPool", (1, 37, 51, 51), 2, 2),
    _pool("5x5, 256, 20x20", "MaxPool", (1, 256, 20, 20), 5, 1, 2),
    _pool("2x2 stride 2, 128", "AveragePool", (1, 128, 56, 56), 2, 2),
    _pool("3x3 padded, 192, 35x35", "AveragePool", (1, 192, 35, 35), 3, 1, 1),
    Case("2048, 7x7", "GlobalAveragePool", ((1, 2048, 7, 7),)),
    Case("64, 56x56", "GlobalAveragePool", (_IMAGE,)),
    _resize("nearest 2x, 64", _IMAGE, 2, 2, mode="nearest", **_ASYMMETRIC),
    _resize("nearest 2x, 256, 13x13", (1, 256, 13, 13), 2, 2, mode="nearest", **_ASYMMETRIC),
    _resize("nearest 0.6x, 3, 320x240", (1, 3, 320, 240), 0.6, 0.6, mode="nearest"),
    _resize("linear 2x, 64", _IMAGE, 2, 2, mode="linear"),
    _resize("linear 4x, 21, 33x33, aligned", (1, 21, 33, 33), 4, 4, mode="linear", **_ALIGNED),
    Case(
        "linear to 224x224, 3, 640x480",
        "Resize",
        ((1, 3, 640, 480), None, None, _ints(1, 3, 224, 224)),
        {"mode": "linear"},
    ),
    _resize("cubic 2x, 3, 112x112", (1, 3, 112, 112), 2, 2, mode="cubic"),
    _resize("cubic 0.5x, 16, 100x100", (1, 16, 100, 100), 0.5, 0.5, mode="cubic"),
    Case("12x128x128", "Softmax", ((1, 12, 128, 128),)),
    Case("1x1000", "Softmax", ((1, 1000),)),
    Case("over channels, 21, 64x64", "Softmax", ((1, 21, 64, 64),), {"axis": 1}),
    Case("128x768", "LayerNormalization", (_SEQUENCE, Weight((768,)), Weight((768,)))),
    Case("400x100", "LayerNormalization", ((400, 100), Weight((100,)), Weight((100,)))),
    Case("64, 56x56", "InstanceNormalization", (_IMAGE, Weight((64,)), Weight((64,)))),
    Case("3, 256x256", "InstanceNormalization", ((1, 3, 256, 256), Weight((3,)), Weight((3,)))),
    Case(
        "32 groups of 256, 32x32",
        "GroupNormalization",
        ((1, 256, 32, 32), Weight((256,)), Weight((256,))),
        {"num_groups": 32},
        21,
    ),
    Case(
        "8 groups of 64, 17x17, batch 4",
        "GroupNormalization",
        ((4, 64, 17, 17), Weight((64,)), Weight((64,))),
        {"num_groups": 8},
        21,
    ),
    Case(
        "64, 56x56",
        "BatchNormalization",
        (_IMAGE, Weight((64,)), Weight((64,)), Weight((64,)), Weight(np.ones(64, np.float32))),
    ),
    _reduce("ReduceMean", "of rows, 128x768", _SEQUENCE, 2),
    _reduce("ReduceMean", "of columns, 512x512", (512, 512), 0),
    _reduce("ReduceSum", "over channels, 64", _IMAGE, 1),
    _reduce("ReduceMax", "over height and width, 256, 14x14", (8, 256, 14, 14), 2, 3),
    _reduce("ReduceSum", "of all, 1000x1000", (1000, 1000), 0, 1),
    _reduce("ReduceL2", "of rows, 1000x128", (1000, 128), 1),
    Case("channels last, 64", "Transpose", (_IMAGE,), {"perm": [0, 2, 3, 1]}),
    Case("channels first, 64", "Transpose", ((1, 56, 56, 64),), {"perm": [0, 3, 1, 2]}),
    Case("heads, 128x12x64", "Transpose", ((1, 128, 12, 64),), {"perm": [0, 2, 1, 3]}),
    Case("matrix, 777x555", "Transpose", ((777, 555),), {"perm": [1, 0]}),
    Case("of channels, 2x64", "Concat", (_IMAGE, _IMAGE), {"axis": 1}),
    Case("of columns, 3x100 of 1000", "Concat", ((1000, 100),) * 3, {"axis": 1}),
    Case("channels in 2, 128", "Split", ((1, 128, 56, 56),), {"axis": 1}, outputs=2),
    Case("every second, 64", "Slice", (_IMAGE, _ints(0, 0), _ints(56, 56), _ints(2, 3), _ints(2, 2))),
    Case("crop, 64", "Slice", (_IMAGE, _ints(3, 3), _ints(51, 51), _ints(2, 3))),
    Case("zeros by 1, 64", "Pad", (_IMAGE, _ints(0, 0, 1, 1, 0, 0, 1, 1))),
    Case(
        "reflected by 3, 16, 128x128",
        "Pad",
        ((1, 16, 128, 128), _ints(0, 0, 3, 3, 0, 0, 3, 3)),
        {"mode": "reflect"},
    ),
    Case("64 to 256 channels", "Expand", ((1, 1, 56, 56), _ints(1, 256, 56, 56))),
    Case("embedding, 30522x768, 128 words", "Gather", (Weight((30522, 768)), _indices((1, 128), 30522))),
    Case("embedding, 100000x16, 1000 words", "Gather", (Weight((100000, 16)), _indices((1000,), 100000))),
    Case("columns, 200 of 512", "Gather", ((256, 512), _indices((200,), 512)), {"axis": 1}),
    Case("512x512", "GatherElements", ((512, 512), _indices((512, 512), 512)), {"axis": 1}),
    Case("1000 rows of 64", "ScatterND", ((4000, 64), _indices((1000, 1), 4000), (1000, 64))),
    Case(
        "512x512",
        "ScatterElements",
        ((512, 512), np.argsort(_indices((512, 512), 9999), 1), (512, 512)),
        {"axis": 1},
    ),
    Case("5 of 1000", "TopK", ((1, 1000), _ints(5)), outputs=2),
    Case("100 of 8400 in 16 rows", "TopK", ((16, 8400), _ints(100)), outputs=2),
    Case("1 of 64 channels", "TopK", (_IMAGE, _ints(1)), {"axis": 1}, outputs=2),
    Case("300x1000", "ArgMax", ((300, 1000),), {"axis": 1}),
    Case("over channels, 21, 128x128", "ArgMax", ((1, 21, 128, 128),), {"axis": 1}),
    Case("of rows, 128x1000", "CumSum", ((128, 1000), Weight(np.array(1, np.int64)))),
    Case("of columns, 500x300", "CumSum", ((500, 300), Weight(np.array(0, np.int64)))),
    *(
        Case("128x768", op, (_SEQUENCE,))
        for op in ("Erf", "Tanh", "Exp", "Sigmoid", "Relu", "Sqrt", "HardSwish")
    ),
    Case("128x768", "Gelu", (_SEQUENCE,), opset=20),
    Case("60 numbers", "Tanh", ((60,),)),
    Case("128x3072", "Add", ((1, 128, 3072), (1, 128, 3072))),
    Case("of channels, 64", "Mul", (_IMAGE, (1, 64, 1, 1))),
    Case("of a row, 128x768", "Add", (_SEQUENCE, (768,))),
    Case("128x768", "Pow", (_SEQUENCE, _number(2))),
    Case(
        "12x128x128", "Where", (_indices((1, 1, 128, 128), 2).astype(bool), (1, 12, 128, 128), _number(-1e9))
    ),
    Case("128x768 to int64", "Cast", (_SEQUENCE,), {"to": onnx.TensorProto.INT64}),
    Case("512x512 to float", "Cast", (_indices((512, 512), 1000),), {"to": onnx.TensorProto.FLOAT}),
    Case("128x768", "Clip", (_SEQUENCE, _number(-1), _number(1))),
    Case("of 2, 64", "DepthToSpace", (_IMAGE,), {"blocksize": 2}),
    Case("512x512", "Greater", ((512, 512), (512, 512))),
    _recurrent("LSTM", "100 steps of 64 to 128", 100, 1, 64, 128),
    _recurrent("LSTM", "20 steps of 128 to 256, batch 16", 20, 16, 128, 256),
    _recurrent("GRU", "100 steps of 64 to 128", 100, 1, 64, 128),
    Case("12 heads, 128x64", "Attention", ((1, 12, 128, 64),) * 3, opset=23),
    Case("8 heads, 1 of 512x64", "Attention", ((1, 8, 1, 64), (1, 8, 512, 64), (1, 8, 512, 64)), opset=23),
)
