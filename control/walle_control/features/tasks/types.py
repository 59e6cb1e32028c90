"""Types of the tasks feature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from walle_shared.ids import ScenarioName, TaskName, TaskVersion
from walle_shared.manifest import BundleFile, TaskFile
from walle_shared.protocol.messages import FileRef


class ModelConverter(Protocol):
    """Turns an ONNX file into a ``.wmodel`` file; raises an ``EngineError`` for a model it cannot convert."""

    def __call__(self, onnx_path: Path, wmodel_path: Path, /) -> object:
        """Convert; blocks."""
        ...


class Simulate(Protocol):
    """Plays the simulations of a task; ``files`` by path below its folder. Blocks."""

    def __call__(self, files: Mapping[str, bytes], timeout_s: float, /) -> SimulationResult:
        """What came of it."""
        ...


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """Import a version of a task from a git repository: its name, or a path on the server's disk.

    The tag is ``<task>/<version>`` and the folder ``<task>``, unless named.
    """

    repository: str
    task: str
    version: str
    tag: str = ""
    folder: str = ""


@dataclass(frozen=True, slots=True)
class TaskSource:
    """A task's folder as it stands at a tag: POSIX path below the folder to content.

    ``simulations`` stay in the repository; their paths are below the folder too.
    """

    commit: str
    tag: str
    files: Mapping[str, bytes]
    simulations: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SimulationFailure:
    """What is wrong with a cell; ``kind`` is ``crashed`` or ``timeout`` if the simulation itself ended so."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class SimulationCell:
    """A recording, of one version of the app, played on one profile; figures are of its costliest runs."""

    recording: str
    app_version: str
    profile: str
    runs: int
    cpu_s: float
    peak_bytes: int
    failures: tuple[SimulationFailure, ...]


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """What came of the simulations of a version; ``smoked``: it declares none, and was only loaded."""

    passed: bool
    smoked: bool
    cells: tuple[SimulationCell, ...]


@dataclass(frozen=True, slots=True)
class Simulation:
    """The last simulation of a version."""

    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    at_ms: int
    seconds: float
    result: SimulationResult


#: A version is a draft until it has passed its simulations; only then may it be released.
VersionState = Literal["draft", "ready"]


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
    state: VersionState = "draft"


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did.

    ``created`` is false if the version was here before, ``approved`` while its approval waits for signatures
    or for its simulations: until then it cannot be released.
    """

    version: VersionRow
    created: bool
    approved: bool
    simulation: Simulation | None = None


@dataclass(frozen=True, slots=True)
class VersionDetail:
    """An imported version with what devices get of it."""

    version: VersionRow
    definition: TaskFile
    files: tuple[BundleFile, ...]


@dataclass(frozen=True, slots=True)
class CompareAsked:
    """Which version another is compared with; empty: the one imported before it."""

    base: str = ""


@dataclass(frozen=True, slots=True)
class VersionList:
    """All imported versions, newest import first."""

    versions: tuple[VersionRow, ...]
