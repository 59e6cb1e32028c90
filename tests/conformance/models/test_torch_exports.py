"""Networks as PyTorch 2.13 exports them (``export_torch.py``), against the numbers PyTorch computes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from walle_engine.convert import convert
from walle_engine.convert.check import run_engine
from walle_engine.wmodel import read

FOLDER = Path(__file__).with_name("torch")
EXPORTS = sorted(path.name.removesuffix(".onnx") for path in FOLDER.glob("*.onnx"))

#: What must be recognised in each network, whichever way it was exported.
RECOGNISED = {
    "cnn": {"Swish": 1, "HardSwish": 1, "Mish": 1, "BatchNormalization": 0, "Mul": 0, "Sigmoid": 0},
    "block": {
        "Attention": 2, "LayerNormalization": 1, "RMSNormalization": 1, "Gelu": 2, "Softmax": 0, "Erf": 0,
        "Tanh": 0, "Transpose": 0, "Shape": 0,
    },
    "encoder": {"Attention": 1, "LayerNormalization": 2, "Gelu": 1, "Softmax": 0, "Shape": 0},
    "voice": {"LSTM": 1},
}  # fmt: skip


@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize("optimise", [True, False], ids=["optimised", "as it is"])
def test_same_as_pytorch(export: str, optimise: bool, tmp_path: Path) -> None:
    target = tmp_path / "m.wmodel"
    report = convert(FOLDER / f"{export}.onnx", target, optimise=optimise)
    assert report.check is not None
    with np.load(FOLDER / f"{export.partition('.')[0]}.npz") as stored:
        inputs = {value.name: stored[value.name] for value in read(target).graph.inputs}
        np.testing.assert_allclose(run_engine(target, inputs)["y"], stored["y"], atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("export", EXPORTS)
def test_what_is_recognised(export: str, tmp_path: Path) -> None:
    target = tmp_path / "m.wmodel"
    convert(FOLDER / f"{export}.onnx", target, check=False)
    ops = Counter(node.op for node in read(target).graph.nodes)
    expected = RECOGNISED[export.partition(".")[0]]
    assert {op: ops[op] for op in expected} == expected


def test_there_are_exports() -> None:
    assert {export.partition(".")[0] for export in EXPORTS} == set(RECOGNISED)
