"""Events in: a Unix socket for apps in other processes, and ``EventInlet`` for code in this one.

An app connects, writes one JSON object a line, and hears nothing as long as all is well. A line that is not
an event is answered by one line ``{"error": {"code": ..., "message": ..., "line": n}}``, counted, and
skipped. The connection stays open. Nothing is dropped for lack of room: when the agent is behind, it stops
reading, and the socket holds the app back.

A line ``{"walle_epoch": n}`` is no event but a hint: the app's server said that the control plane has epoch n
(``walle_agent.client.epochs`` sends it). A line ``{"walle_listen": "<scenario>/<task>"}`` asks for what that
task returns (``results.py``).
"""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

import orjson
import trio

from walle_agent.streams.event import RESERVED_PREFIX, EventError, RawEvent, parse_event
from walle_agent.streams.results import ResultBoard, ResultListener, parse_listen
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError
from walle_shared.limits import EVENT_MAX_BYTES, INLET_MAX_CLIENTS, INLET_MAX_EVENTS
from walle_shared.observe import get_logger
from walle_shared.schema import EventSchema
from walle_shared.units import KIB

_READ_BYTES = 64 * KIB
HINT_MEMBER = b'"walle_epoch"'
#: An app that sends rubbish and does not read the answers is let go after this long.
_ANSWER_TIMEOUT_S = 5.0
_log = get_logger("agent.streams")


class Submit(Protocol):
    """Where events go; waits while there is no room, and may refuse one with an ``EventError``."""

    async def __call__(self, raw: RawEvent, /) -> None:
        """Take one event."""
        ...


@dataclass(frozen=True, slots=True)
class InletStatistics:
    """Events accepted since the start, and how many wait now; how many were not as the schema has them."""

    accepted: int
    waiting: int
    unexpected: int = 0


@dataclass(frozen=True, slots=True)
class ListenerStatistics:
    """Connections now and since the start, lines refused, and clients turned away for being too many."""

    open_now: int = 0
    connections: int = 0
    refused_lines: int = 0
    refused_clients: int = 0


@dataclass(frozen=True, slots=True)
class EventCheck:
    """Holds events against the integrator's schema; those that are not as declared are counted or refused."""

    schema: EventSchema
    mode: Literal["off", "count", "reject"] = "count"

    def complaint(self, raw: RawEvent) -> str:
        """What is wrong with an event; empty if nothing is, or nobody asks."""
        return "" if self.mode == "off" else self.schema.complaint(raw.event_id, raw.kind, raw.args)


class EventInlet:
    """The bounded way in, shared by all sources.

    Args:
        clock: stamps an event when it comes in, so that waiting does not change its time.
        capacity: events that may wait.
        check: what they are held against.
    """

    def __init__(
        self, clock: Clock, capacity: int = INLET_MAX_EVENTS, check: EventCheck | None = None
    ) -> None:
        self._clock = clock
        self._check = check
        self._unexpected = 0
        self._send, self._receive = trio.open_memory_channel[RawEvent](capacity)
        self._accepted = 0

    async def emit(self, raw: RawEvent) -> None:
        """Hand in one event, as ``make_event`` or ``parse_event`` made it.

        Blocks: while the pipeline is a full buffer behind.

        Raises:
            EventError: it is not what the schema declares, and such events are refused.
        """
        self._examine(raw)
        now_ns = self._clock.mono_ns()
        at_ns = min(raw.mono_ns or now_ns, now_ns)  # nothing happens after it came in
        await self._send.send(raw.stamped(at_ns, raw.wall_ms or self._clock.wall_ms()))
        self._accepted += 1

    async def receive_batch(self, limit: int) -> list[RawEvent]:
        """Wait for an event and take up to ``limit`` of those that have come, oldest first."""
        batch = [await self._receive.receive()]
        with suppress(trio.WouldBlock):
            while len(batch) < limit:
                batch.append(self._receive.receive_nowait())
        return batch

    def statistics(self) -> InletStatistics:
        """What came in and what waits."""
        waiting = self._receive.statistics().current_buffer_used
        return InletStatistics(self._accepted, waiting, self._unexpected)

    def _examine(self, raw: RawEvent) -> None:
        if raw.push or raw.event_id.startswith(RESERVED_PREFIX):
            return  # the agent's own; no app can make one
        if self._check is None or not (complaint := self._check.complaint(raw)):
            return
        self._unexpected += 1
        if self._check.mode == "reject":
            raise EventError(complaint)
        _log.debug("event_unexpected", event_id=raw.event_id, message=complaint)


