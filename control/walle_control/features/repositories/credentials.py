"""Names and passwords for remotes, from a file that only its owner can read; never in a log or a URL."""

from __future__ import annotations

import base64
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from walle_shared.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Credential:
    """Whom to be towards a remote; neither part shows when it is printed."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def authorization(self) -> str:
        """The value of the HTTP header of that name."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


def read_credential(path: str, name: str) -> Credential:
    """Find a credential by name; read anew each time, so that a rotated password is used at once.

    Raises:
        ConfigError: no such file or entry, or others may read the file.
    """
    if not path:
        raise ConfigError(
            f"credential {name!r} is asked for, but there is no file of them: set git.credentials_file"
        )
    file = Path(path)
    try:
        if file.stat().st_mode & 0o077:
            raise ConfigError(f"{file}: others may read it: chmod 600 {file}")
        entries = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        kind = error.strerror if isinstance(error, OSError) else "not TOML"  # its text may quote a password
        raise ConfigError(f"{file}: cannot be read: {kind}") from None
    match entries.get(name):
        case {"username": str(username), "password": str(password)}:
            return Credential(username, password)
        case _:
            raise ConfigError(f"{file}: needs a table [{name}] with username and password")
