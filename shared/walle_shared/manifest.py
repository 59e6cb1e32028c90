"""What a release is: the task file its author writes and the signed manifest a device installs.

``task.toml``::

    [task]
    scenario = "demo"             # group of tasks that belong together
    name = "digit_reader"
    entry = "main:run"            # module:function in this folder
    capabilities = ["events", "model", "store", "tunnel"]

    [[triggers]]                  # any of them fires the task
    ids = ["page:scan.exit"]      # paper profile: matched consecutively

    [[triggers]]                  # extended profile: walle_shared.triggers
    on = "on enter(item) ~> click{1,3} !exit(item) ~> enter(order) within 30s per visit"

    [limits]
    wall_s = 2.0

    [params]
    threshold = 0.5

    [tables.reads]                # collective storage this task may write
    digit = "integer"

    [retention.reads]             # how much of it stays; what is over, goes oldest first
    rows = 1000
    days = 7.0

    [uploads.digit_read]          # the only fields that may leave the device
    digit = "integer"

    [delivery]                    # records that can wait for an unmetered network and a charged device
    digit_read = "batch"

    [python]                      # bytecode that devices get, besides the control plane's own version
    versions = ["3.14"]
    source = false                # and no source
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from walle_shared.errors import ConfigError, RemoteProtocolError
from walle_shared.ids import (
    ScenarioName,
    Sha256,
    TaskName,
    TaskVersion,
    check_name,
    check_sha256,
    check_version,
)
from walle_shared.limits import (
    BUNDLE_FILE_MAX_BYTES,
    MANIFEST_MAX_FILES,
    RETENTION_MAX_DAYS,
    TABLE_MAX_ROWS,
    TRIGGER_MAX_IDS,
)
from walle_shared.records import RecordError, from_plain
from walle_shared.triggers import TriggerError, compile_trigger
from walle_shared.triggers import parse as parse_trigger
from walle_shared.units import MIB

MANIFEST_KIND = "manifest"
MANIFEST_FORMAT = 1
TASK_FILE = "task.toml"

#: Folders of a task that stay in its repository: tests and recorded events are the author's.
AUTHOR_FOLDERS = frozenset({"tests"})

ColumnType = Literal["text", "integer", "real", "boolean", "json"]
Tier = Literal["interp", "process"]
Capability = Literal["events", "model", "store", "tunnel", "params", "log"]

_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*:[A-Za-z_][A-Za-z0-9_]*")
_PYTHON_VERSION = re.compile(r"3\.[0-9]{1,2}")
_TRIGGER_ID = re.compile(r"(event|page|kind):[A-Za-z0-9_.\-]{1,128}")


@dataclass(frozen=True, slots=True)
class Trigger:
    """What fires a task: ``ids`` that must match consecutive events (paper profile), or a text ``on``.

    The text is that of ``walle_shared.triggers`` (extended profile). An id is ``event:<event id>``,
    ``page:<page id>`` (any event on that page), ``page:<page id>.enter``, ``page:<page id>.exit`` (the visit
    closed, for whatever reason), or ``kind:<event kind>``.
    """

    ids: tuple[str, ...] = ()
    on: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use: seconds, bytes of memory, bytes of result."""

    wall_s: float = 5.0
    memory_bytes: int = 64 * MIB
    output_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a table stays on the device: the newest ``rows``, none older than ``days`` (0: any age)."""

    rows: int = TABLE_MAX_ROWS
    days: float = 0.0


@dataclass(frozen=True, slots=True)
class PythonSection:
    """Python versions whose bytecode the bundle carries besides that of the control plane's own, and
    whether it carries the source, which any other version needs."""

    versions: tuple[str, ...] = ()
    source: bool = True


@dataclass(frozen=True, slots=True)
class TaskHead:
    """The ``[task]`` table.

    ``tier`` says what holds the task in: ``interp`` shares a worker process with its scenario's other tasks,
    ``process`` has a fenced one of its own.
    """

    scenario: ScenarioName
    name: TaskName
    entry: str = "main:run"
    capabilities: tuple[Capability, ...] = ("events", "params", "log")
    tier: Tier = "interp"


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A parsed ``task.toml``."""

    task: TaskHead
    triggers: tuple[Trigger, ...]
    limits: Limits = field(default_factory=Limits)
    params: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, ColumnType]] = field(default_factory=dict)
    uploads: Mapping[str, Mapping[str, ColumnType]] = field(default_factory=dict)
    retention: Mapping[str, Retention] = field(default_factory=dict)
    delivery: Mapping[str, Literal["realtime", "batch"]] = field(default_factory=dict)
    python: PythonSection = field(default_factory=PythonSection)


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle: POSIX path below the bundle's root, digest, size in bytes."""

    path: str
    sha256: Sha256
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Bytecode:
    """A Python that the bundle has bytecode for: version, the word in file names, the magic number."""

    version: str
    tag: str
    magic: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A task version as devices see it: the task file and every file by digest. Immutable once signed."""

    version: TaskVersion
    source: str  # the commit it was built from
    definition: TaskFile
    files: tuple[BundleFile, ...]
    bytecode: tuple[Bytecode, ...] = ()
    format: int = MANIFEST_FORMAT
    extra: Mapping[str, Any] = field(default_factory=dict)


def parse_task_file(text: str, where: str = TASK_FILE) -> TaskFile:
    """Parse and check a ``task.toml``.

    Raises:
        ConfigError: naming the file and the key.
    """
    try:
        task = from_plain(TaskFile, tomllib.loads(text))
        _check_task(task)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not TOML: {error}") from None
    except (RecordError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from None
    return task


def check_manifest(manifest: Manifest) -> Manifest:
    """Check a manifest's values before anything acts on them.

    Raises:
        RemoteProtocolError: naming the value: bad names, paths that leave the bundle, doubled paths, sizes
        over the limit.
    """
    try:
        check_version(manifest.version)
        _check_task(manifest.definition)
        _check_files(manifest.files)
    except ConfigError as error:
        raise RemoteProtocolError(f"manifest: {error}") from None
    if manifest.format != MANIFEST_FORMAT:
        raise RemoteProtocolError(
            f"manifest format {manifest.format} is not {MANIFEST_FORMAT}: update the agent"
        )
    return manifest


def _check_task(task: TaskFile) -> None:
    check_name(task.task.scenario, "task.scenario")
    check_name(task.task.name, "task.name")
    if not _ENTRY.fullmatch(task.task.entry):
        raise ConfigError(f"task.entry {task.task.entry[:80]!r} is not like 'main:run'")
    if not task.triggers:
        raise ConfigError("triggers: a task needs at least one [[triggers]]")
    for number, trigger in enumerate(task.triggers):
        _check_trigger(trigger, f"triggers[{number}]")
    if not 0 < task.limits.wall_s <= 600:
        raise ConfigError("limits.wall_s must be over 0 and at most 600")
    if task.limits.memory_bytes < MIB or task.limits.output_bytes < 1:
        raise ConfigError("limits.memory_bytes must be at least 1 MiB and limits.output_bytes positive")
    for version in task.python.versions:
        if not _PYTHON_VERSION.fullmatch(version):
            raise ConfigError(f"python.versions: {version[:80]!r} is not like '3.13'")
    for kind, tables in (("tables", task.tables), ("uploads", task.uploads)):
        for name, columns in tables.items():
            check_name(name, f"{kind}.{name[:80]}")
            if not columns:
                raise ConfigError(f"{kind}.{name}: declare at least one field")
            for column in columns:
                check_name(column, f"{kind}.{name}.{column[:80]}")
    _check_names(task)


def _check_names(task: TaskFile) -> None:
    for name in task.delivery.keys() - task.uploads.keys():
        raise ConfigError(f"delivery.{name[:80]}: there is no [uploads.{name[:80]}]")
    for name, keep in task.retention.items():
        if name not in task.tables:
            raise ConfigError(f"retention.{name[:80]}: there is no [tables.{name[:80]}]")
        if not 1 <= keep.rows <= TABLE_MAX_ROWS:
            raise ConfigError(f"retention.{name}.rows must be 1 to {TABLE_MAX_ROWS}")
        if not 0 <= keep.days <= RETENTION_MAX_DAYS:
            raise ConfigError(f"retention.{name}.days must be 0 (any age) to {RETENTION_MAX_DAYS}")


def _check_trigger(trigger: Trigger, where: str) -> None:
    if trigger.on and trigger.ids:
        raise ConfigError(f"{where} has ids and on: make them two [[triggers]]; either fires the task")
    if trigger.on:
        try:
            compile_trigger(parse_trigger(trigger.on))
        except TriggerError as error:
            raise ConfigError(f"{where}.on: {error}") from None
        return
    if not 1 <= len(trigger.ids) <= TRIGGER_MAX_IDS:
        raise ConfigError(f"{where}.ids must hold 1 to {TRIGGER_MAX_IDS} ids")
    for trigger_id in trigger.ids:
        if not _TRIGGER_ID.fullmatch(trigger_id):
            raise ConfigError(
                f"{where}.ids: {trigger_id[:80]!r} is not like 'event:add_cart' or 'page:item.exit'"
            )


def _check_files(files: tuple[BundleFile, ...]) -> None:
    if len(files) > MANIFEST_MAX_FILES:
        raise ConfigError(f"{len(files)} files are over the limit of {MANIFEST_MAX_FILES}")
    seen: set[str] = set()
    for file in files:
        check_bundle_path(file.path)
        check_sha256(file.sha256)
        if not 0 <= file.size_bytes <= BUNDLE_FILE_MAX_BYTES:
            raise ConfigError(f"file {file.path!r}: size {file.size_bytes} is out of range")
        if file.path in seen:
            raise ConfigError(f"file {file.path!r} is listed twice")
        seen.add(file.path)


def is_shipped(path: str) -> bool:
    """Whether the file at ``path`` of a task's folder goes to devices; hidden ones do not."""
    parts = PurePosixPath(path).parts
    return AUTHOR_FOLDERS.isdisjoint(parts[:1]) and not any(part.startswith(".") for part in parts)


def check_bundle_path(path: str) -> str:
    """Return ``path`` if it stays inside its bundle on every system.

    Raises:
        ConfigError: absolute, climbing, empty, or with characters that some file systems refuse.
    """
    parts = PurePosixPath(path).parts
    legal = re.fullmatch(r"[A-Za-z0-9_.\-/ ]{1,400}", path) is not None
    if (
        not legal
        or path.startswith("/")
        or any(part in ("..", ".") for part in parts)
        or path != "/".join(parts)
    ):
        raise ConfigError(
            f"file path {path[:120]!r} must be relative, without '..', of letters, digits, '_', '-', '.', ' '"
        )
    return path
