"""What each command does."""

from __future__ import annotations

import argparse
import os
import sys
import urllib.parse
from pathlib import Path
from typing import Any

from walle_control.cli import show
from walle_control.cli.client import AdminClient, connect
from walle_control.config import CONFIG_FILE, load_config
from walle_control.features.audit.types import GENESIS, AuditEntry, check_chain
from walle_shared.clock import SystemClock
from walle_shared.errors import ConfigError, TrustError
from walle_shared.observe import configure_logging
from walle_shared.records import from_plain, to_plain

#: What one request of ``features tail`` asks for.
_TAIL_PAGE = 1_000
_TAIL_WAIT_S = 20


def init(arguments: argparse.Namespace) -> int:
    """``init``."""
    from walle_control import setup  # only the server's own commands need its libraries

    result = setup.init(Path(arguments.data), SystemClock())
    if arguments.json:
        show.print_json(to_plain(result))
        return 0
    token = f"{result.admin_token}  (shown once; kept in {result.token_file})"
    show.print_facts(
        {
            "data folder": result.data_dir,
            "settings": result.config,
            "trusted root": result.trusted_root,
            "epoch": result.epoch,
            "admin token": token if result.admin_token else f"made before, in {result.token_file}",
            "next": f"walle-control serve --data {result.data_dir}",
        }
    )
    return 0


def serve(arguments: argparse.Namespace) -> int:
    """``serve``."""
    from walle_control import serve as server  # as above

    path = Path(arguments.config) if arguments.config else Path(arguments.data) / CONFIG_FILE
    if arguments.data and not path.exists():
        raise ConfigError(f"{path} is missing: run 'walle-control init --data {arguments.data}' first")
    flags = {"server.host": arguments.host, "server.port": arguments.port}
    config = load_config(path, environ=os.environ, flags=flags)
    configure_logging(level=config.log.level, format=config.log.format)
    server.run(config)
    return 0


def fsck(arguments: argparse.Namespace) -> int:
    """``fsck``."""
    from walle_control import setup  # as above

    result = setup.fsck(Path(arguments.data))
    if arguments.json:
        show.print_json(to_plain(result))
    else:
        print(f"{result.files} files checked, {len(result.damaged)} damaged")
        for name in result.damaged:
            print(f"damaged: {name}: import its task version again from its tag after removing the file")
    return 1 if result.damaged else 0


def status(arguments: argparse.Namespace) -> int:
    """``status``."""
    with _connect(arguments) as client:
        answer = client.get("status")
    _print(arguments, answer, lambda: show.print_facts(answer))
    return 0


def epoch(arguments: argparse.Namespace) -> int:
    """``epoch``."""
    with _connect(arguments) as client:
        answer = client.get("epoch")
    facts = {
        "epoch": answer["epoch"],
        "made": f"{show.moment(answer['created_ms'])} UTC: {answer['reason']}",
        "valid until": f"{show.moment(answer['envelope']['signed']['expires_ms'])} UTC",
        "live releases": ", ".join(release["id"] for release in answer["snapshot"]["releases"]) or "none",
    }
    _print(arguments, answer, lambda: show.print_facts(facts))
    return 0


def import_version(arguments: argparse.Namespace) -> int:
    """``import``."""
    request = {
        "repository": str(Path(arguments.repo).expanduser().resolve()),
        "task": arguments.task,
        "version": arguments.version,
        "tag": arguments.tag,
        "folder": arguments.folder,
    }
    with _connect(arguments) as client:
        answer = client.post("tasks", request)
    _print(arguments, answer, lambda: show.print_table([answer["version"]], show.VERSIONS, ""))
    if not answer["created"]:
        print("imported before from the same commit: nothing changed", file=sys.stderr)
    return 0


def task_list(arguments: argparse.Namespace) -> int:
    """``task list``."""
    with _connect(arguments) as client:
        answer = client.get("tasks")
    _print(
        arguments,
        answer,
        lambda: show.print_table(answer["versions"], show.VERSIONS, "no version was imported yet"),
    )
    return 0


