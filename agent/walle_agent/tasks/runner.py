"""Runs what triggers fire: with the grants of the manifest, and with nothing kept unless all of it fits."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NoReturn, Protocol

import trio

from walle_agent.config import RunSection
from walle_agent.state.reports import new_report_id
from walle_agent.streams.pipeline import Firing, run_inputs
from walle_agent.streams.storage import RunCommit
from walle_agent.tasks.inbox import Inbox
from walle_agent.tasks.learning import Learner, Seat
from walle_agent.tasks.outputs import check_later, check_rows, check_uploads, check_values, upload_classes
from walle_agent.tasks.registry import InstalledTask
from walle_container import (
    ErrorKind,
    HostFunction,
    StoreWrite,
    TaskLimits,
    TaskResult,
    TaskSpec,
    TunnelSend,
)
from walle_shared.clock import Clock
from walle_shared.errors import (
    InternalError,
    LimitExceeded,
    NotAllowed,
    NotFound,
    RemoteProtocolError,
    StorageError,
    TaskError,
    WalleError,
)
from walle_shared.ids import ReleaseId, TaskVersion
from walle_shared.learning import BACKUP_RECORD, TAKEN_KEY, UPDATE_RECORD, policy_of
from walle_shared.limits import (
    CLOUD_ASK_MAX_S,
    CLOUD_ASKS_OPEN_MAX,
    CLOUD_DATA_MAX_BYTES,
    CLOUD_PAYLOAD_MAX_BYTES,
)
from walle_shared.manifest import TaskFile
from walle_shared.observe import get_logger
from walle_shared.privacy import narrow_inputs
from walle_shared.protocol.asks import Answer, Ask
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import NO_RELEASE, ErrorClass, Report
from walle_shared.protocol.tunnel import Record
from walle_shared.schema import EventSchema
from walle_shared.targeting.policy import TaskKey
from walle_shared.tracing import RUN_MS, TRACEPARENT, TraceContext, current_trace, enter_trace, new_trace
from walle_task.cloud import ASK
from walle_task.inbox import READ
from walle_task.preparing import Stage, plain_rows
from walle_task.streams import Row

_log = get_logger("agent.tasks")

_STORAGE_RETRY_S = 1.0
_ROWS_MAX = 1_000
#: Rows of each stage of a task, by name.
Prepared = Mapping[str, Sequence[Row]]
#: A run of a task whose stages do everything.
_NO_SCRIPT = TaskResult(ok=True)
_LOG_LEVELS = frozenset({"debug", "info", "warning"})


class Host(Protocol):
    """The container's front, as far as running goes (``walle_container.TaskHost``)."""

    async def run(
        self, spec: TaskSpec, inputs: dict[str, Any], functions: Mapping[str, HostFunction] | None = None
    ) -> TaskResult:
        """Run a task once."""
        ...


