from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from walle_agent.config import RunSection
from walle_agent.link.reporter import Reporter
from walle_agent.state.reports import ReportQueue
from walle_agent.streams.event import make_event
from walle_agent.streams.pipeline import Firing
from walle_agent.streams.service import StreamService, open_streams
from walle_agent.streams.storage import RunCommit
from walle_agent.tasks.confinement import Confinement
from walle_agent.tasks.registry import InstalledTask, TaskRegistry
from walle_agent.tasks.runner import NO_BALLOT, Ballot, Cloud, TaskRunner, make_spec
from walle_container import HostFunction, LaterAsk, StoreWrite, TaskResult, TaskSpec, TunnelSend
from walle_shared.clock import FixedClock
from walle_shared.errors import (
    InternalError,
    LimitExceeded,
    NotFound,
    RemoteProtocolError,
    StorageError,
    TaskError,
    WalleError,
)
from walle_shared.ids import ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.manifest import parse_task_file
from walle_shared.protocol.asks import LATER, Answer, Ask
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import NO_RELEASE, Report
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.schema import Bound, parse_schema
from walle_shared.targeting.policy import TaskKey
from walle_shared.tracing import TRACEPARENT
from walle_task.streams import Row

KEY = (ScenarioName("demo"), TaskName("reader"))
DEFINITION = parse_task_file(
    """
[task]
scenario = "demo"
name = "reader"
capabilities = ["events", "store", "tunnel"]
[[triggers]]
ids = ["event:go"]
[limits]
wall_s = 120.0
[tables.reads]
value = "integer"
[uploads.result]
value = "integer"
[uploads.digest]
value = "integer"
[delivery]
digest = "batch"
"""
)


def _no_corruption(error: StorageError) -> None:
    raise error


class ScriptedHost:
    """A container that ends runs as it is told, and may ask the host first."""

    def __init__(self) -> None:
        self.results: list[TaskResult | Exception] = []
        self.asks: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[Any] = []
        self.specs: list[TaskSpec] = []
        self.inputs: list[dict[str, Any]] = []

    async def run(
        self, spec: TaskSpec, inputs: dict[str, Any], functions: Mapping[str, HostFunction] | None = None
    ) -> TaskResult:
        self.specs.append(spec)
        self.inputs.append(inputs)
        for name, args in self.asks:
            self.answers.append(await (functions or {})[name](args))
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


