"""What goes on, drawn anew on a terminal, a line per change elsewhere: releases, and what comes in."""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import orjson
from rich.console import Group
from rich.live import Live
from rich.text import Text

from walle_control.cli import show
from walle_control.cli.client import AdminClient, connect, quoted
from walle_shared.units import format_bytes

#: States that a release does not leave by itself.
_ENDED: Final = frozenset({"stopped", "rolled_back", "rejected"})

_LEVELS: Final = "▁▂▃▄▅▆▇█"
_SPARKS: Final = 60


def release_watch(arguments: argparse.Namespace) -> int:
    """``release watch``; 1 if the release was taken back, stopped or turned down."""
    with connect(arguments) as client:
        if sys.stdout.isatty() and not arguments.json:
            return _draw(client, arguments)
        return _list(client, arguments)


def ingest_watch(client: AdminClient, *, json: bool, every_s: float) -> NoReturn:
    """``ingest --watch``, until it is interrupted."""
    if json or not sys.stdout.isatty():
        while True:
            print(orjson.dumps(client.get("ingest")).decode(), flush=True)
            time.sleep(every_s)
    with Live(console=show.console(), auto_refresh=False) as live:
        while True:
            live.update(ingest_screen(client.get("ingest")), refresh=True)
            time.sleep(every_s)


def ingest_screen(answer: Any) -> Group:
    """The state of ingest, as the console's page has it."""
    rows = [minute["rows"] for minute in answer["minutes"]]
    head = Text.assemble(
        f"{answer['tunnels']} tunnels, {answer['streams']} push streams, journal at {answer['head']}\n",
        f"{sparks(rows)}  {sum(rows)} features in the last hour,"
        f" {format_bytes(sum(minute['size_bytes'] for minute in answer['minutes']))}",
    )
    parts: list[Any] = [head]
    for title, shown, columns in (
        ("sinks", answer["sinks"], show.SINKS),
        ("late devices", answer["late"], show.LATE),
        ("gave up features", answer["lossy"], show.LOSSY),
        ("refused tunnels", answer["refusals"], show.REFUSALS),
    ):
        if shown:
            parts += ["", Text(title, "bold"), show.table_of(shown, columns)]
    return Group(*parts)


def _draw(client: AdminClient, arguments: argparse.Namespace) -> int:
    started: deque[int] = deque(maxlen=_SPARKS)
    with Live(console=show.console(), auto_refresh=False) as live:
        while True:
            answer = _ask(client, arguments)
            line = _line(answer)
            started.append(line["started"])
            live.update(_screen(answer, line, list(started)), refresh=True)
            if (code := _end(line, arguments)) is not None:
                return code
            time.sleep(arguments.every_s)


def _list(client: AdminClient, arguments: argparse.Namespace) -> int:
    told: dict[str, Any] = {}
    while True:
        if (line := _line(_ask(client, arguments))) != told:
            told = line
            print(_json(line) if arguments.json else _words(line), flush=True)
        if (code := _end(line, arguments)) is not None:
            return code
        time.sleep(arguments.every_s)


def _ask(client: AdminClient, arguments: argparse.Namespace) -> Any:
    return client.get(f"releases/{quoted(arguments.release)}")


def _end(line: Mapping[str, Any], arguments: argparse.Namespace) -> int | None:
    if line["state"] in _ENDED:
        return 1
    return 0 if 0 < arguments.until_started <= line["started"] else None


def _line(answer: Any) -> dict[str, Any]:
    """What changes, on one line."""
    release, verdict = answer["release"], answer["verdict"]
    arm = verdict["evidence"].get("arms", {}).get("treatment", {"started": 0, "failed": 0})
    return {
        "state": release["state"],
        "stage": release["stage"] + 1,
        "stages": len(release["plan"]["stages"]),
        "percent": answer["percent"],
        "started": arm["started"],
        "failed": arm["failed"],
        "guard": verdict["reason"],
    }


def _words(line: dict[str, Any]) -> str:
    now = show.moment(time.time_ns() // 1_000_000)
    return (
        f"{now}  {line['state']}, stage {line['stage']} of {line['stages']}, {line['percent']} %:"
        f" {line['started']} have run it, {line['failed']} failed; {line['guard']}"
    )


def _json(line: dict[str, Any]) -> str:
    return orjson.dumps({"at_ms": time.time_ns() // 1_000_000, **line}).decode()


def _screen(answer: Any, line: Mapping[str, Any], started: list[int]) -> Group:
    release = answer["release"]
    head = Text.assemble(
        (f"{release['scenario']}/{release['task']} {release['version']}", "bold"),
        f"  {release['id']}  ",
        (line["state"], "bold red" if line["state"] in _ENDED else "bold green"),
        f"  {line['percent']} %\n",
        f"{sparks(started)}  {line['started']} have run it, {line['failed']} failed\n",
        line["guard"],
    )
    return Group(head, *(part for table in show.trial_tables(answer) for part in ("", table)))


def sparks(values: list[int]) -> str:
    """A row of bars, the highest of them full."""
    top = max(values, default=0)
    if top <= 0:
        return _LEVELS[0] * len(values)
    return "".join(_LEVELS[round(value / top * (len(_LEVELS) - 1))] for value in values)
