"""``walle-control trust``: the ceremony of the trust roles.

Most commands work on the data folder. ``key`` and ``sign`` need none: they are for the machine, mostly off
line, where somebody keeps a key.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from walle_control.cli import show
from walle_control.cli.arguments import Subparsers, add_group, add_local
from walle_control.config import CONFIG_FILE, load_config
from walle_control.db.keyring import public_path, write_key
from walle_control.db.sql import Connection
from walle_shared.clock import SystemClock
from walle_shared.errors import ConfigError, StorageError
from walle_shared.records import from_plain, to_plain
from walle_shared.signing import SigningKey, read_public_key
from walle_shared.trust.roles import ROLES
from walle_shared.trust.simulated import SimulationMark

ROLE_COLUMNS: tuple[show.Column, ...] = (
    ("role", lambda r: r["role"]),
    ("version", lambda r: r["version"] or "-"),
    ("signatures", lambda r: f"{r['threshold']} of {len(r['keys'])}"),
    ("held", lambda r: "here" if r["held"] == "here" else "away"),
    ("valid until (UTC)", lambda r: show.moment(r["expires_ms"]) if r["expires_ms"] else "-"),
    ("keys", lambda r: ", ".join(key["keyid"][:12] for key in r["keys"])),
)

MISSING_COLUMNS: tuple[show.Column, ...] = (
    ("waits for", lambda m: f"{m['role']} version {m['version']}"),
    ("signatures", lambda m: f"{m['more']} more"),
    ("by", lambda m: ", ".join(keyid[:12] for keyid in m["keyids"])),
)

APPROVED_COLUMNS: tuple[show.Column, ...] = (
    ("approved", lambda b: b["path"].removeprefix("bundle/")),
    ("manifest", lambda b: b["manifest"]["sha256"][:12]),
    ("simulations", lambda b: _words_of(b["simulation"])),
    ("record", lambda b: b["simulation"]["record"]["sha256"][:12] if b["simulation"] else "-"),
)


def _words_of(mark: Any) -> str:
    return str(from_plain(SimulationMark, mark)) if mark else "not said: simulation run"


def show_trust(arguments: argparse.Namespace) -> int:
    """``trust show``."""
    with _folder(arguments) as folder:
        return folder.tell()


def rotate(arguments: argparse.Namespace) -> int:
    """``trust rotate``."""
    keys = [read_public_key(_read(Path(path))) for path in arguments.key]
    with _folder(arguments) as folder:
        folder.change(
            "rotate",
            arguments.role,
            lambda db: folder.book.rotate(db, arguments.role, keys, arguments.threshold),
        )
        return folder.tell()


def renew(arguments: argparse.Namespace) -> int:
    """``trust renew``."""
    with _folder(arguments) as folder:
        folder.change("renew", arguments.role, lambda db: folder.book.renew(db, arguments.role))
        return folder.tell()


def withdraw(arguments: argparse.Namespace) -> int:
    """``trust withdraw``."""
    scenario, _, task = arguments.task.partition("/")
    with _folder(arguments) as folder:
        folder.change(
            "withdraw",
            f"{arguments.task} {arguments.version}",
            lambda db: folder.book.withdraw(db, scenario, task, arguments.version),
        )
        return folder.tell()


def export(arguments: argparse.Namespace) -> int:
    """``trust export``."""
    target = Path(arguments.folder)
    with _folder(arguments) as folder:
        staged = folder.database.read_sync(folder.book.staged)
        try:
            target.mkdir(parents=True, exist_ok=True)
            for role, data in staged.items():
                (target / f"{role}.json").write_bytes(data)
        except OSError as error:
            raise StorageError(f"{target}: cannot be written: {error}") from None
    names = [str(target / f"{role}.json") for role in staged]
    if arguments.json:
        show.print_json(names)
    else:
        print("\n".join(names) if names else "nothing waits for signatures")
    return 0


def submit(arguments: argparse.Namespace) -> int:
    """``trust submit``."""
    files = [_read_bytes(Path(path)) for path in arguments.file]
    with _folder(arguments) as folder:
        folder.change("submit", "signatures", lambda db: folder.book.submit(db, files))
        return folder.tell()


def discard(arguments: argparse.Namespace) -> int:
    """``trust discard``."""
    with _folder(arguments) as folder:
        folder.change("discard", "what was staged", folder.book.discard)
        return folder.tell()


def make_key(arguments: argparse.Namespace) -> int:
    """``trust key``."""
    path = Path(arguments.file)
    key = SigningKey.generate()
    write_key(path, key, "" if arguments.no_passphrase else _passphrase(arguments, path, twice=True))
    facts = {"key": str(path), "public half": str(public_path(path)), "id": key.public.keyid}
    if arguments.json:
        show.print_json(facts)
    else:
        show.print_facts(facts)
    return 0


def sign(arguments: argparse.Namespace) -> int:
    """``trust sign``."""
    from walle_control.features.trust.repository import describe, read_metadata, signer_of

    path = Path(arguments.key)
    text = _read(path)
    key = SigningKey.from_pem(text, _passphrase(arguments, path) if "ENCRYPTED" in text else "")
    signed = []
    for name in arguments.file:
        metadata = read_metadata(_read_bytes(Path(name)))
        metadata.sign(signer_of(key), append=True)
        Path(name).write_bytes(metadata.to_bytes())
        signed.append({"file": name, "what": describe(metadata.signed)})
    if arguments.json:
        show.print_json(signed)
    else:
        for line in signed:
            print(f"{line['file']}: signed by {key.public.keyid[:12]}: {line['what']}")
    return 0


class _Folder:
    """The trust of a data folder, opened for one command. A server may run on it meanwhile."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from walle_control.db.store import Store  # only commands on a data folder need these
        from walle_control.features.releases.epochs import EpochBook
        from walle_control.features.trust.book import TrustBook

        root, clock = Path(arguments.data), SystemClock()
        config = load_config(root / CONFIG_FILE, environ=os.environ)
        self.store = Store.open(root)
        self.database = self.store.database
        self.book = TrustBook(self.store.files, self.store.keyring, clock, config.trust)
        self._epochs = EpochBook(self.store.files, self.book, clock, config.epoch.lifetime_s)
        self._json = arguments.json
        self._clock = clock

    def change(self, action: str, subject: str, job: Callable[[Connection], object]) -> None:
        """Carry out a change, note it, and publish what is in force then; an epoch with a new key too."""
        from walle_control.features.audit import log as audit
        from walle_control.features.releases import store as releases

        def noted(db: Connection) -> None:
            job(db)
            audit.record(db, self._clock.wall_ms(), f"cli:{getpass.getuser()}", f"trust.{action}", subject)

        self.database.write_sync(noted)
        self.book.publish(self.database.read_sync(self.book.all_files))
        if self.database.write_sync(self._epochs.sign_anew_if_due):
            self._epochs.publish(self.database.read_sync(releases.newest_epoch))

    def tell(self) -> int:
        """Print how things stand."""
        status = to_plain(self.database.read_sync(self.book.status))
        if self._json:
            show.print_json(status)
            return 0
        show.print_table(status["roles"], ROLE_COLUMNS, "")
        here = [
            role["role"] for role in status["roles"] if role["held"] == "here" and role["role"] in ("root",)
        ]
        if here:
            print(
                "\nThe root key lies in this data folder: whoever takes the folder can speak for it for ever."
                " See docs/guide/security.md for keeping it off line.",
                file=sys.stderr,
            )
        if status["approved"]:
            print()
            show.print_table(status["approved"], APPROVED_COLUMNS, "")
        if status["staged"]:
            print()
            show.print_table(status["missing"], MISSING_COLUMNS, "staged, and not missing anything")
        print(f"\ntrusted root for new devices: {status['trusted_root']}")
        return 0


