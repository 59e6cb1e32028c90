"""Commands about releases."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from walle_control.cli import show, watch
from walle_control.cli.arguments import (
    Subparsers,
    add_group,
    add_optional,
    add_release_id,
    add_remote,
    profile_item,
    task_of,
    time_ms,
)
from walle_control.cli.client import connect, quoted

#: Options of ``release create`` that are terms of the release.
_TERMS = ("windows", "spread_s", "cap", "everyone", "personal", "attempts", "quarantine_s")

#: Settings of ``GuardSettings`` that a release may set for itself.
GUARD_OPTIONS: tuple[tuple[str, Callable[[str], float], str], ...] = (
    ("max_failure_rate", float, "part of the devices that may fail, e.g. 0.05"),
    ("alpha", float, "risk of taking back a good release, e.g. 1e-5"),
    ("tolerance", float, "how much higher than before the failure rate may be, e.g. 0.005"),
    ("horizon_s", float, "failures count within this time of a device's start"),
    ("silence_s", float, "a device not heard of for so long is silent; 0: never"),
    ("slower", float, "pause if runs take so many times as long as before; 0: never"),
    ("larger", float, "pause if runs need so many times as much memory as before; 0: never"),
    ("min_reports", int, "for a handful of devices: judge by the rate alone once so many reports have come"),
)


def add_to(top: Subparsers) -> None:
    """Add them to the command line."""
    release = add_group(top, "release", "who gets which version")
    create = add_remote(
        release, "create", release_create, "release a version; live at once",
        example="demo/digit_reader 1.0.0 --where 'os == \"linux\"'",
    )  # fmt: skip
    create.add_argument("task", metavar="SCENARIO/TASK")
    create.add_argument("version")
    create.add_argument("--where", default="", metavar="PREDICATE", help="which devices; default: all")
    create.add_argument(
        "--percent", default="100", help="part of them, sticky, in steps of 0.0000001; default: 100"
    )
    add_optional(create)
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
        "--ramp-s", type=float, default=0.0,
        help="each stage grows to its share evenly within so many seconds; default: 0, at once",
    )  # fmt: skip
    stages.add_argument(
        "--min-devices", type=int, default=100,
        help="devices that must have run it before the next stage; default: 100",
    )  # fmt: skip
    stages.add_argument(
        "--control-percent", metavar="PERCENT",
        help="part of each stage but the last that is held back, to compare with; default: 50",
    )  # fmt: skip
    terms = create.add_argument_group("when devices begin, and how many")
    terms.add_argument(
        "--windows", default="", metavar="WINDOW,...",
        help="only at these times of the device's own clock, e.g. 'mon-fri 02:00-05:00'",
    )  # fmt: skip
    terms.add_argument(
        "--spread-s", type=float, default=0.0,
        help="spread the starts of a stage's devices over so many seconds; default: 0",
    )  # fmt: skip
    terms.add_argument(
        "--cap", type=int, default=0, help="at most so many devices, exactly; default: no limit"
    )
    terms.add_argument("--everyone", action="store_true", help="holdouts get it too")
    terms.add_argument(
        "--personal", choices=("shared", "device", "user"), default="shared",
        help="for whom the bundle has files of their own besides those that all share; default: for nobody",
    )  # fmt: skip
    retries = create.add_argument_group("when it fails on a device, within the device's own limits")
    retries.add_argument(
        "--attempts", type=int, default=0, help="tries to install it; default: the device's own number"
    )
    retries.add_argument(
        "--quarantine-s", type=float, default=0.0,
        help="how long it is left alone then, the next time twice as long; default: the device's own time",
    )  # fmt: skip
    guard = create.add_argument_group("guard, where it differs from the server's settings")
    guard.add_argument(
        "--voters-percent", default="100", metavar="PERCENT",
        help="part of the devices whose every outcome is counted; default: 100",
    )  # fmt: skip
    for name, kind, text in GUARD_OPTIONS:
        guard.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    create.set_defaults(guard_options=[name for name, _, _ in GUARD_OPTIONS])
    add_remote(release, "list", release_list, "list releases, newest first")
    add_release_id(
        add_remote(
            release,
            "show",
            release_show,
            "counts, verdict and history of a release",
            example="r1-0a1b2c3d",
        )
    )
    watch_command = add_release_id(
        add_remote(
            release, "watch", watch.release_watch, "follow a release until it is taken back or stopped",
            example="r1-0a1b2c3d --until-started 100",
        )
    )  # fmt: skip
    watch_command.add_argument(
        "--until-started", type=int, default=0, metavar="N", help="end once so many devices have run it"
    )
    watch_command.add_argument("--every-s", type=float, default=1.0, help="look so often; default: 1")
    for action, text in (
        ("promote", "let it go on to its next stage now"),
        ("pause", "let it grow no further for now; its devices keep it"),
        ("stop", "take it off all devices for now"),
        ("resume", "let a paused or stopped release go on"),
        ("rollback", "take it back for good"),
    ):
        command = add_release_id(add_remote(release, action, release_act, text, example="r1-0a1b2c3d"))
        command.add_argument("--reason", default="", help="kept in the history")
        command.set_defaults(action=action)
    for action, text in (
        ("approve", "approve what it waits for; somebody else's wish only"),
        ("reject", "turn down what it waits for; somebody else's wish only"),
        ("break-glass", "let it go on without approval; takes an admin and a reason"),
    ):
        command = add_release_id(add_remote(release, action, release_act, text, example="r1-0a1b2c3d"))
        command.add_argument("--reason", default="", help="kept in the history and the audit log")
        command.set_defaults(action=action)
    explain = add_remote(
        release, "explain", release_explain, "why a device gets what it gets",
        example="d0123abcd --profile group=beta --profile memory_mb=4000",
    )  # fmt: skip
    explain.add_argument("device", metavar="DEVICE")
    explain.add_argument(
        "--profile", action="append", default=[], metavar="NAME=VALUE", help="instead of the enrolled profile"
    )
    explain.add_argument(
        "--at", default="", metavar="TIME", help="as of this time, such as 2026-12-01T02:30Z; default: now"
    )


def release_create(arguments: argparse.Namespace) -> int:
    """``release create``."""
    scenario, task = task_of(arguments.task)
    wish = {
        "scenario": scenario,
        "task": task,
        "version": arguments.version,
        "predicate": arguments.where,
        "percent": arguments.percent,
        "stages": [
            {
                "percent": percent.strip(),
                "hold_s": arguments.hold_s,
                "min_devices": arguments.min_devices,
                "ramp_s": arguments.ramp_s,
            }
            for percent in _stages(arguments)
        ],
        "optional": arguments.optional,
        "terms": {name: getattr(arguments, name) for name in _TERMS},
        "control_percent": arguments.control_percent,
        "voters_percent": arguments.voters_percent,
        "guard": {name: getattr(arguments, name) for name in arguments.guard_options},
    }
    with connect(arguments) as client:
        answer = client.post("releases", wish)
    show.print_answer(arguments, answer, lambda: show.print_table([answer], show.RELEASES, ""))
    return 0


def release_list(arguments: argparse.Namespace) -> int:
    """``release list``."""
    with connect(arguments) as client:
        answer = client.get("releases")
    show.print_answer(
        arguments,
        answer,
        lambda: show.print_table(answer["releases"], show.RELEASES, "no release was created yet"),
    )
    return 0


def release_show(arguments: argparse.Namespace) -> int:
    """``release show``."""
    with connect(arguments) as client:
        answer = client.get(f"releases/{quoted(arguments.release)}")
    show.print_answer(arguments, answer, lambda: _print_release(answer))
    return 0


def release_act(arguments: argparse.Namespace) -> int:
    """``release promote``, ``pause``, ``stop``, ``resume`` and ``rollback``."""
    with connect(arguments) as client:
        answer = client.post(
            f"releases/{quoted(arguments.release)}/{arguments.action}", {"reason": arguments.reason}
        )
    show.print_answer(arguments, answer, lambda: _print_release(answer))
    return 0


def release_explain(arguments: argparse.Namespace) -> int:
    """``release explain``."""
    body: dict[str, Any] = {"device_id": arguments.device}
    if arguments.at:
        body["at_ms"] = time_ms(arguments.at)
    if arguments.profile:
        body["profile"] = dict(profile_item(text) for text in arguments.profile)
    with connect(arguments) as client:
        answer = client.post("explain", body)
    show.print_answer(
        arguments,
        answer,
        lambda: show.print_table(answer["releases"], show.EXPLANATIONS, "no release is live"),
    )
    return 0


def _print_release(answer: Any) -> None:
    show.print_table([answer], show.RELEASES, "")
    print()
    for table in show.trial_tables(answer):
        show.console().print(table)
        print()
    show.print_table(answer["counts"], show.COUNTS, "no reports yet")
    print()
    show.print_table(answer["history"], show.HISTORY, "")


def _stages(arguments: argparse.Namespace) -> list[str]:
    """The percentages of the stages; a ramp makes one stage of ``--percent``."""
    named = [percent.strip() for percent in arguments.stages.split(",") if percent.strip()]
    return named or ([arguments.percent] if arguments.ramp_s else [])
