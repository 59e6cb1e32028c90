"""Quantised networks: ours beside other engines on the same file, and beside our own float32.

The file has DequantizeLinear and QuantizeLinear around every operator, as tools for quantisation write it.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench_engine_nets import BUILD, HERE, model_folder, ours, pythons
from reporting import Cell, Grid, Report
from walle_engine import api
from walle_engine.bench.driver import ENGINES, Contestant, Samples, fastest, race, running
from walle_engine.bench.peers import PEERS, find_modules, resolve
from walle_engine.convert import convert

SECTION = "engine-int8"
MODELS = ("resnet50", "mobilenet_v2")
THREADS = (1, 2)
WANTED = ("ONNX Runtime", "OpenVINO")
OURS, FLOAT = "walle int8", "walle float32"
TURNS, TURN_S = 7, 0.3


def run(args: argparse.Namespace) -> Report:
    """Measure every network with every number of threads; the options are those of engine-nets."""
    latency = Grid(SECTION, "Latency of quantised networks", "ms")
    layers = Grid(SECTION, "Predicted time by kind of layer, 1 thread", "ms")
    quick = bool(getattr(args, "quick", False))
    quantiser = find_modules(["onnxruntime"], pythons()).get("onnxruntime")
    if quantiser is None:
        latency.note("", "no interpreter has onnxruntime, whose tool writes the quantised files")
        return Report(grids=[latency])
    peers, missing = resolve([peer for peer in PEERS if peer.name in WANTED], pythons())
    for name, why in missing.items():
        latency.note("", f"{name}: {why}")
    for model in MODELS:
        plain = model_folder(model)
        folder = _quantised_folder(plain, quantiser)
        _put_layers(layers, model, folder)
        for threads in THREADS:
            turns, turn_s = (3, 0.1) if quick else (TURNS, TURN_S)
            samples = _measure(plain, folder, threads, peers, turns, turn_s, latency)
            _put(latency, f"{model}, {threads} thread{'s' * (threads > 1)}", samples)
    return Report(grids=[latency, layers])


def _quantised_folder(plain: Path, quantiser: str) -> Path:
    """The network in quantised form, written once for each version of its source."""
    folder = BUILD / "networks" / f"{plain.name}-int8"
    if not (folder / "model.onnx").exists():
        folder.mkdir(parents=True, exist_ok=True)
        script = [
            quantiser,
            HERE / "quantise.py",
            plain / "model.onnx",
            plain / "inputs.npz",
            folder / "new.onnx",
        ]
        subprocess.run([str(word) for word in script], check=True, capture_output=True, timeout=600)
        (folder / "new.onnx").rename(folder / "model.onnx")
    convert(folder / "model.onnx", folder / "model.wmodel", check=False)
    return folder


def _put_layers(grid: Grid, model: str, folder: Path) -> None:
    session = api.load(folder / "model.wmodel").session()
    with np.load(folder.parent / folder.name.removesuffix("-int8") / "inputs.npz") as arrays:
        session.prepare(dict(arrays))
    kinds: dict[str, float] = {}
    for step in session.explain()["steps"]:
        kinds[step["candidate"]] = kinds.get(step["candidate"], 0.0) + step["predicted_ms"]
    for kind, ms in kinds.items():
        grid.put(model, kind, Cell(ms))


def _measure(
    plain: Path,
    folder: Path,
    threads: int,
    peers: Sequence[Contestant],
    turns: int,
    turn_s: float,
    grid: Grid,
) -> Mapping[str, Samples]:
    mine = Contestant(
        OURS, ENGINES / "walle.py", {"converted": str(folder / "model.wmodel"), "precision": "high"}
    )
    other = Contestant(FLOAT, ENGINES / "walle.py", dict(ours(plain, "high", None).settings))
    job = {
        "model": str(folder / "model.onnx"), "folder": str(folder), "inputs": str(plain / "inputs.npz"),
        "threads": threads,
    }  # fmt: skip
    with running([mine, other, *peers], job) as (workers, failures):
        samples, died = race(workers, turns=turns, turn_s=turn_s, patience=turns)
        for name, why in {**failures, **died}.items():
            grid.note("", f"{name}: {why}")
    return samples


def _put(grid: Grid, row: str, samples: Mapping[str, Samples]) -> None:
    for name, sample in samples.items():
        low, high = sample.span_s
        grid.put(row, name, Cell(sample.median_s * 1e3, low * 1e3, high * 1e3))
    disturbed = [name for name, sample in samples.items() if sample.disturbed]
    if disturbed:
        grid.note(row, f"other processes disturbed most turns of {', '.join(disturbed)}")
    for rivals, column in ((WANTED, "int8 / best peer"), ((FLOAT,), "int8 / our float32")):
        best = fastest(samples, [name for name in rivals if name in samples])
        if best is not None and OURS in samples:
            ratio = samples[best].median_s / samples[OURS].median_s
            grid.put(row, column, Cell(ratio, unit="x", text=best))
