"""The digit reader's network beside ONNX Runtime: same model, inputs and threads, turns interleaved."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

import walle_engine
from measuring import Samples, interleave
from reporting import Row
from walle_engine import _native
from walle_engine.convert import convert

MODEL = Path(__file__).parents[2] / "examples" / "digit_reader" / "task" / "model" / "digits.onnx"
THREADS = (1, 2)


def run() -> list[Row]:
    """Measure latency at batch 1 and 64, 1 and 2 threads."""
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "digits.wmodel"
        convert(MODEL, converted)
        return [
            row for batch in (1, 64) for threads in THREADS for row in _compare(converted, batch, threads)
        ]


def _compare(converted: Path, batch: int, threads: int) -> list[Row]:
    image = np.random.default_rng(0).integers(0, 17, (batch, 1, 8, 8)).astype(np.float32)
    contestants = {
        "onnxruntime": _onnxruntime(threads, image),
        "walle": _walle(converted, threads, image),
        "walle in a task": _native_session(converted, threads, image),
    }
    samples = interleave(contestants)
    peer_s = samples["onnxruntime"].median_s
    where = f"digit CNN, batch {batch}, {threads} thread{'s' * (threads > 1)}"
    return [_row(f"{where}: {name}", sample, peer_s) for name, sample in samples.items()]


def _row(what: str, sample: Samples, peer_s: float) -> Row:
    low, high = sample.span_s
    note = f"{peer_s / sample.median_s:.2f}x onnxruntime"
    return Row("engine", what, sample.median_s * 1e6, "µs", low * 1e6, high * 1e6, note)


def _onnxruntime(threads: int, image: np.ndarray) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": image})


def _walle(converted: Path, threads: int, image: np.ndarray) -> Callable[[], object]:
    session = walle_engine.load(converted).session(threads=threads)
    return lambda: session.run({"image": image})


def _native_session(converted: Path, threads: int, image: np.ndarray) -> Callable[[], object]:
    session = _native.Model(str(converted)).session(threads=threads)
    return lambda: session.run({"image": image})
