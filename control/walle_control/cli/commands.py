"""What each command does."""

from __future__ import annotations

import argparse
import base64
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from walle_control.cli import show
from walle_control.cli.client import connect, quoted
from walle_control.config import CONFIG_FILE, load_config
from walle_control.features.audit.types import GENESIS, AuditEntry, check_chain
from walle_shared.clock import SystemClock
from walle_shared.errors import ConfigError, TrustError
from walle_shared.observe import configure_logging
from walle_shared.records import from_plain, to_plain

if TYPE_CHECKING:
    from walle_control.backup import BackupResult

#: What one request of ``features tail`` asks for.
_TAIL_PAGE = 1_000
_TAIL_WAIT_S = 20

#: Options of ``release create`` that are terms of the release.
_TERMS = ("windows", "spread_s", "cap", "everyone", "personal")
#: Ids in one request about files of single devices; a file sent with each is sealed anew.
_DEVICES_PER_REQUEST = 20_000


def init(arguments: argparse.Namespace) -> int:
    """``init``."""
    from walle_control import setup  # only the server's own commands need its libraries

    path = Path(arguments.data) / CONFIG_FILE
    known = load_config(path, environ=os.environ).database.url if path.exists() else ""
    if arguments.database and known not in ("", arguments.database):
        raise ConfigError(f"{path}: database.url is another one; change it there")
    result = setup.init(Path(arguments.data), SystemClock(), arguments.database or known)
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
    flags = {
        "server.host": arguments.host,
        "server.port": arguments.port,
        "server.workers": arguments.workers,
    }
    config = load_config(path, environ=os.environ, flags=flags)
    configure_logging(level=config.log.level, format=config.log.format)
    if config.server.workers > 1 and not arguments.supervised:
        command = [
            sys.executable,
            "-m",
            "walle_control",
            "serve",
            "--config",
            str(path),
            "--supervised",
            "--fd",
        ]
        server.run_workers(config, command, arguments.fd)
    else:
        server.run(config, arguments.fd, supervised=arguments.supervised)
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


def rebuild(arguments: argparse.Namespace) -> int:
    """``rebuild``."""
    from walle_control import setup  # as above

    result = setup.rebuild(Path(arguments.data), SystemClock())
    if arguments.json:
        show.print_json(to_plain(result))
        return 0
    show.print_facts(
        {
            "repositories": result.repositories,
            "task versions": result.versions,
            "releases": f"{result.releases}, all paused: devices keep them",
            "epoch": result.epoch,
            "left out": "; ".join(result.left_out) or "nothing",
            "not rebuilt": "devices (they enrol again), people, reports, features, audit log: see backups",
        }
    )
    return 1 if result.left_out else 0


def backup(arguments: argparse.Namespace) -> int:
    """``backup``."""
    from walle_control import backup as archives  # as above

    path = Path(arguments.data) / CONFIG_FILE
    url = load_config(path, environ=os.environ).database.url if path.exists() else ""
    return _print_backup(
        arguments, archives.backup(Path(arguments.data), url, Path(arguments.to), SystemClock())
    )


def restore(arguments: argparse.Namespace) -> int:
    """``restore``."""
    from walle_control import backup as archives  # as above

    result = archives.restore(
        Path(arguments.archive), Path(arguments.data), arguments.database, SystemClock(), arguments.last_epoch
    )
    return _print_backup(arguments, result)


def _print_backup(arguments: argparse.Namespace, result: BackupResult) -> int:
    show.print_answer(arguments, to_plain(result), lambda: show.print_facts(to_plain(result)))
    return 0


def status(arguments: argparse.Namespace) -> int:
    """``status``."""
    with connect(arguments) as client:
        answer = client.get("status")
    show.print_answer(arguments, answer, lambda: show.print_facts(answer))
    return 0


def epoch(arguments: argparse.Namespace) -> int:
    """``epoch``."""
    with connect(arguments) as client:
        answer = client.get("epoch")
    facts = {
        "epoch": answer["epoch"],
        "made": f"{show.moment(answer['created_ms'])} UTC: {answer['reason']}",
        "valid until": f"{show.moment(answer['envelope']['signed']['expires_ms'])} UTC",
        "live releases": ", ".join(release["id"] for release in answer["snapshot"]["releases"]) or "none",
    }
    show.print_answer(arguments, answer, lambda: show.print_facts(facts))
    return 0


def import_version(arguments: argparse.Namespace) -> int:
    """``import``."""
    request = {
        "repository": _repository(arguments.repo),
        "task": arguments.task,
        "version": arguments.version,
        "tag": arguments.tag,
        "folder": arguments.folder,
    }
    with connect(arguments) as client:
        answer = client.post("tasks", request)
    show.print_answer(arguments, answer, lambda: show.print_table([answer["version"]], show.VERSIONS, ""))
    if not answer["created"]:
        print("imported before from the same commit: nothing changed", file=sys.stderr)
    elif answer["version"]["state"] == "draft":
        print(f"a draft: {_first_failure(answer['simulation'])}", file=sys.stderr)
    return 0


