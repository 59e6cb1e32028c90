"""Models written as text, and what becomes of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.parser
import pytest
from onnx import numpy_helper

from walle_engine import wmodel
from walle_engine.convert import convert

type Net = Callable[..., Path]
type Rewritten = Callable[..., Result]

_LITERAL = re.compile(r"#(?:\[(?P<ints>[-\d, ]*)\]|(?P<float>-?[\d.]+(?:e-?\d+)?))")


@dataclass(frozen=True)
class Result:
    """What a conversion did: how often each rewrite was applied, and the nodes of the result."""

    rewrites: dict[str, int]
    nodes: tuple[wmodel.Node, ...]

    @property
    def ops(self) -> list[str]:
        return [node.op for node in self.nodes]

    def node(self, op: str) -> wmodel.Node:
        (node,) = (node for node in self.nodes if node.op == op)
        return node


def parse(text: str, weights: dict[str, Any], opset: int) -> onnx.ModelProto:
    """Parse ONNX's text form, with ``#0.5`` for a float and ``#[1, 2]`` for whole numbers."""
    arrays = {name: np.asarray(value) for name, value in weights.items()}

    def named(match: re.Match[str]) -> str:
        name = f"literal{len(arrays)}"
        ints = match["ints"]
        arrays[name] = (
            np.float32(match["float"])
            if ints is None
            else np.array([int(part) for part in ints.split(",") if part.strip()], np.int64)
        )
        return name

    header = f'<ir_version: 10, opset_import: ["" : {opset}]>'
    model = onnx.parser.parse_model(f"{header} test {_LITERAL.sub(named, text)}")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def net(tmp_path: Path) -> Net:
    """Save a model written as text."""

    def save(text: str, *, opset: int = 21, **weights: Any) -> Path:
        path = tmp_path / "net.onnx"
        onnx.save(parse(text, weights, opset), path)
        return path

    return save


@pytest.fixture
def rewritten(net: Net, tmp_path: Path) -> Rewritten:
    """Convert a model written as text, as it is and optimised, both compared with ONNX Runtime."""

    def run(text: str, *, opset: int = 21, **weights: Any) -> Result:
        path, target = net(text, opset=opset, **weights), tmp_path / "net.wmodel"
        plain = convert(path, target, optimise=False)
        assert (plain.rewrites, plain.nodes_folded) == ({}, 0)
        before = Counter(node.op for node in wmodel.read(target).graph.nodes)
        report = convert(path, target)
        nodes = wmodel.read(target).graph.nodes
        assert report.rewrites or Counter(node.op for node in nodes) <= before
        return Result(dict(report.rewrites), nodes)

    return run
