"""Our own training steps on an ONNX file: its first output squared, by SGD with momentum."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from walle_engine import api, train
from walle_engine.convert import convert

DISTRIBUTION = "walle"


def load(job: Mapping[str, Any]) -> Callable[[], Sequence[object]]:
    """Make the program of a step; each call is one."""
    optimizer = train.SGD(job["settings"]["rate"], momentum=job["settings"]["momentum"])
    loss = train.MeanSquaredError(target="target of the step")
    settings = {"threads": job["threads"], "precision": job["settings"]["precision"]}
    trainer = train.Trainer(job["model"], loss, optimizer, batch_statistics=False, **settings)
    batch = {**job["inputs"], loss.target: np.zeros(_shape(job), np.float32)}
    return lambda: [np.float32(trainer.step(batch))]


def _shape(job: Mapping[str, Any]) -> tuple[int, ...]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.wmodel"
        convert(job["model"], path, check=False, optimise=False)
        model = api.load(path)
        first = model.session().run(job["inputs"])[model.outputs[0].name]
        return tuple(np.asarray(first).shape)
