"""The folder in which the app leaves files for tasks: read by name, swept by age and size.

1. Only regular files that lie in the folder itself are read; no name and no link leads out of it.
2. Files whose names begin with a dot are being written, and nobody's business.
3. What is swept is what is oldest; a file that a run has read already is the run's own copy.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from walle_agent.config import InboxSection
from walle_shared.clock import Clock
from walle_shared.errors import LimitExceeded, NotFound, RemoteProtocolError, StorageError, TaskError
from walle_shared.limits import INBOX_FILE_MAX_BYTES

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
#: What says that there is no file: nothing at all, a link, a socket.
_MISSING = (errno.ENOENT, errno.ELOOP, errno.ENXIO)
#: How often a read looks at the whole folder, too.
_SWEEP_EVERY_S = 10.0


class Inbox:
    """Files for tasks.

    Args:
        folder: where they lie.
        config: how long they stay, and how much of them; None: all, for good.
        clock: of their age.
    """

    def __init__(self, folder: Path, config: InboxSection | None, clock: Clock) -> None:
        self.folder = folder
        self._config = config
        self._clock = clock
        self._swept_ns: int | None = None

    async def answer(self, args: dict[str, Any]) -> bytes:
        """The host function ``inbox.read``."""
        match args:
            case {"name": str(name)}:
                return await trio.to_thread.run_sync(self.read, name)
            case _:
                raise RemoteProtocolError("inbox.read needs a name")

    def read(self, name: str) -> bytes:
        """The bytes of a file. Blocks: for the disk; now and then, until old files are gone.

        Raises:
            TaskError: it cannot be the name of a file here.
            NotFound: there is none.
            LimitExceeded: it is too large.
            StorageError: it cannot be read.
        """
        if not _NAME.fullmatch(name):
            raise TaskError(
                f"{name[:80]!r} is no name of a file of the inbox: letters, digits, '_', '-', '.'"
            )
        try:
            data = _read_regular(self.folder / name, INBOX_FILE_MAX_BYTES)
        except OSError as error:
            if error.errno in _MISSING:
                message = f"the inbox has no file {name!r}: the app has not written it, or it has been swept"
                raise NotFound(message) from None
            raise StorageError(f"the inbox's {name!r} cannot be read: {error.strerror}") from None
        self._sweep_sometimes()
        return data

    def open(self) -> None:
        """Make the folder, for this user alone. Blocks: for the disk.

        Raises:
            StorageError: it cannot be made.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.folder} cannot be made: {error.strerror}") from None

    def sweep(self) -> int:
        """Delete what is too old, and then the oldest of what is too much; how many files went."""
        if self._config is None:
            return 0
        now_s = self._clock.wall_ms() / 1e3
        files = sorted(_files(self.folder))
        kept_bytes = sum(size for _, size, _ in files)
        gone = 0
        for written_s, size, path in files:
            if now_s - written_s <= self._config.keep_s and kept_bytes <= self._config.max_bytes:
                break
            with suppress(OSError):  # the app may delete it at the same time
                path.unlink()
            kept_bytes -= size
            gone += 1
        return gone

    def _sweep_sometimes(self) -> None:
        now_ns = self._clock.mono_ns()
        if self._swept_ns is None or now_ns - self._swept_ns >= _SWEEP_EVERY_S * 1e9:
            self._swept_ns = now_ns
            self.sweep()


def _read_regular(path: Path, limit_bytes: int) -> bytes:
    with open(path, "rb", opener=_open_nofollow) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, "it is no file")
        if found.st_size > limit_bytes:
            raise LimitExceeded(f"{path.name!r} has {found.st_size} bytes; the limit is {limit_bytes}")
        return file.read(limit_bytes)


def _open_nofollow(path: str, flags: int) -> int:
    """Open no link, and wait for nobody: a pipe would."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Time of writing, size and path of each file that is whole."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                    about = entry.stat(follow_symlinks=False)
                    found.append((about.st_mtime, about.st_size, Path(entry.path)))
    return found
