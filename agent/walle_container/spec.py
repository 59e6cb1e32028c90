"""What goes into a run and what comes out of it: plain frozen values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from walle_shared.limits import CLOUD_ANSWER_MAX_BYTES, TASK_OUTPUT_MAX_BYTES
from walle_shared.manifest import CLOUD_CAPABILITIES, TaskFile, Tier
from walle_shared.units import MIB

ErrorKind = Literal[
    "exception",  # the script raised
    "timeout",  # it ran past its wall-clock limit and was stopped
    "memory",  # it asked for more memory than it may have
    "output",  # it produced more than it may
    "denied",  # it used something it was not granted
    "poisoned",  # it could not be stopped in time; its worker process is replaced
    "crashed",  # its worker process died
    "invalid",  # the bundle or what it returned is nonsense
]

HostFunction = Callable[[dict[str, Any]], Awaitable[Any]]
"""Answers one kind of host call: a dict of arguments to a JSON-able value; raises WalleError to refuse.

Both may hold buffers of numbers, which travel as shared memory: arguments bring read-only memory views."""


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """What one run may use.

    Attributes:
        wall_s: seconds from the start of the run to its result, host calls included.
        memory_bytes: memory newly taken by Python during the run; 0 for no limit.
        output_bytes: returned value, rows and messages together, as JSON.
    """

    wall_s: float = 5.0
    memory_bytes: int = 64 * MIB
    output_bytes: int = TASK_OUTPUT_MAX_BYTES


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task as it is installed.

    Attributes:
        task: its name.
        version: its version.
        bundle_dir: where the bundle is unpacked; only read.
        scenario: whose task it is; tasks of different scenarios share no worker process.
        entry: ``module:function`` in the bundle; called without arguments, or with the request that the
            inputs hold.
        params: the task's parameters.
        limits: what a run may use.
        capabilities: names of host functions (``store.rows``) or families (``store``) that it may use.
        profile: whether to tell where the time of its runs goes; that slows them down.
        tier: ``interp`` for signed first-party scripts, which share the worker of their scenario;
            ``process`` for all others, which get a fenced worker of their own.
    """

    task: str
    version: str
    bundle_dir: Path
    scenario: str = ""
    entry: str = "main:run"
    params: Mapping[str, Any] = field(default_factory=dict)
    limits: TaskLimits = field(default_factory=TaskLimits)
    capabilities: frozenset[str] = frozenset()
    profile: bool = False
    tier: Tier = "interp"


def cloud_spec(definition: TaskFile, bundle_dir: Path, version: str = "0") -> TaskSpec:
    """The cloud half of a task that has one, unpacked in ``bundle_dir``."""
    section, head = definition.cloud, definition.task
    assert section is not None
    return TaskSpec(
        task=head.name,
        version=version,
        bundle_dir=bundle_dir,
        scenario=head.scenario,
        entry=section.entry,
        params=definition.params,
        limits=TaskLimits(section.wall_s, section.memory_bytes, CLOUD_ANSWER_MAX_BYTES),
        capabilities=CLOUD_CAPABILITIES,
        tier=head.tier,
    )


@dataclass(frozen=True, slots=True)
class StoreWrite:
    """A row the run wants in a table; names and columns are not checked yet."""

    table: str
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TunnelSend:
    """A message the run wants sent; name and fields are not checked yet."""

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LaterAsk:
    """A question the run wants answered some time; ``data`` is base64."""

    payload: Mapping[str, Any]
    data: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a task's log."""

    level: str
    message: str
    fields: Mapping[str, Any]


ProfileKind = Literal["run", "task", "library", "host", "model", "engine"]


@dataclass(frozen=True, slots=True)
class ProfileNode:
    """One place in the tree of a run's calls: all calls of one function from one place above it.

    Attributes:
        parent: number of the node above; -1 for node 0, the run. Parents come first.
        kind: the run, a function of the bundle or of a library, a call of the host, a run of a model, a kind
        of
            step of the engine.
        name: the function's, the host function's, the model's, or the operator's.
        place: file and line, where it is a function.
        calls: how often.
        total_ns: how long in all, with what is below.
    """

    parent: int
    kind: ProfileKind
    name: str
    place: str
    calls: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a run ended.

    Attributes:
        ok: whether it ended well; if not, ``value``, ``rows``, ``values``, ``uploads`` and ``later`` are
            empty.
        value: what the entry function returned, as JSON keeps it; buffers of numbers in it are read-only
            memory views.
        rows: rows to commit, in order.
        values: what to keep by key for later runs; None forgets.
        uploads: messages to send, in order.
        later: questions to ask the cloud half, in order.
        logs: the task's own log, also of failed runs.
        logs_dropped: lines past the cap.
        error_kind: why it failed.
        error: one sentence.
        traceback: the script's own frames, innermost last; empty where there are none.
        wall_s: seconds it took, in the worker where that is known.
        cpu_s: processor seconds of its thread.
        peak_bytes: memory it newly took at most.
        stdout_tail: the end of what it printed.
        profile: where its time went, if its spec asks for it.
    """

    ok: bool
    value: Any = None
    rows: tuple[StoreWrite, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    uploads: tuple[TunnelSend, ...] = ()
    later: tuple[LaterAsk, ...] = ()
    logs: tuple[LogEntry, ...] = ()
    logs_dropped: int = 0
    error_kind: ErrorKind | None = None
    error: str | None = None
    traceback: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    stdout_tail: str = ""
    profile: tuple[ProfileNode, ...] = ()
