"""Single operators beside ONNX Runtime and OpenVINO in float32: where the engine is behind, and how far."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench_engine_nets import BUILD, ours, pythons
from reference import largest_error
from reporting import Cell, Grid, Report
from walle_engine.bench.driver import Contestant, Worker, fastest, race, running
from walle_engine.bench.peers import PEERS, resolve
from walle_engine.convert import convert

sys.path.append(str(Path(__file__).parents[1] / "support"))
from walle_support.operators import CASES, Case

SECTION = "engine-ops"
PRECISION = "highest"
RATIO = "ours / best"
TURN_S = 0.04
#: Of the largest magnitude; engines that are further apart do not compute the same.
SAME = 1e-3


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``nox -s bench -- engine-ops``."""
    group = parser.add_argument_group(
        f"options of {SECTION}", "besides --threads, --turns, --isa and --urgent of the above"
    )
    group.add_argument("--ops", default="", metavar="TEXT", help="only the cases with this in their names")


def run(args: argparse.Namespace) -> Report:
    """Measure every case with every number of threads: a table for each, the worst ratio first."""
    peers, missing = resolve([peer for peer in PEERS if peer.full], pythons(), args.isa)
    grids = []
    for threads in args.threads:
        title = f"{threads} thread{'s' * (threads > 1)}{', capped to ' + args.isa if args.isa else ''}"
        grid = Grid(SECTION, title, "us")
        for name, why in missing.items():
            grid.note("", f"{name}: {why}")
        for case in CASES:
            if args.ops.lower() in case.name.lower():
                _measure(case, threads, peers, args, grid)
        grids.append(_worst_first(grid))
    return Report(grids=grids)


def _measure(
    case: Case, threads: int, peers: Sequence[Contestant], args: argparse.Namespace, grid: Grid
) -> None:
    folder = _folder(case)
    us = ours(folder, PRECISION, args.isa)
    job = {
        "model": str(folder / "model.onnx"), "folder": str(folder), "inputs": str(folder / "inputs.npz"),
        "threads": threads,
    }  # fmt: skip
    with running([us, *peers], job, urgent=args.urgent) as (workers, failures):
        samples, died = race(workers, turns=args.turns, turn_s=TURN_S, patience=args.turns, rest=_no_rest)
        for name, why in {**failures, **died}.items():
            grid.note(case.name, f"{name}: {why}")
        for name in _others(us.name, workers):
            grid.note(case.name, f"{name} computes something else")
    for name, sample in samples.items():
        low, high = sample.span_s
        grid.put(case.name, name, Cell(sample.median_s * 1e6, low * 1e6, high * 1e6))
        if sample.disturbed:
            grid.note(case.name, f"other processes disturbed most turns of {name}")
    best = fastest(samples, [peer.name for peer in peers])
    if best is not None and us.name in samples:
        ratio = samples[best].median_s / samples[us.name].median_s
        grid.put(case.name, RATIO, Cell(ratio, unit="x", text=best))


def _no_rest(_seconds: float) -> None:
    """Turns are short and cases many: what disturbs one has passed at the next."""


def _folder(case: Case) -> Path:
    """Where the model and its inputs are, written anew."""
    name = hashlib.sha256(case.name.encode()).hexdigest()[:12]
    folder = BUILD / "operators" / name
    folder.mkdir(parents=True, exist_ok=True)
    network = case.network()
    network.save(folder / "model.onnx")
    np.savez(folder / "inputs.npz", **network.inputs)
    convert(folder / "model.onnx", folder / "model.wmodel", check=False)
    return folder


def _others(us: str, workers: Mapping[str, Worker]) -> list[str]:
    """Those whose results are not ours."""
    outputs = {name: _outputs(worker) for name, worker in workers.items()}
    mine = outputs.pop(us, None)
    return [] if mine is None else [name for name, theirs in outputs.items() if not _same(theirs, mine)]


def _same(theirs: Sequence[np.ndarray], mine: Sequence[np.ndarray]) -> bool:
    shapes = [[array.shape for array in arrays] for arrays in (theirs, mine)]
    return shapes[0] == shapes[1] and largest_error(theirs, mine) <= SAME


def _outputs(worker: Worker) -> list[np.ndarray]:
    with np.load(worker.loaded.outputs) as arrays:
        return [arrays[key].astype(np.float64) for key in arrays.files]


def _worst_first(grid: Grid) -> Grid:
    def ratio(row: str) -> float:
        cell = grid.cells[row].get(RATIO)
        return cell.value if cell else 0.0

    grid.cells = {row: grid.cells[row] for row in sorted(grid.cells, key=ratio)}
    return grid
