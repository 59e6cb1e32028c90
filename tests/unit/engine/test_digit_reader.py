"""The committed digit reader, on scans it was never trained on, through our engine; and its trainer."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from walle_engine._native import Model
from walle_engine.convert import convert

EXAMPLE = Path(__file__).parents[3] / "examples" / "digit_reader"
ONNX_MODEL = EXAMPLE / "task" / "model" / "digits.onnx"


@pytest.fixture(scope="module")
def heldout() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((EXAMPLE / "digits_heldout.json").read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def images(heldout: dict[str, Any]) -> np.ndarray[Any, Any]:
    pixels = np.array([item["pixels"] for item in heldout["items"]], np.float32)
    return pixels.reshape(-1, 1, 8, 8)


def test_the_heldout_file_says_what_it_is(heldout: dict[str, Any], images: np.ndarray[Any, Any]) -> None:
    assert "UCI" in heldout["source"]
    assert "CC BY 4.0" in heldout["licence"]
    assert len(images) >= 300
    assert (images.min(), images.max()) == (0, 16)
    labels = [item["label"] for item in heldout["items"]]
    assert all(30 <= labels.count(digit) <= 40 for digit in range(10))
    assert len({item["id"] for item in heldout["items"]}) == len(labels)


def test_it_reads_the_digits_as_well_as_onnx_runtime(
    heldout: dict[str, Any], images: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    report = convert(ONNX_MODEL, tmp_path / "digits.wmodel")
    assert report.check is not None
    assert report.check.samples == 2
    scores = np.asarray(Model(tmp_path / "digits.wmodel").session().run({"image": images})["scores"])
    labels = np.array([item["label"] for item in heldout["items"]])
    assert (scores.argmax(axis=1) == labels).mean() >= 0.97
    expected = onnxruntime.InferenceSession(str(ONNX_MODEL)).run(None, {"image": images})[0]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_the_model_is_small() -> None:
    assert ONNX_MODEL.stat().st_size < 1_000_000


@pytest.mark.slow
def test_the_trainer_repeats_itself_and_learns(tmp_path: Path) -> None:
    outputs = []
    for run in ("a", "b"):
        model, heldout_copy = tmp_path / f"{run}.onnx", tmp_path / f"{run}.json"
        arguments = ["--epochs", "2", "--out", str(model), "--heldout", str(heldout_copy)]
        done = subprocess.run(
            [sys.executable, str(EXAMPLE / "train.py"), *arguments],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        outputs.append((model.read_bytes(), done.stdout))
        assert heldout_copy.read_bytes() == (EXAMPLE / "digits_heldout.json").read_bytes()
    assert outputs[0][0] == outputs[1][0]
    held = next(line for line in outputs[0][1].splitlines() if "held-out scans" in line)
    assert float(held.rsplit(" ", 1)[1].rstrip("%")) > 85
    onnx.checker.check_model(onnx.load_from_string(outputs[0][0]), full_check=True)


def test_the_gradients_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against central differences, in every parameter."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # the script sets it; this puts it back
    monkeypatch.syspath_prepend(str(EXAMPLE))
    train = importlib.import_module("train")
    monkeypatch.delitem(sys.modules, "train")
    rng = np.random.default_rng(5)
    parameters = train.initial_parameters(rng)
    x = rng.uniform(0, 16, (3, 1, 8, 8)).astype(np.float32)
    labels = np.array([1, 7, 3])
    _, gradients = train.loss_and_gradients(parameters, x, labels)
    assert gradients.keys() == parameters.keys()
    wide = {name: value.astype(np.float64) for name, value in parameters.items()}
    for name, gradient in gradients.items():
        for _ in range(4):
            at = tuple(rng.integers(0, size) for size in gradient.shape)
            kept, step = wide[name][at], 1e-5
            wide[name][at] = kept + step
            above = train.loss_and_gradients(wide, x, labels)[0]
            wide[name][at] = kept - step
            below = train.loss_and_gradients(wide, x, labels)[0]
            wide[name][at] = kept
            assert gradient[at] == pytest.approx((above - below) / (2 * step), rel=1e-2, abs=1e-4)
