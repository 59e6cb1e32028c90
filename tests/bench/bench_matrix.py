"""``walle_task.matrix`` beside NumPy: what a call costs on few elements, and how fast many go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from measuring import interleave
from reporting import Cell, Grid, Report
from walle_task import matrix

SECTION = "matrix"
SIZES = (10, 1000, 1_000_000)
DTYPES = ("float32", "float64")
TURNS, TURN_S = 7, 0.006

type Work = Callable[[Any, Any, Any], object]

# A name, and what is done in either library with two arrays of the size.
ELEMENTWISE: dict[str, Work] = {
    "x + y": lambda xp, x, y: x + y,
    "x * 2": lambda xp, x, y: x * 2,
    "x / y": lambda xp, x, y: x / y,
    "x < y": lambda xp, x, y: x < y,
    "maximum": lambda xp, x, y: xp.maximum(x, y),
    "sqrt": lambda xp, x, y: xp.sqrt(x),
    "exp": lambda xp, x, y: xp.exp(x),
    "log": lambda xp, x, y: xp.log(x),
    "sin": lambda xp, x, y: xp.sin(x),
    "tanh": lambda xp, x, y: xp.tanh(x),
    "pow": lambda xp, x, y: xp.pow(x, y),
    "where": lambda xp, x, y: xp.where(x > 1, x, y),
    "astype": lambda xp, x, y: x.astype(xp.int32),
    "mask": lambda xp, x, y: x[x > 1],
    "concat": lambda xp, x, y: xp.concat([x, y]),
}
REDUCTIONS: dict[str, Work] = {
    "sum": lambda xp, x, y: xp.sum(x),
    "mean": lambda xp, x, y: xp.mean(x),
    "std": lambda xp, x, y: xp.std(x),
    "max": lambda xp, x, y: xp.max(x),
    "argmax": lambda xp, x, y: xp.argmax(x),
    "cumulative_sum": lambda xp, x, y: xp.cumulative_sum(x),
}
SQUARE: dict[str, Work] = {
    "sum, axis 0": lambda xp, x, y: xp.sum(x, axis=0),
    "sum, axis 1": lambda xp, x, y: xp.sum(x, axis=1),
    "max, axis 0": lambda xp, x, y: xp.max(x, axis=0),
    "x + row": lambda xp, x, y: x + x[0],
    "x + x.T": lambda xp, x, y: x + x.T,
    "x @ y": lambda xp, x, y: x @ y,
}


def run() -> Report:
    """Measure every function, dtype and size."""
    return Report(grids=[_grid(dtype) for dtype in DTYPES])


def _grid(dtype: str) -> Grid:
    grid = Grid(SECTION, f"{dtype}, one call", "µs")
    grid.note("", "Both may use all cores: NumPy does for products of matrices, matrix for all large arrays.")
    random = np.random.default_rng(1)
    for size in SIZES:
        x, y = (random.random(size).astype(dtype) + 0.5 for _ in range(2))
        side = int(size**0.5)
        for name, work in {**ELEMENTWISE, **REDUCTIONS}.items():
            _measure(grid, name, size, work, x, y)
        for name, work in SQUARE.items():
            square = (side, side)
            _measure(
                grid, name, size, work, x[: side * side].reshape(square), y[: side * side].reshape(square)
            )
    return grid


def _measure(grid: Grid, name: str, size: int, work: Work, x: Any, y: Any) -> None:
    ours = (matrix.asarray(x, copy=True), matrix.asarray(y, copy=True))
    contestants = {"walle": partial(work, matrix, *ours), "NumPy": partial(work, np, x, y)}
    found = interleave(contestants, turns=TURNS, turn_s=TURN_S)
    for who, samples in found.items():
        grid.put(name, f"{size:,}: {who}", Cell(samples.median_s * 1e6))
    ratio = found["NumPy"].median_s / found["walle"].median_s
    grid.put(name, f"{size:,}: NumPy / walle", Cell(ratio, unit="x"))
