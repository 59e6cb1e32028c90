"""Everything durable of one control plane, in one folder that only its owner can read.

::

    control.toml           settings
    control.db             the database, unless it is PostgreSQL
    static/                published files (``files``)
    repositories/          mirrors of git repositories
    exclusive/             sealed files of single devices (``files``)
    keys/signing.key       Ed25519 seed in hex; signs manifests and epochs
    keys/signing.pub       its public half, for the agents' settings
    keys/credential.key    secret of the device credentials
    admin.token            the first admin token, for the commands on this machine
    address.json           where the running server listens, with its process id
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from walle_control.db.connection import Database
from walle_control.db.files import FileStore
from walle_control.db.postgres import PostgresBackend
from walle_shared.errors import ConfigError, StorageError
from walle_shared.signing import SigningKey


@dataclass(frozen=True, slots=True)
class Home:
    """The paths inside the data folder."""

    root: Path

    @property
    def database(self) -> Path:
        """The database file."""
        return self.root / "control.db"

    @property
    def static(self) -> Path:
        """The folder of published files."""
        return self.root / "static"

    @property
    def repositories(self) -> Path:
        """The folder of the repositories' mirrors."""
        return self.root / "repositories"

    @property
    def exclusive(self) -> Path:
        """The folder of the sealed files."""
        return self.root / "exclusive"

    @property
    def signing_key(self) -> Path:
        """The private signing key."""
        return self.root / "keys" / "signing.key"

    @property
    def public_key(self) -> Path:
        """The public signing key."""
        return self.root / "keys" / "signing.pub"

    @property
    def credential_key(self) -> Path:
        """The secret of the device credentials."""
        return self.root / "keys" / "credential.key"

    @property
    def admin_token(self) -> Path:
        """The first admin token."""
        return self.root / "admin.token"

    @property
    def address(self) -> Path:
        """Where the running server listens."""
        return self.root / "address.json"


@dataclass(frozen=True, slots=True)
class Store:
    """Database, files and keys, opened."""

    home: Home
    database: Database
    files: FileStore
    signing_key: SigningKey
    credential_key: bytes

    @classmethod
    def open(cls, root: Path, database_url: str = "") -> Store:
        """Open the folder that ``create`` made; ``database_url`` names the PostgreSQL it goes with, if any.

        Raises:
            ConfigError: there is no control plane in it, or a key is unreadable.
            StorageError: the database cannot be opened.
            ConnectionLost: the database's server does not answer.
        """
        home = Home(root)
        signing_key = SigningKey.from_hex(_read_secret(home.signing_key))
        credential_key = bytes.fromhex(_read_secret(home.credential_key))
        database = Database(PostgresBackend(database_url) if database_url else home.database)
        return cls(home, database, FileStore(home.static), signing_key, credential_key)

    @classmethod
    def create(cls, root: Path, database_url: str = "") -> Store:
        """Make what is missing and open; keys that exist are kept.

        Raises:
            StorageError: the folder cannot be written.
        """
        home = Home(root)
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            home.signing_key.parent.mkdir(exist_ok=True, mode=0o700)
            write_secret(home.signing_key, SigningKey.generate().to_hex())
            write_secret(home.credential_key, secrets.token_hex(32))
            public = SigningKey.from_hex(_read_secret(home.signing_key)).public
            home.public_key.write_text(public.raw_hex + "\n")
        except OSError as error:
            raise StorageError(f"{root}: cannot be written: {error}") from None
        return cls.open(root, database_url)

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def write_secret(path: Path, text: str) -> bool:
    """Write a file only its owner can read, unless it exists; whether it was written."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    return True


def _read_secret(path: Path) -> str:
    try:
        text = path.read_text().strip()
        bytes.fromhex(text)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: run 'walle-control init --data {path.parent.parent}' first"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable key: {error}") from None
    return text
