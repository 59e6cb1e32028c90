"""The durable facts of this device, in two small checked files.

``identity.json`` (0600) holds the device key and its credential, ``state.json`` the floors of epoch and time,
slots and quarantine. Both are replaced atomically, carry a digest of their content, and leave their last good
copy as ``*.previous``. Invariants:

1. The floors of epoch and time only rise while their signers are the same; ``renewal_ms`` only rises.
2. At most one slot of a task is active.
3. A corrupt file is set aside and the last good copy used; without one the device starts afresh (enrols
   again, installs again). It never keeps the agent from starting.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from walle_agent.state.files import set_aside, write_atomic
from walle_agent.state.machine import ACTIVE, COMPLETE, SlotPhase
from walle_shared.errors import StorageError
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.protocol.codec import canonical
from walle_shared.records import RecordError, from_plain
from walle_shared.targeting.policy import TaskKey

SlotName = Literal["a", "b"]
SlotPhaseName = Literal["empty", "filling", "ready", "trial", "proven", "bad"]
SLOT_NAMES: tuple[SlotName, SlotName] = ("a", "b")


_NO_DEVICE = DeviceId("")
_NO_RELEASE = ReleaseId("")
_NO_VERSION = TaskVersion("")
_NO_DIGEST = Sha256("")

#: A time that does not come.
FOR_EVER_MS: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this device is. ``key_hex`` is secret; times in milliseconds of the server's clock."""

    key_hex: str
    device_id: DeviceId = _NO_DEVICE
    credential: str = ""
    expires_ms: int = 0
    renewal_ms: int = 0  # the highest nonce used to renew; must rise

    @property
    def enrolled(self) -> bool:
        """Whether the control plane knows this device."""
        return bool(self.device_id)


@dataclass(frozen=True, slots=True)
class SlotContent:
    """What a slot holds and how it fares."""

    phase: SlotPhaseName = "empty"
    release_id: ReleaseId = _NO_RELEASE
    version: TaskVersion = _NO_VERSION
    manifest: Sha256 = _NO_DIGEST
    successes: int = 0  # since activation, counted while on trial
    failures: int = 0  # in a row, counted while on trial
    crashes: int = 0  # lives of the agent in a row that it was started in and that did not end well, so far
    quarantine_s: float = 0.0  # what its release asks for, should it fail; 0: nothing

    @property
    def state(self) -> SlotPhase:
        """The phase as an enum."""
        return SlotPhase(self.phase)


EMPTY_SLOT = SlotContent()


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """The two slots of one task."""

    scenario: ScenarioName
    task: TaskName
    a: SlotContent = EMPTY_SLOT
    b: SlotContent = EMPTY_SLOT

    @property
    def key(self) -> TaskKey:
        """(scenario, task)."""
        return (self.scenario, self.task)

    def slot(self, name: SlotName) -> SlotContent:
        """The content of a slot."""
        return self.a if name == "a" else self.b

    def with_slot(self, name: SlotName, content: SlotContent) -> TaskRecord:
        """A copy with one slot changed."""
        return dataclasses.replace(self, a=content) if name == "a" else dataclasses.replace(self, b=content)

    @property
    def active(self) -> SlotName | None:
        """The slot that runs, if any."""
        return next((name for name in SLOT_NAMES if self.slot(name).state in ACTIVE), None)

    def holding(self, manifest: Sha256) -> SlotName | None:
        """The slot in which this manifest lies complete, if any."""
        return next(
            (
                name
                for name in SLOT_NAMES
                if self.slot(name).manifest == manifest and self.slot(name).state in COMPLETE
            ),
            None,
        )


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A release this device will not try before ``until_ms``, for which it was barred so many ``times``.

    The same files under a new release get a new chance at once.
    """

    release_id: ReleaseId
    manifest: Sha256
    reason: str
    at_ms: int
    until_ms: int = FOR_EVER_MS
    times: int = 1


@dataclass(frozen=True, slots=True)
class Isolated:
    """Files whose task runs in a process of its own here, since a worker died under it."""

    manifest: Sha256
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class OwnRecord:
    """The exclusive manifest last used for a task; kept for good, so that no older one passes."""

    scenario: ScenarioName
    task: TaskName
    counter: int = 0
    envelope: Sha256 = _NO_DIGEST

    @property
    def key(self) -> TaskKey:
        """(scenario, task)."""
        return (self.scenario, self.task)


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Everything the deployment must remember."""

    epoch: int = 0
    snapshot: Sha256 = _NO_DIGEST
    policy_keys: tuple[str, ...] = ()  # who signed it: with other keys, epochs may begin anew
    time_ms: int = 0  # the newest signed time heard: a floor under the clock
    time_keys: tuple[str, ...] = ()  # who signed that
    tasks: tuple[TaskRecord, ...] = ()
    quarantine: tuple[Quarantined, ...] = ()
    install_failures: Mapping[str, int] = field(default_factory=dict)  # by release id
    isolated: tuple[Isolated, ...] = ()
    download_day: int = 0  # since 1970, of the device's clock
    download_bytes: int = 0  # that have travelled on that day
    own: tuple[OwnRecord, ...] = ()

    def record(self, key: TaskKey) -> TaskRecord:
        """The record of a task; an empty one if there is none."""
        return next((record for record in self.tasks if record.key == key), TaskRecord(*key))

    def with_record(self, record: TaskRecord) -> DeviceState:
        """A copy with one task changed; a task without content is forgotten."""
        others = tuple(other for other in self.tasks if other.key != record.key)
        kept = () if record.a == record.b == EMPTY_SLOT else (record,)
        return dataclasses.replace(self, tasks=tuple(sorted(others + kept, key=lambda r: r.key)))

    def quarantined(self, release_id: ReleaseId, manifest: Sha256) -> Quarantined | None:
        """What is remembered of this release with these files, if it was barred, now or before."""
        return next(
            (q for q in self.quarantine if q.release_id == release_id and q.manifest == manifest), None
        )

    def is_quarantined(self, release_id: ReleaseId, manifest: Sha256, now_ms: int) -> bool:
        """Whether this release with these files is not to be tried now."""
        entry = self.quarantined(release_id, manifest)
        return entry is not None and now_ms < entry.until_ms

    def own_record(self, key: TaskKey) -> OwnRecord:
        """The exclusive manifest last used for a task; counter 0 if there was none."""
        return next((record for record in self.own if record.key == key), OwnRecord(*key))

    def isolation(self, manifest: Sha256) -> Isolated | None:
        """Why these files run in a process of their own, if they do."""
        return next((entry for entry in self.isolated if entry.manifest == manifest), None)


