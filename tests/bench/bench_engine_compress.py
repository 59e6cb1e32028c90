"""What compression costs in accuracy and saves in bytes and time: scans of digits, and products."""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from reporting import Cell, Grid, Report
from walle_engine import api, train, wmodel
from walle_engine.compress import (
    FineTuning,
    Samples,
    quantize,
    quantize_weights,
    read_draft,
    report_on,
    samples_of,
    store,
    to_bytes,
    to_model,
)
from walle_engine.compress import (
    Report as Compared,
)
from walle_engine.convert.draft import Draft

SECTION = "engine-compress"
EXAMPLE = Path(__file__).parents[2] / "examples" / "digit_reader"
CALIBRATION = 200
VISITS = 1_500
EPOCHS, BATCH, RATE = 3, 64, 5e-4
#: A stack of products that no cache of a device holds.
WIDTH, INNER, LAYERS = 768, 3072, 8
ROWS = (1, 4, 16, 128)
TURNS = 25


def run(args: argparse.Namespace) -> Report:
    """Measure both."""
    del args
    return Report(grids=[*_digits(), *_visits(), *_products()])


# ---- Digits


def _digits() -> Iterator[Grid]:
    draft = read_draft(EXAMPLE / "task" / "model" / "digits.onnx")
    images, labels, held = _scans(draft)
    calibration = {"image": images[:CALIBRATION]}
    grid = Grid(
        SECTION, f"digits read right of {held.batches[0]['image'].shape[0]} held-out scans, in percent", "%"
    )
    before = report_on(draft, draft, held, timed=False)
    _put(grid, "float32", "as it is", before, before.size_before)
    for stored in ("float16", "bfloat16"):
        made = report_on(draft, store(draft, stored).draft, held, timed=False)
        _put(grid, f"weights stored as {stored}", "as it is", made, made.size_after)
    for method in ("minmax", "percentile", "kl"):
        made = report_on(draft, quantize(draft, calibration, method=method).draft, held, timed=False)
        _put(grid, f"int8, {method}", "as it is", made, made.size_after)
    for bits in (8, 4, 3, 2):
        made = report_on(draft, quantize(draft, calibration, weight_bits=bits).draft, held, timed=False)
        row = f"int8 with weights of {bits} bits"
        _put(grid, row, "as it is", made, made.size_after)
        tuned = _tuned(draft, calibration, images, labels, bits)
        _put(grid, row, "fine-tuned", report_on(draft, tuned, held, timed=False), None)
    yield grid


def _put(grid: Grid, row: str, column: str, made: Compared, size: int | None) -> None:
    assert made.task is not None
    grid.put(row, column, Cell(100 * made.task.compressed))
    if size is not None:
        grid.put(row, "file", Cell(size / 1e3, unit="kB"))


def _scans(draft: Draft) -> tuple[Any, Any, Samples]:
    """Scans that the model was trained on, what they show, and those that it was not."""
    items = json.loads((EXAMPLE / "digits_heldout.json").read_text())["items"]
    data, held = load_digits(), [item["id"] for item in items]
    images = data.images.astype(np.float32)[:, None]
    trained = np.setdiff1d(np.arange(len(images)), held)
    apart = samples_of({"image": images[held], "labels": data.target[held]}, draft.inputs, batch=len(held))
    return images[trained], data.target[trained].astype(np.int64), apart


def _tuned(draft: Draft, calibration: Mapping[str, Any], images: Any, labels: Any, bits: int) -> Draft:
    tuning = FineTuning(
        draft,
        calibration,
        train.CrossEntropy("logits"),
        train.Adam(RATE),
        weight_bits=bits,
        batch=CALIBRATION,
    )
    for rows in _rows(len(labels)):
        tuning.step({"image": images[rows], "target": labels[rows]})
    return tuning.quantized().draft


# ---- Visits


