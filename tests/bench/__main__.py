"""Measure Walle on this machine: ``nox -s bench [-- section ...] [--keep]``.

Prints a table, writes ``build/bench/latest.json`` with machine facts, and shows each figure beside the last
kept run (``tests/bench/kept.json``; ``--keep`` replaces it and ``docs/benchmarks.md``). Ratios between the
contestants of one run are what to trust: absolute figures move with the machine and its neighbours.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

import bench_cloud
import bench_console
import bench_container
import bench_cv
import bench_engine
import bench_engine_compress
import bench_engine_int8
import bench_engine_merge
import bench_engine_nets
import bench_engine_opencl
import bench_engine_ops
import bench_engine_search
import bench_engine_sessions
import bench_engine_train
import bench_matrix
import bench_matrix_numeric
import bench_pipeline
import bench_platform
import bench_platform_deltas
import bench_platform_scale
import bench_tunnel
import machine
from reporting import Measured, Report, Row, load_report, markdown, print_report
from walle_shared.observe import configure_logging

type Section = Callable[[argparse.Namespace], Report]


def _listed(run: Callable[[], list[Row]]) -> Section:
    """A section without options whose figures are one list."""
    return lambda _args: Report(run())


SECTIONS: Mapping[str, Section] = {
    "engine": _listed(bench_engine.run),
    "engine-merge": _listed(bench_engine_merge.run),
    bench_engine_search.SECTION: bench_engine_search.run,
    bench_engine_nets.SECTION: bench_engine_nets.run,
    bench_engine_int8.SECTION: bench_engine_int8.run,
    bench_engine_ops.SECTION: bench_engine_ops.run,
    bench_engine_opencl.SECTION: bench_engine_opencl.run,
    bench_engine_sessions.SECTION: _listed(bench_engine_sessions.run),
    bench_engine_train.SECTION: bench_engine_train.run,
    bench_engine_compress.SECTION: bench_engine_compress.run,
    bench_matrix_numeric.SECTION: lambda _args: bench_matrix_numeric.run(),
    bench_matrix.SECTION: lambda _args: bench_matrix.run(),
    bench_cv.SECTION: lambda _args: bench_cv.run(),
    "container": _listed(bench_container.run),
    "pipeline": _listed(bench_pipeline.run),
    bench_tunnel.SECTION: _listed(bench_tunnel.run),
    bench_cloud.SECTION: _listed(bench_cloud.run),
    "platform": _listed(bench_platform.run),
    bench_platform_scale.SECTION: _listed(bench_platform_scale.run),
    bench_platform_deltas.SECTION: _listed(bench_platform_deltas.run),
    bench_console.SECTION: _listed(bench_console.run),
}
ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).parent / "kept.json"
PAGE = ROOT / "docs" / "benchmarks.md"
LATEST = ROOT / "build" / "bench" / "latest.json"


def main() -> None:
    """Run the chosen sections."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument(
        "--keep",
        action="store_true",
        help="make this run of these sections the one later runs are compared with",
    )
    bench_engine_nets.add_options(parser)
    bench_engine_ops.add_options(parser)
    bench_engine_opencl.add_options(parser)
    args = parser.parse_args()
    unknown = set(args.sections) - SECTIONS.keys()
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    configure_logging(level="warning")
    console = Console(width=None if sys.stdout.isatty() else 200)
    facts = machine.facts()
    console.print_json(json.dumps(facts))
    kept = load_kept(KEPT)
    measured: dict[str, Measured] = {}
    for name in args.sections or SECTIONS:
        with console.status(f"measuring {name}"):
            report = SECTIONS[name](args)
        if name == bench_engine_nets.SECTION:
            name = bench_engine_nets.section_name(args.isa)
        print_report(console, report, kept[name].report.figures() if name in kept else {})
        measured[name] = Measured(report, facts)
    _write(LATEST, measured)
    if args.keep:
        kept = updated(kept, measured)
        _write(KEPT, kept)
        PAGE.write_text(markdown(kept))


def updated(kept: Mapping[str, Measured], measured: Mapping[str, Measured]) -> dict[str, Measured]:
    """The kept run of each section with what was measured now, in the order of ``SECTIONS``."""
    both = {
        **kept,
        **{
            name: replace(new, report=kept[name].report.updated(new.report)) if name in kept else new
            for name, new in measured.items()
        },
    }
    order = [*SECTIONS, *sorted(both.keys() - SECTIONS.keys())]
    return {name: both[name] for name in order if name in both}


def load_kept(path: Path) -> dict[str, Measured]:
    """The kept run of each section."""
    if not path.exists():
        return {}
    document = json.loads(path.read_text())
    return {
        name: Measured(load_report(entry["report"]), entry["machine"]) for name, entry in document.items()
    }


def _write(path: Path, measured: Mapping[str, Measured]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({name: asdict(entry) for name, entry in measured.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
