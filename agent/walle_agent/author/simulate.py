"""Runs a task on recorded events, as a device would: the real streams, the real container, its limits.

What is not real: time is that of the recorded events, chance is seeded, the store begins empty and is thrown
away, and nothing is sent. So a run can be repeated, event by event.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from walle_agent.config import INBOX_FOLDER, RunSection
from walle_agent.streams.event import EventError, RawEvent, parse_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.pipeline import Firing
from walle_agent.streams.storage import RunCommit, StreamStore
from walle_agent.tasks.inbox import Inbox
from walle_agent.tasks.registry import InstalledTask
from walle_agent.tasks.runner import NO_BALLOT, Ballot, TaskRunner, make_spec
from walle_container import ErrorKind, HostConfig, HostFunction, TaskHost, TaskResult, TaskSpec, cloud_spec
from walle_shared.errors import WalleError
from walle_shared.ids import ReleaseId, Sha256, TaskVersion
from walle_shared.limits import VISIT_MAX_S
from walle_shared.manifest import TaskFile
from walle_shared.protocol.asks import Answer, Ask
from walle_shared.protocol.messages import Report
from walle_shared.targeting.policy import TaskKey
from walle_task.authoring import TaskFolder, write_bundle
from walle_task.testing import SOME_TIME_MS, simulation

_BOOTED_NS = 1_000_000_000

#: A module beside the task's that imports its entry.
_LOADER = "simulated_load"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the task.

    Attributes:
        firing: what fired it.
        result: how it ended, after all it produced has been checked against task.toml.
        commit: what is kept of it.
    """

    firing: Firing
    result: TaskResult
    commit: RunCommit


@dataclass(slots=True)
class Outcome:
    """What came of a file of events.

    Attributes:
        runs: in order.
        refused: line number and complaint of lines that are no events.
        events: how many were taken.
        event_bytes: their size as they were written.
        ids: what triggers might have named, and how often it came.
        open_visits: visits that had not ended by the end of the file.
    """

    runs: list[Run] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    events: int = 0
    event_bytes: int = 0
    ids: dict[str, int] = field(default_factory=dict)
    open_visits: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """How to simulate.

    Attributes:
        seed: of the task's chance.
        end_visits: let half an hour pass after the last event, which ends visits that are still open.
        profile: find out where the time goes.
        on_run: told of each run as it ends.
        inbox: the folder with files that the app would have left.
    """

    seed: int = 0
    end_visits: bool = False
    profile: bool = False
    on_run: Callable[[Run], None] = lambda run: None
    inbox: Path | None = None


@asynccontextmanager
async def open_simulator(task: TaskFolder, config: RunSection | None = None) -> AsyncGenerator[Simulator]:
    """Unpack the task and start a worker; both are gone at the end.

    Args:
        task: the task.
        config: what the device lets a run have; by default as devices are by default.

    Raises:
        ConfigError, EngineError: the bundle cannot be made.
        InternalError: no worker starts.
    """
    with TemporaryDirectory(prefix="walle-task-") as folder:
        bundle = await trio.to_thread.run_sync(write_bundle, task, Path(folder) / "bundle")
        half = None
        if task.definition.cloud is not None:
            write = partial(write_bundle, task, Path(folder) / "cloud", cloud=True)
            half = cloud_spec(task.definition, await trio.to_thread.run_sync(write))
        # A run keeps its slot while its cloud half answers in another.
        async with TaskHost(HostConfig(slots=2 if half else 1)) as host:
            yield Simulator(host, task.definition, bundle, Path(folder), config or RunSection(), half)


