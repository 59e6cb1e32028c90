"""Plays an example from its first stage to its end: options, folder, processes, conclusion, exit code."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console, RenderableType

from page import Page
from screen import Screen
from world import BIN, DemoError, World

type Stage[P] = tuple[str, Callable[[P], str]]
"""What a stage is called, and what it does; it answers with a line for the screen."""


class Playable(Protocol):
    """What an example brings: a world, and what is to be seen of it."""

    @property
    def world(self) -> World:
        """Its processes."""
        ...

    def body(self) -> RenderableType:
        """What is shown below the stages, while they run."""
        ...

    def conclusion(self) -> RenderableType:
        """What was seen, once all stages came to their end."""
        ...

    def page(self) -> Page | None:
        """The same as a page to keep; None where there is none."""
        ...

    def kept(self) -> Iterable[str]:
        """Commands to try while it is left running."""
        ...


def options(name: str, about: str | None) -> argparse.ArgumentParser:
    """The options that all examples have."""
    parser = argparse.ArgumentParser(
        prog=name, description=about, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.set_defaults(example=name)
    parser.add_argument(
        "--keep", action="store_true", help="leave everything running and print the addresses"
    )
    parser.add_argument(
        "--agent", type=Path, default=BIN / "walle-agent", metavar="PROGRAM",
        help="the walle-agent of the devices, such as a slim runtime's (default: the one installed here)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary there")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write it as an HTML page there")
    return parser


def play[P: Playable](
    args: argparse.Namespace, title: str, stages: Sequence[Stage[P]], make: Callable[[Path, Screen], P]
) -> int:
    """Play the stages; the exit code: 0, or 1 if one did not come to its end.

    Args:
        args: what ``options`` understood.
        title: stands over the screen.
        stages: what happens, in this order.
        make: makes what they are played on, of a new folder and the screen.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() else 120)
    # A short name: the path of a Unix socket below it has room for 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix=f"walle-{args.example}-"))
    screen = Screen(console, title)
    played = make(folder, screen)
    screen.body = played.body
    started = time.monotonic()
    try:
        failed = _run(screen, stages, played)
        played.world.summary["seconds"] = round(time.monotonic() - started, 1)
        if not console.is_terminal:
            console.print(played.body())
        if failed:
            console.print(f"[bold red]failed[/] at {failed}", highlight=False)
        else:
            console.print(played.conclusion())
            _write(args.report, played)
        if args.json:
            args.json.write_text(json.dumps(played.world.summary, indent=1) + "\n")
        if args.keep and not failed:
            _keep(console, played)
    except KeyboardInterrupt:
        console.print("stopped")
        failed = "stopped by the user"
    finally:
        played.world.stop()
    if failed:
        console.print(f"logs are kept in {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if failed else 0


def _run[P](screen: Screen, stages: Sequence[Stage[P]], played: P) -> str:
    """Run all stages; the name and reason of the one that failed, or nothing."""
    with screen.running():
        for name, stage in stages:
            try:
                with screen.stage(name) as line:
                    line.detail = stage(played)
            except Exception as error:  # noqa: BLE001 - whatever a stage trips over is the example's answer
                return f"{name}: {error if isinstance(error, DemoError) else repr(error)}"
    return ""


def _write(path: Path | None, played: Playable) -> None:
    page = played.page() if path else None
    if path and page:
        path.parent.mkdir(parents=True, exist_ok=True)
        page.write(path)


def _keep(console: Console, played: Playable) -> None:
    world = played.world
    console.print(f"[bold]Still running.[/] Control plane: {world.control.url}")
    console.print(f"  admin token: {world.control.data / 'admin.token'}")
    for line in played.kept():
        console.print(f"  {line} --data {world.control.data}")
    for device in world.devices.values():
        console.print(f"  walle-agent status --config {device.config}")
    console.print("Ctrl-C stops everything and removes it.")
    while True:
        world.check()
        time.sleep(1)
