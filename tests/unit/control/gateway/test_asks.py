"""Questions over a real socket: the agent's own tunnel, the control plane's gateway, a real container."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from walle_agent.link.transport import Transport
from walle_agent.streams.asks import AskLine
from walle_agent.streams.service import open_streams
from walle_agent.streams.storage import RunCommit
from walle_agent.streams.tunnel import Tunnel, TunnelSender
from walle_control.app import Control
from walle_control.features.cloud import store as cloud_store
from walle_control.features.releases.types import CreateRelease
from walle_control.features.tasks.types import ImportRequest
from walle_control.features.telemetry.types import FeatureQuery, ReportQuery
from walle_shared.backoff import Backoff
from walle_shared.clock import SystemClock
from walle_shared.errors import ConnectionLost
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.limits import CLOUD_ASKS_OPEN_MAX, CLOUD_DATA_MAX_BYTES
from walle_shared.manifest import Trigger
from walle_shared.protocol.asks import ASKS, LATER, Answer, Ask, AskSender, Push, welcome_frame
from walle_shared.protocol.codec import encode
from walle_shared.protocol.tunnel import (
    Frame,
    FrameKind,
    Hello,
    Record,
    TunnelClass,
    decode_frame,
    encode_frame,
)
from walle_support import asgi

HALF = """
import time
from walle_task import log, params

def answer(request):
    match request.payload["do"]:
        case "add":
            return {"sum": sum(request.payload["values"]), "bytes": len(request.data),
                    "who": request.device_id, "version": request.version, "unit": params.get("unit")}
        case "sleep":
            time.sleep(request.payload["s"])
            return {"slept": True}
        case "raise":
            raise ValueError("not today")
        case "list":
            return [1]
        case "huge":
            return {"x": "y" * 100_000}
"""
TOML = """
[task]
scenario = "demo"
name = "greeter"
capabilities = ["cloud"]
[[triggers]]
ids = ["event:go"]
[params]
unit = "kg"
[cloud]
wall_s = 5.0
"""
FILES = {
    "task.toml": TOML.encode(),
    "main.py": b"from walle_task import cloud\n\ndef run():\n    return cloud.ask({})\n",
    "cloud.py": HALF.encode(),
}


@pytest.fixture
async def released(control: Control, repo) -> str:
    """A release of a task with a cloud half; its id."""
    repo.tag("greeter/1.0.0", "greeter", FILES)
    await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")
    made = await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "anna")
    return str(made.release.id)


@asynccontextmanager
async def tunnelled(app, device, folder: Path) -> AsyncIterator[AskLine]:
    """An agent's tunnel to the app; the line on which its runs would ask."""
    line = AskLine()
    clock = SystemClock()
    async with (
        asgi.on_ours(app) as url,
        Transport(url) as transport,
        open_streams(folder / "streams.db", clock) as streams,
        trio.open_nursery() as nursery,
    ):
        connect = partial(transport.connect_tunnel, device.response.credential)
        tunnel = Tunnel(streams, connect, backoff=Backoff(0.01, 0.1), asks=line, take_push=streams.take_push)
        nursery.start_soon(tunnel.run)
        await until(lambda: tunnel.statistics().connected)
        yield line
        nursery.cancel_scope.cancel()


def question(
    release: str, within_s: float = 20.0, **payload: object
) -> Callable[[AskLine], Awaitable[Answer]]:
    ask = Ask("demo", "greeter", "1.0.0", release, payload, 1)
    return lambda line: line.ask(ask, b"", within_s)


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(120):
        while not condition():  # noqa: ASYNC110  # what is waited for tells nobody
            await trio.sleep(0.005)


async def test_a_question_is_answered_by_the_version_that_the_device_has(
    app, control, released, enrol, tmp_path
):
    device = await enrol()
    ask = Ask("demo", "greeter", "1.0.0", released, {"do": "add", "values": [1, 2]}, 1)
    async with tunnelled(app, device, tmp_path) as line:
        answer = await line.ask(ask, bytes(CLOUD_DATA_MAX_BYTES), 120.0)
    assert answer.reason == ""
    assert answer.answer == {
        "sum": 3, "bytes": CLOUD_DATA_MAX_BYTES, "who": device.id, "version": "1.0.0", "unit": "kg",
    }  # fmt: skip
    assert control.cloud.counts.answers["answered"] == 1


