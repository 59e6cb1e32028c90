"""The events client for apps, against the agent's real socket."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from walle_agent.client import EventClient
from walle_agent.client.buffer import EventBuffer, encode_event
from walle_agent.client.under_trio import open_events
from walle_agent.streams.event import EventError, EventKind, RawEvent
from walle_agent.streams.ingest import serve_events


class Agent:
    """The real listener, keeping what comes."""

    def __init__(self) -> None:
        self.events: list[RawEvent] = []
        self.came = trio.Event()

    async def submit(self, raw: RawEvent) -> None:
        self.events.append(raw)
        self.came.set()

    async def wait_events(self, number: int) -> None:
        with trio.fail_after(30):
            while len(self.events) < number:
                self.came = trio.Event()
                await self.came.wait()


def fill(buffer: EventBuffer, *kinds: EventKind) -> list[bool]:
    return [buffer.add(kind, kind.encode() + b"\n") for kind in kinds]


def test_a_full_buffer_gives_up_what_is_of_least_use() -> None:
    buffer = EventBuffer(3)
    fill(buffer, "scroll", "custom", "click")
    assert fill(buffer, "scroll") == [False]
    assert fill(buffer, "custom", "page_exit", "exposure") == [True, True, False]
    assert buffer.statistics().dropped == {"scroll": 2, "custom": 1, "exposure": 1}
    batch, data = buffer.take()
    assert data == b"click\ncustom\npage_exit\n"
    buffer.settle(batch, 8)
    assert (buffer.sent, buffer.take()[1]) == (1, b"custom\npage_exit\n")


def test_pages_and_clicks_push_out_even_their_own_kind() -> None:
    buffer = EventBuffer(2)
    assert fill(buffer, "click", "click", "page_enter") == [True, True, True]
    assert buffer.statistics().dropped == {"click": 1}


def test_what_is_no_event_is_refused_at_once() -> None:
    with pytest.raises(EventError, match=r"event\.page_id is missing"):
        encode_event("page_enter")


def test_emitting_never_waits_and_closing_is_bounded(tmp_path: Path) -> None:
    client = EventClient(tmp_path / "nobody.sock", capacity=10)
    started_s = time.monotonic()
    kept = [client.emit("click") for _ in range(1_000)]
    assert all(kept)
    assert time.monotonic() - started_s < 1.0
    statistics = client.close(timeout_s=0.1)
    assert (statistics.waiting, statistics.sent, statistics.dropped) == (10, 0, {"click": 990})


def send_from_thread(path: Path, number: int) -> None:
    client = EventClient(path, linger_s=0.0)
    for n in range(number):
        client.emit("custom", event_id=f"e{n}")
    client.close(timeout_s=60.0)


async def test_a_thread_delivers_everything_in_order(tmp_path: Path) -> None:
    agent, path = Agent(), tmp_path / "events.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_events, path, agent.submit)
        await trio.to_thread.run_sync(send_from_thread, path, 500)
        await agent.wait_events(500)
        nursery.cancel_scope.cancel()
    assert [event.event_id for event in agent.events] == [f"e{n}" for n in range(500)]


async def test_events_wait_for_the_agent(tmp_path: Path) -> None:
    agent, path = Agent(), tmp_path / "events.sock"
    client = EventClient(path, linger_s=0.0)
    client.emit("click", event_id="early")
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_events, path, agent.submit)
        await agent.wait_events(1)
        nursery.cancel_scope.cancel()
    await trio.to_thread.run_sync(client.close)
    assert client.statistics().sent == 1


async def test_under_trio_nothing_blocks_and_the_rest_is_sent_at_the_end(tmp_path: Path) -> None:
    agent, path = Agent(), tmp_path / "events.sock"
    async with open_events(path, linger_s=0.0) as events:
        events.emit("page_enter", page_id="item")
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_events, path, agent.submit)
            await agent.wait_events(1)
            nursery.cancel_scope.cancel()
        await trio.sleep(0.05)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_events, path, agent.submit)
            for n in range(50):
                events.emit("custom", event_id=f"e{n}")
            await agent.wait_events(51)
            nursery.cancel_scope.cancel()
    assert [event.event_id for event in agent.events[1:]] == [f"e{n}" for n in range(50)]
    assert events.statistics().dropped == {}


async def test_leaving_without_an_agent_is_bounded(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_events(tmp_path / "nobody.sock", close_timeout_s=0.05) as events:
            events.emit("click")
    assert events.statistics().waiting == 1


def test_an_app_loads_neither_trio_nor_the_agent(tmp_path: Path) -> None:
    code = (
        "import sys, walle_agent.client\n"
        "print(*sorted({'trio', 'httpx', 'sqlite3', 'cryptography', 'walle_engine'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


_FORK = """
import os, sys
from walle_agent.client import EventClient
client = EventClient(sys.argv[1], capacity=5)
pid = os.fork()
client.emit("click")
alive = client._thread.is_alive() and client.statistics().waiting == 1
if pid == 0:
    os._exit(0 if alive else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) or not alive)
"""


def test_a_fork_sends_by_itself(tmp_path: Path) -> None:
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORK, str(tmp_path / "nobody.sock")]
    run = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")
