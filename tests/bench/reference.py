"""The answer all engines are judged by: the model in float64 under ONNX's own reference implementation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator


def float64_outputs(folder: Path) -> list[np.ndarray]:
    """The outputs of ``model.onnx`` on ``inputs.npz`` in float64; computed once and kept in the folder."""
    path = folder / "reference.npz"
    if not path.exists():
        with np.load(folder / "inputs.npz") as arrays:
            inputs = {name: _widen(arrays[name]) for name in arrays.files}
        evaluator = ReferenceEvaluator(widened(onnx.load(folder / "model.onnx")))
        np.savez(path, *evaluator.run(None, inputs))
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every float32 made float64: weights, inputs, outputs and what casts make."""
    graph = model.graph
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            weight.CopyFrom(numpy_helper.from_array(_widen(numpy_helper.to_array(weight)), weight.name))
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    return model


def _widen(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def frobenius_error(outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """The norm of the difference over the norm of the reference; the worst of the outputs."""
    return max(
        float(np.linalg.norm((out - ref).ravel()) / np.linalg.norm(ref.ravel()))
        for out, ref in zip(outputs, reference, strict=True)
    )


def largest_error(outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """The largest difference over the largest magnitude of the reference; the worst of the outputs."""
    return max(
        float(np.abs(out - ref).max() / np.abs(ref).max())
        for out, ref in zip(outputs, reference, strict=True)
    )
