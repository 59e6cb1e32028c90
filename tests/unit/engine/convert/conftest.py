"""Builders of small ONNX models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

type SaveModel = Callable[..., Path]


@pytest.fixture
def save_model(tmp_path: Path) -> SaveModel:
    """Save a model with float inputs and outputs; shapes by name."""

    def save(
        nodes: Sequence[onnx.NodeProto],
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Mapping[str, Sequence[int | str] | None],
        weights: Mapping[str, Any] | None = None,
        *,
        opset: int = 21,
        dtype: int = TensorProto.FLOAT,
        **kwargs: Any,
    ) -> Path:
        graph = helper.make_graph(
            list(nodes),
            "test",
            [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, dtype, shape) for name, shape in outputs.items()],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("custom", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10, **kwargs)
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return save
