"""The trust metadata in the database, and the envelopes that are signed on line. Its methods block.

1. Methods that take ``db`` run inside a transaction, so that what is approved and who approved it change
   together with whatever else the transaction does.
2. The database holds everything; the published files follow it, and ``publish`` may be repeated at any time
   (after a crash, at every start). ``timestamp.json`` is written last: it names files that are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from walle_control.config import TrustConfig
from walle_control.db.files import FileStore
from walle_control.db.keyring import Keyring
from walle_control.db.sql import Connection
from walle_control.features.trust import store
from walle_control.features.trust.repository import Repository, read_metadata
from walle_control.features.trust.types import BundleApproval, Lifetimes, TrustStatus
from walle_control.features.webhooks import outbox
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError, NotFound
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import SigningKey, VerifyKey, sha256_hex, sign_envelope
from walle_shared.trust.roles import (
    ROLES,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    TOP_LEVEL,
    Pin,
    bundle_path,
    file_name,
)
from walle_shared.trust.simulated import SimulationMark


class TrustBook:
    """Knows who may say what, and signs what the server says itself.

    Args:
        files: where devices find the metadata.
        keyring: the private keys at hand.
        clock: the server's own time.
        config: lifetimes.
    """

    def __init__(self, files: FileStore, keyring: Keyring, clock: Clock, config: TrustConfig) -> None:
        self._files = files
        self._keyring = keyring
        self._clock = clock
        self._lifetimes = Lifetimes(
            round(config.root_lifetime_s * 1000),
            round(config.targets_lifetime_s * 1000),
            round(config.snapshot_lifetime_s * 1000),
            round(config.timestamp_lifetime_s * 1000),
        )
        self._signers: dict[str, tuple[bytes, list[SigningKey]]] = {}

    def ensure_first(self, db: Connection) -> None:
        """Make a key for every role and the first metadata, if there is none."""
        if store.newest(db, TIMESTAMP) is not None:
            return
        repository = self._repository(db)
        repository.create({role: self._keyring.make(role) for role in ROLES})
        self._keep(db, repository)

    def take_over(self, db: Connection, files: Iterable[tuple[str, int, bytes]]) -> None:
        """Put published metadata into an empty database: what was in force is so again."""
        for role, version, data in files:
            store.insert(db, role, version, data)

    def approve(
        self,
        db: Connection,
        bundles: Mapping[str, FileRef],
        simulated: Mapping[str, SimulationMark] | None = None,
    ) -> bool:
        """List bundles among the targets; whether they are approved now, or wait for signatures.

        ``simulated`` is what the approvals say of simulations.
        """
        repository = self._repository(db)
        repository.approve(bundles, simulated)
        self._keep(db, repository)
        return all(repository.is_approved(path, manifest) for path, manifest in bundles.items())

    def withdraw(self, db: Connection, scenario: str, task: str, version: str) -> bool:
        """Take a task version off the targets; whether that is in force, or waits for signatures.

        Raises:
            NotFound: it is not among them.
        """
        repository = self._repository(db)
        repository.withdraw(bundle_path(scenario, task, version))
        return self._keep(db, repository)

    def is_approved(self, db: Connection, path: str, manifest: FileRef) -> bool:
        """Whether the targets in force approve a bundle."""
        return self._repository(db).is_approved(path, manifest)

    def approval_of(self, db: Connection, path: str, manifest: FileRef) -> BundleApproval | None:
        """How the targets in force approve a bundle, if they do."""
        return self._repository(db).approval_of(path, manifest)

    def version(self, db: Connection) -> int:
        """The version of the snapshot in force: rises with every approval."""
        return store.newest_version(db, SNAPSHOT)

    def rotate(self, db: Connection, role: str, keys: Iterable[VerifyKey] = (), threshold: int = 1) -> bool:
        """Give a role other keys, a new one of this data folder if none are named; whether that is in force.

        Raises:
            ConfigError: no such role, or a threshold that cannot be met.
        """
        if role not in ROLES:
            raise ConfigError(f"no role {role!r}: choose from {', '.join(ROLES)}")
        given = list(keys) or [self._keyring.make(role)]
        repository = self._repository(db)
        repository.rotate(role, given, threshold)
        return self._keep(db, repository)

    def renew(self, db: Connection, role: str) -> bool:
        """Sign a role's metadata anew, to be valid longer; whether that is in force.

        Raises:
            ConfigError: it has no metadata.
        """
        repository = self._repository(db)
        repository.renew(role)
        return self._keep(db, repository)

    def renew_due(self, db: Connection) -> bool:
        """Sign anew what is due and can be; whether anything was."""
        repository = self._repository(db)
        repository.renew_due()
        self._keep(db, repository)
        return bool(repository.committed)

    def staged(self, db: Connection) -> dict[str, bytes]:
        """What waits for signatures, by role."""
        return store.staged(db)

    def discard(self, db: Connection) -> None:
        """Forget what waits for signatures."""
        store.replace_staged(db, {})

    def submit(self, db: Connection, files: Iterable[bytes]) -> bool:
        """Take over signatures made elsewhere; whether everything is in force now.

        Raises:
            ConfigError: a file is no metadata.
            NotFound: a file is no copy of what is staged.
        """
        repository = self._repository(db)
        for data in files:
            repository.add_signatures(data)
        return self._keep(db, repository)

    def status(self, db: Connection) -> TrustStatus:
        """Roles, keys, expiry, what is approved, and what is staged."""
        repository = self._repository(db)
        return TrustStatus(
            self.trusted_root(db),
            repository.status(),
            tuple(repository.staged),
            repository.missing(),
            repository.approved(),
        )

    def trusted_root(self, db: Connection) -> str:
        """What a new device is told to trust: the newest root, as its settings name it.

        Raises:
            NotFound: there is no trust metadata yet.
        """
        data = store.newest(db, ROOT)
        if data is None:
            raise NotFound("there is no trust metadata yet: run 'walle-control init'")
        return str(Pin(read_metadata(data).signed.version, sha256_hex(data)))

    def keys(self, db: Connection, role: str) -> list[SigningKey]:
        """The private keys of an online role.

        Raises:
            ConfigError: too few of them are in this data folder.
        """
        data = store.newest(db, ROOT if role in TOP_LEVEL else TARGETS)
        if data is None:
            raise NotFound("there is no trust metadata yet: run 'walle-control init'")
        known = self._signers.get(role)
        if known is not None and known[0] == data:
            return known[1]
        delegation = read_metadata(data).signed.get_delegated_role(role)
        keys = self._keyring.find(delegation.keyids)
        if len(keys) < delegation.threshold:
            raise ConfigError(
                f"the key of {role} is not in this data folder: 'trust rotate {role}' makes one"
            )
        self._signers[role] = data, keys
        return keys

    def sign(self, db: Connection, role: str, kind: str, value: object) -> bytes:
        """Sign a record as an online role; the envelope.

        Raises:
            ConfigError: its key is not in this data folder.
        """
        return sign_envelope(kind, value, self.keys(db, role))

    def current_files(self, db: Connection) -> list[tuple[str, int, bytes]]:
        """What is in force, as ``publish`` takes it."""
        return [(role, read_metadata(data).signed.version, data) for role, data in store.current(db).items()]

    def all_files(self, db: Connection) -> list[tuple[str, int, bytes]]:
        """All that was ever in force, as ``publish`` takes it: devices that were away follow every root."""
        return store.all_files(db)

    def is_signed_now(self, db: Connection, role: str, envelope: bytes) -> bool:
        """Whether a kept envelope is signed by the keys that a role has now; if not, sign it anew."""
        signed_by = {signature["keyid"] for signature in orjson.loads(envelope)["signatures"]}
        return signed_by == {key.public.keyid for key in self.keys(db, role)}

    def publish(self, files: Iterable[tuple[str, int, bytes]]) -> None:
        """Write metadata where devices find it, the timestamp last; what is there already is left alone.

        Raises:
            StorageError: it cannot be written.
        """
        last: bytes | None = None
        for role, version, data in files:
            if role == TIMESTAMP:
                last = data
            else:
                self._files.put_metadata(file_name(role, version), data)
        if last is not None:
            self._files.put_metadata(file_name(TIMESTAMP, 0), last)

    def _repository(self, db: Connection) -> Repository:
        return Repository(
            store.current(db), store.staged(db), self._keyring.find, self._lifetimes, self._clock.wall_ms()
        )

    def _keep(self, db: Connection, repository: Repository) -> bool:
        in_force = repository.commit()
        self._ask_for_signatures(db, repository)
        store.replace_staged(db, repository.staged)
        for role, data in repository.committed.items():
            store.insert(db, role, read_metadata(data).signed.version, data)
        return in_force

    def _ask_for_signatures(self, db: Connection, repository: Repository) -> None:
        """Tell of what waits for signatures, whenever it says something else than before."""
        before, now = (
            {role: read_metadata(data).signed for role, data in staged.items()}
            for staged in (store.staged(db), repository.staged)
        )
        for missing in repository.missing():
            if before.get(missing.role) != now[missing.role]:
                data = {"version": missing.version, "more": missing.more, "keyids": list(missing.keyids)}
                outbox.emit(db, self._clock.wall_ms(), "trust.ask", "", missing.role, data)
