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

    [bounds.digit_read]           # what a field may be; with local fields in sight it must be so closed
    digit = { min = 0, max = 9 }

    [reads]                       # the events, by id or kind, and their fields that reach the script
    scan_done = ["page_id", "args.pixels"]

    [[prepare]]                   # what the agent works out of events before the script runs
    name = "per_page"
    over = "log"                  # of all events, window by window; or "run": of the run's own
    events = ["exposure"]
    key_by = "page_id"
    window = { tumbling_ms = 30000 }
    values = { seen = "count()", visible_ms = "sum(args.visible_ms)" }
    table = "per_page"            # rows go there, and to an upload, with no script at all if entry is ""

    [delivery]                    # records that can wait for an unmetered network and a charged device
    digit_read = "batch"

    [cloud]                       # cloud.py and cloud/ stay on the control plane, and answer what devices ask
    entry = "cloud:answer"
    wall_s = 1.0
    asks_per_device_hour = 60
    seconds_per_hour = 600.0

    [learning]                    # a model that devices train together: walle_shared.learning
    model = "digits"
    table = "reads"
    min_cohort = 50

    [python]                      # bytecode that devices get, besides the control plane's own version
    versions = ["3.14"]
    source = false                # and no source
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
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
from walle_shared.learning import LearningSection, check_section
from walle_shared.limits import (
    BUNDLE_FILE_MAX_BYTES,
    CLOUD_ASK_MAX_S,
    CLOUD_WORKERS_MAX,
    MANIFEST_MAX_FILES,
    PREPARE_MAX,
    PREPARE_MAX_BINS,
    RETENTION_MAX_DAYS,
    TABLE_MAX_ROWS,
    TRIGGER_MAX_IDS,
    WINDOW_MAX_MS,
    WINDOW_MAX_OVERLAP,
)
from walle_shared.schema import Bound, FieldType, check_bound
from walle_shared.settings import parse_checked
from walle_shared.triggers import TriggerError, compile_trigger
from walle_shared.triggers import parse as parse_trigger
from walle_shared.units import MIB

MANIFEST_FORMAT = 1
TASK_FILE = "task.toml"

#: What a version must pass before it may be released: recorded events, and what they are to lead to.
SIMULATIONS_FOLDER = "simulations"
#: Where a bundle has the files that each device has of its own.
OWN_FOLDER = "own"

#: Folders of a task that stay in its repository: tests and recorded events are the author's.
AUTHOR_FOLDERS = frozenset({"tests", SIMULATIONS_FOLDER})

#: The cloud half of a task: this folder, and the script or package of the same name.
CLOUD_FOLDER = "cloud"
CLOUD_SCRIPT = "cloud.py"
#: What a cloud half may use of ``walle_task``; it has no events, no store and nobody to send to.
CLOUD_CAPABILITIES = frozenset({"model", "params", "log"})

ColumnType = FieldType
Tier = Literal["interp", "process"]
Capability = Literal["events", "model", "store", "tunnel", "params", "log", "cloud", "inbox", "learn"]

_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*:[A-Za-z_][A-Za-z0-9_]*")
_PYTHON_VERSION = re.compile(r"3\.[0-9]{1,2}")
#: Functions of a stage: those whose results are numbers about many events, and all.
AGGREGATING = ("count", "sum", "mean", "min", "max", "histogram")
FUNCTIONS = (*AGGREGATING, "first", "last")
_VALUE = re.compile(r"([a-z]+)\((.*)\)")
_FIELD = re.compile(r"page_id|visit_id|wall_ms|mono_ns|event_id|kind|args(\.[^.,()]{1,128}){0,16}")
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
class WindowSpec:
    """How a stage cuts time; one of ``tumbling_ms``, ``sliding_ms`` with ``step_ms``, and ``session_ms``.

    Events may come ``delay_ms`` out of order; what comes later than that is left out.
    """

    tumbling_ms: int = 0
    sliding_ms: int = 0
    step_ms: int = 0
    session_ms: int = 0
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Prepare:
    """A stage of declared pre-processing: ``walle_task.streams``, written down.

    Attributes:
        name: the script reads its rows by it.
        events: ids or kinds of the events that take part.
        values: by column, an aggregation over a field, such as ``sum(args.price)``.
        over: ``run``: the events of each run, afresh. ``log``: all events since the task was installed; a
            window that closes runs the task.
        where: fields that must have these values.
        key_by: the field for whose values everything is done apart.
        window: how time is cut.
        table, upload: where the rows go as they are; both take the columns that they declare.
    """

    name: str
    events: tuple[str, ...]
    values: Mapping[str, str]
    over: Literal["run", "log"] = "run"
    where: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    key_by: str = ""
    window: WindowSpec | None = None
    table: str = ""
    upload: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """What its rows have."""
        cut = ("start_ms", "end_ms") if self.window is not None else ()
        return (*(("key",) if self.key_by else ()), *cut, *self.values)


