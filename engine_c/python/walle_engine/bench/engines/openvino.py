"""OpenVINO's CPU plugin; ``settings["precision"]`` is its inference precision, its own choice where empty."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import openvino  # pyright: ignore[reportMissingImports] - a peer, not a requirement

DISTRIBUTION = "openvino"


def load(job: Mapping[str, Any]) -> Callable[[], Sequence[object]]:
    """Compile for latency: one stream on the job's threads."""
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": job["threads"],
        "NUM_STREAMS": 1,
    }
    if job["settings"]["precision"]:
        options["INFERENCE_PRECISION_HINT"] = job["settings"]["precision"]
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(job["model"]), "CPU", options)
    request, inputs = compiled.create_infer_request(), job["inputs"]
    return lambda: list(request.infer(inputs, share_inputs=True, share_outputs=True).values())