def _repository(text: str) -> str:
    """What the server is told of ``--repo``: a repository's name, or an absolute path."""
    is_name = "/" not in text and not text.startswith((".", "~")) and not Path(text).exists()
    return text if is_name else str(Path(text).expanduser().resolve())


def repo_add(arguments: argparse.Namespace) -> int:
    """``repo add``."""
    request = {
        "name": arguments.name,
        "url": arguments.remote,
        "scenario": arguments.scenario,
        "folder": arguments.folder,
        "credential": arguments.credential,
        "auto_import": arguments.auto_import,
    }
    with connect(arguments) as client:
        client.post("repositories", request)
        answer = client.post(f"repositories/{quoted(arguments.name)}/sync")
    return _print_sync(arguments, answer)


def repo_list(arguments: argparse.Namespace) -> int:
    """``repo list``."""
    with connect(arguments) as client:
        answer = client.get("repositories")
    rows = answer["repositories"]
    show.print_answer(
        arguments, answer, lambda: show.print_table(rows, show.REPOSITORIES, "there is no repository")
    )
    return 0


def repo_sync(arguments: argparse.Namespace) -> int:
    """``repo sync``."""
    with connect(arguments) as client:
        answer = client.post(f"repositories/{quoted(arguments.name)}/sync")
    return _print_sync(arguments, answer)


def repo_remove(arguments: argparse.Namespace) -> int:
    """``repo remove``."""
    with connect(arguments) as client:
        answer = client.post(f"repositories/{quoted(arguments.name)}/remove")
    show.print_answer(
        arguments, answer, lambda: print(f"{arguments.name} is forgotten; versions imported from it stay")
    )
    return 0


def _print_sync(arguments: argparse.Namespace, answer: dict[str, Any]) -> int:
    def words() -> None:
        show.print_table([answer["repository"]], show.REPOSITORIES, "")
        for tag in answer["imported"]:
            print(f"imported {tag}")

    show.print_answer(arguments, answer, words)
    for failure in answer["failed"]:
        print(f"not imported: {failure['tag']}: {failure['error']}", file=sys.stderr)
    return 1 if answer["failed"] else 0


def _first_failure(simulation: Any) -> str:
    failures = [failure for cell in simulation["result"]["cells"] for failure in cell["failures"]]
    return f"{failures[0]['kind']}: {failures[0]['message']}; see 'walle-control simulation show'"


def exclusive_give(arguments: argparse.Namespace) -> int:
    """``exclusive give``."""
    scenario, task = _task(arguments.task)
    try:
        content = base64.b64encode(Path(arguments.file).read_bytes()).decode()
    except OSError as error:
        raise ConfigError(f"{arguments.file}: cannot be read: {error.strerror}") from None
    wish = {"path": arguments.name or Path(arguments.file).name, "content": content}
    return _for_devices(arguments, f"exclusive/{quoted(scenario)}/{quoted(task)}/give", wish, "have it now")


def exclusive_take(arguments: argparse.Namespace) -> int:
    """``exclusive take``."""
    scenario, task = _task(arguments.task)
    path = f"exclusive/{quoted(scenario)}/{quoted(task)}/take"
    return _for_devices(arguments, path, {"path": arguments.name}, "delete it when they next ask")


def exclusive_list(arguments: argparse.Namespace) -> int:
    """``exclusive list``."""
    scenario, task = _task(arguments.task)
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


def task_list(arguments: argparse.Namespace) -> int:
    """``task list``."""
    with connect(arguments) as client:
        answer = client.get("tasks")
    show.print_answer(
        arguments,
        answer,
        lambda: show.print_table(answer["versions"], show.VERSIONS, "no version was imported yet"),
    )
    return 0


def task_show(arguments: argparse.Namespace) -> int:
    """``task show``."""
    scenario, task = _task(arguments.task)
    with connect(arguments) as client:
        answer = client.get(f"tasks/{quoted(scenario)}/{quoted(task)}/{quoted(arguments.version)}")

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

    show.print_answer(arguments, answer, tables)
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
        body["at_ms"] = _time_ms(arguments.at)
    if arguments.profile:
        body["profile"] = dict(_profile_item(text) for text in arguments.profile)
    with connect(arguments) as client:
        answer = client.post("explain", body)
    show.print_answer(
        arguments,
        answer,
        lambda: show.print_table(answer["releases"], show.EXPLANATIONS, "no release is live"),
    )
    return 0


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


def device_describe(arguments: argparse.Namespace) -> int:
    """``device describe``."""
    return _describe(arguments, f"devices/{quoted(arguments.device)}/attributes")


def user_describe(arguments: argparse.Namespace) -> int:
    """``user describe``."""
    return _describe(arguments, f"users/{quoted(arguments.user)}/attributes")


