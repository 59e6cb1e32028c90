"""Commands about devices, real and simulated."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from walle_control.cli import show
from walle_control.cli.arguments import (
    Subparsers,
    add_group,
    add_remote,
    profile_item,
)
from walle_control.cli.client import connect, quoted
from walle_shared.errors import ConfigError, StorageError


def add_to(top: Subparsers) -> None:
    """Add them to the command line."""
    _add_device_commands(top)
    _add_fleet_command(top)


def _add_device_commands(top: Subparsers) -> None:
    device = add_group(top, "device", "enrolled devices")
    add_remote(device, "list", device_list, "list them with their tasks")
    for name, handler, text in (
        ("show", device_show, "one device"),
        ("revoke", device_revoke, "end a device's rights for good"),
    ):
        add_remote(device, name, handler, text, example="d0123abcd").add_argument("device", metavar="DEVICE")
    describe = add_remote(
        device, "describe", device_describe, "say of a device what only the server shall know",
        example="d0123abcd tier=gold",
    )  # fmt: skip
    describe.add_argument("device", metavar="DEVICE")
    describe.add_argument("values", nargs="*", metavar="NAME=VALUE", help="none: show what was said")
    user = add_group(top, "user", "users of the app, as far as operators say something of them")
    describe = add_remote(
        user, "describe", user_describe,
        "say of a user what only the server shall know; it holds for devices whose attribute 'user' says so",
        example="u42 tier=gold",
    )  # fmt: skip
    describe.add_argument("user", metavar="USER")
    describe.add_argument("values", nargs="*", metavar="NAME=VALUE", help="none: show what was said")
    token = add_group(top, "enrol-token", "tokens that let devices enrol")
    create = add_remote(token, "create", enrol_token_create, "make one; it is shown this once")
    create.add_argument("--uses", type=int, default=1, help="how many devices may use it; default: 1")
    create.add_argument("--valid-s", type=float, default=3600.0, help="for how many seconds; default: 3600")
    create.add_argument("--note", default="", help="what it is for")
    create.add_argument(
        "--agent-config",
        metavar="FILE",
        help="write the settings of an agent that enrols by it; the file is new",
    )


def _add_fleet_command(top: Subparsers) -> None:
    fleet = add_remote(
        top, "fleet-sim", fleet_sim, "let simulated devices live on a server",
        example="--devices 200 --release demo/digit_reader 1.0.0 --plot coverage.svg",
    )  # fmt: skip
    fleet.add_argument("--scenario", metavar="FILE", help="what the fleet is made of; default: plain devices")
    fleet.add_argument("--devices", type=int, help="how many, instead of the scenario's")
    fleet.add_argument("--seed", type=int, help="of all chance, instead of the scenario's")
    fleet.add_argument("--seconds", type=float, default=600.0, help="end after so long; default: 600")
    fleet.add_argument(
        "--release", nargs=2, metavar=("SCENARIO/TASK", "VERSION"),
        help="release this to all once they are enrolled; end when --until of them run it",
    )  # fmt: skip
    fleet.add_argument("--until", type=float, default=0.999, metavar="PART", help="default: 0.999")
    model = fleet.add_argument_group("a model of any size, without a server")
    model.add_argument("--model", metavar="FILE", help="what is modelled: docs/guide/fleet-sim.md")
    model.add_argument(
        "--servers-within", type=float, metavar="SECONDS",
        help="find how many servers reach --until of the devices within so long",
    )  # fmt: skip
    fleet.add_argument("--plot", metavar="FILE", help="draw the coverage of each version, an SVG file")


def device_list(arguments: argparse.Namespace) -> int:
    """``device list``: all pages."""
    devices: list[Any] = []
    after: str | None = ""
    with connect(arguments) as client:
        while after is not None:
            page = client.get("devices", after=after)
            devices += page["devices"]
            after = page["next"]
    answer = {"devices": devices}
    show.print_answer(
        arguments, answer, lambda: show.print_table(devices, show.DEVICES, "no device is enrolled yet")
    )
    return 0


def device_show(arguments: argparse.Namespace) -> int:
    """``device show``."""
    with connect(arguments) as client:
        answer = client.get(f"devices/{quoted(arguments.device)}")
    show.print_answer(arguments, answer, lambda: show.print_table([answer], show.DEVICES, ""))
    return 0


def device_revoke(arguments: argparse.Namespace) -> int:
    """``device revoke``."""
    with connect(arguments) as client:
        answer = client.post(f"devices/{quoted(arguments.device)}/revoke")
    show.print_answer(arguments, answer, lambda: show.print_table([answer], show.DEVICES, ""))
    return 0


def device_describe(arguments: argparse.Namespace) -> int:
    """``device describe``."""
    return _describe(arguments, f"devices/{quoted(arguments.device)}/attributes")


def user_describe(arguments: argparse.Namespace) -> int:
    """``user describe``."""
    return _describe(arguments, f"users/{quoted(arguments.user)}/attributes")


def _describe(arguments: argparse.Namespace, path: str) -> int:
    values = dict(profile_item(text) for text in arguments.values)
    with connect(arguments) as client:
        answer = client.post(path, {"values": values}) if values else client.get(path)
    show.print_answer(
        arguments, answer, lambda: show.print_facts(answer["values"] or {"nothing": "was said yet"})
    )
    return 0


def enrol_token_create(arguments: argparse.Namespace) -> int:
    """``enrol-token create``."""
    wish = {"uses": arguments.uses, "valid_s": arguments.valid_s, "note": arguments.note}
    settings = Path(arguments.agent_config) if arguments.agent_config else None
    if settings is not None and settings.exists():
        raise ConfigError(f"{settings} is there already: name a new file")
    with connect(arguments) as client:
        answer = client.post("enrol-tokens", wish)
        facts = {**answer, "valid until": f"{show.moment(answer['expires_ms'])} UTC"}
        if settings is not None:
            _write_agent_config(settings, client.url, answer)
            facts["next"] = f"walle-agent run --config {settings}"
    show.print_answer(arguments, answer, lambda: show.print_facts(facts))
    return 0


def _write_agent_config(path: Path, url: str, answer: Mapping[str, Any]) -> None:
    text = (
        "# Every setting of walle-agent: configs/agent.toml.\n"
        f'[control]\nurl = "{url}"\ntrusted_root = "{answer["trusted_root"]}"\n'
        f'enrol_token = "{answer["token"]}"  # needed once\n'
        '\n[profile]  # what release conditions may ask for\ngroup = "default"\n'
    )
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from None


def fleet_sim(arguments: argparse.Namespace) -> int:
    """``fleet-sim``; 1 if a release did not reach its part in time."""
    from walle_control.cli import fleet  # brings Trio and NumPy

    if arguments.model:
        return fleet.play_model(arguments)
    return fleet.simulate(arguments, connect(arguments))
