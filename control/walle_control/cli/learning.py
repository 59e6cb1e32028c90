"""Commands about learning together."""

from __future__ import annotations

import argparse
import base64
from dataclasses import fields
from pathlib import Path
from typing import Any

from walle_control.cli import show
from walle_control.cli.arguments import Subparsers, add_group, add_remote, task_of
from walle_control.cli.client import connect, quoted
from walle_control.features.learning.averaging import OPTIMIZERS, RULES
from walle_control.features.learning.types import PlanWish
from walle_shared.errors import ConfigError, StorageError
from walle_shared.learning import ENCODINGS

#: Settings of a plan that are plain flags: name, type, what it is.
_FLAGS: tuple[tuple[str, type, str], ...] = (
    ("rounds", int, "rounds that are to end well"),
    ("goal", int, "updates that end a round"),
    ("min_cohort", int, "with fewer at its deadline, a round is thrown away"),
    ("deadline_s", float, "seconds that a round waits"),
    ("cohort_percent", float, "part of the devices that each round chooses; 0: what the goal takes"),
    ("epochs", int, "local passes over the samples"),
    ("batch", int, "samples in a local step"),
    ("rate", float, "local learning rate"),
    ("clip_norm", float, "longest update"),
    ("local_noise", float, "noise that devices add, times the clip norm"),
    ("samples_cap", int, "a device counts as its samples, at most so many"),
    ("trim", float, "part of the updates that trimmed_mean leaves out at either end"),
    ("server_rate", float, "rate of the server's optimizer"),
    ("delta", float, "delta of the epsilon that is shown"),
)
_CHOICES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("sends", ("update", "gradient"), "what devices send"),
    ("encoding", ENCODINGS, "how its numbers travel"),
    ("rule", RULES, "how updates become one"),
    ("optimizer", OPTIMIZERS, "what the server makes of that"),
)

_PLANS: tuple[show.Column, ...] = (
    ("plan", lambda p: p["id"]),
    ("task", lambda p: f"{p['scenario']}/{p['task']} {p['version']}"),
    ("state", lambda p: p["state"]),
    ("rounds", lambda p: f"{p['rounds_closed']} of {p['wish']['rounds']}"),
    ("epsilon", lambda p: _epsilon(p["epsilon"])),
    ("accuracy", lambda p: _share((p["newest"] or {}).get("accuracy"))),
)
_ROUNDS: tuple[show.Column, ...] = (
    ("round", lambda r: r["number"]),
    ("state", lambda r: r["state"]),
    ("updates", lambda r: r["updates"]),
    ("refused", lambda r: r["refused"]),
    ("late", lambda r: r["late"]),
    ("loss", lambda r: "-" if r["loss"] is None else f"{r['loss']:.4f}"),
    ("accuracy", lambda r: _share(r["accuracy"])),
    ("deadline (UTC)", lambda r: show.moment(r["deadline_ms"])),
    ("why", lambda r: r["reason"]),
)


def add_to(top: Subparsers) -> None:
    """Add them to the command line."""
    group = add_group(top, "learning", "train a task's model on the devices that have it")
    start = add_remote(
        group, "start", learning_start, "begin a plan: rounds of local training whose updates are summed",
        example="demo/digit_reader 1.0.0 --rounds 10 --goal 100 --noise 1.0",
    )  # fmt: skip
    start.add_argument("task", metavar="SCENARIO/TASK")
    start.add_argument("version")
    noise = start.add_mutually_exclusive_group(required=True)
    noise.add_argument(
        "--noise", type=float, metavar="TIMES",
        help="noise on each round's sum, times the clip norm: what bounds what a model tells of one device",
    )  # fmt: skip
    noise.add_argument(
        "--no-noise", dest="noise", action="store_const", const=0.0, help="go without, and without a promise"
    )
    defaults = {each.name: each.default for each in fields(PlanWish)}
    for name, kind, text in _FLAGS:
        start.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            default=defaults[name],
            help=f"{text}; default: {defaults[name]}",
        )
    for name, choices, text in _CHOICES:
        start.add_argument(
            f"--{name}", choices=choices, default=defaults[name], help=f"{text}; default: {defaults[name]}"
        )
    start.add_argument(
        "--holdout", default="", metavar="FILE",
        help="an .npz file to score each round's model on: the model's inputs by name, and target",
    )  # fmt: skip
    add_remote(group, "list", learning_list, "list the plans")
    for name, handler, text in (
        ("show", learning_show, "a plan: how far it is, and what its noise is worth"),
        ("rounds", learning_rounds, "the rounds of a plan, newest first"),
        ("stop", learning_stop, "end a plan; the updates of its open round are thrown away"),
    ):
        add_remote(group, name, handler, text, example="0a1b2c3d4e5f6071").add_argument(
            "plan", metavar="PLAN"
        )
    model = add_remote(
        group, "model", learning_model,
        "write the model that a plan has come to: to be committed, tagged and imported as any other version",
        example="0a1b2c3d4e5f6071 task/model/digits.wmodel",
    )  # fmt: skip
    model.add_argument("plan", metavar="PLAN")
    model.add_argument("file", help="where to")