@dataclass(frozen=True, slots=True)
class ValueSpec:
    """One parsed value of a stage: the function, its field, and the edges of a histogram's bins."""

    function: str
    path: str = ""
    edges: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PythonSection:
    """Python versions whose bytecode the bundle carries besides that of the control plane's own, and
    whether it carries the source, which any other version needs."""

    versions: tuple[str, ...] = ()
    source: bool = True


@dataclass(frozen=True, slots=True)
class DownloadSection:
    """When a device on a metered network fetches a version: ``small`` ones up to the device's own limit,
    ``always``, or ``never``."""

    metered: Literal["small", "always", "never"] = "small"


@dataclass(frozen=True, slots=True)
class OwnSection:
    """Files that each device has of its own, below ``own/`` of the bundle; they come by themselves."""

    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CloudSection:
    """The cloud half of a task, and what it may use.

    Attributes:
        entry: called with a ``walle_task.cloud.Request``; returns a dict.
        wall_s, memory_bytes: of one answer.
        workers: answers that one worker of the control plane works out at the same time, at most.
        asks_per_device_hour: what each device may ask in an hour; 0: any number.
        seconds_per_hour: processor time that a release may take in an hour; 0: any.
    """

    entry: str = "cloud:answer"
    wall_s: float = 2.0
    memory_bytes: int = 256 * MIB
    workers: int = 2
    asks_per_device_hour: int = 600
    seconds_per_hour: float = 3_600.0


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
    triggers: tuple[Trigger, ...] = ()
    limits: Limits = field(default_factory=Limits)
    params: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, ColumnType]] = field(default_factory=dict)
    uploads: Mapping[str, Mapping[str, ColumnType]] = field(default_factory=dict)
    retention: Mapping[str, Retention] = field(default_factory=dict)
    delivery: Mapping[str, Literal["realtime", "batch"]] = field(default_factory=dict)
    reads: Mapping[str, tuple[str, ...]] | None = None
    bounds: Mapping[str, Mapping[str, Bound]] = field(default_factory=dict)
    prepare: tuple[Prepare, ...] = ()
    python: PythonSection = field(default_factory=PythonSection)
    download: DownloadSection = DownloadSection()
    own: OwnSection = OwnSection()
    cloud: CloudSection | None = None
    learning: LearningSection = field(default_factory=LearningSection)


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle: POSIX path below the bundle's root, digest, size in bytes."""

    path: str
    sha256: Sha256
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CloudRef:
    """The list of the cloud half's own files, by digest; the control plane alone has it."""

    sha256: Sha256
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CloudBundle:
    """What the cloud half has besides the files that devices get."""

    files: tuple[BundleFile, ...]


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
    cloud: CloudRef | None = None
    format: int = MANIFEST_FORMAT
    extra: Mapping[str, Any] = field(default_factory=dict)


def parse_task_file(text: str, where: str = TASK_FILE) -> TaskFile:
    """Parse and check a ``task.toml``.

    Raises:
        ConfigError: naming the file and the key.
    """
    return parse_checked(TaskFile, text, where, _check_task)


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
        if manifest.cloud is not None:
            check_sha256(manifest.cloud.sha256)
    except ConfigError as error:
        raise RemoteProtocolError(f"manifest: {error}") from None
    if manifest.format != MANIFEST_FORMAT:
        raise RemoteProtocolError(
            f"manifest format {manifest.format} is not {MANIFEST_FORMAT}: update the agent"
        )
    return manifest


