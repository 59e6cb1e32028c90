"""The parser of ``walle-control``; exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from walle_control.cli import commands, trust
from walle_shared import __version__
from walle_shared.errors import ConfigError, WalleError

_EXAMPLES = """examples:
  walle-control init --data ./control           make keys, database and the admin token
  walle-control serve --data ./control          run the server
  export WALLE_CONTROL_DATA=./control           for the commands below, on the same machine
  walle-control import --repo ~/tasks digit_reader 1.0.0
  walle-control release create demo/digit_reader 1.0.0 --where 'group == "beta"' --percent 5
  walle-control release show r1-0a1b2c3d
"""

Handler = Callable[[argparse.Namespace], int]


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
    _add_server_commands(top)
    _add_task_commands(top)
    _add_release_commands(top)
    _add_device_commands(top)
    _add_telemetry_commands(top)
    _add_audit_commands(top)
    _add_trust_commands(top)
    return parser


def _add_server_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = _local(
        top,
        "init",
        commands.init,
        "make a data folder (again: keeps what is there)",
        example="--data ./control",
    )
    init.add_argument("--data", required=True, metavar="DIR", help="the data folder")
    serve = _local(top, "serve", commands.serve, "run the server", json=False, example="--data ./control")
    where = serve.add_mutually_exclusive_group(required=True)
    where.add_argument("--config", metavar="FILE", help="settings file")
    where.add_argument(
        "--data", metavar="DIR", help="data folder made by init; its control.toml holds the settings"
    )
    serve.add_argument("--host", help="listen here instead of the settings' server.host")
    serve.add_argument(
        "--port", type=int, help="listen here instead of the settings' server.port; 0: any free port"
    )
    fsck = _local(
        top,
        "fsck",
        commands.fsck,
        "re-read every published file and check its digest",
        example="--data ./control",
    )
    fsck.add_argument("--data", required=True, metavar="DIR", help="the data folder")
    _remote(top, "status", commands.status, "what the server holds")
    _remote(top, "epoch", commands.epoch, "the newest policy as devices see it")


def _add_task_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    import_ = _remote(
        top, "import", commands.import_version, "import a task version from a git tag",
        example="--repo ~/tasks digit_reader 1.0.0",
    )  # fmt: skip
    import_.add_argument("task", help="the task's name")
    import_.add_argument("version", help="such as 1.0.0")
    import_.add_argument("--repo", required=True, metavar="DIR", help="git repository, on the server's disk")
    import_.add_argument("--tag", default="", help="default: TASK/VERSION")
    import_.add_argument("--folder", default="", help="folder in the repository; default: TASK")
    task = _group(top, "task", "imported task versions")
    _remote(task, "list", commands.task_list, "list them, newest import first")
    show = _remote(
        task, "show", commands.task_show, "one version with its files", example="demo/digit_reader 1.0.0"
    )
    show.add_argument("task", metavar="SCENARIO/TASK")
    show.add_argument("version")


#: Settings of ``GuardSettings`` that a release may set for itself.
GUARD_OPTIONS: tuple[tuple[str, Callable[[str], float], str], ...] = (
    ("max_failure_rate", float, "part of the devices that may fail, e.g. 0.05"),
    ("alpha", float, "risk of taking back a good release, e.g. 1e-5"),
    ("tolerance", float, "how much higher than before the failure rate may be, e.g. 0.005"),
    ("horizon_s", float, "failures count within this time of a device's start"),
    ("silence_s", float, "a device not heard of for so long is silent; 0: never"),
    ("slower", float, "pause if runs take so many times as long as before; 0: never"),
    ("min_reports", int, "for a handful of devices: judge by the rate alone once so many reports have come"),
)


def _add_release_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    release = _group(top, "release", "who gets which version")
    create = _remote(
        release, "create", commands.release_create, "release a version; live at once",
        example="demo/digit_reader 1.0.0 --where 'os == \"linux\"'",
    )  # fmt: skip
    create.add_argument("task", metavar="SCENARIO/TASK")
    create.add_argument("version")
    create.add_argument("--where", default="", metavar="PREDICATE", help="which devices; default: all")
    create.add_argument(
        "--percent", default="100", help="part of them, sticky, in steps of 0.0000001; default: 100"
    )
    stages = create.add_argument_group("in stages, instead of --percent")
    stages.add_argument(
        "--stages", metavar="PERCENT,...", default="",
        help="reach so many percent one after the other, e.g. 1,10,50,100; each begins when the guard is sure"
        " of the one before it",
    )  # fmt: skip
    stages.add_argument(
        "--hold-s", type=float, default=0.0, help="a stage lasts at least so long; default: 0"
    )
    stages.add_argument(
        "--min-devices", type=int, default=100,
        help="devices that must have run it before the next stage; default: 100",
    )  # fmt: skip
    stages.add_argument(
        "--control-percent", metavar="PERCENT",
        help="part of each stage but the last that is held back, to compare with; default: 50",
    )  # fmt: skip
    guard = create.add_argument_group("guard, where it differs from the server's settings")
    guard.add_argument(
        "--voters-percent", default="100", metavar="PERCENT",
        help="part of the devices whose every outcome is counted; default: 100",
    )  # fmt: skip
    for name, kind, text in GUARD_OPTIONS:
        guard.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    create.set_defaults(guard_options=[name for name, _, _ in GUARD_OPTIONS])
    _remote(release, "list", commands.release_list, "list releases, newest first")
    _named(
        _remote(
            release,
            "show",
            commands.release_show,
            "counts, verdict and history of a release",
            example="r1-0a1b2c3d",
        )
    )
    for action, text in (
        ("promote", "let it go on to its next stage now"),
        ("pause", "let it grow no further for now; its devices keep it"),
        ("stop", "take it off all devices for now"),
        ("resume", "let a paused or stopped release go on"),
        ("rollback", "take it back for good"),
    ):
        command = _named(_remote(release, action, commands.release_act, text, example="r1-0a1b2c3d"))
        command.add_argument("--reason", default="", help="kept in the history")
        command.set_defaults(action=action)
    explain = _remote(
        release, "explain", commands.release_explain, "why a device gets what it gets",
        example="d0123abcd --profile group=beta --profile memory_mb=4000",
    )  # fmt: skip
    explain.add_argument("device", metavar="DEVICE")
    explain.add_argument(
        "--profile", action="append", default=[], metavar="NAME=VALUE", help="instead of the enrolled profile"
    )


def _add_device_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    device = _group(top, "device", "enrolled devices")
    _remote(device, "list", commands.device_list, "list them with their tasks")
    for name, handler, text in (
        ("show", commands.device_show, "one device"),
        ("revoke", commands.device_revoke, "end a device's rights for good"),
    ):
        _remote(device, name, handler, text, example="d0123abcd").add_argument("device", metavar="DEVICE")
    token = _group(top, "enrol-token", "tokens that let devices enrol")
    create = _remote(token, "create", commands.enrol_token_create, "make one; it is shown this once")
    create.add_argument("--uses", type=int, default=1, help="how many devices may use it; default: 1")
    create.add_argument("--valid-s", type=float, default=3600.0, help="for how many seconds; default: 3600")
    create.add_argument("--note", default="", help="what it is for")


def _add_telemetry_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    features = _group(top, "features", "features that devices uploaded")
    listing = _remote(features, "list", commands.features_list, "list them by arrival")
    for name in ("scenario", "task", "name", "device", "release"):
        listing.add_argument(f"--{name}", default="")
    _paged(listing)
    tail = _remote(
        features, "tail", commands.features_tail, "follow a task's features as they arrive",
        example="demo/digit_reader",
    )  # fmt: skip
    tail.add_argument("task", metavar="SCENARIO/TASK")
    tail.add_argument("--name", default="", help="only this upload's")
    tail.add_argument("--device", default="")
    tail.add_argument(
        "--after", type=int, metavar="ID", help="begin after this id; default: with what comes now"
    )
    tail.add_argument("--count", type=int, help="stop after so many")
    types = _remote(
        features, "types", commands.features_types, "the dataclass of each upload, for code that reads them",
        example="demo/digit_reader 1.0.0",
    )  # fmt: skip
    types.add_argument("task", metavar="SCENARIO/TASK")
    types.add_argument("version")
    _remote(top, "sinks", commands.sinks, "where features go besides the database, and how far each is")
    reports = _group(top, "reports", "what devices reported about releases")
    listing = _remote(reports, "list", commands.reports_list, "list them by arrival")
    for name in ("release", "device", "outcome"):
        listing.add_argument(f"--{name}", default="")
    _paged(listing)


def _add_audit_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    audit = _group(top, "audit", "who changed what")
    listing = _remote(audit, "list", commands.audit_list, "list the changes, oldest first")
    _paged(listing)
    verify = _remote(
        audit, "verify", commands.audit_verify, "check that no entry was changed, left out or put in",
        example="--expect 5f1d6a0c2b3e4f5a",
    )  # fmt: skip
    verify.add_argument(
        "--expect", default="", metavar="HASH",
        help="the last hash of an earlier check, or its beginning: it must still be in the chain",
    )  # fmt: skip


def _add_trust_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(top, "trust", "the keys and roles that devices trust (docs/guide/security.md)")
    for name, handler, text, example, on_folder in trust.COMMANDS:
        command = _local(group, name, handler, text, example=example)
        trust.add_arguments(name, command)
        if on_folder:
            command.add_argument("--data", required=True, metavar="DIR", help="the data folder")


def _local(
    group: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    handler: Handler,
    text: str,
    json: bool = True,
    example: str = "",
) -> argparse.ArgumentParser:
    command = group.add_parser(name, help=text, description=text)
    command.epilog = f"example: {command.prog} {example}".rstrip()
    command.set_defaults(handler=handler)
    if json:
        command.add_argument("--json", action="store_true", help="print JSON")
    return command


def _remote(
    group: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    handler: Handler,
    text: str,
    example: str = "",
) -> argparse.ArgumentParser:
    command = _local(group, name, handler, text, example=example)
    server = command.add_argument_group("which server (or WALLE_CONTROL_URL, _TOKEN, _DATA)")
    server.add_argument("--url", help="the server's URL")
    server.add_argument("--token", help="admin token")
    server.add_argument("--data", metavar="DIR", help="data folder of a server on this machine")
    return command


def _group(
    top: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    group = top.add_parser(name, help=text, description=text)
    return group.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _named(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("release", metavar="RELEASE", help="the release's id")
    return command


def _paged(command: argparse.ArgumentParser) -> None:
    command.add_argument("--after", type=int, default=0, metavar="ID", help="only those after this id")
    command.add_argument("--limit", type=int, default=1000, help="at most so many; default: 1000")