class CheckedFile[T]:
    """One record in one file: replaced atomically, checked by digest, with its last good copy beside it."""

    def __init__(self, path: Path, cls: type[T], *, on_corrupt: Callable[[StorageError], None]) -> None:
        self._path = path
        self._previous = path.with_name(path.name + ".previous")
        self._cls = cls
        self._on_corrupt = on_corrupt

    def exists(self) -> bool:
        """Whether there is a file; it may be corrupt."""
        return self._path.exists()

    def load(self) -> T | None:
        """The newest good copy, or None; corrupt ones are set aside and told to ``on_corrupt``."""
        for path in (self._path, self._previous):
            try:
                return _read_checked(path, self._cls)
            except FileNotFoundError:
                continue
            except StorageError as error:
                aside = set_aside(path)
                self._on_corrupt(StorageError(f"{error}; kept as {aside.name}"))
        return None

    def save(self, value: T) -> None:
        """Replace the file; the copy before becomes the previous one.

        Raises:
            StorageError: the disk refused; the old content stands.
        """
        content = canonical(value)
        digest = hashlib.sha256(content).hexdigest()
        data = b'{"sha256":"' + digest.encode() + b'","content":' + content + b"}\n"
        if self._path.exists():
            # A second name for the old file: the rename below takes only the first name away from it.
            _link_over(self._path, self._previous)
        write_atomic(self._path, data)


def _link_over(source: Path, target: Path) -> None:
    try:
        target.unlink(missing_ok=True)
        target.hardlink_to(source)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror or error}") from error


def _read_checked[T](path: Path, cls: type[T]) -> T:
    try:
        outer: Any = orjson.loads(path.read_bytes())
        content = outer["content"]
        if hashlib.sha256(canonical(content)).hexdigest() != outer["sha256"]:
            raise StorageError(f"{path}: the digest does not fit the content")
        return from_plain(cls, content)
    except FileNotFoundError:
        raise
    except (OSError, orjson.JSONDecodeError, RecordError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: corrupt: {error}") from error


class StateStore:
    """Identity and deployment state, in memory and on disk. Blocking; one writer at a time.

    Args:
        folder: the data folder; made if missing.
        on_corrupt: told of every file that had to be set aside.

    Raises:
        StorageError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, *, on_corrupt: Callable[[StorageError], None]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be made: {error.strerror or error}") from error
        self.folder = folder
        self._identity_file = CheckedFile(folder / "identity.json", Identity, on_corrupt=on_corrupt)
        self._state_file = CheckedFile(folder / "state.json", DeviceState, on_corrupt=on_corrupt)
        self.identity: Identity | None = self._identity_file.load()
        self.state: DeviceState = self._state_file.load() or DeviceState()

    def save_identity(self, identity: Identity) -> None:
        """Make a new identity durable, then use it.

        Raises:
            StorageError: the old one stands.
        """
        self._identity_file.save(identity)
        self.identity = identity

    def save(self, state: DeviceState) -> None:
        """Make a new state durable, then use it. The one place where deployments become fact.

        Raises:
            StorageError: the old one stands.
        """
        if state != self.state:
            self._state_file.save(state)
            self.state = state


def read_only(folder: Path) -> tuple[Identity | None, DeviceState | None]:
    """Look at the files of an agent, running or not, without touching them.

    Raises:
        StorageError: a file is corrupt.
    """
    return _read_if_there(folder / "identity.json", Identity), _read_if_there(
        folder / "state.json", DeviceState
    )


def _read_if_there[T](path: Path, cls: type[T]) -> T | None:
    try:
        return _read_checked(path, cls)
    except FileNotFoundError:
        return None
