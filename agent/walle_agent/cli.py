"""``walle-agent``: arguments in, sentences out; the work is elsewhere."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trio

from walle_agent import app, doctor, emit, schema, triggers, watch
from walle_agent.config import AgentConfig, load_config, read_schema
from walle_agent.deploy.profile import measure_profile
from walle_agent.link.session import Session
from walle_agent.link.signed_clock import SignedClock
from walle_agent.link.transport import Transport
from walle_agent.state.reports import read_statistics
from walle_agent.state.store import SLOT_NAMES, DeviceState, StateStore, read_only
from walle_shared.clock import SystemClock
from walle_shared.completion import add_completion, script_of
from walle_shared.errors import ConfigError, StorageError, WalleError
from walle_shared.findings import all_well, tell
from walle_shared.observe import configure_logging
from walle_shared.records import to_plain

type _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

#: By command: an example, and what it does.
_EXAMPLES = {
    "enrol": ("--config agent.toml --token TOKEN", "become known to the control plane, once"),
    "run": ("--config agent.toml", "run as a daemon, until SIGTERM"),
    "status": ("--config agent.toml --json", "what is installed, and the counters"),
    "doctor": ("--config agent.toml", "what is wrong with this device, and how to mend it"),
    "emit": ("--config agent.toml events.jsonl", "send recorded events to the running agent"),
    "events tail": ("--config agent.toml", "watch what the apps say"),
    "events record": ("--config agent.toml visit.jsonl", "keep it, for tests and replay"),
    "events replay": ("--config agent.toml visit.jsonl --speed 10", "the same as emit"),
    "events schema": (
        "--schema events.toml --events visit.jsonl",
        "what events hold, and a recording's faults",
    ),
    "trigger explain": ("task.toml --events events.jsonl", "why a trigger fired, or did not"),
    "task": ("run visits --events visits/tests/events.jsonl", "the task author's tools"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit code."""
    arguments = build_parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ConfigError as error:
        print(f"walle-agent: error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except WalleError as error:
        print(f"walle-agent: error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    except BrokenPipeError:  # the reader of our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="walle-agent",
        description="Installs the tasks the control plane wants on this device and runs them on events.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"walle-agent {version('walle')}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", type=Path, default=Path("agent.toml"), help="settings file (default: agent.toml)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        example = f"example: walle-agent {name} {_EXAMPLES[name][0]}"
        return commands.add_parser(name, parents=[common], help=text, description=text, epilog=example)

    run = add("run", "run as a daemon, until SIGTERM or SIGINT")
    run.add_argument("--log-level", choices=["debug", "info", "warning", "error"], help="over log.level")
    run.add_argument("--log-format", choices=["console", "json"], help="over log.format")
    run.set_defaults(command=_run)

    status = add("status", "show what a running or stopped agent has")
    status.add_argument("--json", action="store_true", help="for scripts")
    status.set_defaults(command=_status)

    looked = add("doctor", "look at everything this device needs; say what is wrong, and the cure")
    looked.add_argument("--json", action="store_true", help="for scripts")
    looked.set_defaults(command=_doctor)

    enrol = add("enrol", "become known to the control plane")
    enrol.add_argument("--token", required=True, help="from `walle-control enrol-token create`")
    enrol.set_defaults(command=_enrol)

    _add_replay(add("emit", "send recorded events to the running agent"))
    _add_events(commands, common)
    _add_trigger(commands)
    if importlib.util.find_spec("walle_agent.author") is not None:  # the slim runtime of devices has none
        from walle_agent.author import cli as author

        author.add_commands(commands)
    add_completion(commands, parser).set_defaults(command=_complete)
    return parser


def _complete(arguments: argparse.Namespace) -> int:
    print(script_of(build_parser(), arguments.shell))
    return EXIT_OK


def _add_replay(send: argparse.ArgumentParser) -> None:
    send.add_argument("file", nargs="?", default="-", help="one JSON object a line; - is standard input")
    send.add_argument("--socket", type=Path, help="the events socket, instead of the one in the settings")
    pace = send.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=_positive, help="events a second (default: as fast as they are taken)")
    pace.add_argument("--speed", type=_positive, help="keep the recorded gaps, so many times faster")
    send.add_argument("--quiet", action="store_true", help="no progress")
    send.set_defaults(command=_emit)


def _add_events(commands: _Commands, common: argparse.ArgumentParser) -> None:
    events = commands.add_parser("events", help="watch, record and replay events").add_subparsers(
        required=True, metavar="COMMAND"
    )

    def add(name: str, text: str) -> argparse.ArgumentParser:
        example = f"example: walle-agent events {name} {_EXAMPLES['events ' + name][0]}"
        return events.add_parser(name, parents=[common], help=text, description=text, epilog=example)

    tail = add("tail", "show the events of the log, and those that come, until Ctrl-C")
    tail.add_argument("-n", "--last", type=int, default=10, metavar="N", help="so many old ones first (10)")
    tail.add_argument("--no-follow", action="store_true", help="only the old ones")
    tail.add_argument("--json", action="store_true", help="one JSON object a line")
    tail.set_defaults(command=_tail)

    record = add("record", "write the events that come to a file that replay takes, until Ctrl-C")
    record.add_argument("file", help="- is standard output")
    record.add_argument("-n", "--count", type=_count, metavar="N", help="end after so many events")
    record.add_argument("--last", type=int, default=0, metavar="N", help="so many old ones first (0)")
    record.set_defaults(command=_record)

    _add_replay(add("replay", "send recorded events to the running agent"))

    declared = add(
        "schema", "show what the app's events hold and how private it is; check a recording against it"
    )
    declared.add_argument(
        "--schema", type=Path, metavar="FILE", help="events.toml, instead of the settings' one"
    )
    declared.add_argument("--events", metavar="FILE", help="recorded events; - is standard input")
    declared.add_argument("--json", action="store_true", help="for scripts")
    declared.set_defaults(command=_schema)


def _add_trigger(commands: _Commands) -> None:
    trigger = commands.add_parser("trigger", help="understand a trigger").add_subparsers(
        required=True, metavar="COMMAND"
    )
    text = "draw a trigger, and say of a recorded stream why it fired or did not"
    tell = trigger.add_parser(
        "explain",
        help=text,
        description=text,
        epilog="example: walle-agent trigger explain 'on enter(item) ~> click within 9s' --events FILE",
    )
    tell.add_argument("trigger", help="its text, or a task.toml or task folder whose triggers to explain")
    tell.add_argument(
        "--events", metavar="FILE", help="recorded events, one JSON object a line; - is standard input"
    )
    tell.add_argument("--all", action="store_true", help=f"every beginning, not {triggers.SHOWN} of them")
    tell.add_argument("--json", action="store_true", help="for scripts")
    tell.set_defaults(command=_explain_trigger)


def _epilog() -> str:
    examples = [(f"walle-agent {name} {words}", text) for name, (words, text) in _EXAMPLES.items()]
    width = max(len(example) for example, _ in examples)
    lines = [f"  {example:<{width}}  {text}" for example, text in examples]
    exits = "exit codes: 0 done, 1 failed, 2 wrong usage or settings"
    return "\n".join(["examples:", *lines, "", exits])


def _load(arguments: argparse.Namespace, flags: dict[str, Any] | None = None) -> AgentConfig:
    return load_config(arguments.config, environ=os.environ, flags=flags)


def _run(arguments: argparse.Namespace) -> int:
    config = _load(arguments, {"log.level": arguments.log_level, "log.format": arguments.log_format})
    configure_logging(level=config.log.level, format=config.log.format)
    trio.run(app.run_agent, config)
    return EXIT_OK


def _enrol(arguments: argparse.Namespace) -> int:
    config = _load(arguments)
    configure_logging(level="warning", format=config.log.format)
    device_id, fresh = trio.run(enrol_device, config, arguments.token)
    print(f"enrolled as {device_id}" if fresh else f"already enrolled as {device_id}")
    return EXIT_OK


async def enrol_device(config: AgentConfig, token: str) -> tuple[str, bool]:
    """Enrol with a token; the device's name, and whether it is new.

    Raises:
        ConfigError: an agent is running in the data folder.
        WalleError: the control plane refused or is away.
    """
    corrupt: list[StorageError] = []
    with app.folder_lock(config.data_dir):
        store = StateStore(config.data_dir, on_corrupt=corrupt.append)
        for error in corrupt:
            print(f"walle-agent: warning: {error}", file=sys.stderr)
        async with Transport(config.control.url, timeout_s=config.link.timeout_s) as transport:
            session = Session(
                transport,
                store,
                SignedClock(SystemClock()),
                profile=measure_profile(config.profile),
                enrol_token=token,
            )
            fresh = session.device_id is None
            if fresh:
                await session.credential()
            return str(session.device_id), fresh


def _status(arguments: argparse.Namespace) -> int:
    config = _load(arguments)
    status = read_status(config)
    if arguments.json:
        print(json.dumps(status, indent=2))
    else:
        print(format_status(status))
    return EXIT_OK


def _doctor(arguments: argparse.Namespace) -> int:
    config = _load(arguments)
    configure_logging(level="error", format=config.log.format)
    findings = trio.run(doctor.examine, config)
    print(json.dumps(to_plain(findings), indent=2) if arguments.json else tell(findings))
    return EXIT_OK if all_well(findings) else EXIT_FAILED


def read_status(config: AgentConfig) -> dict[str, Any]:
    """What the files of an agent, running or not, say of it.

    Raises:
        StorageError: a file is corrupt.
    """
    folder = config.data_dir
    identity, state = read_only(folder)
    tasks = [
        {
            "scenario": record.scenario,
            "task": record.task,
            "active": record.active,
            "slots": {name: to_plain(record.slot(name)) for name in SLOT_NAMES},
        }
        for record in (state.tasks if state else ())
    ]
    return {
        "running": app.is_running(folder),
        "data_dir": str(folder),
        "events_socket": str(config.events_socket),
        "device_id": identity.device_id if identity and identity.enrolled else None,
        "epoch": state.epoch if state else 0,
        "tasks": tasks,
        "quarantine": to_plain(state.quarantine) if state else [],
        "isolated": _isolated(state) if state else [],
        "reports": to_plain(read_statistics(folder / app.REPORTS_FILE)),
        "counters": _read_counters(folder / app.STATUS_FILE),
    }


def _isolated(state: DeviceState) -> list[dict[str, Any]]:
    """The installed versions that run in a process of their own since a worker died under them."""
    return [
        {"scenario": record.scenario, "task": record.task, "version": slot.version, **to_plain(entry)}
        for record in state.tasks
        for slot in (record.slot(name) for name in SLOT_NAMES)
        if (entry := state.isolation(slot.manifest)) is not None
    ]


def _read_counters(path: Path) -> dict[str, Any]:
    try:
        counters: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: cannot be read: {error}") from error
    return counters


def format_status(status: dict[str, Any]) -> str:
    """The status for a person."""
    lines = [
        f"agent      {'running' if status['running'] else 'stopped'}, data in {status['data_dir']}",
        f"device     {status['device_id'] or 'not enrolled: walle-agent enrol --token TOKEN'}",
        f"epoch      {status['epoch']}",
        "reports    {queued} queued, {delivered} delivered, {evicted} evicted".format(**status["reports"]),
    ]
    if runs := status["counters"].get("runs"):
        lines.append("runs       {ok} ok, {failed} failed, {dismissed} dismissed".format(**runs))
    learning = status["counters"].get("learning") or {}
    if learning.get("open") or learning.get("contributed"):
        waits = learning["waiting_for"]
        lines.append(
            f"learning   {learning['contributed']} rounds joined"
            + (f"; one waits for {waits}" if learning["open"] and waits else "")
        )
    if status["tasks"]:
        lines += ["", f"{'TASK':<32} {'SLOT':<5} {'PHASE':<8} {'VERSION':<12} RELEASE"]
    for task in status["tasks"]:
        for name, slot in task["slots"].items():
            mark = "*" if task["active"] == name else " "
            lines.append(
                f"{task['scenario'] + '/' + task['task']:<32} {name + mark:<5} {slot['phase']:<8} "
                f"{slot['version'] or '-':<12} {slot['release_id'] or '-'}"
            )
    lines += [
        f"isolated {entry['scenario']}/{entry['task']} {entry['version']}: {entry['reason']}"
        for entry in status["isolated"]
    ]
    lines += [f"quarantined {entry['release_id']}: {entry['reason']}" for entry in status["quarantine"]]
    return "\n".join(lines)


def _emit(arguments: argparse.Namespace) -> int:
    socket_path = arguments.socket or _load(arguments).events_socket
    pace = emit.Pace(rate_per_s=arguments.rate, speed=arguments.speed)
    with emit.open_lines(arguments.file) as lines:
        outcome = emit.send_events(socket_path, lines, pace, progress=None if arguments.quiet else sys.stderr)
    for refusal in outcome.refusals[:5]:
        print(f"walle-agent: refused: {refusal}", file=sys.stderr)
    print(f"{outcome.sent} events sent, {outcome.refused} refused")
    return EXIT_OK if outcome.refused == 0 else EXIT_FAILED


def _tail(arguments: argparse.Namespace) -> int:
    log = _load(arguments).data_dir / app.STREAMS_FILE
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for event in watch.follow(log, last=max(arguments.last, 0), ongoing=not arguments.no_follow):
        print(json.dumps(to_plain(event)) if arguments.json else watch.show(event, width), flush=True)
    return EXIT_OK


def _record(arguments: argparse.Namespace) -> int:
    log = _load(arguments).data_dir / app.STREAMS_FILE
    events = watch.follow(log, last=max(arguments.last, 0))
    if arguments.file == "-":
        watch.record(events, sys.stdout, count=arguments.count, progress=None)
        return EXIT_OK
    try:
        with Path(arguments.file).open("w", encoding="utf-8") as file:
            written = watch.record(events, file, count=arguments.count, progress=sys.stderr)
    except OSError as error:
        raise ConfigError(f"{arguments.file}: cannot be written: {error.strerror or error}") from None
    print(f"{written} events in {arguments.file}")
    return EXIT_OK


def _schema(arguments: argparse.Namespace) -> int:
    declared = read_schema(arguments.schema) if arguments.schema else _load(arguments).event_schema()
    if declared is None:
        raise ConfigError(
            f"{arguments.config}: streams.schema is empty: set it, or name a file with --schema"
        )
    verdict = None
    if arguments.events:
        with emit.open_lines(arguments.events) as lines:
            verdict = schema.judge(declared, lines)
    print((schema.tell_plain if arguments.json else schema.tell)(declared, verdict))
    return EXIT_OK if verdict is None or verdict.ok else EXIT_FAILED


def _explain_trigger(arguments: argparse.Namespace) -> int:
    found = triggers.read_triggers(arguments.trigger)
    stream = triggers.read_stream(arguments.events) if arguments.events else None
    if arguments.json:
        print(triggers.dump([triggers.tell_plain(trigger, stream) for trigger in found]))
    else:
        print("\n\n".join(triggers.tell(trigger, stream, everything=arguments.all) for trigger in found))
    return EXIT_OK


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not over 0")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not over 0")
    return value