class Book:
    """Remembers who has a process of its own, and whose runs count."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.started: list[str] = []
        self.counts_for = NO_BALLOT

    def is_isolated(self, task: InstalledTask) -> bool:
        return bool(self.reasons)

    async def isolate(self, task: InstalledTask, reason: str) -> None:
        self.reasons.append(reason)

    async def starting(self, task: InstalledTask) -> None:
        self.started.append(task.version)

    def ballot(self, task: InstalledTask) -> Ballot:
        return self.counts_for


@dataclass
class Bench:
    """A runner on real streams and a real report queue."""

    host: ScriptedHost
    streams: StreamService
    registry: TaskRegistry
    runner: TaskRunner
    queue: ReportQueue
    task: InstalledTask
    verdicts: list[bool] = field(default_factory=list)
    book: Book = field(default_factory=Book)

    async def fire(self, **args: Any) -> Firing:
        """One event of the kind the task waits for."""
        event = self.streams._store.append([make_event("click", event_id="go", args=args)])[0]
        return Firing(KEY, DEFINITION.triggers[0], event.seq, event.seq, (event,), None, event.seq)

    async def run(self, result: TaskResult | Exception) -> Firing:
        """Fire once, with this end."""
        self.host.results.append(result)
        firing = await self.fire()
        await self.runner.handle(firing)
        return firing

    def reports(self) -> tuple[Report, ...]:
        return self.queue.next_batch(100)[1]

    async def stored(self) -> list[dict[str, Any]]:
        return await self.streams.read_rows(KEY, "reads")

    async def uploaded(self) -> int:
        return len(await self.streams.next_batch({}, 100))


@asynccontextmanager
async def bench(
    folder: Path,
    cloud: Cloud | None = None,
    config: RunSection | None = None,
    privacy: Confinement | None = None,
) -> AsyncIterator[Bench]:
    clock = FixedClock()
    queue = ReportQueue(folder / "reports.db", on_corrupt=_no_corruption)
    host = ScriptedHost()
    book = Book()
    verdicts: list[bool] = []

    async def judge(task: InstalledTask, *, ok: bool) -> None:
        verdicts.append(ok)

    async with open_streams(folder / "streams.db", clock) as streams:
        registry = TaskRegistry(streams)
        task = InstalledTask(
            KEY, TaskVersion("1.0"), ReleaseId("r1"), Sha256("a" * 64), folder / "bundle", DEFINITION
        )
        await registry.activate(task)
        runner = TaskRunner(
            host,
            streams,
            registry,
            Reporter(queue, clock),
            judge,
            book,
            clock,
            config or RunSection(),
            privacy=privacy,
            cloud=cloud,
        )
        with closing(queue):
            yield Bench(host, streams, registry, runner, queue, task, verdicts, book)


GOOD = TaskResult(
    ok=True,
    rows=(StoreWrite("reads", {"value": 7}),),
    uploads=(TunnelSend("result", {"value": 7}),),
    wall_s=0.25,
)


async def test_a_good_run_is_kept_and_reported(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.run(GOOD)
        assert await b.stored() == [{"value": 7}]
        assert await b.uploaded() == 1
        (report,) = b.reports()
        assert (report.stage, report.outcome, report.attempt, report.duration_ms) == (
            "run",
            "success",
            1,
            250,
        )
        assert (report.error_class, report.code, report.duration_ms) == ("none", "", 250.0)
        assert b.verdicts == [True]
        assert b.host.inputs[0]["events"][0]["event_id"] == "go"


async def test_what_a_run_returns_is_told_once_it_is_kept(tmp_path: Path) -> None:
    told: list[tuple[Any, ...]] = []

    class Board:
        def tell(self, task: TaskKey, version: TaskVersion, value: Any) -> None:
            told.append((task, version, value))

    async with bench(tmp_path) as b:
        b.runner._results = Board()
        firing = await b.run(replace(GOOD, value={"order": [2, 1]}))
        assert told == [(KEY, "1.0", {"order": [2, 1]})]
        b.host.results.append(replace(GOOD, value="again"))
        await b.runner.handle(firing)  # the same event after a crash: nothing is kept, and nothing told
        await b.run(replace(GOOD, ok=False, value=None, error_kind="exception"))
        await b.run(replace(GOOD, value=3, rows=(StoreWrite("strange", {}),)))
    assert len(told) == 1


async def test_reports_say_what_a_run_counts_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.book.counts_for = Ballot(votes=True, control_of=ReleaseId("r2"), told=True)
        await b.run(GOOD)
        (report,) = b.reports()
    assert (report.votes, report.control_of) == (True, "r2")


async def test_a_device_that_does_not_vote_tells_failures_only(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.book.counts_for = Ballot(votes=False, control_of=NO_RELEASE, told=False)
        await b.run(GOOD)
        assert b.reports() == ()
        await b.run(TaskResult(ok=False, error_kind="exception", error="no"))
        (report,) = b.reports()
    assert (report.outcome, report.votes) == ("failure", False)


async def test_records_go_in_the_class_their_task_declares(tmp_path: Path) -> None:
    sends = (TunnelSend("digest", {"value": 1}), TunnelSend("result", {"value": 2}))
    async with bench(tmp_path) as b:
        await b.run(TaskResult(ok=True, uploads=sends))
        waiting = await b.streams.next_batch({}, 10)
    assert [entry.klass for entry in waiting] == [TunnelClass.REALTIME, TunnelClass.BATCH]


@pytest.mark.parametrize(
    ("result", "kind", "words"),
    [
        (TaskResult(ok=False, error_kind="exception", error="ValueError: no"), "exception", "no"),
        (TaskResult(ok=False, error_kind="timeout", error="too long"), "timeout", "too long"),
        (TaskResult(ok=True, rows=(StoreWrite("other", {}),)), "denied", "[tables.other]"),
        (TaskResult(ok=True, rows=(StoreWrite("reads", {"x": 1}),)), "denied", "reads.x"),
        (TaskResult(ok=True, rows=(StoreWrite("reads", {"value": "7"}),)), "invalid", "reads.value"),
        (TaskResult(ok=True, uploads=(TunnelSend("secret", {}),)), "denied", "[uploads.secret]"),
        (TaskResult(ok=True, uploads=(TunnelSend("result", {"page": 1}),)), "denied", "result.page"),
        (TaskResult(ok=True, uploads=(TunnelSend("result", {"value": 1.5}),)), "invalid", "result.value"),
        (LimitExceeded("the inputs are too large"), "invalid", "too large"),
    ],
)
async def test_a_bad_run_leaves_nothing_but_its_report(
    tmp_path: Path, result: TaskResult | Exception, kind: str, words: str
) -> None:
    async with bench(tmp_path) as b:
        firing = await b.run(result)
        assert await b.stored() == []
        assert await b.uploaded() == 0
        (report,) = b.reports()
        assert (report.outcome, report.error_class, report.code) == ("failure", "runtime", kind)
        assert words in report.message
        assert b.verdicts == [False]
        b.host.results.append(GOOD)
        await b.runner.handle(firing)  # it is marked: not run again to any effect
        assert await b.stored() == []
        assert b.runner.statistics().repeated == 1


async def test_half_good_output_is_refused_whole(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.run(
            TaskResult(ok=True, rows=GOOD.rows, uploads=(*GOOD.uploads, TunnelSend("result", {"page": "x"})))
        )
        assert (await b.stored(), await b.uploaded()) == ([], 0)


async def test_a_container_that_does_not_start_speaks_of_the_device(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.run(InternalError("no worker can be started"))
        (report,) = b.reports()
        assert (report.outcome, report.error_class, report.code) == ("failure", "user", "no_worker")
        assert b.verdicts == []


async def test_firings_of_a_task_that_is_gone_are_dismissed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.registry.deactivate(KEY)
        await b.runner.handle(await b.fire())
        assert b.runner.statistics().dismissed == 1
        assert b.reports() == ()


async def test_a_run_reads_what_was_stored_before(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.run(GOOD)
        b.host.asks = [
            ("store.rows", {"table": "reads", "limit": 5, "where": {"value": 7}}),
            ("store.get", {"key": "nothing"}),
        ]
        await b.run(GOOD)
        assert b.host.answers == [[{"value": 7}], None]


@pytest.mark.parametrize(
    ("name", "args", "error"),
    [
        ("store.rows", {"table": "reads"}, RemoteProtocolError),
        ("store.rows", {"table": 1, "limit": 1, "where": {}}, RemoteProtocolError),
        ("store.rows", {"table": "other", "limit": 1, "where": {}}, NotFound),
        ("store.rows", {"table": "reads", "limit": 1, "where": {"x": 1}}, TaskError),
        ("store.get", {}, RemoteProtocolError),
    ],
)
async def test_host_calls_check_what_the_worker_says(
    tmp_path: Path, name: str, args: dict[str, Any], error: type[Exception]
) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(error):
            await b.runner._functions(b.task)[name](args)


async def test_a_disk_that_refuses_for_a_while_loses_nothing(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as b:
        refusals = [StorageError("disk full")] * 2
        commit = b.streams.commit

        async def refusing(run: Any) -> bool:
            if refusals:
                raise refusals.pop()
            return await commit(run)

        monkeypatch.setattr(b.streams, "commit", refusing)
        await b.run(GOOD)
        assert await b.stored() == [{"value": 7}]


async def test_limits_of_the_device_cap_those_of_the_manifest(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        spec = make_spec(b.task, RunSection(wall_max_s=10.0, memory_max_bytes=1_000))
        assert (spec.limits.wall_s, spec.limits.memory_bytes) == (10.0, 1_000)
        assert spec.capabilities == {"events", "store", "tunnel"}


async def test_a_task_with_a_conflicting_table_is_its_authors_fault(tmp_path: Path) -> None:
    changed = parse_task_file(
        '[task]\nscenario = "demo"\nname = "reader"\n[[triggers]]\nids = ["event:go"]\n'
        '[tables.reads]\nvalue = "text"\n'
    )
    async with bench(tmp_path) as b:
        with pytest.raises(TaskError, match="value"):
            await b.registry.prepare(KEY, changed)
        assert b.registry.get(KEY) == b.task


CRASHED = TaskResult(ok=False, error_kind="crashed", error="the worker process died of SIGSEGV")


async def test_a_run_under_which_a_shared_worker_died_is_repeated_by_itself(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.results.append(CRASHED)
        await b.run(GOOD)
        assert [spec.tier for spec in b.host.specs] == ["interp", "process"]
        assert b.book.reasons == ["the worker process died of SIGSEGV"]
        assert await b.stored() == [{"value": 7}]
        assert b.verdicts == [True]
        await b.run(GOOD)  # and stays there
        assert [spec.tier for spec in b.host.specs] == ["interp", "process", "process"]


async def test_a_task_that_dies_by_itself_too_has_failed_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.results.append(CRASHED)
        await b.run(CRASHED)
        assert b.verdicts == [False]
        assert [report.code for report in b.reports()] == ["crashed"]
        await b.run(CRASHED)  # it is alone already: nothing to repeat
        assert len(b.host.specs) == 3
        assert len(b.book.reasons) == 1


async def test_other_failures_move_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for kind in ("exception", "poisoned", "memory", "timeout"):
            await b.run(TaskResult(ok=False, error_kind=kind, error="no"))  # type: ignore[arg-type]
        assert b.book.reasons == []
        assert {spec.tier for spec in b.host.specs} == {"interp"}


def test_a_task_may_ask_for_a_process_of_its_own(tmp_path: Path) -> None:
    head = replace(DEFINITION.task, tier="process")
    task = InstalledTask(
        KEY,
        TaskVersion("1.0"),
        ReleaseId("r1"),
        Sha256("a" * 64),
        tmp_path,
        replace(DEFINITION, task=head),
    )
    spec = make_spec(task, RunSection())
    assert (spec.tier, spec.scenario) == ("process", "demo")


STAGED = """
[task]
scenario = "demo"
name = "reader"
entry = "main:run"
capabilities = ["events", "store", "tunnel"]
[[triggers]]
ids = ["event:go"]
[[prepare]]
name = "sum"
events = ["go"]
values = { value = "sum(args.n)" }
table = "reads"
upload = "result"
[[prepare]]
name = "per_key"
over = "log"
events = ["go"]
key_by = "args.k"
window = { tumbling_ms = 1000 }
values = { n = "count()" }
[tables.reads]
value = "integer"
[uploads.result]
value = "integer"
"""


async def test_stages_give_rows_to_the_script_and_rows_of_their_own(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.registry.activate(replace(b.task, definition=parse_task_file(STAGED)))
        b.host.results.append(GOOD)
        firing = replace(await b.fire(n=5), prepared={"per_key": (Row("a", 0, 1_000, {"n": 2}),)})
        await b.runner.handle(firing)
        assert b.host.inputs[0]["prepared"] == {
            "sum": [["", None, None, {"value": 5}]],
            "per_key": [["a", 0, 1_000, {"n": 2}]],
        }
        assert await b.stored() == [{"value": 7}, {"value": 5}]
        assert await b.uploaded() == 2
        b.host.results.append(TaskResult(ok=False, error_kind="exception", error="ValueError: no"))
        await b.runner.handle(await b.fire(n=5))
        assert len(await b.stored()) == 2  # all of a run, or nothing


async def test_stages_alone_need_no_container(tmp_path: Path) -> None:
    text = STAGED.replace('"main:run"', '""').replace('name = "per_key"', 'name = "per_key"\ntable = "keys"')
    definition = parse_task_file(text + "[tables.keys]\nkey = 'text'\nn = 'integer'\n")
    async with bench(tmp_path) as b:
        await b.registry.activate(replace(b.task, definition=definition))
        await b.runner.handle(await b.fire(n=5))
        firing = replace(await b.fire(), events=(), prepared={"per_key": (Row("a", 0, 9, {"n": 2}),)})
        await b.runner.handle(firing)
        assert b.host.inputs == []
        assert await b.stored() == [{"value": 5}, {"value": 0}]
        assert await b.streams.read_rows(KEY, "keys") == [{"key": "a", "n": 2}]
        assert [report.outcome for report in b.reports()] == ["success", "success"]
        b.runner.statistics()


async def test_a_table_of_an_earlier_version_cannot_be_read(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.run(GOOD)
        renamed = {"other": DEFINITION.tables["reads"]}
        later = replace(b.task, definition=replace(DEFINITION, tables=renamed))
        with pytest.raises(NotFound, match="has no table 'reads'"):
            await b.runner._functions(later)["store.rows"]({"table": "reads", "limit": 1, "where": {}})


CLASSES = parse_schema(
    "[events.go.args]\nsecret = { type = 'text' }\nopen = { type = 'text', privacy = 'upload' }"
)


async def test_what_was_stored_from_local_fields_confines_the_next_version(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        confinement = Confinement(CLASSES, b.streams)
        reading = replace(DEFINITION, reads={"go": ("args.secret",)})
        bounded = replace(reading, bounds={n: {"value": Bound(0, 9)} for n in DEFINITION.uploads})
        later = replace(DEFINITION, reads={"go": ("args.open",)})
        assert await confinement.reasons(KEY, reading) == ("go.args.secret",)
        with pytest.raises(TaskError, match=r"uploads.result.value has no closed range.*go\.args\.secret"):
            await confinement.check(KEY, reading)
        await confinement.check(KEY, bounded)
        await confinement.check(KEY, later)
        mark = RunCommit(KEY, "1", "r", 1, (("reads", {"value": 1}),), values={"k": 1}, local=True)
        await b.streams.commit(mark)
        assert await confinement.reasons(KEY, later) == ("table reads", "values kept by key")
        with pytest.raises(TaskError, match="table reads"):
            await TaskRegistry(b.streams, confinement).prepare(KEY, later)
        renamed = replace(later, tables={"other": DEFINITION.tables["reads"]})
        await b.streams.commit(RunCommit(KEY, "1", "r", 2, values={"k": None}))
        await confinement.check(KEY, renamed)
        assert await Confinement(None, b.streams).reasons(KEY, reading) == ()


async def test_values_beyond_their_bounds_stay(tmp_path: Path) -> None:
    definition = replace(DEFINITION, bounds={"result": {"value": Bound(0, 9)}})
    async with bench(tmp_path) as b:
        await b.registry.activate(replace(b.task, definition=definition))
        await b.run(replace(GOOD, uploads=(TunnelSend("result", {"value": 10}),)))
        assert (await b.stored(), await b.uploaded()) == ([], 0)
        (report,) = b.reports()
        assert (report.code, report.message) == (
            "denied",
            "result.value is not within [bounds.result] of task.toml: clamp it, or correct the bounds",
        )
        await b.run(replace(GOOD, uploads=(TunnelSend("result", {"value": 9}),)))
        assert await b.uploaded() == 1


class FakeCloud:
    """Answers questions with a payload, has no budget for others, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Ask, bytes, float]] = []

    async def ask(self, ask: Ask, data: bytes, within_s: float) -> Answer:
        self.asked.append((ask, data, within_s))
        await trio.lowlevel.checkpoint()
        return Answer({"n": 1}) if ask.payload else Answer(reason="budget", message="all used up")


