"""How long models take on this machine: those of the example, and such of the paper's size.

The large ones have random weights, which take the same time. What is measured is one picture, or half a
second of sound, on one thread of this machine: a server's, not a phone's.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import networks
import numpy as np
import onnx

import train

PARTS = ("detector", "recogniser", "face", "voice")
#: How long each model is watched, after one run that is not.
WATCH_S = 0.6


@dataclass(frozen=True)
class Timed:
    """One model."""

    name: str
    parameters: int
    side: int  # of its picture; 0: it takes sound
    ms: float


def measure(folder: Path) -> list[Timed]:
    """Time the task's models, the cloud's, and those of the paper's size.

    Args:
        folder: the task's.
    """
    sources = [*(folder / "model" / f"{name}.onnx" for name in PARTS)]
    sources += [folder / "cloud" / f"cloud_{name}.onnx" for name in PARTS]
    timed = [time_model(source.stem, onnx.load(source)) for source in sources]
    return timed + [time_model(f"paper_{name}", train.build(f"paper_{name}")) for name in PARTS]


def time_model(name: str, model: onnx.ModelProto) -> Timed:
    """Time one model: the median of its runs."""
    ((given, shape),) = ((item.name, _shape(item)) for item in model.graph.input)
    feed = {given: np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    with tempfile.TemporaryDirectory(prefix="walle-") as scratch:
        session = train.converted(model, Path(scratch))
        session.run(feed)
        took: list[float] = []
        while sum(took) < WATCH_S or len(took) < 3:
            began = time.perf_counter()
            session.run(feed)
            took.append(time.perf_counter() - began)
    side = shape[-1] if len(shape) == 4 else 0
    return Timed(name, networks.parameters(model), side, 1e3 * median(took))


def _shape(value: onnx.ValueInfoProto) -> Sequence[int]:
    return [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]


def totals(timed: Sequence[Timed]) -> Mapping[str, float]:
    """Milliseconds of all four models together, by kind."""
    kinds = {"device": "", "cloud": "cloud_", "paper": "paper_"}
    return {
        kind: sum(one.ms for one in timed if one.name in {f"{prefix}{part}" for part in PARTS})
        for kind, prefix in kinds.items()
    }
