"""The data pipeline: matching, events in, rows stored, and the item-page view from page exit to row."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from statistics import median
from types import ModuleType

import trio

import bench_pipeline_flow
import bench_pipeline_matching
from reporting import Row

EXAMPLE = Path(__file__).parents[2] / "examples" / "item_page_view"
VISITS = 300


def run() -> list[Row]:
    """Measure all of it."""
    table, generate = _load("table"), _load("generate")

    def make_lines(visits: int) -> list[bytes]:
        stream = generate.generate(visits, seed=7)
        return [json.dumps(event, separators=(",", ":")).encode() for event in stream.events]

    return [
        *bench_pipeline_matching.run(),
        *trio.run(bench_pipeline_flow.ingest, make_lines(100)),
        *bench_pipeline_flow.storage(),
        *bench_pipeline_flow.jobs(make_lines),
        *trio.run(_page_views, table),
    ]


async def _page_views(table: ModuleType) -> list[Row]:
    """Milliseconds of each stage from the exit of a page visit to its rows and records committed."""
    measured = await table.measure(VISITS)
    rows: list[Row] = []
    for stage in table.STAGES:
        times_ms = sorted(getattr(times, stage) for _, times in measured)
        note = f"p99 {times_ms[len(times_ms) * 99 // 100]:.2f} ms"
        if stage == "whole":
            note += "; the task makes feature and encoding"
        what = WHOLE if stage == "whole" else f"{WHOLE}: {stage}"
        rows.append(Row("pipeline", what, median(times_ms), "ms", times_ms[0], times_ms[-1], note))
    return rows


WHOLE = "page exit to committed row"


def _load(name: str) -> ModuleType:
    """A script of the example as a module."""
    spec = importlib.util.spec_from_file_location(f"item_page_view_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses ask for it
    spec.loader.exec_module(module)
    return module
