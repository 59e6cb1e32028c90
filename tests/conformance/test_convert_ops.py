"""Every operator the engine has: a small ONNX model, converted with the check, and run again on other inputs.

``CASES`` says one or more models per operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from walle_engine.convert import Tolerance, convert
from walle_engine.convert.check import run_engine
from walle_engine.convert.loading import load

I64 = np.int64


@dataclass(frozen=True)
class Case:
    """One node on float inputs (or inputs of ``dtype``), with constant operands and attributes."""

    op: str
    inputs: Sequence[Sequence[int | str]] = (("N", 4),)
    constants: Sequence[Any] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    dtype: int = TensorProto.FLOAT
    out_dtype: int | None = None
    positive: bool = False  # the domain of Log, Sqrt and Pow

    def model(self) -> onnx.ModelProto:
        names = [f"x{i}" for i in range(len(self.inputs))]
        weights = {f"c{i}": value for i, value in enumerate(self.constants) if value is not None}
        operands = [*names, *(f"c{i}" if value is not None else "" for i, value in enumerate(self.constants))]
        results = [f"y{i}" for i in range(self.outputs)]
        nodes = []
        if self.positive:
            nodes.append(helper.make_node("Abs", [names[0]], ["positive"], "abs"))
            operands[0] = "positive"
        attributes = {
            name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            for name, value in self.attributes.items()
        }
        nodes.append(helper.make_node(self.op, operands, results, "it", **attributes))
        graph = helper.make_graph(
            nodes,
            "case",
            [
                helper.make_tensor_value_info(n, self.dtype, s)
                for n, s in zip(names, self.inputs, strict=True)
            ],
            [helper.make_tensor_value_info(n, self.out_dtype or self.dtype, None) for n in results],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
        )
        return onnx.shape_inference.infer_shapes(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10),
            data_prop=True,
        )


def f32(*shape: int, low: float = -1.0, high: float = 1.0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(sum(shape) + len(shape))
    return rng.uniform(low, high, shape).astype(np.float32)


def ints(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array(numbers, I64)


IMAGE: Sequence[Sequence[int | str]] = (("N", 4, 7, 6),)
BOOL, INT64, INT32 = TensorProto.BOOL, TensorProto.INT64, TensorProto.INT32

CASES = [
    *(Case(op) for op in ("Neg", "Abs", "Exp", "Tanh", "Sigmoid", "Erf", "Relu", "Floor", "Ceil", "Round")),
    *(Case(op) for op in ("Sign", "Sin", "Cos", "Tan", "Atan", "Softplus", "Identity", "Dropout")),
    *(Case(op, positive=True) for op in ("Log", "Sqrt", "Reciprocal")),
    *(Case(op, constants=[f32(4)]) for op in ("Add", "Sub", "Mul", "Max", "Min", "Sum")),
    *(Case(op, inputs=[("N", 4), ("N", 1)]) for op in ("Add", "Sub", "Mul", "Max", "Min", "Sum")),
    Case("Add", inputs=[("N", 4)], constants=[ints(1, 2, 3, 4)], dtype=INT64),
    Case("Div", constants=[f32(4, low=0.5, high=2)]),
    Case("Pow", constants=[np.float32(2.5)], positive=True),
    *(Case(op, inputs=[("N", 4), (4,)], out_dtype=BOOL) for op in ("Less", "Greater", "Equal")),
    *(Case(op, inputs=[("N", 4), (4,)], out_dtype=BOOL) for op in ("LessOrEqual", "GreaterOrEqual")),
    *(Case(op, inputs=[("N", 4), (4,)], dtype=BOOL) for op in ("And", "Or", "Xor")),
    Case("Not", dtype=BOOL),
    Case("Cast", attributes={"to": INT64}, out_dtype=INT64),
    Case("Cast", attributes={"to": TensorProto.FLOAT}, dtype=INT64, out_dtype=TensorProto.FLOAT),
    Case("MatMul", inputs=[("N", 5)], constants=[f32(5, 3)]),
    Case("MatMul", inputs=[("N", 2, 4, 5), (2, 5, 3)]),
    *(Case(op, inputs=IMAGE) for op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean")),
    *(
        Case(op, inputs=IMAGE, constants=[ints(1, -1)], attributes={"keepdims": keep})
        for op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceProd")
        for keep in (0, 1)
    ),
    *(
        Case(op, inputs=IMAGE, attributes={"axis": axis, "keepdims": 1 - axis % 2}, out_dtype=INT64)
        for op in ("ArgMax", "ArgMin")
        for axis in (0, 1, -1)
    ),
    Case("Gather", constants=[ints(3, 0, -1)], attributes={"axis": 1}),
    Case("Reshape", inputs=IMAGE, constants=[ints(0, -1, 3)]),
    *(Case("Flatten", inputs=IMAGE, attributes={"axis": axis}) for axis in (0, 1, 2, -1)),
    Case("Squeeze", inputs=[("N", 1, 4, 1)], constants=[ints(1, -1)]),
    Case("Unsqueeze", constants=[ints(0, -1)]),
    Case("Transpose", inputs=IMAGE, attributes={"perm": [0, 2, 3, 1]}),
    Case("Transpose", inputs=IMAGE),
    Case("Concat", inputs=[("N", 4), ("N", 2)], constants=[], attributes={"axis": -1}),
    Case("Slice", inputs=IMAGE, constants=[ints(1, -1), ints(6, -100), ints(2, 3), ints(2, -2)]),
    Case("Slice", inputs=IMAGE, constants=[ints(0, 1), ints(2**62, -1)]),
    Case("Split", inputs=IMAGE, attributes={"axis": 1, "num_outputs": 2}, outputs=2),
    Case("Split", inputs=IMAGE, constants=[ints(1, 5, 1)], attributes={"axis": 2}, outputs=3),
    Case("Pad", inputs=IMAGE, constants=[ints(0, 0, 1, 2, 0, 1, 0, 3), np.float32(1.5)]),
    Case("Expand", inputs=[(2, 1, 4)], constants=[ints(3, 1, 5, 1)]),
    Case("Tile", constants=[ints(2, 3)]),
    *(
        Case("DepthToSpace", inputs=IMAGE, attributes={"blocksize": 2, "mode": mode})
        for mode in ("DCR", "CRD")
    ),
    Case("SpaceToDepth", inputs=[("N", 2, 6, 4)], attributes={"blocksize": 2}),
    Case("Conv", inputs=IMAGE, constants=[f32(5, 4, 3, 3), f32(5)]),
    Case("Conv", inputs=IMAGE, constants=[f32(5, 4, 1, 1)]),
    Case(
        "Conv",
        inputs=IMAGE,
        constants=[f32(8, 2, 3, 2), f32(8)],
        attributes={"group": 2, "strides": [2, 1], "dilations": [1, 2], "pads": [1, 0, 2, 1]},
    ),
    Case("Conv", inputs=IMAGE, constants=[f32(4, 1, 3, 3)], attributes={"group": 4, "pads": [1, 1, 1, 1]}),
    *(
        Case(
            "Conv", inputs=IMAGE, constants=[f32(5, 4, 2, 3)], attributes={"auto_pad": pad, "strides": [2, 2]}
        )
        for pad in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ),
    Case("Conv", inputs=[("N", 3, 9)], constants=[f32(4, 3, 3), f32(4)], attributes={"pads": [2, 0]}),
    Case("Gemm", constants=[f32(4, 3), f32(3)]),
    Case("Gemm", constants=[f32(3, 4)], attributes={"transB": 1, "alpha": 0.5}),
    Case(
        "Gemm",
        inputs=[(4, "N")],
        constants=[f32(3, 4), f32(1)],
        attributes={"transA": 1, "transB": 1, "beta": 2.0},
    ),
    *(
        Case(op, inputs=IMAGE, attributes={"kernel_shape": [3, 2], **more})
        for op in ("MaxPool", "AveragePool")
        for more in (
            {},
            {"strides": [2, 2]},
            {"strides": [2, 3], "pads": [1, 1, 1, 0]},
            {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        )
    ),
    Case("MaxPool", inputs=IMAGE, attributes={"kernel_shape": [2, 2], "dilations": [2, 2]}),
    Case("MaxPool", inputs=IMAGE, attributes={"kernel_shape": [2, 2], "strides": [2, 4], "ceil_mode": 1}),
    Case(
        "AveragePool",
        inputs=IMAGE,
        attributes={"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1},
    ),
    Case("GlobalAveragePool", inputs=IMAGE),
    Case("GlobalMaxPool", inputs=IMAGE),
    Case("BatchNormalization", inputs=IMAGE, constants=[f32(4), f32(4), f32(4), f32(4, low=0.5, high=2)]),
    Case("LayerNormalization", inputs=IMAGE, constants=[f32(6), f32(6)]),
    Case("LayerNormalization", inputs=IMAGE, constants=[f32(7, 6)], attributes={"axis": 2, "epsilon": 1e-3}),
    *(
        Case(op, inputs=IMAGE, attributes={"axis": axis})
        for op in ("Softmax", "LogSoftmax")
        for axis in (1, -1)
    ),
    *(Case("Gelu", attributes={"approximate": how}) for how in ("none", "tanh")),
    Case("HardSigmoid", attributes={"alpha": 0.3, "beta": 0.4}),
    Case("HardSwish"),
    Case("LeakyRelu", attributes={"alpha": 0.1}),
    Case("PRelu", inputs=IMAGE, constants=[f32(4, 1, 1)]),
    Case("Elu", attributes={"alpha": 0.7}),
    Case("Clip", constants=[np.float32(-0.5), np.float32(0.5)]),
    Case("Clip", constants=[None, np.float32(0.5)]),
    Case(
        "ConvTranspose",
        inputs=IMAGE,
        constants=[f32(4, 3, 3, 2), f32(6)],
        attributes={"strides": [2, 1], "group": 2, "pads": [1, 0, 0, 1]},
    ),
    Case("Col2Im", inputs=[("N", 12, 20)], constants=[ints(5, 6), ints(2, 2)]),
    Case("LpPool", inputs=IMAGE, attributes={"kernel_shape": [2, 3], "p": 3}),
    Case("GlobalLpPool", inputs=IMAGE),
    Case("LRN", inputs=IMAGE, attributes={"size": 3}),
    Case("QuantizeLinear", constants=[np.float32(0.02), np.uint8(99)], out_dtype=TensorProto.UINT8),
    Case(
        "DequantizeLinear",
        constants=[np.float32(0.02), np.int32(0)],
        dtype=INT32,
        out_dtype=TensorProto.FLOAT,
    ),
    Case("Shape", inputs=[("N", 4, 5)], out_dtype=INT64),
]


def name_of(case: Case) -> str:
    return "-".join([case.op, *(str(value) for value in case.attributes.values())]).replace(" ", "")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_same_as_onnx_runtime(case: Case, tmp_path: Path) -> None:
    source, target = tmp_path / "case.onnx", tmp_path / "case.wmodel"
    onnx.save(case.model(), source)
    report = convert(source, target)
    assert report.check is not None
    # The engine must meet the operator itself, not what folding made of it.
    assert case.op in {node.op for node in load(source).draft.nodes}
    rng = np.random.default_rng(77)
    for size in (2, 5):
        inputs = {info.name: random_input(info, size, rng) for info in onnx.load(source).graph.input}
        expected = onnxruntime.InferenceSession(str(source)).run(None, inputs)
        actual = list(run_engine(target, inputs).values())
        assert [a.dtype for a in actual] == [e.dtype for e in expected]
        assert all(Tolerance().allows(e, a) for e, a in zip(expected, actual, strict=True))


def random_input(info: onnx.ValueInfoProto, size: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    shape = [dim.dim_value or size for dim in info.type.tensor_type.shape.dim]
    if info.type.tensor_type.elem_type == BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if info.type.tensor_type.elem_type in (INT64, INT32):
        return rng.integers(-5, 5, shape, I64 if info.type.tensor_type.elem_type == INT64 else np.int32)
    return (rng.standard_normal(shape) * 2).astype(np.float32)


def test_where_and_constant_of_shape(tmp_path: Path) -> None:
    """Operators whose operands come from others: a mask, and a shape known only at run time."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], "shape"),
        helper.make_node(
            "ConstantOfShape", ["shape"], ["fill"], "fill", value=numpy_helper.from_array(f32(1))
        ),
        helper.make_node("Greater", ["x", "fill"], ["mask"], "mask"),
        helper.make_node("Where", ["mask", "x", "fill"], ["y"], "where"),
    ]
    graph = helper.make_graph(
        nodes,
        "case",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
    )
    source = tmp_path / "case.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), source)
    report = convert(source, tmp_path / "case.wmodel")
    assert report.nodes_after == 4
    assert report.check is not None
