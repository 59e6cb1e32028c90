"""No field that must stay on the device is ever in a frame, whatever a script does with what it is given.

Schemas, manifests and events are random; every value of an event is a canary that occurs nowhere else. The
script is as careless as can be: it sends and keeps all it sees, in fields of every type, and raises with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_agent.config import RunSection
from walle_agent.link.reporter import Reporter
from walle_agent.state.reports import ReportQueue
from walle_agent.streams.event import make_event
from walle_agent.streams.pipeline import Firing
from walle_agent.streams.service import StreamService, open_streams
from walle_agent.streams.tunnel import TunnelSender
from walle_agent.tasks.confinement import Confinement
from walle_agent.tasks.registry import InstalledTask, TaskRegistry
from walle_agent.tasks.runner import NO_BALLOT, Ballot, TaskRunner
from walle_container import HostFunction, StoreWrite, TaskResult, TaskSpec, TunnelSend
from walle_shared.clock import FixedClock
from walle_shared.errors import StorageError, TaskError
from walle_shared.ids import ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.manifest import TaskFile, parse_task_file
from walle_shared.protocol.tunnel_receiver import RecordReceived, TunnelReceiver
from walle_shared.schema import EventSchema, Privacy, parse_schema

KEY = (ScenarioName("demo"), TaskName("leaky"))
ARGS: tuple[str, ...] = ("a", "b", "c")
CLASSES: tuple[Privacy, ...] = ("local", "aggregate", "upload")


@dataclass(frozen=True)
class Case:
    """A registry, the class it gives each argument, and two versions of a task, one after the other."""

    schema: EventSchema
    classes: Mapping[str, Privacy]
    versions: tuple[TaskFile, ...]


def _manifest(reads: list[str] | None, *, closed: bool, staged: str) -> TaskFile:
    lines = ['[task]\nscenario = "demo"\nname = "leaky"\ncapabilities = ["events", "store", "tunnel"]']
    lines += ['[[triggers]]\nids = ["event:go"]', '[tables.kept]\nany = "json"']
    lines += ['[uploads.all]\nword = "text"\nnumber = "integer"\nlist = "json"\nflag = "boolean"']
    if closed:
        lines += ["[uploads.told]\nnumber = 'integer'\nword = 'text'"]
        lines += ["[bounds.told]\nnumber = { min = 0, max = 9 }\nword = { values = ['yes', 'no'] }"]
    if reads is not None:
        lines += [f"[reads]\ngo = {[f'args.{name}' for name in reads]}"]
    if staged:
        lines += [f"[[prepare]]\nname = 's'\nevents = ['go']\nkey_by = 'args.{staged}'"]
        lines += [f"values = {{ least = 'min(args.{staged})', one = 'last(args.{staged})' }}"]
    return parse_task_file("\n".join(lines))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    classes: dict[str, Privacy] = {name: draw(st.sampled_from(CLASSES)) for name in ARGS}
    declared = {name: draw(st.booleans()) or classes[name] == "upload" for name in ARGS}
    lines = [
        "[events.go.args]",
        *(f"{name} = {{ type = 'text', privacy = '{classes[name]}' }}" for name in ARGS if declared[name]),
    ]
    listed: st.SearchStrategy[list[str] | None] = st.none() | st.lists(st.sampled_from(ARGS), unique=True)
    versions = tuple(
        _manifest(draw(listed), closed=draw(st.booleans()), staged=draw(st.sampled_from(["", *ARGS])))
        for _ in range(2)
    )
    known: dict[str, Privacy] = dict.fromkeys(ARGS, "local")
    known |= {name: classes[name] for name in ARGS if declared[name]}
    return Case(parse_schema("\n".join(lines)), known, versions)


@dataclass
class Leaky:
    """A container whose script tells all it sees."""

    mode: str = ""
    seen: list[str] = field(default_factory=list)

    async def run(
        self, spec: TaskSpec, inputs: dict[str, Any], functions: Mapping[str, HostFunction] | None = None
    ) -> TaskResult:
        assert functions is not None
        stored = await functions["store.rows"]({"table": "kept", "limit": 100, "where": {}})
        words = [*_texts(inputs), *_texts(stored), *_texts(await functions["store.get"]({"key": "k"}))]
        self.seen = words
        if self.mode == "raise":
            return TaskResult(ok=False, error_kind="exception", error=f"ValueError: {' '.join(words)}")
        if self.mode == "wrong":
            return TaskResult(ok=True, uploads=tuple(TunnelSend("all", {"number": word}) for word in words))
        sends = [
            TunnelSend("told", {"word": "yes", "number": len(words) % 10}),
            TunnelSend("told", {"word": " ".join(words)}),
            TunnelSend("all", {"word": " ".join(words), "list": words, "number": len(words)}),
            TunnelSend("all", {"flag": True, "number": 3}),
        ]
        uploads = [send for number, send in enumerate(sends) if str(number) in self.mode]
        return TaskResult(
            ok=True, rows=(StoreWrite("kept", {"any": words}),), values={"k": words}, uploads=tuple(uploads)
        )


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for key, item in value.items():
                yield from _texts(key)
                yield from _texts(item)
        case list() | tuple():
            for item in value:
                yield from _texts(item)
        case _:
            pass


def _no_corruption(error: StorageError) -> None:
    raise error


async def _frames(streams: StreamService) -> list[Any]:
    """All that would go through the tunnel, as the cloud reads it."""
    sender, receiver = TunnelSender(streams.incarnation, await streams.numbers()), TunnelReceiver()
    receiver.receive(sender.hello())
    batch = await streams.next_batch({}, 1_000)
    items = [receiver.receive(frame) for frame in sender.send(batch)]
    return [item.record.fields for item in items if isinstance(item, RecordReceived)]


async def _leak(case: Case, modes: list[list[str]], folder: Path, *, gate: bool) -> tuple[bytes, set[str]]:
    clock, host, seen = FixedClock(), Leaky(), set[str]()
    queue = ReportQueue(folder / "reports.db", on_corrupt=_no_corruption)

    class Never:
        def is_isolated(self, task: InstalledTask) -> bool:
            return False

        async def isolate(self, task: InstalledTask, reason: str) -> None:
            raise AssertionError(reason)

        async def starting(self, task: InstalledTask) -> None:
            pass

        def ballot(self, task: InstalledTask) -> Ballot:
            return NO_BALLOT

    async def judge(task: InstalledTask, *, ok: bool) -> None:
        pass

    async with open_streams(folder / "streams.db", clock) as streams:
        confinement = Confinement(case.schema, streams)
        registry = TaskRegistry(streams, confinement)
        runner = TaskRunner(
            host,
            streams,
            registry,
            Reporter(queue, clock),
            judge,
            Never(),
            clock,
            RunSection(),
            privacy=confinement,
        )
        with closing(queue):
            for version, definition in enumerate(case.versions):
                if gate:
                    try:
                        await registry.prepare(KEY, definition)
                    except TaskError:
                        continue
                await registry.activate(
                    InstalledTask(
                        KEY,
                        TaskVersion(f"{version}.0"),
                        ReleaseId("r"),
                        Sha256("a" * 64),
                        folder,
                        definition,
                    )
                )
                for number, mode in enumerate(modes[version]):
                    args = {name: f"canary-{name}-{version}{number}" for name in ARGS}
                    event = streams._store.append([make_event("custom", event_id="go", args=args)])[0]
                    host.mode = mode
                    seq = event.seq
                    await runner.handle(Firing(KEY, definition.triggers[0], seq, seq, (event,), None, seq))
                    seen |= {word for word in host.seen if word.startswith("canary-")}
            sent = orjson.dumps([await _frames(streams), [r.message for r in queue.next_batch(1_000)[1]]])
    return sent, seen


modes = st.lists(
    st.lists(st.sampled_from(["0", "2", "3", "03", "1", "23", "", "raise", "wrong"]), max_size=4),
    min_size=2,
    max_size=2,
)


@settings(max_examples=60)
@given(cases(), modes, st.booleans())
def test_nothing_local_is_ever_sent(memory: Path, case: Case, told: list[list[str]], gate: bool) -> None:
    """Not even if a task that should not have been installed is."""
    with TemporaryDirectory(dir=memory) as folder:
        sent, _ = trio.run(lambda: _leak(case, told, Path(folder), gate=gate))
    for name, privacy in case.classes.items():
        if privacy != "upload":
            assert f"canary-{name}".encode() not in sent


def test_what_may_be_sent_is(memory: Path) -> None:
    """So that the test above does not hold because nothing ever leaves."""
    schema = parse_schema("[events.go.args]\na = { type = 'text', privacy = 'upload' }")
    free = _manifest(["a"], closed=True, staged="a")
    case = Case(
        schema, {"a": "upload", "b": "local", "c": "local"}, (free, _manifest(["b"], closed=True, staged=""))
    )
    with TemporaryDirectory(dir=memory) as folder:
        sent, seen = trio.run(lambda: _leak(case, [["2"], ["0", "raise"]], Path(folder), gate=False))
    assert b"canary-a-00" in sent
    assert "canary-b-10" in seen
    assert b'"word":"yes"' in sent
    assert b"ValueError: its text stays on the device" in sent
    assert b"canary-b" not in sent
