"""One run over a pair of sockets, against a worker played by the test; virtual time."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from walle_container import TaskLimits, TaskResult, TaskSpec
from walle_container.channel import FrameChannel
from walle_container.conversation import Conversation
from walle_container.messages import Frame
from walle_container.spec import HostFunction
from walle_shared.errors import ConnectionLost, InternalError, RemoteProtocolError
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES

SPEC = TaskSpec(
    task="t",
    version="1",
    bundle_dir=Path("/nowhere"),
    limits=TaskLimits(wall_s=10.0, output_bytes=100),
    capabilities=frozenset({"store"}),
)


def done(**fields: Any) -> bytes:
    message = {
        "op": "done",
        "run": 7,
        "value": None,
        "error_kind": None,
        "error": None,
        "traceback": "",
        "wall_s": 0.1,
        "cpu_s": 0.1,
        "peak_bytes": 1,
        "stdout_tail": "",
        "logs": [],
        "logs_dropped": 0,
        "rows": [],
        "values": {},
        "uploads": [],
        "later": [],
        "profile": [],
    }
    return json.dumps(message | fields).encode()


CALL = b'{"op": "call", "call": "store.rows", "args": {}}'


class Played:
    """A conversation and how it went."""

    def __init__(
        self, ours: socket.socket, theirs: socket.socket, functions: dict[str, HostFunction]
    ) -> None:
        self.worker = FrameChannel(theirs)
        self.interrupted = trio.Event()
        self.conversation = Conversation(
            channel=FrameChannel(ours),
            run=7,
            spec=SPEC,
            functions=functions,
            interrupt=self._interrupt,
            grace_s=0.25,
        )

    async def _interrupt(self) -> None:
        self.interrupted.set()

    async def hold(self, worker: Callable[[Played], Awaitable[None]]) -> TaskResult:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker, self)
            result = await self.conversation.hold(Frame(b"{}"))
            nursery.cancel_scope.cancel()
        return result


type Play = Callable[[dict[str, HostFunction]], Played]


@pytest.fixture
def play() -> Iterator[Play]:
    with ExitStack() as ends:

        def make(functions: dict[str, HostFunction]) -> Played:
            ours, theirs = map(ends.enter_context, socket.socketpair())
            return Played(ours, theirs, functions)

        yield make


async def test_a_run_without_calls(play: Play, autojump_clock: MockClock):
    async def worker(played: Played) -> None:
        assert await played.worker.receive() == b"{}"
        await played.worker.send(done(value=[1]))

    played = play({})
    result = await played.hold(worker)
    assert (result.ok, result.value, played.conversation.finished) == (True, [1], True)


async def test_time_passed_stops_the_run_and_its_last_words_do_not_count(
    play: Play, autojump_clock: MockClock
):
    async def worker(played: Played) -> None:
        await played.interrupted.wait()
        await played.worker.send(
            done(value="too late", stdout_tail="printed", rows=[{"table": "t", "row": {}}])
        )

    played = play({})
    result = await played.hold(worker)
    assert (result.error_kind, result.value, result.rows, result.stdout_tail) == (
        "timeout",
        None,
        (),
        "printed",
    )
    assert result.wall_s == pytest.approx(10.0)
    assert played.conversation.finished


async def test_a_run_that_goes_on_past_the_grace_is_poisoned(play: Play, autojump_clock: MockClock):
    async def worker(played: Played) -> None:
        await trio.sleep_forever()

    played = play({})
    result = await played.hold(worker)
    assert (result.error_kind, played.conversation.finished) == ("poisoned", False)
    assert result.wall_s == pytest.approx(10.25)


async def test_calls_while_stopping_are_refused_and_the_one_in_flight_is_answered(
    play: Play, autojump_clock: MockClock
):
    answers = []

    async def never(_args: dict[str, Any]) -> Any:
        await trio.sleep_forever()

    async def worker(played: Played) -> None:
        await played.worker.receive()
        for _ in range(3):
            await played.worker.send(CALL)
            answers.append(json.loads(await played.worker.receive()))
        await played.worker.send(done())

    result = await play({"store.rows": never}).hold(worker)
    assert result.error_kind == "timeout"
    assert answers == [{"error": "LimitExceeded", "message": "the run is being stopped"}] * 3


async def test_cancelled_from_outside_it_stops_the_run_first(play: Play, autojump_clock: MockClock):
    stopped = []

    async def worker(played: Played) -> None:
        await played.interrupted.wait()
        await trio.sleep(0.2)
        stopped.append(True)
        await played.worker.send(done())

    played = play({})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker, played)
        with trio.move_on_after(1) as scope:
            await played.conversation.hold(Frame(b"{}"))
    assert scope.cancelled_caught
    assert (stopped, played.conversation.finished) == ([True], True)


@pytest.mark.parametrize(
    "frames",
    [[b"nonsense"], [b'{"op": "ready"}'], [done(run=6)], [done(error_kind="crashed")]],
    ids=["not json", "ready", "other run", "forbidden kind"],
)
async def test_a_worker_that_breaks_the_protocol_is_told_apart(
    play: Play, autojump_clock: MockClock, frames: list[bytes]
):
    played = play({})
    for frame in frames:
        await played.worker.send(frame)
    with pytest.raises(RemoteProtocolError):
        await played.conversation.hold(Frame(b"{}"))
    assert not played.conversation.finished


async def test_a_worker_that_closes_is_lost(play: Play, autojump_clock: MockClock):
    played = play({})
    played.worker.close()
    with pytest.raises(ConnectionLost):
        await played.conversation.hold(Frame(b"{}"))


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"value": "x" * 200}, "output"),
        ({"rows": [{"table": "t", "row": {"x": "y" * 60}}] * 2}, "output"),
        ({"values": {"k": "x" * 200}}, "output"),
        ({"uploads": [{"name": "u", "fields": {}}]}, "denied"),
        ({"rows": [{"table": "t", "row": {"x": "y" * 60}}]}, None),
    ],
)
async def test_the_workers_word_on_limits_and_grants_is_checked(
    play: Play, autojump_clock: MockClock, fields: dict[str, Any], kind: str | None
):
    played = play({})
    await played.worker.send(done(**fields))
    result = await played.conversation.hold(Frame(b"{}"))
    assert result.error_kind == kind
    assert result.ok == (kind is None)


async def test_an_answer_too_large_is_refused_to_the_task(play: Play, autojump_clock: MockClock):
    async def flood(_args: dict[str, Any]) -> Any:
        return "x" * CONTAINER_FRAME_MAX_BYTES

    answers = []

    async def worker(played: Played) -> None:
        await played.worker.receive()
        await played.worker.send(CALL)
        answers.append(json.loads(await played.worker.receive()))
        await played.worker.send(done())

    result = await play({"store.rows": flood}).hold(worker)
    assert result.ok
    assert answers[0]["error"] == "LimitExceeded"


async def test_a_bug_in_a_host_function_stops_the_run_and_is_raised(play: Play, autojump_clock: MockClock):
    async def broken(_args: dict[str, Any]) -> Any:
        raise InternalError("ours")

    played = play({"store.rows": broken})
    await played.worker.send(CALL)
    with pytest.raises(InternalError, match="ours"):
        await played.conversation.hold(Frame(b"{}"))
    assert played.interrupted.is_set()
    assert not played.conversation.finished
