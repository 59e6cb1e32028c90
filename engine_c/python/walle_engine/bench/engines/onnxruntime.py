"""ONNX Runtime on the CPU, all its optimisations on (the default)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnxruntime

DISTRIBUTION = "onnxruntime"


def load(job: Mapping[str, Any]) -> Callable[[], Sequence[object]]:
    """Make a session with as many threads as the job says."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    inputs = job["inputs"]
    return lambda: session.run(None, inputs)
