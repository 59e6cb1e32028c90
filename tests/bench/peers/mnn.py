"""MNN's CPU back end by its Module API; ``prepare`` converts with MNN's own converter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import MNN.expr
import MNN.nn
import numpy as np
import onnx

DISTRIBUTION = "MNN"
NARROW = {"int64": np.int32, "bool": np.int32}  # what its converter makes of these inputs


def prepare(job: Mapping[str, Any]) -> None:
    """Convert the model, unless an earlier run did."""
    target = _converted(job)
    if not target.exists():
        staged = target.with_suffix(".part")
        program = Path(sys.executable).parent / "mnnconvert"
        options = ["-f", "ONNX", "--modelFile", job["model"], "--MNNModel", str(staged), "--bizCode", "bench"]
        subprocess.run([program, *options], check=True, stdout=sys.stderr, timeout=300)
        staged.rename(target)


def load(job: Mapping[str, Any]) -> Callable[[], Sequence[object]]:
    """Load the converted model with precision "normal", which on x86 is float32 like all others."""
    graph = onnx.load(job["model"], load_external_data=False).graph
    runtime = MNN.nn.create_runtime_manager(
        ({"backend": "CPU", "numThread": job["threads"], "precision": "normal"},)
    )
    inputs, outputs = [[value.name for value in values] for values in (graph.input, graph.output)]
    module = MNN.nn.load_module_from_file(str(_converted(job)), inputs, outputs, runtime_manager=runtime)
    arrays = [np.asarray(job["inputs"][name]) for name in inputs]
    variables = [_variable(array.astype(NARROW.get(str(array.dtype), array.dtype))) for array in arrays]
    return lambda: [_read(value) for value in module.forward(variables)]


def _converted(job: Mapping[str, Any]) -> Path:
    return Path(job["folder"]) / "model.mnn"


def _variable(array: np.ndarray) -> Any:
    dtype = MNN.expr.float if array.dtype.kind == "f" else MNN.expr.int
    return MNN.expr.const(array, list(array.shape), MNN.expr.NCHW, dtype)


def _read(value: Any) -> Any:
    blocked = value.data_format == MNN.expr.NC4HW4
    return (MNN.expr.convert(value, MNN.expr.NCHW) if blocked else value).read()
