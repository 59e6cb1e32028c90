"""What one device alone is given: a manifest signed by the role ``exclusive``, which names the device.

It is an envelope of kind ``exclusive`` (``signing.open_envelope``), opened with the signature check of the
role (``TrustedSet.signatures_of(EXCLUSIVE)``). ``check_exclusive`` then judges it; nothing in it may be used
before. The rules, in order:

1. It names this device and the task asked for.
2. Its counter is above the one last used: counters of a device and task only rise, also over restarts.
   The same counter again is good only if it is the very same manifest (a retry).
3. It has not expired by the server's signed time.
4. What it says of its files can be acted on.

Files are encrypted (``sealed_to`` says to which key) and named by the digest of the ciphertext; the digest of
what comes out is checked after decryption.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from walle_shared.errors import ConfigError, ExpiredError, RollbackError, SignatureError
from walle_shared.ids import DeviceId, ScenarioName, Sha256, TaskName, check_sha256
from walle_shared.limits import EXCLUSIVE_FILE_MAX_BYTES, EXCLUSIVE_MAX_FILES
from walle_shared.protocol.messages import FileRef

EXCLUSIVE_KIND: Final = "exclusive"

_NO_DIGEST: Final = Sha256("")


@dataclass(frozen=True, slots=True)
class ExclusiveFile:
    """One file of a device's own.

    ``path`` is what the task calls it; ``sealed`` the ciphertext as it travels, ``plain`` what it decrypts
    to; ``sealed_to`` the id of the key it was encrypted to.
    """

    path: str
    sealed: FileRef
    plain: FileRef
    sealed_to: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExclusiveManifest:
    """What a device is given for a task, until ``expires_ms`` or until a higher ``counter`` replaces it."""

    device_id: DeviceId
    scenario: ScenarioName
    task: TaskName
    counter: int
    issued_ms: int
    expires_ms: int
    files: tuple[ExclusiveFile, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExclusiveFloor:
    """The counter last used for a device and task, and the digest of its envelope; none yet by default."""

    counter: int = 0
    envelope: Sha256 = _NO_DIGEST


def check_exclusive(
    manifest: ExclusiveManifest,
    envelope: Sha256,
    *,
    device_id: DeviceId,
    scenario: ScenarioName,
    task: TaskName,
    floor: ExclusiveFloor,
    now_ms: int,
) -> ExclusiveManifest:
    """Return a manifest whose signature was checked, if this device may act on it.

    Args:
        manifest: what the envelope held.
        envelope: the digest of the envelope.
        device_id: this device.
        scenario: the task asked for.
        task: the task asked for.
        floor: what was used before.
        now_ms: the server's time (``SignedClock.now_ms``).

    Raises:
        SignatureError: it is for another device or task, or names files nobody may act on.
        RollbackError: its counter has been passed, or was used for something else.
        ExpiredError: it is over.
    """
    addressed = (manifest.device_id, manifest.scenario, manifest.task)
    if addressed != (device_id, scenario, task):
        raise SignatureError(
            f"an exclusive manifest for {'/'.join(addressed)} was offered to {device_id}/{scenario}/{task}"
        )
    if manifest.counter < floor.counter or manifest.counter < 1:
        raise RollbackError(
            f"exclusive manifest {manifest.counter} was offered, but {floor.counter} has been used"
        )
    if manifest.counter == floor.counter and envelope != floor.envelope:
        raise RollbackError(f"exclusive manifest {manifest.counter} was offered again with other content")
    if now_ms >= manifest.expires_ms:
        raise ExpiredError(f"exclusive manifest {manifest.counter} of task {task} has expired")
    _check_files(manifest.files)
    return manifest


def _check_files(files: tuple[ExclusiveFile, ...]) -> None:
    if len(files) > EXCLUSIVE_MAX_FILES:
        raise SignatureError(f"an exclusive manifest may have {EXCLUSIVE_MAX_FILES} files, not {len(files)}")
    if len({file.path for file in files}) != len(files):
        raise SignatureError("an exclusive manifest names a file twice")
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or not path.parts or ".." in path.parts or str(path) != file.path:
            raise SignatureError(f"an exclusive manifest names {file.path[:80]!r}: not a plain relative path")
        for ref in (file.sealed, file.plain):
            try:
                check_sha256(ref.sha256)
            except ConfigError as error:
                raise SignatureError(f"exclusive file {file.path}: {error}") from None
            if not 0 <= ref.size_bytes <= EXCLUSIVE_FILE_MAX_BYTES:
                raise SignatureError(
                    f"exclusive file {file.path} of {ref.size_bytes} bytes:"
                    f" not within 0..{EXCLUSIVE_FILE_MAX_BYTES}"
                )