def _describe(arguments: argparse.Namespace, path: str) -> int:
    values = dict(_profile_item(text) for text in arguments.values)
    with connect(arguments) as client:
        answer = client.post(path, {"values": values}) if values else client.get(path)
    show.print_answer(
        arguments, answer, lambda: show.print_facts(answer["values"] or {"nothing": "was said yet"})
    )
    return 0


def simulation_show(arguments: argparse.Namespace) -> int:
    """``simulation show``; 1 if the version has not passed."""
    with connect(arguments) as client:
        answer = client.get(_simulation_path(arguments))
    return _print_simulation(arguments, answer)


def simulation_run(arguments: argparse.Namespace) -> int:
    """``simulation run``; 1 if the version has not passed."""
    with connect(arguments) as client:
        answer = client.post(_simulation_path(arguments))
    return _print_simulation(arguments, answer)


def _simulation_path(arguments: argparse.Namespace) -> str:
    scenario, task = _task(arguments.task)
    return f"tasks/{quoted(scenario)}/{quoted(task)}/{quoted(arguments.version)}/simulation"


def _print_simulation(arguments: argparse.Namespace, answer: Any) -> int:
    show.print_answer(arguments, answer, lambda: show.print_simulation(answer))
    return 0 if answer["result"]["passed"] else 1


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


def enrol_token_create(arguments: argparse.Namespace) -> int:
    """``enrol-token create``."""
    wish = {"uses": arguments.uses, "valid_s": arguments.valid_s, "note": arguments.note}
    with connect(arguments) as client:
        answer = client.post("enrol-tokens", wish)
    facts = {**answer, "valid until": f"{show.moment(answer['expires_ms'])} UTC"}
    show.print_answer(arguments, answer, lambda: show.print_facts(facts))
    return 0


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
    scenario, name = _task(arguments.task)
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
    scenario, task = _task(arguments.task)
    with connect(arguments) as client:
        answer = client.get(f"tasks/{quoted(scenario)}/{quoted(task)}/{quoted(arguments.version)}")
    uploads = answer["definition"]["uploads"]

    def text() -> None:
        from walle_control.consume import dataclass_text  # brings Trio

        print("\n\n".join(dataclass_text(name, fields) for name, fields in uploads.items()), end="")

    show.print_answer(arguments, uploads, text)
    return 0


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


def audit_list(arguments: argparse.Namespace) -> int:
    """``audit list``."""
    with connect(arguments) as client:
        answer = client.get("audit", after=arguments.after, limit=arguments.limit)
    show.print_answer(
        arguments, answer, lambda: show.print_table(answer["entries"], show.AUDIT, "nothing yet")
    )
    return 0


def audit_verify(arguments: argparse.Namespace) -> int:
    """``audit verify``: the chain is followed here, whatever the server believes of it."""
    head, seq, seen = GENESIS, 0, not arguments.expect
    with connect(arguments) as client:
        while page := client.get("audit", after=seq)["entries"]:
            entries = [from_plain(AuditEntry, entry) for entry in page]
            head = check_chain(entries, head, seq)
            seq = entries[-1].seq
            seen = seen or any(entry.hash.startswith(arguments.expect) for entry in entries)
    if not seen:
        raise TrustError(f"{arguments.expect} is not in the chain: the log was written anew since that check")
    facts = {"entries": seq, "last hash": head}
    show.print_answer(arguments, facts, lambda: show.print_facts(facts))
    return 0


def fleet_sim(arguments: argparse.Namespace) -> int:
    """``fleet-sim``; 1 if a release did not reach its part in time."""
    from walle_control.cli import fleet  # brings Trio and NumPy

    if arguments.model:
        return fleet.play_model(arguments)
    return fleet.simulate(arguments, connect(arguments))


def _print_release(answer: Any) -> None:
    show.print_table([answer], show.RELEASES, "")
    print()
    show.print_trial(answer)
    show.print_table(answer["counts"], show.COUNTS, "no reports yet")
    print()
    show.print_table(answer["history"], show.HISTORY, "")


def _print_holdouts(arguments: argparse.Namespace, answer: Any) -> None:
    show.print_answer(
        arguments, answer, lambda: show.print_table(answer["holdouts"], show.HOLDOUTS, "nobody is held out")
    )


def _print_attributes(arguments: argparse.Namespace, answer: Any) -> None:
    rows = answer["attributes"]
    show.print_answer(
        arguments, answer, lambda: show.print_table(rows, show.ATTRIBUTES, "none: any name may be used")
    )


def _stages(arguments: argparse.Namespace) -> list[str]:
    """The percentages of the stages; a ramp makes one stage of ``--percent``."""
    named = [percent.strip() for percent in arguments.stages.split(",") if percent.strip()]
    return named or ([arguments.percent] if arguments.ramp_s else [])


def _time_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--at {text!r} is no time: write 2026-12-01T02:30Z") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _task(text: str) -> tuple[str, str]:
    scenario, slash, task = text.partition("/")
    if not slash or not scenario or not task:
        raise ConfigError(f"{text!r} must be SCENARIO/TASK, for example demo/digit_reader")
    return scenario, task


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
