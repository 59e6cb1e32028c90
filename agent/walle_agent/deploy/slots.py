"""The two folders of each task, and what fills, checks and empties them. Blocking.

::

    <data>/slots/<scenario>/<task>/<a|b>/manifest.json   the manifest as it came
                                        /bundle/...      the files, read-only

A slot is built beside its place under ``.new``, synced, and renamed in; the state file calls it complete only
afterwards. A folder without such a word in the state file means nothing.
"""

from __future__ import annotations

import ast
import os
import shutil
import sys
from collections.abc import Set
from pathlib import Path, PurePosixPath

from walle_agent.deploy.download import ContentStore, measure
from walle_agent.state.files import sync_folder
from walle_agent.state.store import SLOT_NAMES, SlotName
from walle_container.bytecode import (
    BYTECODE_SUFFIX,
    HEADER_BYTES,
    MAGIC,
    bytecode_path,
    cache_tag,
    is_loadable,
)
from walle_shared.errors import LengthOrHashError, StorageError, TaskError
from walle_shared.manifest import Manifest
from walle_shared.targeting.policy import TaskKey

MANIFEST_NAME = "manifest.json"
BUNDLE_NAME = "bundle"

OWN_MAGIC = int.from_bytes(MAGIC[:2], "little")


class SlotFolders:
    """Paths and contents of all slots.

    Args:
        folder: the root of all slots.
        content: where the files come from.
    """

    def __init__(self, folder: Path, content: ContentStore) -> None:
        self._folder = folder
        self._content = content

    def path(self, key: TaskKey, slot: SlotName) -> Path:
        """The folder of one slot."""
        return self._folder / key[0] / key[1] / slot

    def bundle_dir(self, key: TaskKey, slot: SlotName) -> Path:
        """The unpacked bundle of one slot."""
        return self.path(key, slot) / BUNDLE_NAME

    def read_manifest(self, key: TaskKey, slot: SlotName) -> bytes:
        """The manifest of a slot.

        Raises:
            StorageError: it cannot be read.
        """
        path = self.path(key, slot) / MANIFEST_NAME
        try:
            return path.read_bytes()
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error

    def fill(self, key: TaskKey, slot: SlotName, encoded: bytes, manifest: Manifest) -> Path:
        """Unpack a bundle whose files are all in the content store; complete and durable on return.

        Raises:
            StorageError: the disk refused.
        """
        place = self.path(key, slot)
        building = place.with_name(place.name + ".new")
        try:
            _remove_tree(building)
            _remove_tree(place)
            bundle = building / BUNDLE_NAME
            bundle.mkdir(parents=True, mode=0o700)
            for file in manifest.files:
                target = bundle / file.path
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                _place(self._content.path(file.sha256), target)
            _write_synced(building / MANIFEST_NAME, encoded)
            for folder, _, _ in os.walk(building, topdown=False):
                sync_folder(Path(folder))
            building.rename(place)
            for folder_path in (place.parent, place.parent.parent, self._folder):
                sync_folder(folder_path)
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)  # a full disk needs the room
            raise StorageError(f"{place}: cannot be unpacked: {error.strerror or error}") from error
        return place / BUNDLE_NAME

    def check(self, key: TaskKey, slot: SlotName, manifest: Manifest) -> Path:
        """Check every file of a slot by size and digest.

        Raises:
            LengthOrHashError: a file is not what the manifest says.
            StorageError: a file cannot be read.
        """
        bundle = self.bundle_dir(key, slot)
        for file in manifest.files:
            if measure(bundle / file.path) != (file.size_bytes, file.sha256):
                raise LengthOrHashError(f"{bundle / file.path} is not the file that was installed")
        return bundle

    def sweep(self, keep: Set[Path]) -> int:
        """Delete every slot folder that is not in ``keep``: what a crash has left; how many.

        Raises:
            StorageError: the disk refused.
        """
        doomed = [path for path in self._folder.glob("*/*/*") if path not in keep]
        try:
            for path in doomed:
                _remove_tree(path)
            for level in ("*/*", "*"):
                for folder in self._folder.glob(level):
                    if not any(folder.iterdir()):
                        folder.rmdir()
        except OSError as error:
            raise StorageError(f"{self._folder}: {error.strerror or error}") from error
        return len(doomed)

    def clear(self, key: TaskKey) -> None:
        """Delete both slots of a task.

        Raises:
            StorageError: the disk refused.
        """
        try:
            for slot in SLOT_NAMES:
                _remove_tree(self.path(key, slot))
            _remove_tree(self.path(key, "a").parent)
        except OSError as error:
            raise StorageError(f"{self.path(key, 'a').parent}: {error.strerror or error}") from error


