"""How commands are declared, and what their arguments mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime

from walle_shared.errors import ConfigError

Handler = Callable[[argparse.Namespace], int]
type Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_local(
    group: Subparsers,
    name: str,
    handler: Handler,
    text: str,
    json: bool = True,
    example: str = "",
) -> argparse.ArgumentParser:
    """A command that needs no server."""
    command = group.add_parser(name, help=text, description=text)
    command.epilog = f"example: {command.prog} {example}".rstrip()
    command.set_defaults(handler=handler)
    if json:
        command.add_argument("--json", action="store_true", help="print JSON")
    return command


def add_remote(
    group: Subparsers,
    name: str,
    handler: Handler,
    text: str,
    example: str = "",
) -> argparse.ArgumentParser:
    """A command that asks a server."""
    command = add_local(group, name, handler, text, example=example)
    server = command.add_argument_group("which server (or WALLE_CONTROL_URL, _TOKEN, _DATA)")
    server.add_argument("--url", help="the server's URL")
    server.add_argument("--token", help="your token; default: what login keeps")
    server.add_argument("--data", metavar="DIR", help="data folder of a server on this machine")
    return command


def add_group(top: Subparsers, name: str, text: str) -> Subparsers:
    """A word that commands follow."""
    group = top.add_parser(name, help=text, description=text)
    return group.add_subparsers(title="commands", metavar="COMMAND", required=True)


def add_release_id(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The id of a release."""
    command.add_argument("release", metavar="RELEASE", help="the release's id")
    return command


def add_pages(command: argparse.ArgumentParser) -> None:
    """Where a listing begins, and how long it is."""
    command.add_argument("--after", type=int, default=0, metavar="ID", help="only those after this id")
    command.add_argument("--limit", type=int, default=1000, help="at most so many; default: 1000")


def add_optional(command: argparse.ArgumentParser) -> None:
    """Let a predicate ask for attributes that nobody declared."""
    command.add_argument(
        "--optional", action="store_true", help="the predicate may ask for attributes that nobody declared"
    )


def task_of(text: str) -> tuple[str, str]:
    """Scenario and name of a ``SCENARIO/TASK``.

    Raises:
        ConfigError: it is none.
    """
    scenario, slash, task = text.partition("/")
    if not slash or not scenario or not task:
        raise ConfigError(f"{text!r} must be SCENARIO/TASK, for example demo/digit_reader")
    return scenario, task


def profile_item(text: str) -> tuple[str, str | int | float | bool]:
    """A ``NAME=VALUE``; numbers and truth values are told from texts.

    Raises:
        ConfigError: it is none.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"--profile {text!r} must be NAME=VALUE")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def time_ms(text: str) -> int:
    """A moment in ISO 8601, in UTC where it does not say.

    Raises:
        ConfigError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--at {text!r} is no time: write 2026-12-01T02:30Z") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
