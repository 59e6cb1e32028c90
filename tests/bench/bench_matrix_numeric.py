"""The larger routines of ``walle_task.matrix`` beside NumPy: sorting, linear algebra, Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from measuring import interleave
from reporting import Cell, Grid, Report
from walle_task import matrix

SECTION = "matrix-numeric"
TURNS, TURN_S = 7, 0.02

type Work = Callable[[Any, Any], object]

SORTING: dict[str, Work] = {
    "sort": lambda xp, x: xp.sort(x),
    "argsort, stable": lambda xp, x: xp.argsort(x, stable=True),
    "unique_values": lambda xp, x: xp.unique_values(x),
}
MATRICES: dict[str, Work] = {
    "solve, one right side": lambda xp, x: xp.linalg.solve(x, x[0]),
    "inv": lambda xp, x: xp.linalg.inv(x),
    "cholesky": lambda xp, x: xp.linalg.cholesky(x),
    "qr": lambda xp, x: xp.linalg.qr(x),
    "eigh": lambda xp, x: xp.linalg.eigh(x),
    "svd": lambda xp, x: xp.linalg.svd(x),
}
TRANSFORMS: dict[str, Work] = {
    "fft": lambda xp, x: xp.fft.fft(x),
    "rfft": lambda xp, x: xp.fft.rfft(x.real if xp is np else xp.real(x)),
}
SIDES = (10, 100, 500)
LENGTHS = (64, 1024, 1000, 10007, 65536, 99991, 1 << 20)
ELEMENTS = (1000, 1_000_000)


def run() -> Report:
    """Measure every routine in float64."""
    random = np.random.default_rng(1)
    sorting = _grid("sorting, float64")
    for n in ELEMENTS:
        for name, work in SORTING.items():
            _measure(sorting, f"{name} of {n:,}", work, random.standard_normal(n))
    algebra = _grid("linear algebra, float64")
    for n in SIDES:
        x = random.standard_normal((n, n))
        definite = x @ x.T + n * np.eye(n)  # suits every routine
        for name, work in MATRICES.items():
            _measure(algebra, f"{name}, {n} x {n}", work, definite)
    transforms = _grid("Fourier transforms, complex128")
    for n in LENGTHS:
        for name, work in TRANSFORMS.items():
            _measure(transforms, f"{name} of {n:,}", work, random.standard_normal(n) + 0j)
    return Report(grids=[sorting, algebra, transforms])


def _grid(name: str) -> Grid:
    grid = Grid(SECTION, name, "µs")
    grid.note("", "Both may use all cores.")
    return grid


def _measure(grid: Grid, name: str, work: Work, x: Any) -> None:
    contestants = {
        "walle": partial(work, matrix, matrix.asarray(x, copy=True)),
        "NumPy": partial(work, np, x),
    }
    found = interleave(contestants, turns=TURNS, turn_s=TURN_S)
    for who, samples in found.items():
        grid.put(name, who, Cell(samples.median_s * 1e6))
    grid.put(name, "NumPy / walle", Cell(found["NumPy"].median_s / found["walle"].median_s, unit="x"))
