"""Training steps beside PyTorch: forward, backward and the update, on networks written the same."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench_engine_nets import BUILD, HERE, pythons
from reporting import Cell, Grid, Report
from walle_engine.bench.driver import Contestant, Worker, race, running
from walle_engine.bench.peers import Peer, resolve

sys.path.append(str(Path(__file__).parents[1] / "support"))
from walle_support import networks
from walle_support.networks import Network

SECTION = "engine-train"
#: Ours and theirs in float32, then with products of bfloat16 and all else in float32.
PAIRS = (("walle", "PyTorch"), ("walle medium", "PyTorch bfloat16"))
PRECISIONS = {"walle": "high", "walle medium": "medium"}
PEERS = (
    Peer("PyTorch", "torch", HERE / "pytorch_train.py"),
    Peer("PyTorch bfloat16", "torch", HERE / "pytorch_train.py", {"autocast": "yes"}),
)
#: Small enough that a model stays what it is for as long as it is measured.
SETTINGS: Mapping[str, Any] = {"rate": 1e-6, "momentum": 0.9}
#: Of the first step's loss; if a pair is further apart, its two do not compute the same.
SAME = {"walle": 1e-3, "walle medium": 2e-2}
MODELS: Mapping[str, Callable[[], Network]] = {
    "resnet18 x 8": lambda: networks.resnet18(batch=8),
    "mobilenet_v1 x 8": lambda: networks.mobilenet_v1(batch=8),
    "bert_mini": networks.bert,
    "bert_mini x 8": lambda: networks.bert(batch=8),
    "din x 64": lambda: networks.din(batch=64),
    "voice_gru x 8": lambda: networks.voice_gru(batch=8),
}


def chosen(networks: Collection[str]) -> list[str]:
    """The models of ``--models``: those of the networks named there."""
    return [model for model in MODELS if model.split(" x ")[0] in networks]


def run(args: argparse.Namespace) -> Report:
    """Measure every network with every number of threads."""
    peers, missing = resolve(list(PEERS), pythons(), args.isa)
    grid = Grid(SECTION, "milliseconds per training step, SGD with momentum", "ms")
    for name, why in missing.items():
        grid.note("", f"{name}: {why}")
    for model in chosen(args.models):
        folder = _folder(model)
        for threads in args.threads:
            _measure(f"{model}, {threads} thread{'s' * (threads > 1)}", folder, threads, peers, args, grid)
    return Report(grids=[grid])


def _measure(
    row: str, folder: Path, threads: int, peers: Sequence[Contestant], args: argparse.Namespace, grid: Grid
) -> None:
    contestants = [
        *(
            Contestant(name, HERE / "walle_train.py", {**SETTINGS, "precision": precision})
            for name, precision in PRECISIONS.items()
        ),
        *(
            Contestant(peer.name, peer.engine, {**SETTINGS, **peer.settings}, peer.python, peer.environment)
            for peer in peers
        ),
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
    for ours, theirs in PAIRS:
        pair = [losses.get(name, float("nan")) for name in (ours, theirs)]
        if abs(pair[0] - pair[1]) > SAME[ours] * abs(pair[1]):
            grid.note(row, f"the losses of {ours} and {theirs} are {pair[0]:.6g} and {pair[1]:.6g}")
    for name, sample in samples.items():
        low, high = sample.span_s
        grid.put(row, name, Cell(sample.median_s * 1e3, low * 1e3, high * 1e3))
        if sample.disturbed:
            grid.note(row, f"other processes disturbed most turns of {name}")
    for ours, theirs in PAIRS:
        if samples.keys() >= {ours, theirs}:
            ratio = samples[theirs].median_s / samples[ours].median_s
            grid.put(row, f"{ours} / {theirs}", Cell(ratio, unit="x"))


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
