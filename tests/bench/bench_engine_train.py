"""Training steps beside PyTorch: forward, backward and the update, on networks written the same."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bench_engine_nets import BUILD, HERE, pythons
from reporting import Cell, Grid, Report
from walle_engine.bench.driver import Contestant, Worker, race, running
from walle_engine.bench.peers import Peer, resolve

sys.path.append(str(Path(__file__).parents[1] / "support"))
from walle_support import networks
from walle_support.networks import Network

SECTION = "engine-train"
OURS, THEIRS, RATIO = "walle", "PyTorch", "walle / PyTorch"
PEER = Peer(THEIRS, "torch", HERE / "pytorch_train.py")
#: Small enough that a model stays what it is for as long as it is measured.
SETTINGS = {"rate": 1e-6, "momentum": 0.9}
#: Of the first step's loss; if they are further apart they do not compute the same.
SAME = 1e-3
MODELS: Mapping[str, Callable[[], Network]] = {
    "resnet18 x 8": lambda: networks.resnet18(batch=8),
    "bert_mini": networks.bert,
    "bert_mini x 8": lambda: networks.bert(batch=8),
    "din x 64": lambda: networks.din(batch=64),
}


def run(args: argparse.Namespace) -> Report:
    """Measure every network with every number of threads."""
    peers, missing = resolve([PEER], pythons(), args.isa)
    grid = Grid(SECTION, "milliseconds per training step, SGD with momentum, float32", "ms")
    for name, why in missing.items():
        grid.note("", f"{name}: {why}")
    for model in MODELS:
        folder = _folder(model)
        for threads in args.threads:
            _measure(f"{model}, {threads} thread{'s' * (threads > 1)}", folder, threads, peers, args, grid)
    return Report(grids=[grid])


def _measure(
    row: str, folder: Path, threads: int, peers: Sequence[Contestant], args: argparse.Namespace, grid: Grid
) -> None:
    contestants = [
        Contestant(OURS, HERE / "walle_train.py", SETTINGS),
        *(Contestant(peer.name, peer.engine, SETTINGS, peer.python, peer.environment) for peer in peers),
    ]
    job = {
        "model": str(folder / "model.onnx"), "folder": str(folder), "inputs": str(folder / "inputs.npz"),
        "threads": threads,
    }  # fmt: skip
    with running(contestants, job, urgent=args.urgent) as (workers, failures):
        losses = {name: _first_loss(worker) for name, worker in workers.items()}
        samples, died = race(workers, turns=args.turns, turn_s=args.turn_s, patience=args.turns)
    for name, why in {**failures, **died}.items():
        grid.note(row, f"{name}: {why}")
    if len(losses) == 2 and abs(losses[OURS] - losses[THEIRS]) > SAME * abs(losses[THEIRS]):
        grid.note(row, f"the losses are {losses[OURS]:.6g} and {losses[THEIRS]:.6g}")
    for name, sample in samples.items():
        low, high = sample.span_s
        grid.put(row, name, Cell(sample.median_s * 1e3, low * 1e3, high * 1e3))
        if sample.disturbed:
            grid.note(row, f"other processes disturbed most turns of {name}")
    if samples.keys() >= {OURS, THEIRS}:
        ratio = samples[THEIRS].median_s / samples[OURS].median_s
        grid.put(row, RATIO, Cell(ratio, unit="x"))


def _first_loss(worker: Worker) -> float:
    with np.load(worker.loaded.outputs) as arrays:
        return float(arrays[arrays.files[0]])


def _folder(model: str) -> Path:
    """Where a network and its inputs are, written once for each version of their source."""
    source = hashlib.sha256(Path(networks.__file__).read_bytes()).hexdigest()[:12]
    folder = BUILD / "trained" / f"{model.replace(' ', '')}-{source}"
    if not (folder / "inputs.npz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        network = MODELS[model]()
        network.save(folder / "model.onnx")
        np.savez(folder / "inputs.npz", allow_pickle=False, **network.inputs)
    return folder
