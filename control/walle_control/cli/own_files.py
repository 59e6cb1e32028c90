"""Commands about files of single devices."""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path
from typing import Any

from walle_control.cli import show
from walle_control.cli.arguments import (
    Subparsers,
    add_group,
    add_remote,
    task_of,
)
from walle_control.cli.client import connect, quoted
from walle_shared.errors import ConfigError

#: Ids in one request about files of single devices; a file sent with each is sealed anew.
_DEVICES_PER_REQUEST = 20_000


def add_to(top: Subparsers) -> None:
    """Add them to the command line."""
    group = add_group(top, "exclusive", "files of single devices, which nobody else can open")
    give = add_remote(
        group, "give", exclusive_give, "give devices a file of their own; one of that name goes",
        example="shop/greeter profile.json --device d1a2b3c4 --device d5e6f7a8",
    )  # fmt: skip
    give.add_argument("task", metavar="SCENARIO/TASK")
    give.add_argument("file", help="the file here")
    give.add_argument(
        "--name", default="", help="what the task calls it, below own/; default: the file's name"
    )
    take = add_remote(
        group, "take", exclusive_take, "take a file away from devices",
        example="shop/greeter profile.json --devices left.txt",
    )  # fmt: skip
    take.add_argument("task", metavar="SCENARIO/TASK")
    take.add_argument("name", help="what the task calls it")
    for command in (give, take):
        whom = command.add_mutually_exclusive_group(required=True)
        whom.add_argument(
            "--device", action="append", default=[], metavar="ID", help="a device; may be repeated"
        )
        whom.add_argument(
            "--devices", default="", metavar="FILE", help="ids of devices, apart by white space"
        )
    add_remote(
        group, "list", exclusive_list, "which devices have which files", example="shop/greeter"
    ).add_argument("task", metavar="SCENARIO/TASK")


def exclusive_give(arguments: argparse.Namespace) -> int:
    """``exclusive give``."""
    scenario, task = task_of(arguments.task)
    try:
        content = base64.b64encode(Path(arguments.file).read_bytes()).decode()
    except OSError as error:
        raise ConfigError(f"{arguments.file}: cannot be read: {error.strerror}") from None
    wish = {"path": arguments.name or Path(arguments.file).name, "content": content}
    return _for_devices(arguments, f"exclusive/{quoted(scenario)}/{quoted(task)}/give", wish, "have it now")


def exclusive_take(arguments: argparse.Namespace) -> int:
    """``exclusive take``."""
    scenario, task = task_of(arguments.task)
    path = f"exclusive/{quoted(scenario)}/{quoted(task)}/take"
    return _for_devices(arguments, path, {"path": arguments.name}, "delete it when they next ask")


def exclusive_list(arguments: argparse.Namespace) -> int:
    """``exclusive list``."""
    scenario, task = task_of(arguments.task)
    files: list[Any] = []
    after = ""
    with connect(arguments) as client:
        while True:
            page = client.get(f"exclusive/{quoted(scenario)}/{quoted(task)}", after=after)
            files += page["files"]
            after = page["next_after"]
            if not after:
                break
    answer = {"files": files}
    show.print_answer(
        arguments, answer, lambda: show.print_table(files, show.OWN_FILES, "no device has a file of its own")
    )
    return 0


def _for_devices(arguments: argparse.Namespace, path: str, wish: dict[str, Any], words: str) -> int:
    """Ask for all devices, in requests of a size that the server takes."""
    devices = _device_ids(arguments)
    done, unknown = 0, list[str]()
    with connect(arguments) as client:
        for at in range(0, len(devices), _DEVICES_PER_REQUEST):
            answer = client.post(path, {**wish, "devices": devices[at : at + _DEVICES_PER_REQUEST]})
            done += answer["devices"]
            unknown += answer["unknown"]
    answer = {"devices": done, "unknown": unknown}
    show.print_answer(arguments, answer, lambda: print(f"{done} devices {words}"))
    if unknown:
        print(
            f"not among them: {', '.join(unknown[:10])}{', ...' if len(unknown) > 10 else ''}",
            file=sys.stderr,
        )
    return 1 if unknown else 0


def _device_ids(arguments: argparse.Namespace) -> list[str]:
    if not arguments.devices:
        return list(arguments.device)
    try:
        lines = Path(arguments.devices).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{arguments.devices}: cannot be read: {error}") from None
    return [*arguments.device, *lines]
