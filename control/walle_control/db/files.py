"""Published files: immutable ones named by their digest, and the one that changes, ``epoch.json``.

The folder is laid out as devices ask for it (``blob/<sha256>``, ``delta/<sha256>``, ``manifest/<sha256>``,
``snapshot/<sha256>``, ``plan/<sha256>``, ``ids/<sha256>``, ``epoch.json``,
``tuf/<version>.<role>.json``, ``learning.json``), so that any web server or CDN can serve it as it stands.
Writes are atomic: a temporary file on the same file system is flushed to disk and renamed. All methods block.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import orjson

from walle_shared.errors import NotFound, StorageError
from walle_shared.ids import check_sha256
from walle_shared.learning import ROUNDS_FILE
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import check_file, file_ref

Kind = Literal["blob", "delta", "manifest", "snapshot", "plan", "ids"]
KINDS: tuple[Kind, ...] = ("blob", "delta", "manifest", "snapshot", "plan", "ids")
EPOCH_FILE = "epoch.json"
METADATA_FOLDER = "tuf"

_METADATA_NAME = re.compile(r"[a-z0-9.\-]{1,64}\.json")

_CHUNK_BYTES = 1 << 20


class FileStore:
    """The folder of published files below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for kind in (*KINDS, METADATA_FOLDER):
            (root / kind).mkdir(parents=True, exist_ok=True)

    @property
    def epoch_path(self) -> Path:
        """Where the signed epoch lies."""
        return self.root / EPOCH_FILE

    def put(self, kind: Kind, data: bytes, promised: FileRef | None = None) -> FileRef:
        """Store ``data`` under its digest; storing it again changes nothing.

        Raises:
            LengthOrHashError: the data is not what ``promised`` says.
            StorageError: it cannot be written, or does not read back as written.
        """
        ref = file_ref(data)
        if promised is not None:
            check_file(data, promised, f"{kind} {promised.sha256}")
        path = self.root / kind / ref.sha256
        if not path.exists() or path.stat().st_size != ref.size_bytes:
            _write_atomically(path, data)
            if _digest(path) != ref.sha256:
                raise StorageError(f"{path}: does not read back as written; check the disk")
        return ref

    def path(self, kind: str, sha256: str) -> Path:
        """Path of a stored file.

        Raises:
            NotFound: no such kind or file.
            ConfigError: not a digest.
        """
        path = self.root / kind / check_sha256(sha256)
        if kind not in KINDS or not path.is_file():
            raise NotFound(
                f"no {kind} {sha256} is stored here: 'walle-control fsck' looks for what is missing"
            )
        return path

    def read(self, kind: Kind, ref: FileRef) -> bytes:
        """The bytes of a stored file, checked.

        Raises:
            NotFound: it is not there.
            LengthOrHashError: it was damaged.
        """
        return check_file(self.path(kind, ref.sha256).read_bytes(), ref, f"{kind} {ref.sha256}")

    def publish_epoch(self, envelope: bytes) -> None:
        """Replace ``epoch.json``, unless it is newer: of several workers, one may be late with what it read.

        Raises:
            StorageError: it cannot be written.
        """
        with _locked(self.root / ".epoch.lock"):
            try:
                published = self.epoch_path.read_bytes()
            except FileNotFoundError:
                published = b""
            if published != envelope and _age(published) <= _age(envelope):
                _write_atomically(self.epoch_path, envelope)

    def put_metadata(self, name: str, data: bytes) -> None:
        """Write a trust metadata file, unless it is there as it should be.

        Raises:
            StorageError: it cannot be written.
        """
        path = self.root / METADATA_FOLDER / name
        if not path.exists() or path.read_bytes() != data:
            _write_atomically(path, data)

    def metadata_path(self, name: str) -> Path:
        """Path of a trust metadata file.

        Raises:
            NotFound: there is none of that name.
        """
        path = self.root / METADATA_FOLDER / name
        if not _METADATA_NAME.fullmatch(name) or not path.is_file():
            raise NotFound(
                f"no trust metadata {name[:80]!r} is published here: ask for one that the snapshot names"
            )
        return path

    @property
    def rounds_path(self) -> Path:
        """Where the signed file of the open learning rounds lies."""
        return self.root / ROUNDS_FILE

    def read_rounds(self) -> bytes:
        """That file as it is; empty if nothing was ever learnt together."""
        try:
            return self.rounds_path.read_bytes()
        except FileNotFoundError:
            return b""

    def publish_rounds(self, envelope: bytes) -> None:
        """Replace the file of the open learning rounds; one worker leads them.

        Raises:
            StorageError: it cannot be written.
        """
        _write_atomically(self.rounds_path, envelope)

    def drop(self, kind: Kind, sha256: str) -> None:
        """Delete a file that nothing names any more."""
        (self.root / kind / check_sha256(sha256)).unlink(missing_ok=True)

    def check(self) -> Iterator[tuple[str, bool]]:
        """Re-read every immutable file: ``(kind/name, whether it is what its name says)``."""
        for kind in KINDS:
            for path in sorted((self.root / kind).iterdir()):
                yield f"{kind}/{path.name}", _digest(path) == path.name


def _age(envelope: bytes) -> tuple[int, int]:
    """What rises from one epoch to the next, and each time one is signed anew; less for what is no epoch."""
    try:
        signed = orjson.loads(envelope)["signed"]
        return int(signed["epoch"]), int(signed["issued_ms"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return (-1, 0)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; whoever dies lets go of it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _write_atomically(path: Path, data: bytes) -> None:
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent.parent, prefix=".new-")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error}") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
