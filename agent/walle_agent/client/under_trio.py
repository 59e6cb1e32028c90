"""Sending events from a Trio task, and hearing results."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from walle_agent.client.buffer import (
    CAPACITY,
    LINGER_S,
    RETRY_FIRST_S,
    RETRY_MAX_S,
    ClientStatistics,
    Emitter,
    EventBuffer,
)
from walle_agent.client.results import TaskResult, ask_for, parse_said
from walle_agent.streams.event import EventError, EventKind

#: Results that may wait for the app; beyond, the oldest give way.
RESULTS_KEPT = 64


class TrioEvents(Emitter):
    """The same without a thread, under Trio; made by ``open_events``."""

    def __init__(self, capacity: int) -> None:
        self._buffer = EventBuffer(capacity)
        self._changed = trio.Event()
        self._closing = False

    def _put(self, kind: EventKind, line: bytes) -> bool:
        kept = self._buffer.add(kind, line)
        self._changed.set()
        return kept

    def statistics(self) -> ClientStatistics:
        """Counters since the start."""
        return self._buffer.statistics()

    async def _run(self, path: str, linger_s: float) -> None:
        retry_s = RETRY_FIRST_S
        while self._buffer or not self._closing:
            await self._wait(linger_s)
            if not self._buffer:
                continue
            try:
                stream = await trio.open_unix_socket(path)
            except OSError:
                self._buffer.connected = False
                await trio.sleep(retry_s)
                retry_s = min(retry_s * 2, RETRY_MAX_S)
                continue
            retry_s = RETRY_FIRST_S
            self._buffer.connected = True
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, stream, nursery.cancel_scope)
                await self._send(stream, linger_s)
            self._buffer.connected = False

    async def _send(self, stream: trio.SocketStream, linger_s: float) -> None:
        """Send until closed, or until the connection breaks: ``_hear`` sees that too, and ends both."""
        while self._buffer or not self._closing:
            await self._wait(linger_s)
            batch, data = self._buffer.take()
            written = 0
            try:
                while written < len(data):
                    written += await stream.socket.send(data[written:])
            except OSError:
                return
            finally:
                self._buffer.settle(batch, written)
        await stream.send_eof()

    async def _hear(self, stream: trio.SocketStream, serving: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):
            async for answers in stream:
                self._buffer.hear(bytes(answers))
        serving.cancel()

    async def _wait(self, linger_s: float) -> None:
        if not self._buffer and not self._closing:
            self._changed = trio.Event()
            await self._changed.wait()
        if not self._closing:
            await trio.sleep(linger_s)

    def _close(self) -> None:
        self._closing = True
        self._changed.set()


@asynccontextmanager
async def open_events(
    path: str | Path,
    *,
    capacity: int = CAPACITY,
    linger_s: float = LINGER_S,
    close_timeout_s: float = 2.0,
) -> AsyncGenerator[TrioEvents]:
    """Send events under Trio while the block runs; behind it, what waits is sent for ``close_timeout_s``.

    Args:
        path: the agent's events socket.
        capacity: events that may wait for the agent.
        linger_s: how long the first event of a batch waits for company.
        close_timeout_s: seconds.
    """
    events = TrioEvents(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(events._run, str(path), linger_s)  # its own module
        try:
            yield events
        finally:
            events._close()
            nursery.cancel_scope.deadline = trio.current_time() + close_timeout_s


class TrioResults:
    """What tasks return, as it comes; made by ``open_results``."""

    def __init__(self, tasks: tuple[str, ...]) -> None:
        self._tasks = tasks
        self._listening: set[str] = set()
        self._heard: deque[TaskResult] = deque(maxlen=RESULTS_KEPT)
        self._refusal: EventError | None = None
        self._changed = trio.Event()

    async def wait_listening(self) -> None:
        """Wait until the agent has said that it will tell the results of all tasks.

        Raises:
            EventError: it refuses; with its words.
        """
        while not self._listening.issuperset(self._tasks):
            await self._wait()

    async def next(self) -> TaskResult:
        """Wait for the oldest result not yet taken; ``trio.move_on_after`` limits how long.

        Raises:
            EventError: the agent refuses to tell; with its words.
        """
        while not self._heard:
            await self._wait()
        return self._heard.popleft()

    async def _wait(self) -> None:
        if self._refusal is not None:
            raise self._refusal
        await self._changed.wait()

    async def _run(self, path: str) -> None:
        retry_s = RETRY_FIRST_S
        while self._refusal is None:
            with suppress(OSError, trio.BrokenResourceError):
                async with await trio.open_unix_socket(path) as stream:
                    await stream.send_all(ask_for(self._tasks))
                    retry_s = RETRY_FIRST_S
                    await self._hear(stream)
            self._listening.clear()
            await trio.sleep(retry_s)
            retry_s = min(retry_s * 2, RETRY_MAX_S)

    async def _hear(self, stream: trio.SocketStream) -> None:
        rest = b""
        async for data in stream:
            *lines, rest = (rest + data).split(b"\n")
            try:
                self._take(lines)
            except EventError as error:
                self._refusal = error
            self._changed.set()
            self._changed = trio.Event()

    def _take(self, lines: list[bytes]) -> None:
        for said in map(parse_said, lines):
            if isinstance(said, TaskResult):
                self._heard.append(said)
            else:
                self._listening.add(said)


@asynccontextmanager
async def open_results(path: str | Path, *tasks: str) -> AsyncGenerator[TrioResults]:
    """Hear what tasks return while the block runs; again by itself when the agent has been away.

    Args:
        path: the agent's events socket.
        tasks: ``<scenario>/<task>`` of each that is of interest; they need not be installed yet.
    """
    results = TrioResults(tasks)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(results._run, str(path))  # its own module
        yield results
        nursery.cancel_scope.cancel()
