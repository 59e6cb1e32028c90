"""Small models for the engine's Python tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from walle_engine import wmodel


@pytest.fixture
def perceptron(tmp_path: Path) -> Path:
    """``y = relu(x w + b)`` with ``x`` of [N, 3]; w = [[1, 0], [0, 1], [1, 1]], b = [0, -10]."""
    graph = wmodel.Graph(
        name="perceptron",
        inputs=(wmodel.Value("x", "F32", ("N", 3)),),
        outputs=(wmodel.Value("y", "F32", ("N", 2)),),
        nodes=(
            wmodel.Node("MatMul", "product", ("x", "w"), ("p",)),
            wmodel.Node("Add", "bias", ("p", "b"), ("s",)),
            wmodel.Node("Relu", "relu", ("s",), ("y",)),
        ),
    )
    weights = {
        "w": np.array([[1, 0], [0, 1], [1, 1]], np.float32),
        "b": np.array([0, -10], np.float32),
    }
    path = tmp_path / "perceptron.wmodel"
    wmodel.write(path, graph, {name: wmodel.weight_from_array(array) for name, array in weights.items()})
    return path


@pytest.fixture
def greeter(tmp_path: Path) -> Path:
    """``said = "hello " + name`` and its ``number`` (0 for ann, 1 for bob, else 9), with ``name`` of [N]."""
    graph = wmodel.Graph(
        name="greeter",
        inputs=(wmodel.Value("name", "STRING", ("N",)),),
        outputs=(wmodel.Value("said", "STRING", ("N",)), wmodel.Value("number", "I64", ("N",))),
        nodes=(
            wmodel.Node("Constant", "hello", (), ("hello",), {"value_strings": ["hello "]}),
            wmodel.Node("StringConcat", "say", ("hello", "name"), ("said",)),
            wmodel.Node(
                "LabelEncoder", "look up", ("name",), ("number",),
                {
                    "keys_strings": ["ann", "bob"], "values_tensor": {"tensor": "numbers"},
                    "default_tensor": {"tensor": "nobody"},
                },
            ),
        ),
    )  # fmt: skip
    weights = {"numbers": np.array([0, 1], np.int64), "nobody": np.array([9], np.int64)}
    path = tmp_path / "greeter.wmodel"
    wmodel.write(path, graph, {name: wmodel.weight_from_array(array) for name, array in weights.items()})
    return path