class Streams(Protocol):
    """Where firings come from and where results go (``streams.service.StreamService``)."""

    @property
    def firings(self) -> trio.MemoryReceiveChannel[Firing]:
        """What tasks are owed."""
        ...

    async def commit(self, commit: RunCommit) -> bool:
        """Keep a finished run; False if it was kept before."""
        ...

    async def dismiss(self, firing: Firing) -> None:
        """A firing will never be run."""
        ...

    async def read_rows(
        self, task: TaskKey, table: str, *, where: Mapping[str, Any] | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The newest rows of a table."""
        ...

    async def get_value(self, task: TaskKey, key: str) -> Any:
        """What the task keeps under a key."""
        ...


class Cloud(Protocol):
    """Who asks the cloud halves of tasks (``streams.asks.AskLine``)."""

    async def ask(self, ask: Ask, data: bytes, within_s: float) -> Answer:
        """Ask and wait; an answer without one says why."""
        ...


class Registry(Protocol):
    """Which task is active (``tasks.registry.TaskRegistry``)."""

    def get(self, key: TaskKey) -> InstalledTask | None:
        """The active task of this key."""
        ...

    def running(self, task: InstalledTask) -> AbstractContextManager[None]:
        """While inside, the task's files stay where they are."""
        ...


class Reports(Protocol):
    """Where outcomes are told (``link.reporter.Reporter``)."""

    async def begin_attempt(self, release_id: ReleaseId) -> int:
        """Count a start of this release; the first is 1."""
        ...

    async def put(self, report: Report) -> None:
        """Tell one outcome."""
        ...


class Judge(Protocol):
    """Told how each run ended; brings back the version before if it must (``deploy.deployer``)."""

    def __call__(self, task: InstalledTask, *, ok: bool) -> Awaitable[None]:
        """Count one run."""
        ...


class Privacy(Protocol):
    """Which tasks may have seen what must not leave the device (``confinement.Confinement``)."""

    @property
    def schema(self) -> EventSchema | None:
        """What events hold; None: no field has a class."""
        ...

    async def reasons(self, task: TaskKey, definition: TaskFile) -> tuple[str, ...]:
        """What confines a task, by name; nothing if it is free."""
        ...


class Results(Protocol):
    """Where what runs return is told to apps (``streams.results.ResultBoard``)."""

    def tell(self, task: TaskKey, version: TaskVersion, value: Any) -> None:
        """Tell whoever listens; never waits."""
        ...


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a run counts for: it ``votes`` for its own release, and for the arm of one that is kept from here.

    ``told``: good runs are reported too, not only failures.
    """

    votes: bool
    control_of: ReleaseId
    told: bool


#: While the policy is not known, or another release is on its way: everything is told, nothing counts.
NO_BALLOT: Final = Ballot(votes=False, control_of=NO_RELEASE, told=True)


class Deployment(Protocol):
    """What is remembered of each task (``deploy.deployer.Deployer``)."""

    def is_isolated(self, task: InstalledTask) -> bool:
        """Whether it has a process of its own because a worker died under it."""
        ...

    async def isolate(self, task: InstalledTask, reason: str) -> None:
        """Give it one, for as long as this version is installed."""
        ...

    async def starting(self, task: InstalledTask) -> None:
        """It is about to run; what must be remembered, should the device die, is durable on return."""
        ...

    def ballot(self, task: InstalledTask) -> Ballot:
        """What a run of this task counts for now."""
        ...


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """Runs since the start: that ended well, that failed, firings whose task was gone, runs kept before."""

    ok: int = 0
    failed: int = 0
    dismissed: int = 0
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A run after everything it produced has been checked."""

    result: TaskResult
    commit: RunCommit
    error_class: ErrorClass


class TaskRunner:
    """Takes firings and sees each through: run, check, commit, report, judge.

    Args:
        host: the compute container.
        streams: the data pipeline.
        registry: which task is active.
        reporter: told of every run.
        judge: told whether the version did well.
        deployment: told of tasks under which a shared worker died; knows which runs are counted.
        clock: stamps records.
        config: how many at once, and the most a task may ask for.
        privacy: which tasks are confined; None: there are no classes, and none is.
        results: told what good runs return, once they are kept; None: nobody listens.
        cloud: asks the cloud halves of tasks; None: there is no way to them.
        learner: knows the rounds that tasks may take part in; None: there are none.
        inbox: files that the app leaves for tasks; None: this host has none.
    """

    def __init__(
        self,
        host: Host,
        streams: Streams,
        registry: Registry,
        reporter: Reports,
        judge: Judge,
        deployment: Deployment,
        clock: Clock,
        config: RunSection,
        *,
        privacy: Privacy | None = None,
        results: Results | None = None,
        cloud: Cloud | None = None,
        learner: Learner | None = None,
        inbox: Inbox | None = None,
    ) -> None:
        self._inbox = inbox
        self._learner = learner
        self._results = results
        self._privacy = privacy
        self._cloud = cloud
        self._schema = privacy.schema if privacy is not None else None
        self._host = host
        self._streams = streams
        self._registry = registry
        self._reporter = reporter
        self._judge = judge
        self._deployment = deployment
        self._clock = clock
        self._config = config
        self._stats = RunStatistics()

    def statistics(self) -> RunStatistics:
        """Counters since the start."""
        return self._stats

    async def run(self) -> NoReturn:
        """Run what fires, one at a time; start several of these per slot, since a commit takes a while."""
        while True:
            firing = await self._streams.firings.receive()
            await self.handle(firing)

    async def handle(self, firing: Firing) -> None:
        """See one firing through.

        Raises:
            StorageError: the state or the reports cannot be written.
        """
        enter_trace(new_trace(self._config.trace_share))
        task = self._registry.get(firing.task)
        if task is None:
            self._stats = replace(self._stats, dismissed=self._stats.dismissed + 1)
            await self._streams.dismiss(firing)
            return
        attempt = await self._reporter.begin_attempt(task.release_id)
        seat, kept, taught = self._seat(task), False, False
        try:
            outcome, confined = await self._see_through(task, firing, seat)
            kept, outcome = await self._keep(outcome)
            taught = kept and TAKEN_KEY in outcome.commit.values
        finally:
            if seat is not None:
                seat.leave(contributed=taught)
        if not kept:
            self._stats = replace(self._stats, repeated=self._stats.repeated + 1)
            return
        if self._results is not None and outcome.result.ok:
            self._results.tell(task.key, task.version, outcome.result.value)
        await self._tell(task, firing, outcome, attempt, confined=confined)

    def _prepare(self, task: InstalledTask, firing: Firing) -> Prepared:
        """The rows of all stages: those over the log have come with the firing."""
        return {
            spec.name: firing.prepared.get(spec.name, ())
            if spec.over == "log"
            else Stage(spec, self._schema).rows(firing.events)
            for spec in task.definition.prepare
        }

    async def _see_through(
        self, task: InstalledTask, firing: Firing, seat: Seat | None
    ) -> tuple[_Outcome, bool]:
        """Run it and decide what is kept; whether what it saw confines it."""
        prepared = self._prepare(task, firing)
        result = _NO_SCRIPT
        if task.definition.task.entry:
            with self._registry.running(task):
                await self._deployment.starting(task)
                result = await self._execute(task, firing, prepared, seat)
        # Asked when it has ended: what it read was committed, and marked, before.
        confined = bool(self._privacy and await self._privacy.reasons(task.key, task.definition))
        result = _with_rows(task, result, prepared)
        return self._examine(task, firing, result, seat, confined=confined), confined

    def _seat(self, task: InstalledTask) -> Seat | None:
        """Where a run of a task that learns takes part."""
        learns = self._learner is not None and task.definition.learning.model
        return self._learner.seat(task) if self._learner is not None and learns else None

    async def _execute(
        self, task: InstalledTask, firing: Firing, prepared: Prepared, seat: Seat | None
    ) -> TaskResult:
        """Run it; once more, by itself, if a worker that it shares with others has died.

        Which of them killed it is not known. So each gets a process of its own, and the one that did it dies
        there alone. A run that is repeated has left nothing behind.
        """
        isolated = self._deployment.is_isolated(task)
        result = await self._run_once(task, firing, prepared, seat, isolated=isolated)
        if result.error_kind != "crashed" or isolated or task.definition.task.tier == "process":
            return result
        await self._deployment.isolate(task, result.error or "")
        return await self._run_once(task, firing, prepared, seat, isolated=True)

    async def _run_once(
        self,
        task: InstalledTask,
        firing: Firing,
        prepared: Prepared,
        seat: Seat | None,
        *,
        isolated: bool,
    ) -> TaskResult:
        spec = make_spec(task, self._config, isolated=isolated)
        inputs = narrow_inputs(run_inputs(firing), task.definition.reads, self._schema)
        if prepared:
            inputs["prepared"] = {name: [list(row) for row in rows] for name, rows in prepared.items()}
        try:
            return await self._host.run(spec, inputs, self._functions(task, seat))
        except LimitExceeded as error:  # the slice of events is larger than a frame may be
            return TaskResult(ok=False, error_kind="invalid", error=error.message)
        except InternalError as error:  # no worker starts: this device's trouble, not the task's
            return TaskResult(ok=False, error=error.message)

    def _examine(
        self,
        task: InstalledTask,
        firing: Firing,
        result: TaskResult,
        seat: Seat | None,
        *,
        confined: bool,
    ) -> _Outcome:
        """Decide what is kept: everything the run produced, or nothing but the mark that it ran."""
        mark = RunCommit(task.key, task.version, task.release_id, firing.last_seq, ok=False)
        if not result.ok:
            return _Outcome(result, mark, "runtime" if result.error_kind is not None else "user")
        try:
            rows = check_rows(task, result.rows)
            now_ms = self._clock.wall_ms()
            ours = (UPDATE_RECORD, BACKUP_RECORD) if seat is not None else ()
            sends = [send for send in result.uploads if send.name not in ours]
            uploads = check_uploads(task, sends, now_ms, confined=confined)
            later = check_later(task, result.later, now_ms, confined=confined)
            values = check_values(result.values)
            if seat is not None:
                parts = [send for send in result.uploads if send.name == UPDATE_RECORD]
                updates = seat.records(parts, now_ms, confined=confined)
                backup = seat.backup([s for s in result.uploads if s.name == BACKUP_RECORD], now_ms)
                uploads = (*uploads, *updates, *backup)
                values = {**values, **(seat.mark(now_ms) if updates else {})}
        except NotAllowed as error:
            return _Outcome(_refused(result, "denied", error), mark, "runtime")
        except (TaskError, LimitExceeded) as error:
            return _Outcome(_refused(result, "invalid", error), mark, "runtime")
        kept = replace(
            mark,
            rows=rows,
            values=values,
            uploads=_traced((*uploads, *later), result.wall_s),
            classes=upload_classes(task),
            ok=True,
            local=confined or self._schema is None,  # without classes, anything may be
        )
        return _Outcome(result, kept, "none")

    async def _keep(self, outcome: _Outcome) -> tuple[bool, _Outcome]:
        """Commit, insisting where the disk refuses; what does not fit the store is a failed run."""
        while True:
            try:
                return await self._streams.commit(outcome.commit), outcome
            except StorageError as error:
                _log.warning("commit_delayed", code=error.code, error=str(error), retry_s=_STORAGE_RETRY_S)
                await trio.sleep(_STORAGE_RETRY_S)
            except (NotFound, TaskError, LimitExceeded) as error:
                mark = replace(outcome.commit, rows=(), values={}, uploads=(), ok=False)
                outcome = _Outcome(_refused(outcome.result, "invalid", error), mark, "runtime")

    async def _tell(
        self, task: InstalledTask, firing: Firing, outcome: _Outcome, attempt: int, *, confined: bool
    ) -> None:
        result = outcome.result
        scenario, name = task.key
        self._stats = replace(
            self._stats, ok=self._stats.ok + result.ok, failed=self._stats.failed + (not result.ok)
        )
        for entry in result.logs:
            level = entry.level if entry.level in _LOG_LEVELS else "warning"
            getattr(_log, level)(
                "task_logged", task=name, version=task.version, text=entry.message, fields=entry.fields
            )
        since_ms = (self._clock.mono_ns() - firing.events[-1].mono_ns) / 1e6 if firing.events else 0.0
        fields: dict[str, Any] = {
            "scenario": scenario,
            "task": name,
            "version": task.version,
            "release_id": task.release_id,
            "last_seq": firing.last_seq,
            "events": len(firing.events),
            "rows": len(outcome.commit.rows),
            "uploads": len(outcome.commit.uploads),
            "run_ms": round(result.wall_s * 1e3, 3),
            "trigger_to_commit_ms": round(since_ms, 3),
        }
        if result.ok:
            _log.info("run_finished", **fields)
        else:
            _log.warning(
                "run_failed", **fields, kind=result.error_kind, error=result.error, traceback=result.traceback
            )
        await self._report(task, outcome, attempt, confined=confined)
        if outcome.error_class != "user":
            await self._judge(task, ok=result.ok)

    async def _report(self, task: InstalledTask, outcome: _Outcome, attempt: int, *, confined: bool) -> None:
        result, ballot = outcome.result, self._deployment.ballot(task)
        if result.ok and not ballot.told:
            return
        await self._reporter.put(
            Report(
                new_report_id(),
                task.release_id,
                task.key[1],
                task.version,
                "run",
                "success" if result.ok else "failure",
                attempt,
                self._clock.wall_ms(),
                result.wall_s * 1e3,
                outcome.error_class,
                "" if result.ok else result.error_kind or "no_worker",
                _told_error(result.error or "", confined=confined),
                ballot.votes,
                ballot.control_of,
                peak_bytes=result.peak_bytes if result.ok else 0,
            )
        )

    def _functions(self, task: InstalledTask, seat: Seat | None = None) -> dict[str, HostFunction]:
        functions: dict[str, HostFunction] = {
            **({} if self._inbox is None else {READ: self._inbox.answer}),
            "store.rows": partial(self._store_rows, task),
            "store.get": partial(self._store_get, task.key),
            ASK: partial(self._ask_cloud, task, current_trace()),
        }
        if seat is not None:
            functions |= {"learn.round": seat.offer, "learn.policy": seat.policy}
        elif task.definition.learning.model:
            functions |= {"learn.round": _no_round, "learn.policy": partial(_policy, task)}
        return functions

    async def _ask_cloud(
        self, task: InstalledTask, trace: TraceContext | None, args: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Ask the cloud half of a task, unless what the task may have seen must stay on the device."""
        questions, within_s = make_asks(task, args, trace)
        if self._privacy and (reasons := await self._privacy.reasons(task.key, task.definition)):
            why = f"the task may see what is local: {', '.join(reasons[:3])}"
            return [_told(Answer(reason="refused", message=why))] * len(questions)
        if self._cloud is None:
            why = "there is no way to the cloud half here"
            return [_told(Answer(reason="offline", message=why))] * len(questions)
        told: list[dict[str, Any]] = [{}] * len(questions)
        async with trio.open_nursery() as nursery:
            for number, (ask, data) in enumerate(questions):
                nursery.start_soon(_ask_one, self._cloud, ask, data, within_s, told, number)
        return told

    async def _store_rows(self, task: InstalledTask, args: dict[str, Any]) -> list[dict[str, Any]]:
        match args:
            case {"table": str(table), "limit": int(limit), "where": dict(where)}:
                if table not in task.definition.tables:  # an earlier version's is not this one's to read
                    raise NotFound(
                        f"task {task.key[1]} has no table {table[:80]!r}: "
                        "declare it in task.toml under [tables]"
                    )
                return await self._streams.read_rows(
                    task.key, table, where=where, limit=max(0, min(limit, _ROWS_MAX))
                )
            case _:
                raise RemoteProtocolError("store.rows needs a table, a limit and a where")

    async def _store_get(self, key: TaskKey, args: dict[str, Any]) -> Any:
        match args:
            case {"key": str(name)}:
                return await self._streams.get_value(key, name)
            case _:
                raise RemoteProtocolError("store.get needs a key")


def make_asks(
    task: InstalledTask, args: Mapping[str, Any], trace: TraceContext | None
) -> tuple[list[tuple[Ask, bytes]], float]:
    """What a task asks, checked, each with its data, and within how many seconds.

    Raises:
        RemoteProtocolError: a worker broke the rules that ``walle_task.cloud`` keeps.
        LimitExceeded: so many questions, or so much in one, may not be asked.
    """
    match args:
        case {"questions": list(questions), "timeout_s": float(within_s)} if 0 < within_s <= CLOUD_ASK_MAX_S:
            pass
        case _:
            raise RemoteProtocolError(f"{ASK} needs questions and a time")
    if len(questions) > CLOUD_ASKS_OPEN_MAX:
        raise LimitExceeded(f"{len(questions)} questions at once; the limit is {CLOUD_ASKS_OPEN_MAX}")
    return [_make_ask(task, question, trace) for question in questions], within_s


def _make_ask(task: InstalledTask, question: Any, trace: TraceContext | None) -> tuple[Ask, bytes]:
    match question:
        case {"payload": dict(payload), "data": memoryview() as data} if set(question) == {"payload", "data"}:
            pass
        case {"payload": dict(payload), **rest} if not rest:
            data = memoryview(b"")
        case _:
            raise RemoteProtocolError(f"{ASK}: a question has a payload, and bytes as data")
    if data.nbytes > CLOUD_DATA_MAX_BYTES:
        raise LimitExceeded(f"the question's data is over the limit of {CLOUD_DATA_MAX_BYTES} bytes")
    if len(encode(payload)) > CLOUD_PAYLOAD_MAX_BYTES:
        raise LimitExceeded(f"the question's payload is over the limit of {CLOUD_PAYLOAD_MAX_BYTES} bytes")
    extra = {TRACEPARENT: str(trace)} if trace is not None else {}
    scenario, name = task.key
    ask = Ask(scenario, name, task.version, task.release_id, payload, 1, data.nbytes, extra)
    return ask, bytes(data)


async def _ask_one(
    cloud: Cloud, ask: Ask, data: bytes, within_s: float, told: list[dict[str, Any]], number: int
) -> None:
    told[number] = _told(await cloud.ask(ask, data, within_s))


def _told(answer: Answer) -> dict[str, Any]:
    """What the script is told of an answer."""
    if answer.answer is not None:
        return {"answer": dict(answer.answer)}
    return {"reason": answer.reason, "message": answer.message}


def _traced(uploads: tuple[Record, ...], wall_s: float) -> tuple[Record, ...]:
    """The records of a run with its trace, if it is one of those that are followed."""
    trace = current_trace()
    if trace is None or not trace.sampled:
        return uploads
    extra = {TRACEPARENT: str(trace), RUN_MS: round(wall_s * 1e3)}
    return tuple(replace(record, extra=extra) for record in uploads)


async def _no_round(_args: dict[str, Any]) -> None:
    """Where nobody knows of rounds, as in a simulation, there is none."""


async def _policy(task: InstalledTask, _args: dict[str, Any]) -> dict[str, Any]:
    return policy_of(task.definition.learning, consents=False)


def _with_rows(task: InstalledTask, result: TaskResult, prepared: Prepared) -> TaskResult:
    """What a run produced, and what its stages put beside it."""
    rows: list[StoreWrite] = []
    uploads: list[TunnelSend] = []
    for spec in task.definition.prepare:
        for row in plain_rows(spec, prepared[spec.name]):
            if spec.table:
                rows.append(StoreWrite(spec.table, _columns(row, task.definition.tables[spec.table])))
            if spec.upload:
                uploads.append(TunnelSend(spec.upload, _columns(row, task.definition.uploads[spec.upload])))
    if not result.ok or not (rows or uploads):
        return result
    return replace(result, rows=(*result.rows, *rows), uploads=(*result.uploads, *uploads))


def _columns(row: Mapping[str, Any], declared: Iterable[str]) -> dict[str, Any]:
    return {name: row[name] for name in declared}


def _told_error(error: str, *, confined: bool) -> str:
    """What the cloud is told of an error: of a confined task no word that a script may have made."""
    if not confined or not error:
        return error[:1_000]
    kind, _, _ = error.partition(":")
    return f"{kind if kind.isidentifier() else 'an error'}: its text stays on the device"


def make_spec(task: InstalledTask, config: RunSection, *, isolated: bool = False) -> TaskSpec:
    """What the container is told of a task: its manifest's word, within this device's limits.

    Args:
        task: the task.
        config: the device's limits.
        isolated: give it a process of its own, whatever its manifest says.
    """
    definition = task.definition
    limits = definition.limits
    return TaskSpec(
        task=task.key[1],
        version=task.version,
        bundle_dir=task.bundle_dir,
        scenario=task.key[0],
        entry=definition.task.entry,
        params=definition.params,
        limits=TaskLimits(
            min(limits.wall_s, config.wall_max_s),
            min(limits.memory_bytes, config.memory_max_bytes),
            limits.output_bytes,
        ),
        capabilities=frozenset(definition.task.capabilities),
        tier="process" if isolated else definition.task.tier,
    )


def _refused(result: TaskResult, kind: ErrorKind, error: WalleError) -> TaskResult:
    return replace(
        result, ok=False, value=None, rows=(), uploads=(), later=(), error_kind=kind, error=error.message
    )