def asking(*questions: dict[str, Any], timeout_s: float = 1.5) -> tuple[str, dict[str, Any]]:
    return "cloud.ask", {"questions": list(questions), "timeout_s": timeout_s}


async def test_questions_go_to_the_cloud_half_of_the_runs_own_version(tmp_path: Path) -> None:
    cloud = FakeCloud()
    async with bench(tmp_path, cloud, RunSection(trace_share=1.0)) as b:
        b.host.asks = [asking({"payload": {"a": 1}, "data": memoryview(b"xyz")}, {"payload": {}})]
        await b.run(GOOD)
        (told,) = b.host.answers
        (sent,) = (await b.streams.next_batch({}, 9))[:1]
    assert told == [{"answer": {"n": 1}}, {"reason": "budget", "message": "all used up"}]
    (ask, data, within_s), (other, nothing, _) = sorted(cloud.asked, key=lambda each: -len(each[1]))
    assert (ask.scenario, ask.task, ask.version, ask.release_id) == ("demo", "reader", "1.0", "r1")
    assert (ask.payload, data, within_s, nothing) == ({"a": 1}, b"xyz", 1.5, b"")
    assert sent.payload is not None
    record = decode(Record, sent.payload)
    assert (
        ask.extra == other.extra == {TRACEPARENT: record.extra[TRACEPARENT]}
    )  # one trace of run and questions


