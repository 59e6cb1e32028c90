"""Types of the exclusive feature."""

from __future__ import annotations

from dataclasses import dataclass

from walle_control.web.requests import page_limit
from walle_shared.ids import DeviceId
from walle_shared.protocol.messages import FileRef


@dataclass(frozen=True, slots=True)
class GiveRequest:
    """Give devices a file: what the task calls it, its content in base64, and to whom."""

    path: str
    content: str
    devices: tuple[DeviceId, ...]


@dataclass(frozen=True, slots=True)
class TakeRequest:
    """Take a file away from devices."""

    path: str
    devices: tuple[DeviceId, ...]


@dataclass(frozen=True, slots=True)
class GiveResult:
    """How many devices have it now (or no longer), and who is not enrolled, or had nothing to be taken."""

    devices: int
    unknown: tuple[DeviceId, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file of a device. It was sealed for ``counter``, under a key that is ``wrapped`` to ``sealed_to``."""

    device_id: DeviceId
    path: str
    counter: int
    sealed: FileRef
    plain: FileRef
    wrapped: str
    sealed_to: str
    added_ms: int


@dataclass(frozen=True, slots=True)
class OwnFileEntry:
    """A file of a device, for a list."""

    device_id: DeviceId
    path: str
    counter: int
    size_bytes: int
    sha256: str
    added_ms: int


@dataclass(frozen=True, slots=True)
class OwnFileList:
    """Files of devices for one task, by device and path; ``next_after`` asks for more, if it is not empty."""

    files: tuple[OwnFileEntry, ...]
    next_after: str = ""


@dataclass(frozen=True, slots=True)
class OwnFilesAsked:
    """Which files: those of devices ``after`` one, of at most ``limit`` devices."""

    after: str = ""
    limit: int = page_limit()


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """The newest manifest of a device and task; ``envelope`` is empty until the device asks for it."""

    counter: int
    envelope: str
    signed_ms: int