def task_show(arguments: argparse.Namespace) -> int:
    """``task show``."""
    scenario, task = _task(arguments.task)
    with _connect(arguments) as client:
        answer = client.get(f"tasks/{_quoted(scenario)}/{_quoted(task)}/{_quoted(arguments.version)}")

    def tables() -> None:
        show.print_table([answer["version"]], show.VERSIONS, "")
        show.print_table(
            answer["files"],
            (
                ("file", lambda f: f["path"]),
                ("bytes", lambda f: f["size_bytes"]),
                ("sha256", lambda f: f["sha256"]),
            ),
            "no files",
        )

    _print(arguments, answer, tables)
    return 0


def release_create(arguments: argparse.Namespace) -> int:
    """``release create``."""
    scenario, task = _task(arguments.task)
    wish = {
        "scenario": scenario,
        "task": task,
        "version": arguments.version,
        "predicate": arguments.where,
        "percent": arguments.percent,
        "stages": [
            {"percent": percent.strip(), "hold_s": arguments.hold_s, "min_devices": arguments.min_devices}
            for percent in arguments.stages.split(",")
            if percent.strip()
        ],
        "control_percent": arguments.control_percent,
        "voters_percent": arguments.voters_percent,
        "guard": {name: getattr(arguments, name) for name in arguments.guard_options},
    }
    with _connect(arguments) as client:
        answer = client.post("releases", wish)
    _print(arguments, answer, lambda: show.print_table([answer], show.RELEASES, ""))
    return 0


def release_list(arguments: argparse.Namespace) -> int:
    """``release list``."""
    with _connect(arguments) as client:
        answer = client.get("releases")
    _print(
        arguments,
        answer,
        lambda: show.print_table(answer["releases"], show.RELEASES, "no release was created yet"),
    )
    return 0


def release_show(arguments: argparse.Namespace) -> int:
    """``release show``."""
    with _connect(arguments) as client:
        answer = client.get(f"releases/{_quoted(arguments.release)}")
    _print(arguments, answer, lambda: _print_release(answer))
    return 0


def release_act(arguments: argparse.Namespace) -> int:
    """``release promote``, ``pause``, ``stop``, ``resume`` and ``rollback``."""
    with _connect(arguments) as client:
        answer = client.post(
            f"releases/{_quoted(arguments.release)}/{arguments.action}", {"reason": arguments.reason}
        )
    _print(arguments, answer, lambda: _print_release(answer))
    return 0


def release_explain(arguments: argparse.Namespace) -> int:
    """``release explain``."""
    body: dict[str, Any] = {"device_id": arguments.device}
    if arguments.profile:
        body["profile"] = dict(_profile_item(text) for text in arguments.profile)
    with _connect(arguments) as client:
        answer = client.post("explain", body)
    _print(
        arguments,
        answer,
        lambda: show.print_table(answer["releases"], show.EXPLANATIONS, "no release is live"),
    )
    return 0


def device_list(arguments: argparse.Namespace) -> int:
    """``device list``: all pages."""
    devices: list[Any] = []
    after: str | None = ""
    with _connect(arguments) as client:
        while after is not None:
            page = client.get("devices", after=after)
            devices += page["devices"]
            after = page["next"]
    answer = {"devices": devices}
    _print(arguments, answer, lambda: show.print_table(devices, show.DEVICES, "no device is enrolled yet"))
    return 0


def device_show(arguments: argparse.Namespace) -> int:
    """``device show``."""
    with _connect(arguments) as client:
        answer = client.get(f"devices/{_quoted(arguments.device)}")
    _print(arguments, answer, lambda: show.print_table([answer], show.DEVICES, ""))
    return 0


def device_revoke(arguments: argparse.Namespace) -> int:
    """``device revoke``."""
    with _connect(arguments) as client:
        answer = client.post(f"devices/{_quoted(arguments.device)}/revoke")
    _print(arguments, answer, lambda: show.print_table([answer], show.DEVICES, ""))
    return 0


def enrol_token_create(arguments: argparse.Namespace) -> int:
    """``enrol-token create``."""
    wish = {"uses": arguments.uses, "valid_s": arguments.valid_s, "note": arguments.note}
    with _connect(arguments) as client:
        answer = client.post("enrol-tokens", wish)
    facts = {**answer, "valid until": f"{show.moment(answer['expires_ms'])} UTC"}
    _print(arguments, answer, lambda: show.print_facts(facts))
    return 0