async def test_without_a_way_to_the_cloud_the_device_is_offline(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.asks = [asking({"payload": {}})]
        await b.run(GOOD)
        assert b.host.answers[0][0]["reason"] == "offline"


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({}, RemoteProtocolError),
        ({"questions": [], "timeout_s": 0.0}, RemoteProtocolError),
        ({"questions": [], "timeout_s": float("nan")}, RemoteProtocolError),
        ({"questions": [{}], "timeout_s": 1.0}, RemoteProtocolError),
        ({"questions": [{"payload": {}, "data": "text"}], "timeout_s": 1.0}, RemoteProtocolError),
        ({"questions": [{"payload": {}, "more": 1}], "timeout_s": 1.0}, RemoteProtocolError),
        ({"questions": [{"payload": {}}] * 17, "timeout_s": 1.0}, LimitExceeded),
        ({"questions": [{"payload": {"x": "y" * 70_000}}], "timeout_s": 1.0}, LimitExceeded),
        (
            {"questions": [{"payload": {}, "data": memoryview(bytes(300_000))}], "timeout_s": 1.0},
            LimitExceeded,
        ),
    ],
)
async def test_a_workers_questions_are_not_believed(
    tmp_path: Path, args: dict[str, Any], error: type[WalleError]
) -> None:
    async with bench(tmp_path, FakeCloud()) as b:
        with pytest.raises(error):
            await b.runner._functions(b.task)["cloud.ask"](args)