async def test_many_questions_are_open_at_once_and_each_gets_its_own_answer(app, released, enrol, tmp_path):
    sums: dict[int, Mapping[str, object] | None] = {}

    async def one(line: AskLine, number: int) -> None:
        sums[number] = (await question(released, do="add", values=[number, 1])(line)).answer

    async with tunnelled(app, await enrol(), tmp_path) as line, trio.open_nursery() as nursery:
        for number in range(40):  # more than may be open at once
            nursery.start_soon(one, line, number)
    assert {number: (answer or {}).get("sum") for number, answer in sums.items()} == {
        number: number + 1 for number in range(40)
    }


async def test_what_goes_wrong_is_told_by_reason(app, control, released, enrol, tmp_path):
    device = await enrol()
    async with tunnelled(app, device, tmp_path) as line:
        for do, words in (("raise", "not today"), ("list", "no dict"), ("huge", "65536")):
            answer = await question(released, do=do)(line)
            assert (answer.reason, words in answer.message) == ("failed", True), answer
        stranger = await question("r-unknown", do="add", values=[])(line)
        assert stranger.reason == "refused"
        ask = Ask("demo", "greeter", "9.9.9", released, {}, 1)
        assert (await line.ask(ask, b"", 5.0)).reason == "refused"
    await until(lambda: control.telemetry.reports_new == 3)
    failures = (await control.telemetry.reports(ReportQuery(release=released), 0, 10)).reports
    assert {report.code for report in failures} == {"cloud_exception", "cloud_invalid", "cloud_output"}
    assert all(report.device_id == device.id for report in failures)


async def test_a_late_answer_is_withdrawn_and_its_work_ends(app, control, released, enrol, tmp_path):
    async with tunnelled(app, await enrol(), tmp_path) as line:
        await question(released, do="add", values=[])(line)  # the worker is warm
        late = await question(released, 1.0, do="sleep", s=4.0)(line)
        assert late.reason == "deadline"
        await until(lambda: not control.cloud.running)
        again = await question(released, do="add", values=[4])(line)
        assert again.answer is not None


async def test_a_device_that_leaves_takes_its_questions_along(app, control, released, enrol, tmp_path):
    async with tunnelled(app, await enrol(), tmp_path) as line:
        await question(released, do="add", values=[])(line)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(question(released, do="sleep", s=4.0), line)
            await until(lambda: control.cloud.running)
            nursery.cancel_scope.cancel()
    await until(lambda: not control.cloud.running)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(FrameKind.ASK, TunnelClass.REALTIME, 1, b"not json"),
        Frame(FrameKind.ASK_DATA, TunnelClass.REALTIME, 1, b"x"),
        Frame(FrameKind.CANCEL, TunnelClass.REALTIME, 1),
        Frame(FrameKind.ANSWER, TunnelClass.REALTIME, 1, encode(Answer({}))),
    ],
)
async def test_a_device_that_breaks_the_rules_loses_its_connection_alone(
    app, control, enrol, tmp_path, frame
):
    credential = (await enrol()).response.credential
    async with (
        asgi.on_ours(app) as url,
        Transport(url) as transport,
        open_streams(tmp_path / "s.db", SystemClock()) as streams,
    ):
        sender = TunnelSender(streams.incarnation, await streams.numbers())
        with pytest.raises(ConnectionLost):
            await send_and_listen(transport, credential, [sender.hello(), encode_frame(frame)])
    assert control.tunnels.taken == 0


async def send_and_listen(transport: Transport, credential: str, frames: Sequence[bytes]) -> None:
    """Send frames, then listen until the connection ends."""
    async with transport.connect_tunnel(credential) as channel:
        for frame in frames:
            await channel.send(frame)
        with trio.fail_after(120):
            while True:
                await channel.receive()


def later(release: str, **payload: object) -> Record:
    data = base64.b64encode(b"abc").decode()
    return Record("demo", "greeter", "1.0.0", release, LATER, 1, {"payload": payload, "data": data})