class EventListener:
    """Serves apps on a Unix socket.

    Args:
        path: the socket's file; readable and writable by this user only. A socket that a dead agent left is
            replaced; one that answers, or a file of another kind, is not.
        submit: ``EventInlet.emit``.
        on_epoch: told of every hint.
        results: where apps that listen hear of runs; by default nothing is ever told.
    """

    def __init__(
        self,
        path: Path,
        submit: Submit,
        on_epoch: Callable[[int], None] = lambda _: None,
        results: ResultBoard | None = None,
    ) -> None:
        self._path = path
        self._submit = submit
        self._on_epoch = on_epoch
        self._results = results or ResultBoard()
        self._stats = ListenerStatistics()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept connections until cancelled.

        Raises:
            ConfigError: the path is taken, too long, or its folder cannot be written.
        """
        sock = await trio.to_thread.run_sync(_bind, self._path)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                await trio.serve_listeners(self._serve, [listener], handler_nursery=nursery)
        finally:
            self._path.unlink(missing_ok=True)

    def statistics(self) -> ListenerStatistics:
        """Connections and refusals."""
        return self._stats

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self._stats.open_now >= INLET_MAX_CLIENTS:
            self._count(refused_clients=1)
            await stream.aclose()
            return
        self._count(connections=1, open_now=1)
        app = _App(stream, ResultListener(self._results))
        try:
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(app.tell_results)
                await self._read_lines(app)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the app went away; what it wrote in full has been taken
        finally:
            app.results.close()
            self._count(open_now=-1)

    async def _read_lines(self, app: _App) -> None:
        lines = LineSplitter(EVENT_MAX_BYTES)
        number = 0
        while data := await app.stream.receive_some(_READ_BYTES):
            for line in lines.feed(bytes(data)):
                number += 1
                await self._take(app, line, number)
        if lines.has_rest():
            await self._refuse(app, EventError("event was cut off: a line must end in a newline"), number + 1)

    async def _take(self, app: _App, line: bytes | None, number: int) -> None:
        if line is not None and not line.strip():
            return
        if line is None:
            problem = f"event line is over the limit of {EVENT_MAX_BYTES} bytes: send less in args"
            await self._refuse(app, EventError(problem), number)
            return
        hinted = parse_hint(line)
        if hinted is not None:
            self._on_epoch(hinted)
            return
        try:
            wanted = parse_listen(line)
            if wanted is not None:
                app.results.listen(wanted)
            else:
                await self._submit(parse_event(line))
        except EventError as error:
            await self._refuse(app, error, number)

    async def _refuse(self, app: _App, error: EventError, number: int) -> None:
        self._count(refused_lines=1)
        _log.warning("event_refused", code=error.code, message=error.message, line=number)
        await app.answer({"error": {"code": error.code, "message": error.message, "line": number}})

    def _count(
        self, *, open_now: int = 0, connections: int = 0, refused_lines: int = 0, refused_clients: int = 0
    ) -> None:
        s = self._stats
        self._stats = ListenerStatistics(
            s.open_now + open_now,
            s.connections + connections,
            s.refused_lines + refused_lines,
            s.refused_clients + refused_clients,
        )


class _App:
    """One connection, the agent's side of it: complaints and results share the way back."""

    def __init__(self, stream: trio.SocketStream, results: ResultListener) -> None:
        self.stream = stream
        self.results = results
        self._sending = trio.Lock()

    async def tell_results(self) -> NoReturn:
        """Send what the app listens for, as fast as it reads."""
        while True:
            lines = await self.results.next_lines()
            async with self._sending:
                await self.stream.send_all(lines)

    async def answer(self, answer: Mapping[str, Any]) -> None:
        """Send one line; an app that does not read it is let go."""
        with trio.move_on_after(_ANSWER_TIMEOUT_S) as scope:
            async with self._sending:
                await self.stream.send_all(orjson.dumps(answer) + b"\n")
        if scope.cancelled_caught:  # half an answer may be out: the stream cannot be used for another
            await trio.aclose_forcefully(self.stream)


async def serve_events(
    path: Path, submit: Submit, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve apps on a Unix socket until cancelled; ``EventListener`` in one call.

    Raises:
        ConfigError: as for ``EventListener.run``.
    """
    await EventListener(path, submit).run(task_status=task_status)


def parse_hint(line: bytes) -> int | None:
    """The epoch that a line hints at; ``None`` if it is no hint."""
    if HINT_MEMBER not in line:
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    epoch = value.get("walle_epoch") if isinstance(value, dict) and len(value) == 1 else None
    return epoch if type(epoch) is int and epoch > 0 else None


class LineSplitter:
    """Bytes to lines; a line that grows past its limit is given as None, once, and skipped to its end."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that ``data`` completes, without their newlines."""
        *complete, rest = data.split(b"\n")
        lines: list[bytes | None] = []
        for part in complete:
            if self._skipping:
                self._skipping = False
            elif len(self._rest) + len(part) > self._limit_bytes:
                lines.append(None)
            else:
                lines.append(bytes(self._rest) + part)
            self._rest.clear()
        if not self._skipping:
            self._rest += rest
            if len(self._rest) > self._limit_bytes:
                lines.append(None)
                self._rest.clear()
                self._skipping = True
        return lines

    def has_rest(self) -> bool:
        """Whether an unfinished line was left."""
        return bool(self._rest)


def _bind(path: Path) -> socket.socket:
    _clear_the_way(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise ConfigError(f"events socket {path}: {error}: choose another path in the settings") from error
    return sock


def _clear_the_way(path: Path) -> None:
    """Remove the socket of a dead agent."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"events socket {path}: a file of another kind is there: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"events socket {path}: {error}: choose another path") from error
        else:
            raise ConfigError(f"events socket {path}: another agent answers there: stop it first")
