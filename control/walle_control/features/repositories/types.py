"""Types of the repositories feature."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from walle_shared.ids import ScenarioName

#: Imports one tag of a repository: repository, tag, task, version, folder, actor; whether it was new.
ImportTag = Callable[[str, str, str, str, str, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as it is defined; kept beside its mirror too, so that the database can be rebuilt.

    Tasks of it belong to ``scenario``, whoever imports them. They lie in ``folder`` (empty: at the root), one
    folder each. ``credential`` names an entry of the credentials file. ``auto_import``: tags ``TASK/VERSION``
    are imported as they appear.
    """

    name: str
    url: str
    scenario: ScenarioName
    folder: str = ""
    credential: str = ""
    auto_import: bool = False


@dataclass(frozen=True, slots=True)
class RepositoryRow:
    """A repository and how it fares. ``error`` says why the last sync failed, if it did."""

    repository: Repository
    added_ms: int
    synced_ms: int = 0
    tags: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class RepositoryList:
    """All repositories by name."""

    repositories: tuple[RepositoryRow, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit as git has it: who wrote it when, what they said of it, the tags that name it."""

    id: str
    author: str
    at_ms: int
    message: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """The commits that led from one version of a task (empty: from none) to another, newest first.

    ``repository`` is the one whose mirror has them; empty: none has. ``more``: there are more of them.
    """

    repository: str
    version: str
    base: str
    commits: tuple[Commit, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class ImportFailure:
    """A tag that cannot be imported, and why."""

    tag: str
    error: str


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync brought: tags imported now, and those that cannot be."""

    repository: RepositoryRow
    imported: tuple[str, ...] = ()
    failed: tuple[ImportFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where an import reads: a git folder on this disk, and whose tasks may be in it (empty: anybody's)."""

    path: Path
    remote: str
    scenario: str = ""
    credential: str = ""
