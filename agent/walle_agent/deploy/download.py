"""The content store: files by digest, fetched once, resumed where they broke off.

Invariants:

1. A file under ``blobs/`` has the digest it is named by; it got there by a rename after the whole digest was
   checked and the data synced.
2. What is not checked yet has the suffix ``.part``; it is only ever continued or deleted.
3. No more bytes are written than the manifest promises.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from walle_agent.link.exchange import ServerBusy
from walle_agent.link.transport import Transport
from walle_agent.state.files import sync_folder
from walle_shared.backoff import Backoff
from walle_shared.deltas import unpack
from walle_shared.errors import LengthOrHashError, NotFound, StorageError, TransportError, WalleError
from walle_shared.ids import Sha256
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import FileRef
from walle_shared.units import MIB

_log = get_logger("agent.deploy")

_WRITE_BYTES = 1 * MIB


class ContentStore:
    """Files by digest. Blocking."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be made: {error.strerror or error}") from error

    def path(self, digest: Sha256) -> Path:
        """Where the file of this digest lies, if it does."""
        return self.folder / digest

    def part(self, digest: Sha256) -> Path:
        """Where it lies while it is incomplete."""
        return self.folder / f"{digest}.part"

    def has(self, ref: FileRef) -> bool:
        """Whether the file is here, complete."""
        try:
            return self.path(ref.sha256).stat().st_size == ref.size_bytes
        except FileNotFoundError:
            return False

    def drop_part(self, digest: Sha256) -> None:
        """Forget what came of a file so far."""
        self.part(digest).unlink(missing_ok=True)

    def admit(self, ref: FileRef) -> Path:
        """Check an incomplete file that has all its bytes and make it a complete one.

        Raises:
            LengthOrHashError: it is not what was promised; the part is deleted.
            StorageError: the disk refused.
        """
        part = self.part(ref.sha256)
        size_bytes, digest = measure(part)
        if (size_bytes, digest) != (ref.size_bytes, ref.sha256):
            self.drop_part(ref.sha256)
            raise LengthOrHashError(
                f"blob {ref.sha256[:12]}: got {size_bytes} bytes with digest {digest[:12]}, "
                f"{ref.size_bytes} bytes were promised"
            )
        try:
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(self.path(ref.sha256))
            sync_folder(self.folder)
        except OSError as error:
            raise StorageError(f"{part}: {error.strerror or error}") from error
        return self.path(ref.sha256)

    def drop(self, digest: Sha256) -> None:
        """Forget a complete file."""
        self.path(digest).unlink(missing_ok=True)

    def unpack(self, packed: FileRef, base: Sha256, ref: FileRef, *, memory_max_bytes: int) -> None:
        """Make a file of a delta and its base, both complete here; its whole digest is checked.

        Raises:
            LengthOrHashError: something else comes out; nothing is kept of it.
            LimitExceeded: it would take more memory than it may.
            StorageError: the disk refused.
        """
        try:
            with (
                self.path(packed.sha256).open("rb") as source,
                self.part(ref.sha256).open("wb") as target,
                _mapped(self.path(base) if base else None) as before,
            ):
                pieces = iter(partial(source.read, _WRITE_BYTES), b"")
                for piece in unpack(pieces, before, ref.size_bytes, memory_max_bytes=memory_max_bytes):
                    target.write(piece)
        except OSError as error:
            self.drop_part(ref.sha256)
            raise StorageError(f"{self.part(ref.sha256)}: {error.strerror or error}") from error
        except WalleError:
            self.drop_part(ref.sha256)
            raise
        self.admit(ref)

    def keep_only(self, digests: Iterable[Sha256]) -> int:
        """Delete every file, complete or not, of another digest; how many.

        Raises:
            StorageError: the disk refused.
        """
        kept = {str(digest) for digest in digests}
        doomed = [path for path in self.folder.iterdir() if path.name.removesuffix(".part") not in kept]
        try:
            for path in doomed:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{self.folder}: {error.strerror or error}") from error
        return len(doomed)

    def missing_bytes(self, ref: FileRef) -> int:
        """What of a file must still come, should it come whole."""
        return 0 if self.has(ref) else ref.size_bytes - _resume_at(self.part(ref.sha256), ref.size_bytes)

    def free_bytes(self) -> int:
        """What the file system has room for."""
        return shutil.disk_usage(self.folder).free


