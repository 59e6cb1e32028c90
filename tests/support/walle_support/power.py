"""A disk that loses what was not synced: which names and bytes survive a power cut, by the letter of POSIX.

``fsync`` of a file makes its bytes durable, ``fsync`` of a folder its names; nothing else does. Python's own
file operations below the root are watched; the power goes before the n-th of them. SQLite syncs by itself and
is believed: its files survive as they are.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

#: ``strict``: unsynced names and bytes are gone. ``names``: names got there by themselves, bytes did not.
#: ``lucky``: everything got there.
Survival = Literal["strict", "names", "lucky"]

_WATCHED = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "link")
_BELIEVED = ("reports.db",)


class PowerCut(BaseException):
    """The device dies here: nothing may catch it as an error."""


@dataclass
class Disk:
    """What is durable below ``root``."""

    root: Path
    cut_before: int = 0
    passed: list[str] = field(default_factory=list)
    _bytes: dict[int, bytes] = field(default_factory=dict)
    _names: dict[int, dict[str, int]] = field(default_factory=dict)
    _links: dict[int, Path] = field(default_factory=dict)
    _held: list[int] = field(default_factory=list)  # an inode that is held is not given to another file

    def adopt(self) -> None:
        """Everything that lies there now is durable."""
        for folder, _, files in os.walk(self.root):
            self._sync_names(Path(folder))
            for name in files:
                path = Path(folder, name)
                self._bytes[path.stat().st_ino] = path.read_bytes()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch this process's file operations."""
        with pytest.MonkeyPatch.context() as patch:
            for name in _WATCHED:
                patch.setattr(os, name, self._watched(name, getattr(os, name)))
            try:
                yield
            finally:
                patch.undo()

    def close(self) -> None:
        """Let go of the inodes."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held.clear()

    def after_cut(self, target: Path, survival: Survival) -> Path:
        """Lay out what a device finds when it comes up again."""
        self._restore(self.root, target, survival)
        for path in self.root.iterdir():
            if path.name.startswith(_BELIEVED):
                shutil.copy(path, target / path.name)
        return target

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(subject: Any, *args: Any, **kwargs: Any) -> Any:
            path = self._path_of(subject, kwargs.get("dir_fd"))
            if path is None:
                return real(subject, *args, **kwargs)
            self.passed.append(f"{name} {path.relative_to(self.root)}")
            if self.cut_before and len(self.passed) >= self.cut_before:
                raise PowerCut(self.passed[-1])
            result = real(subject, *args, **kwargs)
            if name == "fsync":
                self._note_sync(path, subject)
            return result

        return operation

    def _path_of(self, subject: Any, dir_fd: int | None) -> Path | None:
        if isinstance(subject, int):
            path = Path(f"/proc/self/fd/{subject}").readlink()
        elif dir_fd is not None:
            path = Path(f"/proc/self/fd/{dir_fd}").readlink() / os.fsdecode(subject)
        else:
            path = Path(os.fsdecode(subject))
        return path if path.is_relative_to(self.root) else None

    def _note_sync(self, path: Path, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._held.append(os.dup(descriptor))
        if stat.S_ISDIR(status.st_mode):
            self._sync_names(path)
        else:
            self._bytes[status.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def _sync_names(self, folder: Path) -> None:
        names: dict[str, int] = {}
        for entry in os.scandir(folder):
            if not entry.name.startswith(_BELIEVED):
                self._held.append(os.open(entry.path, os.O_PATH | os.O_NOFOLLOW))
                if entry.is_symlink():
                    self._links[entry.inode()] = Path(entry.path).readlink()
                names[entry.name] = entry.inode()
        self._names[folder.stat().st_ino] = names

    def _restore(self, folder: Path, target: Path, survival: Survival) -> None:
        """Walk what is there, or was there when its names were synced last."""
        target.mkdir()
        self._fill(folder.stat().st_ino, target, survival, self._live())

    def _live(self) -> dict[int, list[Path]]:
        """What is there by inode; a file may have several names."""
        found: dict[int, list[Path]] = {}
        for path in (self.root, *self.root.rglob("*")):
            if not path.name.startswith(_BELIEVED):
                found.setdefault(path.lstat().st_ino, []).append(path)
        return found

    def _fill(self, inode: int, target: Path, survival: Survival, live: dict[int, list[Path]]) -> None:
        names = self._names.get(inode, {})
        if survival != "strict":
            here = live[inode][0] if inode in live else None
            names = {
                path.name: child for child, paths in live.items() for path in paths if path.parent == here
            }
        for name, child in names.items():
            place = target / name
            path = live[child][0] if child in live else None
            if (link := self._link_of(child, path)) is not None:
                place.symlink_to(link)
            elif self._is_folder(child, path):
                place.mkdir()
                self._fill(child, place, survival, live)
            elif survival == "lucky" and path is not None:
                place.write_bytes(path.read_bytes())
            else:
                place.write_bytes(self._bytes.get(child, b""))

    def _link_of(self, inode: int, path: Path | None) -> Path | None:
        if inode in self._links:
            return self._links[inode]
        return path.readlink() if path is not None and path.is_symlink() else None

    def _is_folder(self, inode: int, path: Path | None) -> bool:
        if path is not None:
            return path.is_dir()
        return any(
            stat.S_ISDIR(status.st_mode) for status in map(os.fstat, self._held) if status.st_ino == inode
        )
