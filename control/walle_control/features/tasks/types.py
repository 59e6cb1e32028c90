"""Types of the tasks feature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from walle_shared.ids import ScenarioName, TaskName, TaskVersion
from walle_shared.manifest import BundleFile, TaskFile
from walle_shared.protocol.messages import FileRef


class ModelConverter(Protocol):
    """Turns an ONNX file into a ``.wmodel`` file; raises an ``EngineError`` for a model it cannot convert."""

    def __call__(self, onnx_path: Path, wmodel_path: Path, /) -> object:
        """Convert; blocks."""
        ...


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """Import version ``version`` of task ``task`` from a git repository on the server's disk.

    The tag is ``<task>/<version>`` and the folder ``<task>``, unless named.
    """

    repository: str
    task: str
    version: str
    tag: str = ""
    folder: str = ""


@dataclass(frozen=True, slots=True)
class TaskSource:
    """A task's folder as it stands at a tag: POSIX path below the folder to content."""

    commit: str
    tag: str
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class VersionRow:
    """An imported version."""

    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    source: str
    manifest: FileRef
    files: int
    total_bytes: int
    imported_ms: int


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did.

    ``created`` is false if the version was here before, ``approved`` while its approval waits for signatures:
    until then it cannot be released.
    """

    version: VersionRow
    created: bool
    approved: bool


@dataclass(frozen=True, slots=True)
class VersionDetail:
    """An imported version with what devices get of it."""

    version: VersionRow
    definition: TaskFile
    files: tuple[BundleFile, ...]


@dataclass(frozen=True, slots=True)
class VersionList:
    """All imported versions, newest import first."""

    versions: tuple[VersionRow, ...]