def features_list(arguments: argparse.Namespace) -> int:
    """``features list``."""
    names = ("scenario", "task", "name", "device", "release", "after", "limit")
    with _connect(arguments) as client:
        answer = client.get("features", **{name: getattr(arguments, name) for name in names})
    _print(arguments, answer, lambda: show.print_table(answer["features"], show.FEATURES, "no such feature"))
    return 0


def features_tail(arguments: argparse.Namespace) -> int:
    """``features tail``: one line each; with ``--json``, one object a line."""
    scenario, name = _task(arguments.task)
    query = {"scenario": scenario, "task": name, "name": arguments.name, "device": arguments.device}
    left = arguments.count
    with _connect(arguments) as client:
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
    scenario, task = _task(arguments.task)
    with _connect(arguments) as client:
        answer = client.get(f"tasks/{_quoted(scenario)}/{_quoted(task)}/{_quoted(arguments.version)}")
    uploads = answer["definition"]["uploads"]

    def text() -> None:
        from walle_control.consume import dataclass_text  # brings Trio

        print("\n\n".join(dataclass_text(name, fields) for name, fields in uploads.items()), end="")

    _print(arguments, uploads, text)
    return 0


def sinks(arguments: argparse.Namespace) -> int:
    """``sinks``; 1 if one fails."""
    with _connect(arguments) as client:
        answer = client.get("sinks")
    _print(arguments, answer, lambda: show.print_table(answer["sinks"], show.SINKS, "only the database"))
    return 1 if any(sink["error"] for sink in answer["sinks"]) else 0


def reports_list(arguments: argparse.Namespace) -> int:
    """``reports list``."""
    names = ("release", "device", "outcome", "after", "limit")
    with _connect(arguments) as client:
        answer = client.get("reports", **{name: getattr(arguments, name) for name in names})
    _print(arguments, answer, lambda: show.print_table(answer["reports"], show.REPORTS, "no such report"))
    return 0


def audit_list(arguments: argparse.Namespace) -> int:
    """``audit list``."""
    with _connect(arguments) as client:
        answer = client.get("audit", after=arguments.after, limit=arguments.limit)
    _print(arguments, answer, lambda: show.print_table(answer["entries"], show.AUDIT, "nothing yet"))
    return 0


def audit_verify(arguments: argparse.Namespace) -> int:
    """``audit verify``: the chain is followed here, whatever the server believes of it."""
    head, seq, seen = GENESIS, 0, not arguments.expect
    with _connect(arguments) as client:
        while page := client.get("audit", after=seq)["entries"]:
            entries = [from_plain(AuditEntry, entry) for entry in page]
            head = check_chain(entries, head, seq)
            seq = entries[-1].seq
            seen = seen or any(entry.hash.startswith(arguments.expect) for entry in entries)
    if not seen:
        raise TrustError(f"{arguments.expect} is not in the chain: the log was written anew since that check")
    facts = {"entries": seq, "last hash": head}
    _print(arguments, facts, lambda: show.print_facts(facts))
    return 0


def _connect(arguments: argparse.Namespace) -> AdminClient:
    return connect(arguments.url, arguments.token, arguments.data)


def _print(arguments: argparse.Namespace, answer: object, for_people: Any) -> None:
    if arguments.json:
        show.print_json(answer)
    else:
        for_people()


def _print_release(answer: Any) -> None:
    show.print_table([answer], show.RELEASES, "")
    print()
    show.print_trial(answer)
    show.print_table(answer["counts"], show.COUNTS, "no reports yet")
    print()
    show.print_table(answer["history"], show.HISTORY, "")


def _task(text: str) -> tuple[str, str]:
    scenario, slash, task = text.partition("/")
    if not slash or not scenario or not task:
        raise ConfigError(f"{text!r} must be SCENARIO/TASK, for example demo/digit_reader")
    return scenario, task


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _profile_item(text: str) -> tuple[str, str | int | float | bool]:
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