async def test_a_task_that_may_have_seen_what_is_local_asks_nobody(tmp_path: Path) -> None:
    cloud = FakeCloud()
    async with bench(tmp_path, cloud) as b:
        confinement = Confinement(CLASSES, b.streams)
        b.runner._privacy = confinement
        b.host.asks = [asking({"payload": {}})]
        await b.run(TaskResult(ok=True, later=(LaterAsk({"a": 1}, ""),)))
        assert b.host.answers[0][0]["reason"] == "refused"
        assert not cloud.asked
        (report,) = b.reports()
        assert (report.outcome, report.code) == ("failure", "denied")
        assert await b.uploaded() == 0
        asks = replace(DEFINITION, task=replace(DEFINITION.task, capabilities=("cloud",)))
        with pytest.raises(TaskError, match="asks its cloud half"):
            await confinement.check(KEY, asks)


async def test_questions_that_can_wait_are_kept_with_the_run(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.run(replace(GOOD, later=(LaterAsk({"a": 1}, "eHl6"),)))
        entries = await b.streams.next_batch({}, 9)
        records = [decode(Record, entry.payload) for entry in entries if entry.payload]
        (asked,) = [record for record in records if record.name == LATER]
        assert (asked.version, asked.fields) == ("1.0", {"payload": {"a": 1}, "data": "eHl6"})
        await b.run(replace(GOOD, ok=False, error_kind="exception", later=()))
        assert await b.uploaded() == 2