@contextmanager
def _folder(arguments: argparse.Namespace) -> Iterator[_Folder]:
    folder = _Folder(arguments)
    try:
        yield folder
    finally:
        folder.store.close()


def _passphrase(arguments: argparse.Namespace, path: Path, *, twice: bool = False) -> str:
    if arguments.passphrase_file:
        return _read(Path(arguments.passphrase_file)).strip()
    if not sys.stdin.isatty():
        raise ConfigError(f"{path}: a passphrase is needed: give --passphrase-file")
    given = getpass.getpass(f"passphrase of {path}: ")
    if twice and getpass.getpass("again: ") != given:
        raise ConfigError("the two passphrases differ: give the same twice")
    if not given:
        raise ConfigError("the passphrase is empty: give one, or --no-passphrase")
    return given


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


#: Name, handler, help, example, whether it works on a data folder.
COMMANDS: tuple[tuple[str, Callable[[argparse.Namespace], int], str, str, bool], ...] = (
    (
        "show", show_trust, "roles, keys, expiry, approved versions, and what waits for signatures",
        "--data ./control", True,
    ),
    ("key", make_key, "make a key file, protected by a passphrase, and its public half", "anna.pem", False),
    (
        "rotate", rotate, "give a role other keys; without --key, a new one in the data folder",
        "root --data ./control --key anna.pub --key ben.pub --key cleo.pub --threshold 2", True,
    ),
    ("renew", renew, "sign a role's metadata anew, to be valid longer", "targets --data ./control", True),
    (
        "withdraw", withdraw, "approve a task version no more: devices will not install it",
        "demo/digit_reader 1.0.0 --data ./control", True,
    ),
    ("export", export, "write what waits for signatures to files", "./to-sign --data ./control", True),
    ("sign", sign, "add a signature to exported files", "to-sign/root.json --key anna.pem", False),
    (
        "submit", submit, "bring signed files back; complete, they come into force",
        "to-sign/root.json --data ./control", True,
    ),
    ("discard", discard, "forget what waits for signatures", "--data ./control", True),
)  # fmt: skip


