"""``walle-agent task``: arguments in, sentences out; the work is elsewhere in this package."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from walle_agent.config import read_schema
from walle_shared.errors import ConfigError

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

#: By command: an example, and what it does.
EXAMPLES = {
    "init": ("visits", "make a small working task in a new folder"),
    "check": ("visits", "find what is wrong with a task, by file and line"),
    "run": ("visits --events visits/tests/events.jsonl", "run a task on recorded events, as a device would"),
    "simulate": ("visits", "play the simulations that a version must pass before it may be released"),
    "profile": ("visits --events visits/tests/events.jsonl --flame flame.svg", "show where its time goes"),
    "test": ("visits", "run the task's own tests"),
}


def add_commands(commands: Any) -> None:
    """Add ``task`` and what is below it to a program's commands."""
    text = "make, check, run, profile and test a task before any release"
    examples = [f"  walle-agent task {name} {words:<66}  {what}" for name, (words, what) in EXAMPLES.items()]
    group = commands.add_parser(
        "task",
        help=text,
        description=text,
        epilog="\n".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = group.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        words, what = EXAMPLES[name]
        parser: argparse.ArgumentParser = below.add_parser(
            name, help=what, description=what, epilog=f"example: walle-agent task {name} {words}"
        )
        parser.set_defaults(command=run)
        return parser

    create = add("init", _init)
    create.add_argument("folder", type=Path, help="a new folder; the task is named for it")
    create.add_argument("--scenario", default="demo", help="the group of tasks it belongs to (default: demo)")

    create.add_argument("--cloud", action="store_true", help="with a half on the control plane, cloud.py")

    check = add("check", _check)
    _add_folder(check)
    check.add_argument(
        "--schema",
        type=Path,
        metavar="FILE",
        help="the app's events.toml (default: the nearest one in the folder or above it)",
    )
    _add_json(check)

    run = add("run", _run)
    _add_folder(run)
    _add_events(run)
    _add_json(run)

    simulate = add("simulate", _simulate)
    _add_folder(simulate)
    simulate.add_argument(
        "--update", action="store_true", help="write what the runs produce now as what is expected"
    )
    _add_json(simulate)

    profile = add("profile", _profile)
    _add_folder(profile)
    _add_events(profile)
    profile.add_argument("--flame", type=Path, metavar="FILE", help="write a flame graph, an SVG file")
    profile.add_argument("--seconds", type=_positive, default=1.0, help="profiled run time (default: 1)")
    _add_json(profile)

    test = add("test", _test)
    _add_folder(test)
    test.add_argument("pytest", nargs="*", metavar="ARGUMENT", help="for pytest, behind --")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(), help="the task's folder (default: this one)"
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for scripts")


def _add_events(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=Path, required=True, metavar="FILE", help="one JSON event a line")
    parser.add_argument("--seed", type=int, default=0, help="of the task's chance (default: 0)")
    parser.add_argument(
        "--end-visits", action="store_true", help="let half an hour pass at the end, which ends open visits"
    )


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not over 0")
    return value


def _init(arguments: argparse.Namespace) -> int:
    from walle_agent.author.create import create_task

    folder: Path = arguments.folder
    for path in create_task(folder.absolute(), scenario=arguments.scenario, cloud=arguments.cloud):
        print(folder / path.relative_to(folder.absolute()))
    print(f"\nnext: walle-agent task run {folder} --events {folder / 'tests/events.jsonl'}")
    return EXIT_OK


def _check(arguments: argparse.Namespace) -> int:
    from walle_agent.author.check import check_folder, find_schema

    path = arguments.schema or find_schema(arguments.folder)
    problems = check_folder(arguments.folder, read_schema(path) if path is not None else None)
    errors = sum(problem.level == "error" for problem in problems)
    if arguments.json:
        fields = ("level", "path", "line", "message")
        plain = [{name: getattr(problem, name) for name in fields} for problem in problems]
        print(json.dumps({"ok": errors == 0, "problems": plain}, indent=2))
    else:
        for problem in problems:
            where = arguments.folder / problem.path
            line = f":{problem.line}" if problem.line else ""
            print(f"{where}{line}: {problem.level}: {problem.message}")
        print(f"{errors} errors, {len(problems) - errors} warnings")
    return EXIT_FAILED if errors else EXIT_OK


def _run(arguments: argparse.Namespace) -> int:
    import trio

    from walle_agent.author.report import run_lines, summary_lines, to_plain
    from walle_agent.author.simulate import Options, Outcome, Run, inbox_beside, open_simulator
    from walle_shared.observe import configure_logging
    from walle_task.authoring import read_folder

    configure_logging(level="error")
    task, lines = read_folder(arguments.folder), _read_events(arguments.events)

    async def play() -> tuple[Outcome, Any]:
        async with open_simulator(task) as simulator:
            shown = 0

            def show(run: Run) -> None:
                nonlocal shown
                shown += 1
                _print_lines(run_lines(shown, run, simulator.spec))

            on_run = (lambda run: None) if arguments.json else show
            options = Options(
                arguments.seed, arguments.end_visits, on_run=on_run, inbox=inbox_beside(arguments.events)
            )
            return await simulator.play(lines, options), simulator.spec

    outcome, spec = trio.run(play)
    if arguments.json:
        print(json.dumps(to_plain(outcome, spec), indent=2, ensure_ascii=False))
    else:
        _print_lines(summary_lines(outcome, task.definition))
    return EXIT_OK if outcome.runs and all(run.result.ok for run in outcome.runs) else EXIT_FAILED


def _simulate(arguments: argparse.Namespace) -> int:
    import trio

    from walle_agent.author.matrix import matrix_lines, simulate_matrix
    from walle_shared.observe import configure_logging
    from walle_shared.records import to_plain
    from walle_task.authoring import read_folder

    configure_logging(level="error")
    task = read_folder(arguments.folder)

    async def play() -> Any:
        return await simulate_matrix(task, update=arguments.update)

    result = trio.run(play)
    if arguments.json:
        print(json.dumps(to_plain(result), indent=2, ensure_ascii=False))
    else:
        _print_lines(matrix_lines(result))
    return EXIT_OK if result.passed else EXIT_FAILED


def _profile(arguments: argparse.Namespace) -> int:
    import trio

    from walle_agent.author import profile
    from walle_agent.author.measure import measure
    from walle_agent.author.simulate import Options, inbox_beside
    from walle_shared.observe import configure_logging
    from walle_task.authoring import read_folder

    configure_logging(level="error")
    task, lines = read_folder(arguments.folder), _read_events(arguments.events)
    options = Options(arguments.seed, arguments.end_visits, inbox=inbox_beside(arguments.events))
    found = trio.run(measure, task, lines, options, arguments.seconds)
    root = profile.merge(found.profiles)
    name = task.definition.task.name
    if arguments.json:
        plain: dict[str, Any] = {"task": name, "runs": found.runs}
        plain |= {"plain_ms": found.plain_ms, "profiled_ms": found.profiled_ms}
        plain["functions"] = profile.to_plain(root)
        print(json.dumps(plain, indent=2, ensure_ascii=False))
    else:
        print(f"{found.runs} profiled runs of {name}; milliseconds and calls of one run")
        _print_lines(profile.table_lines(root, found.runs))
        slower = found.profiled_ms / found.plain_ms - 1 if found.plain_ms else 0.0
        times = f"{found.profiled_ms:.3f} ms in the middle, {found.plain_ms:.3f} ms without the profile"
        print(f"a run took {times} ({slower:+.0%})")
    if arguments.flame is not None:
        _write(arguments.flame, profile.flame_graph(root, f"{name}: {found.runs} runs"))
        if not arguments.json:
            print(f"flame graph: {arguments.flame}")
    return EXIT_OK


def _test(arguments: argparse.Namespace) -> int:
    from walle_task.authoring import read_folder

    read_folder(arguments.folder)  # a task that cannot be read has nothing to test
    if importlib.util.find_spec("pytest") is None:
        raise ConfigError("pytest is not installed: pip install 'walle[author]'")
    tests = arguments.folder / "tests"
    if not tests.is_dir():
        raise ConfigError(f"{tests}: there are no tests; 'walle-agent task init NAME' makes a task with some")
    command = [sys.executable, "-m", "pytest", str(tests), *arguments.pytest]
    return EXIT_OK if subprocess.run(command, check=False).returncode == 0 else EXIT_FAILED


def _read_events(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)