def check_entry(bundle: Path, manifest: Manifest) -> None:
    """The health check before activation: every script can be loaded and the entry function is there.

    Where the bundle carries bytecode for this Python, nothing is compiled: the control plane has compiled and
    checked it, and its digest has been checked here.

    Raises:
        TaskError: naming the script and the line, the missing entry, or the Python that the bundle is for.
    """
    module, _, function = manifest.definition.task.entry.partition(":")
    paths = {file.path for file in manifest.files}
    for mark in manifest.bytecode:
        if (mark.magic, mark.tag) == (OWN_MAGIC, cache_tag()):
            _check_bytecode(bundle, paths, mark.tag, f"{module}.py")
            return
    for path in sorted(paths):
        if path.endswith(".py"):
            _compile(bundle / path, path)
    entry = bundle / f"{module}.py"
    if not entry.is_file():
        raise TaskError(f"entry {module}:{function}: {_why_missing(manifest, module)}")
    names = {name for node in ast.parse(entry.read_bytes()).body for name in _bound_names(node)}
    if function not in names:
        raise TaskError(f"entry {module}:{function}: {module}.py does not define {function}")


def _check_bytecode(bundle: Path, paths: Set[str], tag: str, entry: str) -> None:
    compiled = [path for path in paths if path.endswith(f".{tag}{BYTECODE_SUFFIX}")]
    sources = {entry, *(path for path in paths if path.endswith(".py"))}
    for source in sorted(sources):
        if str(bytecode_path(PurePosixPath(source), tag)) not in compiled:
            raise TaskError(f"{source}: the bundle says it has bytecode for {tag}, but not of this script")
    for path in sorted(compiled):
        with (bundle / path).open("rb") as file:
            if not is_loadable(file.read(HEADER_BYTES)):
                raise TaskError(f"{path}: is not the bytecode of Python {tag} that its name says")


def _why_missing(manifest: Manifest, module: str) -> str:
    if not manifest.bytecode:
        return f"the bundle has no {module}.py"
    versions = ", ".join(mark.version for mark in manifest.bytecode)
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"the bundle has bytecode for Python {versions} and no source; this device runs {own}: "
        f"add it to [python] versions of the task"
    )


def _bound_names(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.ImportFrom(names=names):
            return [alias.asname or alias.name for alias in names]
        case _:
            return []


def _compile(path: Path, name: str) -> None:
    try:
        compile(path.read_bytes(), name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else "?"
        raise TaskError(f"{name}:{line}: does not compile: {error}") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error


def _place(source: Path, target: Path) -> None:
    """Copy a file (sharing blocks where the file system can), read-only and synced.

    A copy, not a hard link: a task that manages to write to its bundle must not reach the content store.
    """
    with source.open("rb") as reader:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(descriptor, "wb") as writer:
            remaining = os.fstat(reader.fileno()).st_size
            while remaining > 0:
                copied = os.copy_file_range(reader.fileno(), writer.fileno(), remaining)
                if copied == 0:
                    raise OSError(f"{source} became shorter while it was copied")
                remaining -= copied
            os.fsync(writer.fileno())


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