def add_to(top: Subparsers) -> None:
    """Add them to the command line."""
    group = add_group(top, "trust", "the keys and roles that devices trust (docs/guide/security.md)")
    for name, handler, text, example, on_folder in COMMANDS:
        command = add_local(group, name, handler, text, example=example)
        add_arguments(name, command)
        if on_folder:
            command.add_argument("--data", required=True, metavar="DIR", help="the data folder")


def add_arguments(name: str, command: argparse.ArgumentParser) -> None:
    """The arguments of one of the commands."""
    match name:
        case "rotate":
            command.add_argument("role", choices=ROLES, metavar="ROLE", help=", ".join(ROLES))
            command.add_argument(
                "--key",
                action="append",
                default=[],
                metavar="FILE.pub",
                help="a public half; repeat for more",
            )
            command.add_argument("--threshold", type=int, default=1, help="signatures needed; default: 1")
        case "renew":
            command.add_argument("role", metavar="ROLE", help="root, targets or bundles")
        case "withdraw":
            command.add_argument("task", metavar="SCENARIO/TASK")
            command.add_argument("version")
        case "export":
            command.add_argument("folder", metavar="DIR", help="where to write them")
        case "sign":
            command.add_argument("file", nargs="+", metavar="FILE", help="exported; changed in place")
            command.add_argument("--key", required=True, metavar="FILE.pem", help="the private key")
            _add_passphrase(command)
        case "submit":
            command.add_argument("file", nargs="+", metavar="FILE", help="signed metadata")
        case "key":
            command.add_argument("file", metavar="FILE.pem", help="where to write it, and its .pub")
            _add_passphrase(command).add_argument(
                "--no-passphrase", action="store_true", help="for machines that sign by themselves"
            )
        case _:
            pass


def _add_passphrase(command: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--passphrase-file", default="", metavar="FILE", help="holds the passphrase; default: it is asked for"
    )
    return group