def _check_task(task: TaskFile) -> None:
    for path in task.own.files:
        check_bundle_path(path)
    check_name(task.task.scenario, "task.scenario")
    check_name(task.task.name, "task.name")
    if task.task.entry and not _ENTRY.fullmatch(task.task.entry):
        raise ConfigError(f"task.entry {task.task.entry[:80]!r} is not like 'main:run'")
    if not task.triggers and not any(stage.over == "log" for stage in task.prepare):
        raise ConfigError('triggers: a task needs at least one [[triggers]], or a [[prepare]] over = "log"')
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
    _check_cloud(task)
    check_section(task.learning, task.tables, task.uploads, task.own.files)
    _check_reads(task)
    _check_prepare(task)


def parse_value(text: str) -> ValueSpec:
    """Read a value of a stage: ``count()``, ``sum(args.price)``, ``histogram(args.price, 10, 100)``.

    Raises:
        ConfigError: it is none.
    """
    match = _VALUE.fullmatch(text)
    if match is None or match[1] not in FUNCTIONS:
        raise ConfigError(f"{text[:80]!r} is not like 'sum(args.price)'; there are {', '.join(FUNCTIONS)}")
    function, (path, *rest) = match[1], [part.strip() for part in match[2].split(",")]
    if function == "count":
        if path or rest:
            raise ConfigError(f"{text[:80]!r}: count() counts events, and takes no field")
        return ValueSpec(function)
    if not _FIELD.fullmatch(path):
        raise ConfigError(f"{text[:80]!r}: {path!r} must be a field such as page_id or args.price")
    try:
        edges = tuple(float(part) for part in rest)
    except ValueError:
        raise ConfigError(f"{text[:80]!r}: the edges of a histogram must be numbers") from None
    finite = all(math.isfinite(edge) for edge in edges)
    if function != "histogram" and edges:
        raise ConfigError(f"{text[:80]!r}: {function} takes one field")
    if function == "histogram" and not (
        finite and 1 <= len(edges) < PREPARE_MAX_BINS and list(edges) == sorted(set(edges))
    ):
        raise ConfigError(
            f"{text[:80]!r}: a histogram takes 1 to {PREPARE_MAX_BINS - 1} edges that rise, "
            "such as histogram(args.ms, 100, 1000)"
        )
    return ValueSpec(function, path, edges)


def _check_cloud(task: TaskFile) -> None:
    cloud = task.cloud
    if cloud is None:
        if "cloud" in task.task.capabilities:
            raise ConfigError("task.capabilities has 'cloud', but nothing says what answers: add [cloud]")
        return
    if not _ENTRY.fullmatch(cloud.entry) or cloud.entry.partition(":")[0] != CLOUD_FOLDER:
        raise ConfigError(
            f"cloud.entry {cloud.entry[:80]!r} is not like 'cloud:answer': it is in {CLOUD_SCRIPT}"
        )
    if not 0 < cloud.wall_s <= CLOUD_ASK_MAX_S:
        raise ConfigError(f"cloud.wall_s must be over 0 and at most {CLOUD_ASK_MAX_S:g}")
    if cloud.memory_bytes < MIB:
        raise ConfigError("cloud.memory_bytes must be at least 1 MiB")
    if not 1 <= cloud.workers <= CLOUD_WORKERS_MAX:
        raise ConfigError(f"cloud.workers must be 1 to {CLOUD_WORKERS_MAX}")
    if cloud.asks_per_device_hour < 0 or not 0 <= cloud.seconds_per_hour < math.inf:
        raise ConfigError("cloud.asks_per_device_hour and cloud.seconds_per_hour must not be negative")


def _check_reads(task: TaskFile) -> None:
    for key, paths in (task.reads or {}).items():
        _check_paths(paths, f"reads.{key[:80]}")
    for name, bounds in task.bounds.items():
        for column, bound in bounds.items():
            kind = task.uploads.get(name, {}).get(column)
            where = f"bounds.{name[:80]}.{column[:80]}"
            if kind is None:
                raise ConfigError(f"{where}: there is no {column[:80]} in [uploads.{name[:80]}]: declare it")
            check_bound(bound, kind, where)