def learning_start(arguments: argparse.Namespace) -> int:
    """``learning start``."""
    scenario, task = task_of(arguments.task)
    names = [name for name, *_ in (*_FLAGS, *_CHOICES)]
    wish = {"version": arguments.version, "noise": arguments.noise}
    wish |= {name: getattr(arguments, name) for name in names}
    if arguments.holdout:
        wish["holdout"] = base64.b64encode(_read(Path(arguments.holdout))).decode()
    with connect(arguments) as client:
        answer = client.post(f"learning/{quoted(scenario)}/{quoted(task)}/start", wish)
    _print_plans(arguments, answer, [answer])
    return 0


def learning_list(arguments: argparse.Namespace) -> int:
    """``learning list``."""
    with connect(arguments) as client:
        answer = client.get("learning")
    _print_plans(arguments, answer, answer["plans"])
    return 0


def learning_show(arguments: argparse.Namespace) -> int:
    """``learning show``."""
    with connect(arguments) as client:
        plan = client.get(f"learning/{quoted(arguments.plan)}")
    show.print_answer(arguments, plan, lambda: _print_plan(plan))
    return 0


def learning_rounds(arguments: argparse.Namespace) -> int:
    """``learning rounds``."""
    with connect(arguments) as client:
        answer = client.get(f"learning/{quoted(arguments.plan)}/rounds")
    show.print_answer(arguments, answer, lambda: show.print_table(answer["rounds"], _ROUNDS, "no round yet"))
    return 0


def learning_stop(arguments: argparse.Namespace) -> int:
    """``learning stop``."""
    with connect(arguments) as client:
        answer = client.post(f"learning/{quoted(arguments.plan)}/stop")
    _print_plans(arguments, answer, [answer])
    return 0


def learning_model(arguments: argparse.Namespace) -> int:
    """``learning model``."""
    with connect(arguments) as client:
        data = client.download(f"learning/{quoted(arguments.plan)}/model")
    try:
        Path(arguments.file).write_bytes(data)
    except OSError as error:
        raise StorageError(f"{arguments.file}: cannot be written: {error.strerror}") from None
    answer = {"file": arguments.file, "size_bytes": len(data)}
    show.print_answer(arguments, answer, lambda: print(f"{arguments.file}: {len(data)} bytes"))
    return 0


def _print_plans(arguments: argparse.Namespace, answer: Any, plans: list[Any]) -> None:
    show.print_answer(
        arguments, answer, lambda: show.print_table(plans, _PLANS, "nothing is learnt together")
    )


def _print_plan(plan: Any) -> None:
    show.print_table([plan], _PLANS, "")
    wish = plan["wish"]
    if plan["epsilon"] is None:
        print("no noise: nothing bounds what the model tells of one device")
    else:
        print(
            f"after {plan['rounds_closed']} rounds: epsilon {plan['epsilon']:.2f} at delta {wish['delta']:g}"
            f" for every device ({plan['epsilon_if_secret']:.2f} if nobody knew who took part)"
        )
    if plan["reason"]:
        print(plan["reason"])
    if plan["newest"]:
        show.print_table([plan["newest"]], _ROUNDS, "")


def _epsilon(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
