"""Real digits and the network that reads them; small graphs of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from walle_engine import wmodel
from walle_engine.compress import Samples, read_draft, samples_of
from walle_engine.convert.draft import Draft

_EXAMPLE = Path(__file__).parents[4] / "examples" / "digit_reader"
_CALIBRATION = 100

type MakeDraft = Callable[..., Draft]


@pytest.fixture(scope="session")
def digits() -> Draft:
    return read_draft(_EXAMPLE / "task" / "model" / "digits.onnx")


@pytest.fixture(scope="session")
def scans() -> tuple[Any, Any]:
    """Scans ``[N, 1, 8, 8]`` that the network was not trained on, and what they show."""
    items = json.loads((_EXAMPLE / "digits_heldout.json").read_text())["items"]
    pixels = np.array([item["pixels"] for item in items], np.float32)
    return pixels.reshape(-1, 1, 8, 8), np.array([item["label"] for item in items])


@pytest.fixture(scope="session")
def calibration(digits: Draft, scans: tuple[Any, Any]) -> Samples:
    return samples_of({"image": scans[0][:_CALIBRATION]}, digits.inputs)


@pytest.fixture(scope="session")
def heldout(digits: Draft, scans: tuple[Any, Any]) -> Samples:
    images, labels = (part[_CALIBRATION:] for part in scans)
    return samples_of({"image": images, "labels": labels}, digits.inputs, batch=300)


@pytest.fixture
def make_draft() -> MakeDraft:
    """A graph of float32 from nodes ``(op, name, inputs, outputs, attributes)``."""

    def make(
        nodes: list[tuple[Any, ...]],
        inputs: dict[str, tuple[int | str, ...]],
        outputs: dict[str, tuple[int | str, ...]],
        weights: dict[str, Any],
    ) -> Draft:
        return Draft(
            "test",
            "",
            [wmodel.Value(name, "F32", shape) for name, shape in inputs.items()],
            [wmodel.Value(name, "F32", shape) for name, shape in outputs.items()],
            [wmodel.Node(op, name, ins, outs, dict(*attrs)) for op, name, ins, outs, *attrs in nodes],
            {name: np.asarray(value) for name, value in weights.items()},
        )

    return make
