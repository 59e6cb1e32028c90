"""The main job, end to end, on this machine: ``make demo``, or ``python examples/demo [--keep]``.

Starts a control plane and three agents as real processes, sends two tasks from a git tag to the devices'
answers, then lets a broken version roll itself back. Exit code 0 if every stage came to its end, 1 with the
stage that failed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

import stages
from screen import Screen
from stages import PROFILES, Demo
from world import BIN, ControlPlane, DemoError, Device

STAGES: tuple[tuple[str, Callable[[Demo], str]], ...] = (
    ("task repository with two tagged tasks", stages.make_repository),
    ("control plane", stages.start_control),
    ("three agents enrol", stages.start_devices),
    ("import: git tag to signed bundle", stages.import_tasks),
    ("release: push, pull, verify, activate", stages.release_tasks),
    ("apps emit events", stages.replay_events),
    ("trigger, run, feature to the cloud", stages.collect_features),
    ("a broken version goes to the beta group", stages.release_broken),
    ("it fails and is rolled back by itself", stages.watch_rollback),
    ("the device is back on the good version", stages.prove_recovery),
)


def main() -> int:
    """Run the demo; the exit code."""
    parser = argparse.ArgumentParser(
        prog="demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave everything running and print the addresses"
    )
    parser.add_argument(
        "--digits", type=int, default=300, metavar="N", help="held-out digits to read (default 300)"
    )
    parser.add_argument(
        "--agent", type=Path, default=BIN / "walle-agent", metavar="PROGRAM",
        help="the walle-agent of the devices, such as a slim runtime's (default: the one installed here)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary there")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() else 120)
    folder = Path(tempfile.mkdtemp(prefix="walle-demo-"))
    screen = Screen(console)
    control = ControlPlane(folder, screen.command)
    devices = {
        name: Device(name, folder, {"name": name, **profile}, args.agent)
        for name, profile in PROFILES.items()
    }
    demo = Demo(folder, screen, control, devices, max(3, args.digits))
    started = time.monotonic()
    try:
        failed = _run_stages(demo)
        demo.summary["seconds"] = round(time.monotonic() - started, 1)
        _conclude(console, demo, failed)
        if args.json:
            args.json.write_text(json.dumps(demo.summary, indent=1) + "\n")
        if args.keep and not failed:
            _keep(console, demo)
    except KeyboardInterrupt:
        console.print("stopped")
        failed = "stopped by the user"
    finally:
        for device in devices.values():
            device.stop()
        control.stop()
    if failed:
        console.print(f"logs are kept in {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if failed else 0


def _run_stages(demo: Demo) -> str:
    """Run all stages; the name and reason of the one that failed, or nothing."""
    with demo.screen.running():
        for name, stage in STAGES:
            try:
                with demo.screen.stage(name) as line:
                    line.detail = stage(demo)
            except Exception as error:  # noqa: BLE001 - whatever a stage trips over is the demo's answer
                return f"{name}: {error if isinstance(error, DemoError) else repr(error)}"
    return ""


def _conclude(console: Console, demo: Demo, failed: str) -> None:
    if not console.is_terminal:
        console.print(demo.screen.device_table())
    if failed:
        console.print(f"[bold red]failed[/] at {failed}", highlight=False)
        return
    summary = demo.summary
    read = f"{summary['digits_right']} of {summary['digits_read']} ({summary['accuracy']:.2%})"
    table = Table(title="What was seen", title_justify="left", show_header=False)
    for what, value in (
        ("release to push, median", f"{summary['push_ms']:,} ms"),
        ("pull, verify, activate, median", f"{summary['pull_ms']:,} ms"),
        ("events emitted", f"{summary['events']:,}"),
        ("digits read right on the devices", read),
        ("one run, median", f"{summary['run_ms']:,.2f} ms"),
        ("run to row in the cloud, median", f"{summary['run_to_cloud_ms']:,.0f} ms"),
        ("page view: feature against raw events", f"{summary['size_reduction']:.1%} smaller"),
        ("first bad run to rollback", f"{summary['rollback_ms']:,} ms; {summary['rollback_reason']}"),
        ("whole demo", f"{summary['seconds']} s"),
    ):
        table.add_row(what, value)
    console.print(table)


def _keep(console: Console, demo: Demo) -> None:
    data = demo.control.data
    console.print(f"[bold]Still running.[/] Control plane: {demo.control.url}")
    console.print(f"  admin token: {data / 'admin.token'}")
    console.print(f"  walle-control release list --data {data}")
    console.print(f"  walle-control features list --task digit_reader --data {data}")
    for device in demo.devices.values():
        console.print(f"  walle-agent status --config {device.folder / 'agent.toml'}")
    console.print("Ctrl-C stops everything and removes it.")
    while True:
        demo.check()
        time.sleep(1)


if __name__ == "__main__":
    raise SystemExit(main())
