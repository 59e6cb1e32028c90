"""ONNX's Gradient, which names what it differentiates in attributes, as ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from walle_engine import api
from walle_engine.convert import convert
from walle_shared.errors import UnsupportedError

_MODEL = """
<ir_version: 7, opset_import: ["" : 12, "ai.onnx.preview.training" : 1]>
net (float x, float h, float other) => (float dx) {{
    s = Mul (x, x)
    y = Mul (s, h)
    [slope] dx = ai.onnx.preview.training.Gradient <xs = ["x"], zs = ["h"], y = "y"> ({at}, h)
    unused = Identity (other)
}}
"""


def _written(folder: Path, at: str) -> Path:
    path = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(_MODEL.format(at=at)), path)
    return path


def test_the_gradient_of_an_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "model.wmodel"
    convert(_written(tmp_path, "x"), path, check=False)
    feeds = {name: np.float32(value) for name, value in {"x": 3, "h": 5, "other": 0}.items()}
    model = api.load(path)
    (result,) = model.session().run({v.name: feeds[v.name] for v in model.inputs}).values()
    assert np.asarray(result) == 30


def test_a_gradient_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="Gradient 'slope' is taken at other values"):
        convert(_written(tmp_path, "other"), tmp_path / "model.wmodel", check=False)
