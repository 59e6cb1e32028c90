"""Commands about the server itself: its data folder, its life, its backups."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from walle_control.cli import show
from walle_control.cli.arguments import (
    Subparsers,
    add_local,
    add_remote,
)
from walle_control.cli.client import connect
from walle_control.config import CONFIG_FILE, load_config
from walle_shared.clock import SystemClock
from walle_shared.errors import ConfigError
from walle_shared.observe import configure_logging
from walle_shared.records import to_plain

if TYPE_CHECKING:
    from walle_control.backup import BackupResult


def add_to(top: Subparsers) -> None:
    """Add them to the command line."""
    init_command = add_local(
        top,
        "init",
        init,
        "make a data folder (again: keeps what is there)",
        example="--data ./control",
    )
    init_command.add_argument("--data", required=True, metavar="DIR", help="the data folder")
    init_command.add_argument(
        "--database", default="", metavar="URL",
        help="keep the state in this PostgreSQL, such as postgresql://walle@db/walle; default: in a file",
    )  # fmt: skip
    serve_command = add_local(top, "serve", serve, "run the server", json=False, example="--data ./control")
    where = serve_command.add_mutually_exclusive_group(required=True)
    where.add_argument("--config", metavar="FILE", help="settings file")
    where.add_argument(
        "--data", metavar="DIR", help="data folder made by init; its control.toml holds the settings"
    )
    serve_command.add_argument("--host", help="listen here instead of the settings' server.host")
    serve_command.add_argument(
        "--port", type=int, help="listen here instead of the settings' server.port; 0: any free port"
    )
    serve_command.add_argument(
        "--workers", type=int, help="so many processes instead of the settings' server.workers"
    )
    serve_command.add_argument(
        "--fd", type=int, metavar="N", help="serve on this socket, which whoever started the program opened"
    )
    serve_command.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    fsck_command = add_local(
        top,
        "fsck",
        fsck,
        "re-read every published file and check its digest",
        example="--data ./control",
    )
    fsck_command.add_argument("--data", required=True, metavar="DIR", help="the data folder")
    rebuild_command = add_local(
        top,
        "rebuild",
        rebuild,
        "make a lost database anew from the published files and the repositories' mirrors",
        example="--data ./control",
    )
    rebuild_command.add_argument("--data", required=True, metavar="DIR", help="the data folder")
    add_local(top, "openapi", openapi, "print the HTTP API as an OpenAPI document", json=False)
    backup_command = add_local(
        top,
        "backup",
        backup,
        "write everything durable to one file, while the server runs",
        example="--data ./control --to ./control.tar",
    )
    backup_command.add_argument("--data", required=True, metavar="DIR", help="the data folder")
    backup_command.add_argument(
        "--to", required=True, metavar="FILE", help="a new file; it holds the keys: keep it as safe as them"
    )
    restore_command = add_local(
        top,
        "restore",
        restore,
        "make a control plane of a backup, and check all of it",
        example="--data ./restored --from ./control.tar",
    )
    restore_command.add_argument("--data", required=True, metavar="DIR", help="a new data folder")
    restore_command.add_argument(
        "--from", required=True, dest="archive", metavar="FILE", help="what backup wrote"
    )
    restore_command.add_argument(
        "--database", default="", metavar="URL",
        help="an empty PostgreSQL, whatever the backup was made from; default: a file in the data folder",
    )  # fmt: skip
    restore_command.add_argument(
        "--last-epoch", type=int, default=0, metavar="N",
        help="the newest epoch a device can have seen, if over 100,000 more than the backup's",
    )  # fmt: skip
    add_remote(top, "status", status, "what the server holds")
    add_remote(top, "epoch", epoch, "the newest policy as devices see it")


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


def openapi(_arguments: argparse.Namespace) -> int:
    """``openapi``: always JSON."""
    from walle_control.setup import api_description  # brings the server's libraries

    show.print_json(api_description())
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
