"""The seam to PyTorch, with an exporter that stands in; ``conformance`` has what the real one wrote."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from walle_engine import wmodel
from walle_engine.convert import from_torch
from walle_engine.convert.check import run_engine
from walle_shared.errors import ConfigError, UnsupportedError

SWISH = (
    '<ir_version: 10, opset_import: ["" : 20]> swish (float[batch, 4] x) => (float[batch, 4] y)'
    "{ s = Sigmoid(x) \n y = Mul(x, s) }"
)


class FakeModule:
    """As much of ``nn.Module`` as an export touches."""

    def __init__(self, *parts: FakeModule, training: bool = True) -> None:
        self.parts, self.training = parts, training

    def modules(self) -> list[FakeModule]:
        return [self, *(part for child in self.parts for part in child.modules())]

    def eval(self) -> None:
        for part in self.modules():
            part.training = False


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A PyTorch whose exporter notes how it was called and writes ``SWISH``."""
    fake = SimpleNamespace(calls=[], fails_with=None)

    def export(module: FakeModule, args: Any, path: str, **settings: Any) -> None:
        fake.calls.append((args, settings, [part.training for part in module.modules()]))
        if fake.fails_with:
            raise fake.fails_with
        onnx.save(onnx.parser.parse_model(SWISH), path)

    package = ModuleType("torch")
    package.onnx = SimpleNamespace(export=export)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", package)
    return fake


def test_export_and_conversion(torch: SimpleNamespace, tmp_path: Path) -> None:
    report = from_torch(FakeModule(), ["a tensor"], tmp_path / "m.wmodel", dynamic={"x": {0: "batch"}})
    assert report.rewrites == {"swish": 1}
    assert report.check is not None
    assert [node.op for node in wmodel.read(tmp_path / "m.wmodel").graph.nodes] == ["Swish"]
    ((args, settings, _training),) = torch.calls
    assert args == ("a tensor",)
    assert settings["dynamo"] is True
    assert settings["dynamic_shapes"] == {"x": {0: "batch"}}
    assert [path.name for path in tmp_path.iterdir()] == ["m.wmodel"]


def test_inputs_by_name_and_switches(torch: SimpleNamespace, tmp_path: Path) -> None:
    report = from_torch(FakeModule(), {"x": 1}, tmp_path / "m.wmodel", check=False, optimise=False)
    assert (report.check, report.rewrites) == (None, {})
    ((args, settings, _training),) = torch.calls
    assert (args, settings["kwargs"], settings["dynamic_shapes"]) == ((), {"x": 1}, None)


@pytest.mark.parametrize("failure", [None, ValueError("no")])
def test_exported_in_evaluation_and_put_back(
    torch: SimpleNamespace, tmp_path: Path, failure: Exception | None
) -> None:
    frozen = FakeModule(training=False)
    module = FakeModule(frozen)
    torch.fails_with = failure
    try:
        from_torch(module, [1], tmp_path / "m.wmodel")
    except UnsupportedError:
        assert failure
    assert torch.calls[0][2] == [False, False]
    assert (module.training, frozen.training) == (True, False)


def test_an_exported_program_has_no_modes(torch: SimpleNamespace, tmp_path: Path) -> None:
    seen: list[Any] = []
    sys.modules["torch"].onnx.export = lambda *args, **_: (
        seen.append(args) or onnx.save(onnx.parser.parse_model(SWISH), args[2])
    )
    from_torch(object(), [], tmp_path / "m.wmodel")
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("failure", "error", "message"),
    [
        (
            ModuleNotFoundError(name="onnxscript"),
            ConfigError,
            "exporter needs onnxscript: pip install onnxscript",
        ),
        (RuntimeError("cannot trace\na long story"), UnsupportedError, r"\(RuntimeError: cannot trace\)"),
    ],
)
def test_failures(
    torch: SimpleNamespace, tmp_path: Path, failure: Exception, error: type[Exception], message: str
) -> None:
    torch.fails_with = failure
    with pytest.raises(error, match=message):
        from_torch(FakeModule(), [1], tmp_path / "m.wmodel")
    assert list(tmp_path.iterdir()) == []


def test_without_pytorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = importlib.import_module

    def missing(name: str, package: str | None = None) -> ModuleType:
        if name == "torch":
            raise ModuleNotFoundError(name=name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"PyTorch is not installed: .*walle-engine convert model\.onnx"):
        from_torch(object(), [], tmp_path / "m.wmodel")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's own
def test_the_real_one(tmp_path: Path) -> None:
    real = pytest.importorskip("torch", reason="PyTorch is no dependency")
    pytest.importorskip("onnxscript", reason="what PyTorch's exporter needs")

    class Gate(real.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = real.nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            return real.nn.functional.dropout(real.nn.functional.silu(self.dense(x)), training=self.training)

    module, x = Gate(), real.randn(2, 4)
    target = tmp_path / "m.wmodel"
    report = from_torch(module, [x], target, dynamic={"x": {0: "batch"}})
    assert report.check is not None
    assert report.rewrites == {"swish": 1}
    assert module.training
    assert wmodel.read(target).graph.inputs[0].shape == ("batch", 4)
    module.eval()
    for batch in (1, 5):
        x = real.randn(batch, 4)
        (y,) = run_engine(target, {"x": x.numpy()}).values()
        np.testing.assert_allclose(y, module(x).detach().numpy(), atol=1e-5)
    exported = real.export.export(module, (x,))
    assert from_torch(exported, [], tmp_path / "e.wmodel").rewrites == {"swish": 1}