def _check_prepare(task: TaskFile) -> None:
    if len(task.prepare) > PREPARE_MAX:
        raise ConfigError(f"prepare: {len(task.prepare)} stages are over the limit of {PREPARE_MAX}")
    seen: set[str] = set()
    for number, stage in enumerate(task.prepare):
        where = f"prepare[{number}]"
        check_name(stage.name, f"{where}.name")
        if stage.name in seen:
            raise ConfigError(f"{where}.name: there are two stages named {stage.name}")
        seen.add(stage.name)
        _check_stage(stage, where)
        for section, name, declared in (
            ("table", stage.table, task.tables),
            ("upload", stage.upload, task.uploads),
        ):
            if name and name not in declared:
                raise ConfigError(f"{where}.{section}: there is no [{section}s.{name[:80]}]: declare it")
            if strangers := [column for column in declared.get(name, ()) if column not in stage.columns]:
                raise ConfigError(
                    f"{where}.{section}: its rows have no {strangers[0]}, only {', '.join(stage.columns)}"
                )
        if not task.task.entry and not stage.table and not stage.upload:
            raise ConfigError(f"{where}: without an entry its rows go nowhere: give it a table or an upload")


def _check_stage(stage: Prepare, where: str) -> None:
    if not stage.events or not stage.values:
        raise ConfigError(f"{where} needs events, and values such as {{ seen = 'count()' }}")
    _check_paths((*stage.where, *([stage.key_by] if stage.key_by else [])), where)
    for column, text in stage.values.items():
        check_name(column, f"{where}.values.{column[:80]}")
        if column in ("key", "start_ms", "end_ms"):
            raise ConfigError(f"{where}.values.{column}: rows have one already: give it another name")
        try:
            parse_value(text)
        except ConfigError as error:
            raise ConfigError(f"{where}.values.{column}: {error}") from None
    if stage.window is not None:
        _check_window(stage.window, f"{where}.window")
    elif stage.over == "log":
        raise ConfigError(f'{where}.window is missing: over = "log" never ends, so time must be cut')


def _check_window(window: WindowSpec, where: str) -> None:
    sizes = [size for size in (window.tumbling_ms, window.sliding_ms, window.session_ms) if size]
    if len(sizes) != 1 or not 0 < sizes[0] <= WINDOW_MAX_MS:
        raise ConfigError(f"{where} needs one of tumbling_ms, sliding_ms, session_ms, 1 to {WINDOW_MAX_MS}")
    if bool(window.step_ms) != bool(window.sliding_ms) or not 0 <= window.step_ms <= sizes[0]:
        raise ConfigError(f"{where}: step_ms goes with sliding_ms, and must not be longer")
    if window.step_ms and window.sliding_ms > WINDOW_MAX_OVERLAP * window.step_ms:
        raise ConfigError(f"{where}: at most {WINDOW_MAX_OVERLAP} windows may overlap: use a longer step_ms")
    if not 0 <= window.delay_ms <= WINDOW_MAX_MS:
        raise ConfigError(f"{where}.delay_ms must be 0 to {WINDOW_MAX_MS}")


def _check_paths(paths: Iterable[str], where: str) -> None:
    for path in paths:
        if not _FIELD.fullmatch(path):
            raise ConfigError(f"{where}: {path[:80]!r} must be a field such as page_id or args.price")


def _check_names(task: TaskFile) -> None:
    for name in task.delivery.keys() - task.uploads.keys():
        raise ConfigError(f"delivery.{name[:80]}: there is no [uploads.{name[:80]}]: declare it")
    for name, keep in task.retention.items():
        if name not in task.tables:
            raise ConfigError(f"retention.{name[:80]}: there is no [tables.{name[:80]}]: declare it")
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
            raise ConfigError(
                f"file {file.path!r}: size {file.size_bytes} is out of range: it must be 0 or more"
            )
        if file.path in seen:
            raise ConfigError(f"file {file.path!r} is listed twice: remove one")
        seen.add(file.path)


def is_cloud(path: str) -> bool:
    """Whether the file at ``path`` is of the cloud half alone, and goes to no device."""
    return path == CLOUD_SCRIPT or path.startswith(f"{CLOUD_FOLDER}/")


def is_shipped(path: str) -> bool:
    """Whether the file at ``path`` of a task's folder is of a release; hidden ones are not."""
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
