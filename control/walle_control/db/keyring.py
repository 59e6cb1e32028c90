"""The private keys in the data folder: ``keys/<role>-<start of its id>.pem``, readable by their owner only.

A key that is protected by a passphrase, or lies elsewhere, is not in the ring: the server cannot use it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from walle_shared.errors import ConfigError, StorageError
from walle_shared.ids import KeyId
from walle_shared.signing import SigningKey, VerifyKey


def write_key(path: Path, key: SigningKey, passphrase: str = "") -> None:
    """Write a new private key, and its public half beside it as ``.pub``.

    Raises:
        ConfigError: the file exists.
        StorageError: it cannot be written.
    """
    try:
        if not write_secret(path, key.to_pem(passphrase).strip()):
            raise ConfigError(f"{path} exists: keys are never written over: name a new file")
        public_path(path).write_text(key.public.to_pem())
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error}") from None


def public_path(path: Path) -> Path:
    """Where the public half of a key file lies."""
    return path.with_suffix(".pub")


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


class Keyring:
    """The usable private keys of a folder, read when they are first asked for. Blocking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: dict[KeyId, SigningKey] = {}
        self._read: set[Path] = set()

    def make(self, role: str) -> VerifyKey:
        """Make a key for a role; its public half.

        Raises:
            StorageError: it cannot be written.
        """
        key = SigningKey.generate()
        write_key(self._folder / f"{role}-{key.public.keyid[:12]}.pem", key)
        return key.public

    def find(self, keyids: Iterable[str]) -> list[SigningKey]:
        """Those of the keys that are here."""
        wanted = [KeyId(keyid) for keyid in keyids]
        if any(keyid not in self._keys for keyid in wanted):
            self._read_new()
        return [self._keys[keyid] for keyid in wanted if keyid in self._keys]

    def _read_new(self) -> None:
        for path in set(self._folder.glob("*.pem")) - self._read:
            self._read.add(path)
            try:
                key = SigningKey.from_pem(path.read_text())
            except (OSError, UnicodeDecodeError, ConfigError):
                continue  # protected by a passphrase, or not ours: not in the ring
            self._keys[key.public.keyid] = key
