"""Measure Walle on this machine: ``nox -s bench [-- section ...] [--keep]``.

Prints a table, writes ``build/bench/latest.json`` with machine facts, and shows each figure beside the last
kept run (``tests/bench/kept.json``; ``--keep`` replaces it and ``docs/benchmarks.md``). Ratios between the
contestants of one run are what to trust: absolute figures move with the machine and its neighbours.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

import bench_container
import bench_engine
import bench_engine_merge
import bench_pipeline
import bench_platform
import machine
from reporting import Row, markdown, print_rows
from walle_shared.observe import configure_logging

SECTIONS: Mapping[str, Callable[[], list[Row]]] = {
    "engine": bench_engine.run,
    "engine-merge": bench_engine_merge.run,
    "container": bench_container.run,
    "pipeline": bench_pipeline.run,
    "platform": bench_platform.run,
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
        "--keep", action="store_true", help="make this run the one later runs are compared with"
    )
    args = parser.parse_args()
    unknown = set(args.sections) - SECTIONS.keys()
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    configure_logging(level="warning")
    console = Console(width=None if sys.stdout.isatty() else 140)
    facts = machine.facts()
    console.print_json(json.dumps(facts))
    rows: list[Row] = []
    for name in args.sections or SECTIONS:
        with console.status(f"measuring {name}"):
            rows += SECTIONS[name]()
    print_rows(console, rows, _kept())
    result = json.dumps({"machine": facts, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1)
    for path in [LATEST, KEPT] if args.keep else [LATEST]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(result + "\n")
    if args.keep:
        PAGE.write_text(markdown(rows, facts))


def _kept() -> dict[str, float]:
    if not KEPT.exists():
        return {}
    return {row.key: row.value for row in (Row(**entry) for entry in json.loads(KEPT.read_text())["rows"])}


if __name__ == "__main__":
    main()