async def test_the_answer_to_what_can_wait_comes_as_an_event_once(app, control, released, enrol, tmp_path):
    device, clock = await enrol(), SystemClock()
    key = (ScenarioName("demo"), TaskName("greeter"))
    async with (
        asgi.on_ours(app) as url,
        Transport(url) as transport,
        open_streams(tmp_path / "streams.db", clock) as streams,
        trio.open_nursery() as nursery,
    ):
        await streams.register(key, [Trigger(("event:cloud_answer",))])
        await nursery.start(streams.run)
        uploads = (later(released, do="add", values=[2, 3]), later(released, do="raise"))
        await streams.commit(RunCommit(key, "1.0.0", released, 1, uploads=uploads))
        connect = partial(transport.connect_tunnel, device.response.credential)
        tunnel = Tunnel(streams, connect, backoff=Backoff(0.01, 0.1), take_push=streams.take_push)
        nursery.start_soon(tunnel.run)
        answers = []
        with trio.fail_after(120):
            for _ in uploads:
                answers.append((await streams.firings.receive()).events[-1].args)
            await until(lambda: control.store.database.read_sync(cloud_store.count_later) == (0, 0))
        nursery.cancel_scope.cancel()
    by_reason = {args["reason"]: args for args in answers}
    assert by_reason[""]["payload"] == {
        "sum": 5, "bytes": 3, "who": device.id, "version": "1.0.0", "unit": "kg",
    }  # fmt: skip
    assert (by_reason[""]["scenario"], by_reason[""]["task"]) == ("demo", "greeter")
    assert by_reason["failed"]["payload"] is None
    assert (await control.telemetry.features(FeatureQuery(), 0, 10)).features == ()


async def test_an_answer_waits_for_its_device_and_is_taken_once(control, tmp_path):
    push = Push("store:REALTIME:1", "demo", "greeter", {"x": 1})
    async with (
        open_streams(tmp_path / "streams.db", SystemClock()) as streams,
        trio.open_nursery() as nursery,
    ):
        key = (ScenarioName("demo"), TaskName("greeter"))
        await streams.register(key, [Trigger(("event:cloud_answer",))])
        await nursery.start(streams.run)
        await streams.take_push(push)
        await streams.take_push(push)  # its receipt was lost
        assert streams.firings.receive_nowait().events[-1].args["payload"] == {"x": 1}
        nursery.cancel_scope.cancel()
    async with open_streams(tmp_path / "streams.db", SystemClock()) as streams:
        await streams.take_push(push)  # after a restart too
        assert streams.statistics().inlet.accepted == 0


async def test_a_used_up_budget_is_told_at_once(app, control, repo, enrol, tmp_path):
    toml = TOML.replace("wall_s = 5.0", "asks_per_device_hour = 3")
    repo.tag("greeter/1.0.0", "greeter", {**FILES, "task.toml": toml.encode()})
    await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")
    made = await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "anna")
    async with tunnelled(app, await enrol(), tmp_path) as line:
        answers = [await question(made.release.id, do="add", values=[n])(line) for n in range(5)]
    assert [answer.reason for answer in answers] == ["", "", "", "budget", "budget"]


async def test_a_device_that_never_reads_holds_up_nobody_else(app, control, repo, enrol, tmp_path):
    half = b"def answer(request):\n    return {'x': 'y' * 60_000}\n"
    repo.tag("greeter/1.0.0", "greeter", {**FILES, "cloud.py": half})
    await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")
    release = str(
        (await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "anna")).release.id
    )
    deaf, other = await enrol(), await enrol()
    asker = AskSender()
    asker.receive(decode_frame(welcome_frame()))
    async with (
        asgi.on_ours(app) as url,
        Transport(url) as transport,
        transport.connect_tunnel(deaf.response.credential) as channel,
    ):
        hello = encode(Hello("deaf", {}, (ASKS,)))
        await channel.send(encode_frame(Frame(FrameKind.HELLO, TunnelClass.REALTIME, 1, hello)))
        for _ in range(CLOUD_ASKS_OPEN_MAX):  # 60 KB each, which no buffer takes
            _, frames = asker.ask(Ask("demo", "greeter", "1.0.0", release, {}, 120_000), b"")
            for frame in frames:
                await channel.send(frame)
        await until(lambda: control.cloud.counts.answers["answered"] == CLOUD_ASKS_OPEN_MAX)
        assert control.cloud.running == 0
        async with tunnelled(app, other, tmp_path) as line:
            assert (await question(release)(line)).answer is not None
            asked = 20 * CLOUD_ASKS_OPEN_MAX
            for ask_id in range(CLOUD_ASKS_OPEN_MAX + 1, asked):  # it goes on all the same
                ask = encode(Ask("demo", "greeter", "1.0.0", release, {}, 120_000))
                await channel.send(encode_frame(Frame(FrameKind.ASK, TunnelClass.REALTIME, ask_id, ask)))
            counts = control.cloud.counts.answers
            await until(lambda: counts["answered"] > CLOUD_ASKS_OPEN_MAX + 1)
            assert (await question(release)(line)).answer is not None
            assert counts["answered"] < asked // 2  # what waits to be sent is bounded; sockets take some