def _visits() -> Iterator[Grid]:
    """The encoder of item_page_view: a GRU, of which weights alone are codes, on synthetic visits."""
    folder = EXAMPLE.parent / "item_page_view"
    spec = importlib.util.spec_from_file_location("item_page_view_train", folder / "train.py")
    assert spec is not None
    assert spec.loader is not None
    example: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = example
    spec.loader.exec_module(example)
    steps, bought = example.make_visits(VISITS, example.SEED)
    held_steps, held_bought = example.make_visits(VISITS, example.SEED + 1)
    draft = read_draft(folder / "task" / "model" / "encoder.onnx")
    held = samples_of({"steps": held_steps, "labels": held_bought}, draft.inputs, batch=VISITS)
    calibration = {"steps": steps[:, :CALIBRATION]}
    grid = Grid(SECTION, f"visits ranked right, area under the ROC curve in percent, {VISITS} held out", "%")
    before = report_on(draft, draft, held, output="interest", timed=False)
    _put(grid, "float32", "as it is", before, before.size_before)
    for bits in (8, 4, 3, 2):
        row = f"weights of {bits} bits"
        made = quantize(draft, calibration, weight_bits=bits).draft
        compared = report_on(draft, made, held, output="interest", timed=False)
        _put(grid, row, "as it is", compared, compared.size_after)
        tuned = _tuned_visits(draft, calibration, steps, bought, bits)
        _put(grid, row, "fine-tuned", report_on(draft, tuned, held, output="interest", timed=False), None)
    yield grid


def _tuned_visits(draft: Draft, calibration: Mapping[str, Any], steps: Any, bought: Any, bits: int) -> Draft:
    loss, optimizer = train.BinaryCrossEntropy("logit"), train.Adam(RATE)
    tuning = FineTuning(draft, calibration, loss, optimizer, weight_bits=bits, batch=CALIBRATION)
    for rows in _rows(len(bought)):
        tuning.step({"steps": np.ascontiguousarray(steps[:, rows]), "target": bought[rows][:, None]})
    return tuning.quantized().draft


def _rows(count: int) -> Iterator[Any]:
    """Batches of a few passes in random order."""
    rng = np.random.default_rng(0)
    for _ in range(EPOCHS):
        order = rng.permutation(count)
        yield from (order[start : start + BATCH] for start in range(0, count, BATCH))


# ---- Products


def _products() -> Iterator[Grid]:
    models = {"float32": _stack()}
    models |= {f"int{bits}": quantize_weights(models["float32"], bits).draft for bits in (8, 4)}
    low = {name: to_model(draft).session(memory="low") for name, draft in models.items()}
    chosen = {f"{name}, chosen": to_model(models[name]).session() for name in ("int8", "int4")}
    sessions: dict[str, api.Session] = {**low, **chosen}
    title = f"weights alone: {LAYERS} products of {WIDTH} x {INNER}, milliseconds by rows, 1 thread"
    grid = Grid(SECTION, title, "ms")
    rng = np.random.default_rng(1)
    for rows in ROWS:
        x = {"x": rng.standard_normal((rows, WIDTH)).astype(np.float32)}
        for name, taken in _in_turns(sessions, x).items():
            grid.put(f"{rows} rows", name, Cell(statistics.median(taken), min(taken), max(taken)))
    for name, session in low.items():
        packed = session.explain()["memory"]["packed_bytes"]
        grid.put("weights in memory", name, Cell(packed / 1e6, unit="MB"))
        grid.put("file", name, Cell(len(to_bytes(models[name])) / 1e6, unit="MB"))
    yield grid


def _stack() -> Draft:
    rng = np.random.default_rng(0)
    shapes = [(WIDTH, INNER), (INNER, WIDTH)] * (LAYERS // 2)
    weights = {
        f"w{i}": (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        for i, shape in enumerate(shapes)
    }
    nodes = [
        wmodel.Node("MatMul", f"m{i}", (f"v{i - 1}" if i else "x", f"w{i}"), (f"v{i}",))
        for i in range(LAYERS)
    ]
    inputs, outputs = ([wmodel.Value(name, "F32", ("rows", WIDTH))] for name in ("x", f"v{LAYERS - 1}"))
    return Draft("stack", "", inputs, outputs, nodes, weights)


def _in_turns(sessions: Mapping[str, api.Session], x: Mapping[str, Any]) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        session.run(x)
    for _ in range(TURNS):
        for name, session in sessions.items():
            started = time.perf_counter()
            session.run(x)
            taken[name].append((time.perf_counter() - started) * 1e3)
    return taken
