"""The trust metadata of a simulated control plane: real roles and keys, in memory, with levers to lie."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

from walle_control.db.keyring import Keyring
from walle_control.features.trust.repository import Repository, read_metadata, signer_of
from walle_control.features.trust.types import Lifetimes
from walle_shared.clock import Clock, SystemClock
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import SigningKey, sha256_hex
from walle_shared.trust.roles import ROLES, ROOT, Pin, bundle_path, file_name
from walle_shared.trust.trusted import Ask, TrustedSet, drive, follow_metadata, follow_roots, moment

DAY_MS = 24 * 3_600_000
LIFETIMES = Lifetimes(365 * DAY_MS, 365 * DAY_MS, 7 * DAY_MS, 7 * DAY_MS)


class SimulatedTrust:
    """Metadata and keys. Everything that was ever in force is in ``files``, by name below ``tuf/``.

    The same ``seed`` makes the same keys, and so the same root.
    """

    def __init__(self, now_ms: int, seed: str = "") -> None:
        self.now_ms = now_ms
        self._seed = seed or secrets.token_hex(8)
        self.keys: dict[str, SigningKey] = {}
        self.files: dict[str, bytes] = {}
        self.current: dict[str, bytes] = {}
        first = {role: self.new_key() for role in ROLES}
        self.change(lambda repository: repository.create({role: key.public for role, key in first.items()}))

    def new_key(self) -> SigningKey:
        """A key that signs here from now on."""
        key = SigningKey.from_hex(sha256_hex(f"{self._seed}/{len(self.keys)}".encode()))
        self.keys[key.public.keyid] = key
        return key

    def find(self, keyids: Iterable[str]) -> list[SigningKey]:
        """Those of the keys that are known."""
        return [self.keys[keyid] for keyid in keyids if keyid in self.keys]

    def repository(self) -> Repository:
        """What is in force, to be asked or changed."""
        return Repository(self.current, {}, self.find, LIFETIMES, self.now_ms)

    def change(self, edit: Callable[[Repository], object]) -> None:
        """Change something and put it in force."""
        repository = self.repository()
        edit(repository)
        assert repository.commit(), repository.missing()
        self.current = repository.current
        for role, data in repository.committed.items():
            self.files[file_name(role, read_metadata(data).signed.version)] = data

    def keys_of(self, role: str) -> list[SigningKey]:
        """The keys that sign for a role now."""
        return self.find(self.repository().keys_of(role)[0])

    def rotate(self, *roles: str) -> None:
        """Give roles new keys."""
        for role in roles:
            self.change(lambda repository, role=role: repository.rotate(role, [self.new_key().public], 1))  # type: ignore[misc]

    def approve(self, scenario: str, task: str, version: str, manifest: FileRef) -> None:
        """List a task version among the targets."""
        self.change(lambda repository: repository.approve({bundle_path(scenario, task, version): manifest}))

    @property
    def version(self) -> int:
        """The version of the snapshot in force."""
        return self.repository().version

    @property
    def pin(self) -> Pin:
        """What a device is told to trust."""
        return Pin(read_metadata(self.current[ROOT]).signed.version, sha256_hex(self.current[ROOT]))

    def forge(
        self,
        role: str,
        *,
        keys: Iterable[SigningKey] | None = None,
        expires_ms: int | None = None,
        version: int | None = None,
        edit: Callable[[Any], object] = lambda signed: None,
    ) -> bytes:
        """A role's metadata, changed and signed by any keys; it is not put anywhere."""
        metadata = read_metadata(self.current[role])
        metadata.signatures.clear()
        if version is not None:
            metadata.signed.version = version
        if expires_ms is not None:
            metadata.signed.expires = moment(expires_ms).replace(microsecond=0)
        edit(metadata.signed)
        for key in self.keys_of(role) if keys is None else keys:
            metadata.sign(signer_of(key), append=True)
        return metadata.to_bytes()

    def believed(self) -> TrustedSet:
        """What a device believes that has just fetched everything."""
        trusted = TrustedSet(self.current[ROOT])
        trusted.judge_at(self.now_ms)
        drive(follow_metadata(trusted, {}), self.answers())
        return trusted

    def answers(self, files: Mapping[str, bytes] | None = None) -> Callable[[Any], bytes | None]:
        """What answers a client's asks: from ``files`` first, then from what is in force."""
        return lambda ask: (files or {}).get(ask.name, self.files.get(ask.name))


def believe(data: Path, clock: Clock | None = None) -> TrustedSet:
    """What a new device believes of what the control plane in a data folder publishes."""
    trusted = TrustedSet((data / "static" / "tuf" / file_name(ROOT, 1)).read_bytes())
    drive_folder(data, follow_roots(trusted))
    trusted.judge_at((clock or SystemClock()).wall_ms())
    drive_folder(data, follow_metadata(trusted, {}))
    return trusted


def drive_folder(data: Path, asks: Generator[Ask, bytes | None]) -> None:
    """Answer asks from what the control plane in a data folder publishes."""

    def read(ask: Ask) -> bytes | None:
        path = data / "static" / "tuf" / ask.name
        return path.read_bytes() if path.exists() else None

    drive(asks, read)


def keys_of(data: Path, role: str) -> list[SigningKey]:
    """The private keys of a role of the control plane in a data folder."""
    return Keyring(data / "keys").find(believe(data).keyids_of(role))
