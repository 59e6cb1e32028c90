"""What the cost model predicts, what its choices lose, and what preparation costs.

Regret: every node of a network in every way it could run, each timed alone; the time that the model's choices
take beyond the fastest ways', as a share of these. Beside the networks of the benchmark stand some that
nothing was tuned with.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from reporting import Cell, Grid, Report
from walle_engine import api, calibration, explaining
from walle_engine.convert import convert

sys.path.append(str(Path(__file__).parents[1] / "support"))
from walle_support.networks import NETWORKS, VARIANTS, Network

SECTION = "engine-search"
PRECISION: api.Precision = "high"
WARM_RUNS, RUNS = 5, 30
PREPARATIONS = 5

type Inputs = Mapping[str, NDArray[Any]]


def run(args: argparse.Namespace) -> Report:
    """Measure every network with every number of threads, on a machine calibrated before."""
    calibration.calibrate()
    names = args.models if args.models != list(NETWORKS) else [*NETWORKS, *VARIANTS]
    grid = Grid(SECTION, f"Cost model and preparation, {PRECISION}", "ms")
    grid.note("", "predicted: the sum over the steps; measured: of the least times of each step in 30 runs")
    grid.note("", "prepared: file to session ready for a shape, median of 5; ONNX Runtime: session creation")
    grid.note("", "bound: the most that the tensors alive at one time take, by which the arena is judged")
    known = {**NETWORKS, **VARIANTS}
    for name in names:
        network = known[name]()
        for threads in args.threads:
            _measure(grid, name, network, threads)
    return Report(grids=[grid])


def _measure(grid: Grid, name: str, network: Network, threads: int) -> None:
    row = f"{name}, {threads} thread{'s' * (threads > 1)}"
    with tempfile.TemporaryDirectory() as folder:
        original, converted = Path(folder) / "network.onnx", Path(folder) / "network.wmodel"
        network.save(original)
        convert(original, converted, check=False)
        model = api.load(converted)
        steps, memory = _steps(model, network.inputs, threads)
        grid.put(row, "predicted", Cell(sum(step["predicted_ms"] for step in steps)))
        grid.put(row, "measured", Cell(sum(step["least_ms"] for step in steps)))
        grid.put(row, "regret", _regret(model, network.inputs, threads))
        grid.put(row, "prepared", Cell(_median_ms(lambda: _prepare(converted, network.inputs, threads))))
        grid.put(row, "ONNX Runtime", Cell(_median_ms(lambda: _create(original, threads))))
        grid.put(row, "arena", Cell(memory["arena_bytes"] / 1e6, unit=" MB"))
        grid.put(row, "bound", Cell(memory["lower_bound_bytes"] / 1e6, unit=" MB"))


def _steps(model: api.Model, inputs: Inputs, threads: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The planned steps with the least time each took, and the memory plan."""
    session = model.session(precision=PRECISION, threads=threads)
    for _ in range(WARM_RUNS):
        session.run(inputs)
    with session.profile() as profile:
        for _ in range(RUNS):
            session.run(inputs)
    program = session.explain()
    steps: list[dict[str, Any]] = program["steps"]
    for index, step in enumerate(steps):
        runs = profile.steps[index :: len(steps)]
        step["least_ms"] = min(run.end_s - run.start_s for run in runs) * 1e3
    return steps, program["memory"]


def _regret(model: api.Model, inputs: Inputs, threads: int) -> Cell:
    session = model.session(precision=PRECISION, threads=threads, search="exhaustive")
    session.prepare(inputs)
    found = explaining.regrets(session.explain())
    best_ms = sum(row.count * row.best_ms for row in found)
    lost_ms = sum(row.lost_ms for row in found)
    return Cell(100 * lost_ms / best_ms if best_ms else 0.0, unit=" %")


def _prepare(path: Path, inputs: Inputs, threads: int) -> object:
    session = api.load(path).session(precision=PRECISION, threads=threads)
    session.prepare(inputs)
    return session


def _create(path: Path, threads: int) -> object:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _median_ms(work: Callable[[], object]) -> float:
    times_s = []
    for _ in range(PREPARATIONS):
        begin = time.perf_counter()
        made = work()
        times_s.append(time.perf_counter() - begin)
        del made
    return statistics.median(times_s) * 1e3
