"""Commands about tasks: repositories, versions, simulations."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from walle_control.cli import show
from walle_control.cli.arguments import (
    Subparsers,
    add_group,
    add_remote,
    task_of,
)
from walle_control.cli.client import connect, quoted

_NO_MIRROR = "no repository's mirror has its commit: 'walle-control repo add' keeps one"


def add_to(top: Subparsers) -> None:
    """Add them to the command line."""
    _add_task_commands(top)
    _add_simulation_commands(top)


def _add_task_commands(top: Subparsers) -> None:
    import_ = add_remote(
        top, "import", import_version, "import a task version from a git tag",
        example="--repo ~/tasks digit_reader 1.0.0",
    )  # fmt: skip
    import_.add_argument("task", help="the task's name")
    import_.add_argument("version", help="such as 1.0.0")
    import_.add_argument(
        "--repo", required=True, metavar="NAME|DIR", help="repository, by name or as a folder on the server"
    )
    import_.add_argument("--tag", default="", help="default: TASK/VERSION")
    import_.add_argument("--folder", default="", help="folder in the repository; default: TASK")
    repo = add_group(top, "repo", "git repositories that versions come from")
    add = add_remote(
        repo, "add", repo_add, "define a repository and fetch it",
        example="shop https://git.example.com/tasks.git --scenario shop --credential forge --auto-import",
    )  # fmt: skip
    add.add_argument("name", help="what to call it")
    add.add_argument("remote", metavar="URL", help="http(s) or file URL, or an absolute path on the server")
    add.add_argument("--scenario", required=True, help="the scenario that all its tasks belong to")
    add.add_argument("--folder", default="", help="where in it the tasks' folders lie; default: at the root")
    add.add_argument("--credential", default="", metavar="NAME", help="entry of git.credentials_file")
    add.add_argument("--auto-import", action="store_true", help="import tags TASK/VERSION as they appear")
    add_remote(repo, "list", repo_list, "list them")
    for name, handler, text in (
        ("sync", repo_sync, "fetch a repository now"),
        ("remove", repo_remove, "forget a repository; what was imported from it stays"),
    ):
        add_remote(repo, name, handler, text, example="shop").add_argument("name")
    task = add_group(top, "task", "imported task versions")
    add_remote(task, "list", task_list, "list them, newest import first")
    show = add_remote(
        task, "show", task_show, "one version with its files", example="demo/digit_reader 1.0.0"
    )
    show.add_argument("task", metavar="SCENARIO/TASK")
    show.add_argument("version")
    for name, handler, text in (
        ("history", task_history, "the commits that led to a version from the one before it"),
        ("diff", task_diff, "what differs between a version's files and those of the one before it"),
        ("approval", task_approval, "whether and by whose keys a version is approved; 1 if it is not"),
    ):
        command = add_remote(task, name, handler, text, example="demo/digit_reader 1.1.0")
        command.add_argument("task", metavar="SCENARIO/TASK")
        command.add_argument("version")
        if name != "approval":
            command.add_argument("--base", default="", metavar="VERSION", help="compare with this one")


def _add_simulation_commands(top: Subparsers) -> None:
    simulation = add_group(top, "simulation", "what versions must pass before they may be released")
    for name, handler, text in (
        ("show", simulation_show, "how a version did; 1 if it has not passed"),
        ("run", simulation_run, "play them again, as they were at the version's tag"),
    ):
        command = add_remote(simulation, name, handler, text, example="demo/digit_reader 1.0.0")
        command.add_argument("task", metavar="SCENARIO/TASK")
        command.add_argument("version")


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


def _repository(text: str) -> str:
    """What the server is told of ``--repo``: a repository's name, or an absolute path."""
    is_name = "/" not in text and not text.startswith((".", "~")) and not Path(text).exists()
    return text if is_name else str(Path(text).expanduser().resolve())


def _first_failure(simulation: Any) -> str:
    failures = [failure for cell in simulation["result"]["cells"] for failure in cell["failures"]]
    return f"{failures[0]['kind']}: {failures[0]['message']}; see 'walle-control simulation show'"


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
    scenario, task = task_of(arguments.task)
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


def _ask_version(arguments: argparse.Namespace, what: str, **query: str) -> Any:
    scenario, task = task_of(arguments.task)
    path = f"tasks/{quoted(scenario)}/{quoted(task)}/{quoted(arguments.version)}/{what}"
    with connect(arguments) as client:
        return client.get(path, **{name: value for name, value in query.items() if value})


def task_history(arguments: argparse.Namespace) -> int:
    """``task history``."""
    answer = _ask_version(arguments, "history", base=arguments.base)
    empty = f"no commit of {answer['repository']} changed it" if answer["repository"] else _NO_MIRROR
    show.print_answer(arguments, answer, lambda: show.print_table(answer["commits"], show.COMMITS, empty))
    return 0


def task_diff(arguments: argparse.Namespace) -> int:
    """``task diff``."""
    answer = _ask_version(arguments, "compare", base=arguments.base)
    show.print_answer(arguments, answer, lambda: show.print_changes(answer))
    return 0


def task_approval(arguments: argparse.Namespace) -> int:
    """``task approval``."""
    answer = _ask_version(arguments, "approval")
    approval = answer["approval"]

    def text() -> None:
        if approval is None:
            print("no list in force approves it: 'walle-control trust show' says whose signatures wait")
        else:
            show.print_facts(
                {
                    "list": f"{approval['role']}, version {approval['version']}",
                    "expires": show.moment(approval["expires_ms"]),
                    "signatures": f"{len(approval['signed_by'])} of {approval['threshold']} needed",
                    "signed by": " ".join(approval["signed_by"]),
                }
            )

    show.print_answer(arguments, answer, text)
    return 0 if approval is not None else 1


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
    scenario, task = task_of(arguments.task)
    return f"tasks/{quoted(scenario)}/{quoted(task)}/{quoted(arguments.version)}/simulation"


def _print_simulation(arguments: argparse.Namespace, answer: Any) -> int:
    show.print_answer(arguments, answer, lambda: show.print_simulation(answer))
    return 0 if answer["result"]["passed"] else 1
