"""Commands about what devices upload."""

from __future__ import annotations

import argparse

from walle_control.cli import show
from walle_control.cli.arguments import (
    Subparsers,
    add_group,
    add_pages,
    add_remote,
    task_of,
)
from walle_control.cli.client import connect, quoted

#: What one request of ``features tail`` asks for.
_TAIL_PAGE = 1_000
_TAIL_WAIT_S = 20


def add_to(top: Subparsers) -> None:
    """Add them to the command line."""
    features = add_group(top, "features", "features that devices uploaded")
    listing = add_remote(features, "list", features_list, "list them by arrival")
    for name in ("scenario", "task", "name", "device", "release"):
        listing.add_argument(f"--{name}", default="")
    add_pages(listing)
    tail = add_remote(
        features, "tail", features_tail, "follow a task's features as they arrive",
        example="demo/digit_reader",
    )  # fmt: skip
    tail.add_argument("task", metavar="SCENARIO/TASK")
    tail.add_argument("--name", default="", help="only this upload's")
    tail.add_argument("--device", default="")
    tail.add_argument(
        "--after", type=int, metavar="ID", help="begin after this id; default: with what comes now"
    )
    tail.add_argument("--count", type=int, help="stop after so many")
    types = add_remote(
        features, "types", features_types, "the dataclass of each upload, for code that reads them",
        example="demo/digit_reader 1.0.0",
    )  # fmt: skip
    types.add_argument("task", metavar="SCENARIO/TASK")
    types.add_argument("version")
    coming = add_remote(
        top, "ingest", ingest, "how features come in: tunnels, the last hour, late devices, refusals, sinks"
    )
    coming.add_argument("--watch", action="store_true", help="draw it anew every few seconds")
    coming.add_argument("--every-s", type=float, default=2.0, metavar="S", help="how often; default: 2")
    add_remote(top, "sinks", sinks, "where features go besides the database, and how far each is")
    reports = add_group(top, "reports", "what devices reported about releases")
    listing = add_remote(reports, "list", reports_list, "list them by arrival")
    for name in ("release", "device", "outcome"):
        listing.add_argument(f"--{name}", default="")
    add_pages(listing)


def features_list(arguments: argparse.Namespace) -> int:
    """``features list``."""
    names = ("scenario", "task", "name", "device", "release", "after", "limit")
    with connect(arguments) as client:
        answer = client.get("features", **{name: getattr(arguments, name) for name in names})
    show.print_answer(
        arguments, answer, lambda: show.print_table(answer["features"], show.FEATURES, "no such feature")
    )
    return 0


def features_tail(arguments: argparse.Namespace) -> int:
    """``features tail``: one line each; with ``--json``, one object a line."""
    scenario, name = task_of(arguments.task)
    query = {"scenario": scenario, "task": name, "name": arguments.name, "device": arguments.device}
    left = arguments.count
    with connect(arguments) as client:
        after = client.get("sinks")["head"] if arguments.after is None else arguments.after
        while left is None or left > 0:
            page = client.get("features", **query, after=after, limit=left or _TAIL_PAGE, wait_s=_TAIL_WAIT_S)
            after = page["next"]
            left = None if left is None else left - len(page["features"])
            for row in page["features"]:
                print(show.feature_line(row, json=arguments.json), flush=True)
    return 0


def features_types(arguments: argparse.Namespace) -> int:
    """``features types``."""
    scenario, task = task_of(arguments.task)
    with connect(arguments) as client:
        answer = client.get(f"tasks/{quoted(scenario)}/{quoted(task)}/{quoted(arguments.version)}")
    uploads = answer["definition"]["uploads"]

    def text() -> None:
        from walle_control.consume import dataclass_text  # brings Trio

        print("\n\n".join(dataclass_text(name, fields) for name, fields in uploads.items()), end="")

    show.print_answer(arguments, uploads, text)
    return 0


def ingest(arguments: argparse.Namespace) -> int:
    """``ingest``; 1 if a sink fails. With ``--watch`` and ``--json``, one object a line."""
    from walle_control.cli import watch  # brings rich's live display

    with connect(arguments) as client:
        if arguments.watch:
            watch.ingest_watch(client, json=arguments.json, every_s=arguments.every_s)
        answer = client.get("ingest")
    show.print_answer(arguments, answer, lambda: show.console().print(watch.ingest_screen(answer)))
    return 1 if any(sink["error"] for sink in answer["sinks"]) else 0


def sinks(arguments: argparse.Namespace) -> int:
    """``sinks``; 1 if one fails."""
    with connect(arguments) as client:
        answer = client.get("sinks")
    show.print_answer(
        arguments, answer, lambda: show.print_table(answer["sinks"], show.SINKS, "only the database")
    )
    return 1 if any(sink["error"] for sink in answer["sinks"]) else 0


def reports_list(arguments: argparse.Namespace) -> int:
    """``reports list``."""
    names = ("release", "device", "outcome", "after", "limit")
    with connect(arguments) as client:
        answer = client.get("reports", **{name: getattr(arguments, name) for name in names})
    show.print_answer(
        arguments, answer, lambda: show.print_table(answer["reports"], show.REPORTS, "no such report")
    )
    return 0
