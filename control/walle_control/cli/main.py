"""The parser of ``walle-control``; exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from walle_control.cli import (
    audiences,
    devices,
    doctor,
    learning,
    operators,
    own_files,
    releases,
    server,
    tasks,
    telemetry,
    trust,
)
from walle_control.cli.arguments import Handler
from walle_shared import __version__
from walle_shared.completion import add_completion, script_of
from walle_shared.errors import ConfigError, WalleError

_EXAMPLES = """examples:
  walle-control init --data ./control           make keys, database and the admin token
  walle-control serve --data ./control          run the server
  export WALLE_CONTROL_DATA=./control           for the commands below, on the same machine
  walle-control import --repo ~/tasks digit_reader 1.0.0
  walle-control release create demo/digit_reader 1.0.0 --where 'group == "beta"' --percent 5
  walle-control release show r1-0a1b2c3d
"""

#: In the order of the help.
_SUBJECTS = (
    server, doctor, tasks, own_files, releases, learning, audiences, devices, telemetry, operators, trust,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    parsed = build_parser().parse_args(arguments)
    handler: Handler = parsed.handler
    try:
        return handler(parsed)
    except WalleError as error:
        print(f"walle-control: error: {error.message}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        "walle-control",
        description="The control plane of Walle: server and operator's client.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"walle-control {__version__}")
    top = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for subject in _SUBJECTS:
        subject.add_to(top)
    add_completion(top, parser).set_defaults(handler=_complete)
    return parser


def _complete(arguments: argparse.Namespace) -> int:
    print(script_of(build_parser(), arguments.shell))
    return 0