class Simulator:
    """Runs one task, as often as one likes. Made by :func:`open_simulator`.

    Args:
        host: the container.
        definition: the task.
        bundle: where it is unpacked.
        scratch: a folder for stores.
        config: what the device lets a run have.
        half: the task's cloud half; None if it has none.
    """

    def __init__(
        self,
        host: TaskHost,
        definition: TaskFile,
        bundle: Path,
        scratch: Path,
        config: RunSection,
        half: TaskSpec | None = None,
    ) -> None:
        head = definition.task
        self._half = half
        self._config = config
        self._host = host
        self._scratch = scratch
        self.task = InstalledTask(
            (head.scenario, head.name),
            TaskVersion("0"),
            ReleaseId("simulated"),
            Sha256("0" * 64),
            bundle,
            definition,
        )

    @property
    def spec(self) -> TaskSpec:
        """What the container is told, with the limits of a device."""
        return make_spec(self.task, self._config)

    async def load(self) -> TaskResult:
        """Import the module of the task's entry in the worker and find the entry, without calling it."""
        module, _, function = self.task.definition.task.entry.partition(":")
        if not module:  # stages only: nothing to load
            return TaskResult(ok=True)
        script = self.task.bundle_dir / f"{_LOADER}.py"
        script.write_text(
            f"from {module} import {function} as entry\n\n\ndef load():\n    return callable(entry)\n"
        )
        result = await self._host.run(replace(self.spec, entry=f"{_LOADER}:load"), {"events": []})
        if result.ok and result.value is not True:
            return replace(
                result, ok=False, error_kind="invalid", error=f"{module}.{function} cannot be called"
            )
        return result

    async def play(self, lines: Iterable[bytes], options: Options) -> Outcome:
        """Feed events, one JSON object a line, to an empty store, and run what they fire."""
        with TemporaryDirectory(dir=self._scratch) as folder:
            clock = EventClock()
            with closing(StreamStore.open(Path(folder) / "streams.db", clock)) as store:
                half = LocalHalf(self._host, self._half) if self._half is not None else None
                player = _Player(self._host, self.task, store, clock, options, self._config, half)
                return await player.play(lines)


class LocalHalf:
    """The task's cloud half, run in the same container: the line on which a simulated run asks.

    Args:
        host: the container.
        spec: the cloud half.
    """

    def __init__(self, host: TaskHost, spec: TaskSpec) -> None:
        self._host = host
        self._spec = spec

    async def ask(self, ask: Ask, data: bytes, within_s: float) -> Answer:
        """Run the cloud half once; how long a device would wait is no matter here."""
        del within_s
        request: dict[str, Any] = {
            "payload": dict(ask.payload),
            "device_id": "simulated",
            "version": ask.version,
        }
        if data:
            request["data"] = memoryview(data)
        try:
            result = await self._host.run(self._spec, {"events": [], "request": request})
        except WalleError as error:
            return Answer(reason="failed", message=error.message)
        if not result.ok:
            where = f"\n{result.traceback}" if result.traceback else ""
            return Answer(reason="failed", message=f"{result.error_kind}: {result.error}{where}")
        return Answer(result.value)


class EventClock:
    """A clock that stands where the events are."""

    def __init__(self) -> None:
        self._wall_ms = 0
        self._mono_ns = _BOOTED_NS

    def wall_ms(self) -> int:
        """The time of the last event."""
        return self._wall_ms or SOME_TIME_MS

    def mono_ns(self) -> int:
        """The same, from an arbitrary start; never goes back."""
        return self._mono_ns

    def move_to(self, event: RawEvent) -> None:
        """Go on to an event: to its time, or by a millisecond where it has none or an earlier one."""
        passed_ms = event.wall_ms - self._wall_ms if self._wall_ms and event.wall_ms else 0
        began_ns = self._mono_ns
        self.advance_ms(max(passed_ms, 1))
        if event.mono_ns > began_ns:
            self._mono_ns = event.mono_ns
        self._wall_ms = max(event.wall_ms, self._wall_ms)

    def advance_ms(self, passed_ms: int) -> None:
        """Let time pass."""
        self._mono_ns += passed_ms * 1_000_000
        self._wall_ms += passed_ms if self._wall_ms else 0


