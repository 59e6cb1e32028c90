"""Commands about whom releases are for: holdouts, segments, sets of ids, attributes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from walle_control.cli import show
from walle_control.cli.arguments import (
    Subparsers,
    add_group,
    add_optional,
    add_remote,
)
from walle_control.cli.client import connect, quoted
from walle_shared.errors import ConfigError


def add_to(top: Subparsers) -> None:
    """Add them to the command line."""
    holdout = add_group(top, "holdout", "devices that releases do not reach, to be compared with")
    add_remote(holdout, "list", holdout_list, "list them")
    set_ = add_remote(
        holdout, "set", holdout_set, "keep a part of all devices out, or change how large it is",
        example="all_year 2 --scenario demo",
    )  # fmt: skip
    set_.add_argument("name", metavar="HOLDOUT")
    set_.add_argument("percent")
    set_.add_argument("--scenario", default="", help="only of this scenario's releases; default: of all")
    segment = add_group(top, "segment", 'predicates with a name, for segment("NAME") in others')
    add_remote(segment, "list", segment_list, "list them with all their versions")
    set_ = add_remote(
        segment, "set", segment_set,
        "give a predicate a name; the next version, if there is one of that name",
        example="testers 'group == \"beta\"'",
    )  # fmt: skip
    set_.add_argument("name", metavar="SEGMENT")
    set_.add_argument("predicate")
    add_optional(set_)
    ids = add_group(top, "set", 'sets of ids, for device in set("NAME") in predicates')
    add_remote(ids, "list", set_list, "list them with all their versions")
    upload = add_remote(
        ids, "upload", set_upload, "upload a set, or its next version",
        example="friends ids.txt",
    )  # fmt: skip
    upload.add_argument("name", metavar="SET")
    upload.add_argument("file", help="one id a line; - for standard input")
    attribute = add_group(top, "attribute", "attributes that predicates may ask for")
    add_remote(attribute, "list", attribute_list, "list those that were declared")
    declare = add_remote(
        attribute, "declare", attribute_declare,
        "declare one; from the first on, predicates may ask only for those and for what devices measure",
        example="tier string --side server",
    )  # fmt: skip
    declare.add_argument("name", metavar="ATTRIBUTE")
    declare.add_argument("kind", choices=("string", "number", "boolean", "version", "time"))
    declare.add_argument(
        "--side", choices=("device", "server"), default="device",
        help="who knows its values: the device (the default), or only the server, which then decides about"
        " releases that ask for it",
    )  # fmt: skip
    declare.add_argument("--note", default="", help="what it means")
    end = add_remote(
        holdout, "end", holdout_end, "let its devices have what the others have", example="all_year"
    )
    end.add_argument("name", metavar="HOLDOUT")


def holdout_list(arguments: argparse.Namespace) -> int:
    """``holdout list``."""
    with connect(arguments) as client:
        answer = client.get("holdouts")
    _print_holdouts(arguments, answer)
    return 0


def holdout_set(arguments: argparse.Namespace) -> int:
    """``holdout set``."""
    wish = {"name": arguments.name, "percent": arguments.percent, "scenario": arguments.scenario}
    with connect(arguments) as client:
        answer = client.post("holdouts", wish)
    _print_holdouts(arguments, answer)
    return 0


def holdout_end(arguments: argparse.Namespace) -> int:
    """``holdout end``."""
    with connect(arguments) as client:
        answer = client.post(f"holdouts/{quoted(arguments.name)}/end")
    _print_holdouts(arguments, answer)
    return 0


def segment_list(arguments: argparse.Namespace) -> int:
    """``segment list``."""
    with connect(arguments) as client:
        answer = client.get("segments")
    show.print_answer(
        arguments, answer, lambda: show.print_table(answer["segments"], show.SEGMENTS, "no segment yet")
    )
    return 0


def segment_set(arguments: argparse.Namespace) -> int:
    """``segment set``."""
    wish = {"name": arguments.name, "predicate": arguments.predicate, "optional": arguments.optional}
    with connect(arguments) as client:
        answer = client.post("segments", wish)
    mine = [segment for segment in answer["segments"] if segment["name"] == arguments.name]
    show.print_answer(arguments, answer, lambda: show.print_table(mine, show.SEGMENTS, ""))
    return 0


def set_list(arguments: argparse.Namespace) -> int:
    """``set list``."""
    with connect(arguments) as client:
        answer = client.get("sets")
    show.print_answer(arguments, answer, lambda: show.print_table(answer["sets"], show.SETS, "no set yet"))
    return 0


def set_upload(arguments: argparse.Namespace) -> int:
    """``set upload``."""
    try:
        data = sys.stdin.buffer.read() if arguments.file == "-" else Path(arguments.file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{arguments.file}: cannot be read: {error.strerror}") from None
    with connect(arguments) as client:
        answer = client.upload(f"sets/{quoted(arguments.name)}", data)
    mine = [each for each in answer["sets"] if each["name"] == arguments.name]
    show.print_answer(arguments, answer, lambda: show.print_table(mine, show.SETS, ""))
    return 0


def attribute_list(arguments: argparse.Namespace) -> int:
    """``attribute list``."""
    with connect(arguments) as client:
        answer = client.get("attributes")
    _print_attributes(arguments, answer)
    return 0


def attribute_declare(arguments: argparse.Namespace) -> int:
    """``attribute declare``."""
    wish = {name: getattr(arguments, name) for name in ("name", "kind", "side", "note")}
    with connect(arguments) as client:
        answer = client.post("attributes", wish)
    _print_attributes(arguments, answer)
    return 0


def _print_holdouts(arguments: argparse.Namespace, answer: Any) -> None:
    show.print_answer(
        arguments, answer, lambda: show.print_table(answer["holdouts"], show.HOLDOUTS, "nobody is held out")
    )


def _print_attributes(arguments: argparse.Namespace, answer: Any) -> None:
    rows = answer["attributes"]
    show.print_answer(
        arguments, answer, lambda: show.print_table(rows, show.ATTRIBUTES, "none: any name may be used")
    )
