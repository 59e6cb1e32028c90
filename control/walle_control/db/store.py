"""Everything durable of one control plane, in one folder that only its owner can read.

::

    control.toml           settings
    control.db             the database, unless it is PostgreSQL
    static/                published files (``files``)
    repositories/          mirrors of git repositories
    exclusive/             sealed files of single devices (``files``)
    cloud/                 files of the tasks' cloud halves (``files``), which no device gets
    cloud/unpacked/        those that have answered, unpacked; made anew where missing
    keys/<role>-<id>.pem   private keys of the trust roles (``features/trust``), and .pub, their public halves
    keys/credential.key    secret of the device credentials
    admin.token            the first admin token, for the commands on this machine
    address.json           where the running server listens, with its process id
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from walle_control.db.connection import Database
from walle_control.db.files import FileStore
from walle_control.db.keyring import Keyring, write_secret
from walle_control.db.postgres import PostgresBackend
from walle_shared.errors import ConfigError, StorageError


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
    def cloud(self) -> Path:
        """The folder of the cloud halves' files."""
        return self.root / "cloud"

    @property
    def unpacked(self) -> Path:
        """The folder where cloud halves are run."""
        return self.cloud / "unpacked"

    @property
    def keys(self) -> Path:
        """The folder of keys."""
        return self.root / "keys"

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
    keyring: Keyring
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
        if (home.keys / "signing.key").exists():
            raise ConfigError(
                f"{root} was made before the trust roles came, and devices would not believe it:"
                " make a new data folder with 'walle-control init', import the tags again and enrol anew"
            )
        credential_key = bytes.fromhex(_read_secret(home.credential_key))
        database = Database(PostgresBackend(database_url) if database_url else home.database)
        return cls(home, database, FileStore(home.static), Keyring(home.keys), credential_key)

    @classmethod
    def create(cls, root: Path, database_url: str = "") -> Store:
        """Make what is missing and open; keys that exist are kept.

        Raises:
            StorageError: the folder cannot be written.
        """
        home = Home(root)
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            home.keys.mkdir(exist_ok=True, mode=0o700)
            write_secret(home.credential_key, secrets.token_hex(32))
        except OSError as error:
            raise StorageError(f"{root}: cannot be written: {error}") from None
        return cls.open(root, database_url)

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def _read_secret(path: Path) -> str:
    try:
        text = path.read_text().strip()
        bytes.fromhex(text)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: run 'walle-control init --data {path.parent.parent}' first"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable key ({error}): restore it from a backup") from None
    return text
