"""Benchmark families and further architectures against ONNX Runtime, optimised and not.

``nets.py`` builds the models with random weights. What is compared is every output, normalised by its largest
magnitude.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from walle_engine import api
from walle_engine.convert import convert
from walle_engine.samples import samples
from walle_engine.wmodel import read

SCALE = 0.25
LARGEST_ERROR = 1e-4


def _load_nets() -> ModuleType:
    spec = importlib.util.spec_from_file_location("walle_nets", Path(__file__).with_name("nets.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NETS = _load_nets()
MODELS = {**NETS.FAMILIES, **NETS.OTHERS}
PLAIN = {"merge": False, "claims": False, "fuse": False, "reuse": False}


def normalised_error(expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]) -> float:
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("optimise", [True, False], ids=["optimised", "as it is"])
@pytest.mark.parametrize("family", MODELS)
def test_same_as_onnx_runtime(family: str, optimise: bool, tmp_path: Path) -> None:
    source, target = tmp_path / "m.onnx", tmp_path / "m.wmodel"
    onnx.save(MODELS[family](SCALE), source)
    convert(source, target, check=False, optimise=optimise)
    reference = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    model = api.load(target)
    sessions = [model.session(), model.session(threads=2), model.session(**PLAIN)]
    for sample in samples(read(target).graph.inputs, {}, seed=0):  # a batch of one, then of three
        expected = reference.run(None, dict(sample))
        for session in sessions:
            for want, got in zip(expected, session.run(sample).values(), strict=True):
                assert normalised_error(want, np.asarray(got)) <= LARGEST_ERROR
