"""A task's folder on its author's machine: what devices would get of it, and that unpacked into a bundle.

For tools and tests; a task cannot import it.
"""

from __future__ import annotations

import hashlib
import importlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from walle_shared.errors import ConfigError, EngineError
from walle_shared.manifest import (
    TASK_FILE,
    TaskFile,
    check_bundle_path,
    is_cloud,
    is_shipped,
    parse_task_file,
)

CACHE_FOLDER = ".walle"
SOURCE_MODEL, MODEL = ".onnx", ".wmodel"
MODEL_FOLDERS = ("model/", "cloud/")


@dataclass(frozen=True, slots=True)
class TaskFolder:
    """A task as its author has it: where, what devices get by path in the bundle, its task file, and what
    its cloud half has besides."""

    root: Path
    files: Mapping[str, bytes]
    definition: TaskFile
    cloud_files: Mapping[str, bytes]


def read_folder(root: Path) -> TaskFolder:
    """Read a task's folder.

    Raises:
        ConfigError: it is no folder of a task, or its task file is wrong; names file and key.
    """
    files = read_files(root)
    if TASK_FILE not in files:
        raise ConfigError(f"{root}: has no {TASK_FILE}; 'walle-agent task init NAME' makes a task")
    definition = parse_task_text(files[TASK_FILE])
    device = {name: data for name, data in files.items() if not is_cloud(name)}
    return TaskFolder(root, device, definition, {name: files[name] for name in files.keys() - device.keys()})


def parse_task_text(data: bytes) -> TaskFile:
    """Parse the bytes of a task file.

    Raises:
        ConfigError: naming the key.
    """
    try:
        return parse_task_file(data.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{TASK_FILE}: not UTF-8: {error}") from None


def read_files(root: Path) -> dict[str, bytes]:
    """What a release has of a folder: no tests, nothing hidden, nothing compiled.

    Raises:
        ConfigError: a link, or a name that some file systems refuse.
    """
    if not root.is_dir():
        raise ConfigError(f"{root}: is no folder; 'walle-agent task init NAME' makes a task")
    return {name: path.read_bytes() for name, path in _shipped(root)}


def _shipped(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if "__pycache__" in path.parts or not is_shipped(name):
            continue
        if path.is_symlink():
            raise ConfigError(f"{path}: is a symbolic link; put the file itself there")
        if path.is_file():
            yield check_bundle_path(name), path


def find_root(path: Path) -> Path | None:
    """The task's folder that ``path`` is in or below, if there is one."""
    return next((folder for folder in (path, *path.parents) if (folder / TASK_FILE).is_file()), None)


def write_bundle(task: TaskFolder, target: Path, *, cloud: bool = False) -> Path:
    """Unpack what devices get into ``target``, models converted; for the ``cloud`` half, its own files too.

    Raises:
        ConfigError: a model must be converted, and the converter is not installed.
        EngineError: a model cannot be converted; names the file.
    """
    for name, data in [*task.files.items(), *(task.cloud_files.items() if cloud else ())]:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if is_source_model(name):
            shutil.copyfile(convert_model(task.root, name, data), place.with_suffix(MODEL))
        else:
            place.write_bytes(data)
    return target


def is_source_model(name: str) -> bool:
    """Whether a release has this file converted."""
    return name.startswith(MODEL_FOLDERS) and name.endswith(SOURCE_MODEL)


def convert_model(root: Path, name: str, data: bytes) -> Path:
    """The engine's form of a source model; converted once, and kept in the folder ``.walle`` of the task.

    Raises:
        ConfigError: the converter is not installed.
        EngineError: the model cannot be converted; names the file.
    """
    digest = hashlib.sha256(version("walle").encode() + data).hexdigest()
    kept = root / CACHE_FOLDER / f"{PurePosixPath(name).stem}-{digest[:16]}{MODEL}"
    if kept.is_file():
        return kept
    try:
        convert = importlib.import_module("walle_engine.convert").convert
    except ImportError as error:
        cure = "pip install 'walle[author]'"
        raise ConfigError(f"{name}: cannot be converted here ({error}): {cure}") from None
    kept.parent.mkdir(exist_ok=True)
    (kept.parent / ".gitignore").write_text("*\n")
    try:
        convert(root / name, kept)
    except EngineError as error:
        named = f"{name}: {error.message}"
        raise type(error)(named, status=error.status, op=error.op, node=error.node) from None
    return kept