@contextmanager
def _mapped(path: Path | None) -> Iterator[memoryview]:
    """A file's bytes without reading them into memory first."""
    if path is None or path.stat().st_size == 0:
        yield memoryview(b"")
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        view = memoryview(mapping)
        try:
            yield view
        finally:
            view.release()


def measure(path: Path) -> tuple[int, Sha256]:
    """Size in bytes and SHA-256 of a file.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), Sha256(digest)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error


class Downloader:
    """Fills the content store from the control plane.

    Args:
        transport: the way there.
        content: where files go.
        attempts: tries per file.
        base_s: first wait after a failure.
        cap_s: longest wait.
        on_received: told of the bytes that have travelled, also when the rest did not come.
    """

    def __init__(
        self,
        transport: Transport,
        content: ContentStore,
        *,
        attempts: int,
        base_s: float = 0.5,
        cap_s: float = 60.0,
        on_received: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._on_received = on_received
        self._transport = transport
        self._content = content
        self._attempts = attempts
        self._base_s = base_s
        self._cap_s = cap_s

    async def fetch(self, ref: FileRef, kind: str = "blob", url: str = "") -> int:
        """Make sure the file is in the store; the bytes that had to travel.

        Raises:
            LengthOrHashError: the server keeps sending something else.
            TransportError: the network failed on every attempt.
            NotFound: the server does not have it.
            StorageError: the disk refused.
        """
        if await trio.to_thread.run_sync(self._content.has, ref):
            return 0
        backoff = Backoff(self._base_s, self._cap_s)
        received = busy = 0
        while True:
            try:
                received += await self._receive(ref, kind, url)
                await trio.to_thread.run_sync(self._content.admit, ref)
            except (TransportError, LengthOrHashError, NotFound) as error:
                if isinstance(error, LengthOrHashError):  # nothing of it can be trusted
                    await trio.to_thread.run_sync(self._content.drop_part, ref.sha256)
                if isinstance(error, ServerBusy):
                    busy += 1  # says nothing of the file, so it is none of its attempts
                    if busy >= self._attempts or (error.retry_after_s or 0.0) > self._cap_s:
                        raise
                    delay_s = error.retry_after_s or self._base_s
                else:
                    delay_s = backoff.next_delay_s()
                    if backoff.failures >= self._attempts:
                        raise
                _log.warning(
                    "download_interrupted", blob=ref.sha256[:12], error=str(error), retry_s=round(delay_s, 2)
                )
                await trio.sleep(delay_s)
            else:
                return received

    async def _receive(self, ref: FileRef, kind: str, url: str) -> int:
        """Append what is missing to the part."""
        part = self._content.part(ref.sha256)
        start = await trio.to_thread.run_sync(_resume_at, part, ref.size_bytes)
        if start == ref.size_bytes:
            return 0
        async with self._transport.open_file(kind, ref, start, url) as (begins, chunks):
            received = 0
            pending = bytearray()
            await trio.to_thread.run_sync(_cut, part, begins)
            try:
                async for chunk in chunks:
                    received += len(chunk)
                    if begins + received > ref.size_bytes:
                        pending.clear()
                        raise LengthOrHashError(
                            f"blob {ref.sha256[:12]}: more than the promised {ref.size_bytes} bytes"
                        )
                    pending += chunk
                    if len(pending) >= _WRITE_BYTES:
                        await trio.to_thread.run_sync(_append, part, bytes(pending))
                        pending.clear()
            finally:
                # What came before the connection broke is not asked for again.
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(_append, part, bytes(pending))
                    if self._on_received is not None:
                        await self._on_received(received)
        if begins + received < ref.size_bytes:
            raise LengthOrHashError(
                f"blob {ref.sha256[:12]}: {begins + received} bytes, {ref.size_bytes} were promised"
            )
        return received


def _resume_at(part: Path, size_bytes: int) -> int:
    try:
        have = part.stat().st_size
    except FileNotFoundError:
        return 0
    return have if have <= size_bytes else 0


def _cut(part: Path, size_bytes: int) -> None:
    try:
        with part.open("ab") as file:
            file.truncate(size_bytes)
    except OSError as error:
        raise StorageError(f"{part}: {error.strerror or error}") from error


def _append(part: Path, data: bytes) -> None:
    try:
        with part.open("ab") as file:
            file.write(data)
    except OSError as error:
        raise StorageError(f"{part}: {error.strerror or error}") from error