class _Player:
    """One play of one file."""

    def __init__(
        self,
        host: TaskHost,
        task: InstalledTask,
        store: StreamStore,
        clock: EventClock,
        options: Options,
        config: RunSection,
        half: LocalHalf | None,
    ) -> None:
        self._task = task
        self._clock = clock
        self._options = options
        self._flow = StreamFlow(store, clock)
        self._watched = _WatchedHost(host, options)
        self._streams = _Streams(store, self._flow)
        self._told = _Reports()
        store.declare(task.key, task.definition.tables, task.definition.retention)
        self._flow.register(task.key, task.definition.triggers, task.definition.prepare)
        self._flow.recover()
        self._runner = TaskRunner(
            self._watched,
            self._streams,
            self,
            self._told,
            _judge_nothing,
            self,
            clock,
            config,
            cloud=half,
            inbox=_kept_inbox(options.inbox, clock),
        )

    def get(self, key: TaskKey) -> InstalledTask | None:
        """The one task there is: the runner's registry."""
        return self._task if key == self._task.key else None

    def is_isolated(self, task: InstalledTask) -> bool:  # noqa: ARG002  # the protocol's
        """A simulation remembers no crash: the runner's memory of tiers."""
        return False

    async def isolate(self, task: InstalledTask, reason: str) -> None:
        """The crash is in the run's result."""

    def running(self, task: InstalledTask) -> AbstractContextManager[None]:  # noqa: ARG002  # the protocol's
        """Nobody replaces the files of a simulation."""
        return nullcontext()

    async def starting(self, task: InstalledTask) -> None:
        """Its crash is seen at once."""

    def ballot(self, task: InstalledTask) -> Ballot:  # noqa: ARG002  # the protocol's
        """Nobody counts the runs of a simulation."""
        return NO_BALLOT

    async def play(self, lines: Iterable[bytes]) -> Outcome:
        outcome = Outcome()
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith(b"#"):
                continue
            try:
                raw = parse_event(line.strip())
            except EventError as error:
                outcome.refused.append((number, error.message))
                continue
            _count(outcome, raw)
            self._clock.move_to(raw)
            await self._run_all(self._flow.accept([raw]), outcome)
        outcome.open_visits = self._flow.statistics().sequences.open_now
        if self._options.end_visits:
            self._clock.advance_ms(round(VISIT_MAX_S * 1_000) + 1)
            await self._run_all(self._flow.accept([]), outcome)
        return outcome

    async def _run_all(self, firings: Iterable[Firing], outcome: Outcome) -> None:
        for firing in firings:
            await self._runner.handle(firing)
            report, commit = self._told.last, self._streams.last
            result = self._watched.last if self._task.definition.task.entry else TaskResult(ok=True)
            if report.outcome == "failure" and result.ok:  # it ended well, but what it produced is refused
                result = _refused(result, report)
            run = Run(firing, result, commit)
            outcome.runs.append(run)
            self._options.on_run(run)


class _WatchedHost:
    """The container, with the words of a simulation added to the inputs, and its last result kept."""

    def __init__(self, host: TaskHost, options: Options) -> None:
        self._host = host
        self._options = options
        self.last = TaskResult(ok=False)

    async def run(
        self, spec: TaskSpec, inputs: dict[str, Any], functions: Mapping[str, HostFunction] | None = None
    ) -> TaskResult:
        words = f"{self._options.seed}:{inputs['trigger']['last_seq']}"
        seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8])
        inputs = inputs | {"simulation": simulation(inputs["events"], seed)}
        spec = replace(spec, profile=self._options.profile)
        self.last = await self._host.run(spec, inputs, functions)
        return self.last


class _Streams:
    """Collective storage without a service around it: one run at a time, nothing waits."""

    def __init__(self, store: StreamStore, flow: StreamFlow) -> None:
        self._store = store
        self._flow = flow
        self.last: RunCommit
        _, self.firings = trio.open_memory_channel[Firing](0)  # firings are handed over one by one

    async def commit(self, commit: RunCommit) -> bool:
        self.last = commit
        (kept,) = self._store.commit_runs([commit])
        if isinstance(kept, WalleError):
            raise kept
        self._flow.dealt_with(commit.task, commit.last_seq)
        return kept

    async def dismiss(self, firing: Firing) -> None:
        self._flow.dealt_with(firing.task, firing.last_seq)

    async def read_rows(
        self, task: TaskKey, table: str, *, where: Mapping[str, Any] | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        return self._store.read_rows(task, table, where=where, limit=limit)

    async def get_value(self, task: TaskKey, key: str) -> Any:
        return self._store.get_value(task, key)


class _Reports:
    """Keeps the last report."""

    def __init__(self) -> None:
        self.last: Report

    async def begin_attempt(self, release_id: ReleaseId) -> int:  # noqa: ARG002  # the protocol's
        return 1

    async def put(self, report: Report) -> None:
        self.last = report


async def _judge_nothing(task: InstalledTask, *, ok: bool) -> None:
    """A simulation goes back to no version."""


def _refused(result: TaskResult, report: Report) -> TaskResult:
    kind: ErrorKind = "denied" if report.code == "denied" else "invalid"
    return replace(result, ok=False, value=None, error_kind=kind, error=report.message)


def _count(outcome: Outcome, raw: RawEvent) -> None:
    outcome.events += 1
    outcome.event_bytes += raw.size_bytes
    names = ["event:" + raw.event_id, "kind:" + raw.kind] + (["page:" + raw.page_id] if raw.page_id else [])
    for name in names:
        outcome.ids[name] = outcome.ids.get(name, 0) + 1


def inbox_beside(events: Path) -> Path:
    """Where the files lie that recorded events speak of."""
    return events.parent / INBOX_FOLDER


def _kept_inbox(folder: Path | None, clock: EventClock) -> Inbox | None:
    """An author's folder of files; nothing is swept there."""
    return None if folder is None else Inbox(folder, None, clock)
