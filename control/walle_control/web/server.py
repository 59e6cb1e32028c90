"""Serves devices' requests by h11 on Trio, and hands every other connection to Hypercorn.

Both run the same application. Hypercorn starts several tasks and channels for each request, which costs more
than what a device asks for; here a request runs in the task of its connection.

1. A connection is looked at before each request: what ``is_for_devices`` is answered here. With the first
   request that is not, the connection goes to Hypercorn for good, with the bytes that are read already.
2. One request at a time: what a client sends ahead waits in the buffer. The first line of a head must come
   within ``keep_alive_timeout`` of the end of the request before it, and the rest of it as soon after that.
3. Once a client is gone, its request is cancelled: the application needs no code of its own for that.
4. At a stop, connections that wait for a request close at once; the others have ``graceful_timeout``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import unquote

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp, Message, Scope

from walle_shared.errors import InternalError, RemoteProtocolError, StorageError
from walle_shared.observe import get_logger
from walle_shared.protocol.version import DEVICE_API, STATIC_ROOT

_log = get_logger("control.server")

_READ_BYTES: Final = 1 << 16
#: Most that a client may send ahead while its request runs.
_AHEAD_MAX_BYTES: Final = 1 << 20
#: A file as small as this goes out with its head: one copy costs less than a second packet.
_SMALL_FILE_BYTES: Final = 1 << 17
#: So much of a file in one call; it blocks while the disk reads.
_SENDFILE_BYTES: Final = 1 << 20
#: How long the last answer of a connection may take to be read, if its client still sends.
_LINGER_S: Final = 2.0
_LINGER_BYTES: Final = 1 << 24

_SHRANK: Final = "a file became shorter while it was sent"

_TUNNEL: Final = f"{DEVICE_API}/tunnel".encode()
_ROOTS: Final = (f"{DEVICE_API}/".encode(), f"{STATIC_ROOT}/".encode())
_EXTENSIONS: Final[dict[str, Any]] = {"http.response.pathsend": {}}
_LENGTHS: Final = frozenset({b"content-length", b"transfer-encoding"})
_BODILESS: Final = frozenset({204, 304})


def is_for_devices(request_line: bytes) -> bool:
    """Whether a request is answered here; the tunnel, a WebSocket, is not."""
    _, _, target = request_line.partition(b" ")
    return target.startswith(_ROOTS) and not target.startswith(_TUNNEL)


class Server:
    """Accepts connections and answers them.

    Args:
        app: the application.
        config: Hypercorn's settings; some are followed here as well.
    """

    def __init__(self, app: ASGIApp, config: HypercornConfig) -> None:
        self.app = app
        self.config = config
        self.stopping = False
        #: Connections that wait for a request, and since when.
        self._idle: dict[_Connection, float] = {}
        self._date: tuple[int, bytes] = (0, b"")
        self._hypercorn = WorkerContext(None)

    async def serve(
        self,
        listener: socket.socket,
        wait_stop: Callable[[], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve on a socket that listens, until ``wait_stop`` returns and what runs has ended."""
        accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        async with trio.open_nursery() as conversations:
            async with trio.open_nursery() as doors:
                doors.start_soon(self._accept, accepting, conversations)
                doors.start_soon(self._hang_up)
                task_status.started()
                await wait_stop()
                doors.cancel_scope.cancel()
            await accepting.aclose()
            await self._stop()
            conversations.cancel_scope.deadline = trio.current_time() + self.config.graceful_timeout

    async def _accept(self, listener: trio.SocketListener, conversations: trio.Nursery) -> None:
        await trio.serve_listeners(self._converse, [listener], handler_nursery=conversations)

    async def _hang_up(self) -> NoReturn:
        """End connections that wait too long: a time limit for each wait would cost more."""
        while True:
            await trio.sleep(self.config.keep_alive_timeout / 8)
            self._end_idle(trio.current_time() - self.config.keep_alive_timeout)

    def _end_idle(self, since: float) -> None:
        for connection, began in self._idle.items():
            if began <= since:
                connection.end()

    async def _stop(self) -> None:
        self.stopping = True
        self._end_idle(trio.current_time())
        await self._hypercorn.terminated.set()

    async def _converse(self, stream: trio.SocketStream) -> None:
        try:
            connection = _Connection(self, stream)
            begun = await connection.run()
            if begun and not self.stopping:
                await self._hand_over(_BegunStream(stream, begun))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the client is gone

    async def _hand_over(self, stream: _BegunStream) -> None:
        app: Any = ASGIWrapper(self.app)  # type: ignore[arg-type]  # Starlette's types of ASGI are its own
        state = ConnectionState({})
        await TCPServer(app, self.config, self._hypercorn, state, stream)  # type: ignore[arg-type]

    def date(self) -> tuple[bytes, bytes]:
        """The header that says when an answer was made."""
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return b"date", self._date[1]

    def idle(self, connection: _Connection) -> _Idle:
        """For a ``with`` in which a connection waits for a request: it may be ended there."""
        return _Idle(self._idle, connection)


class _Idle:
    """A wait that the server knows of."""

    def __init__(self, known: dict[_Connection, float], connection: _Connection) -> None:
        self._known, self._connection = known, connection

    def __enter__(self) -> None:
        self._known[self._connection] = trio.current_time()

    def __exit__(self, *_: object) -> None:
        del self._known[self._connection]


class _BegunStream(trio.abc.HalfCloseableStream):
    """A stream some of whose bytes were read already."""

    def __init__(self, stream: trio.SocketStream, begun: bytes) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._begun = begun

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._begun:
            return await self._stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        data, self._begun = self._begun[:max_bytes], self._begun[max_bytes or len(self._begun) :]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Connection:
    """One client's requests, one after the other."""

    def __init__(self, server: Server, stream: trio.SocketStream) -> None:
        self._server = server
        self._stream = stream
        self._scope = trio.CancelScope()
        self._read = b""
        self._address = {
            "client": _host_and_port(stream.socket.getpeername()),
            "server": _host_and_port(stream.socket.getsockname()),
        }

    def end(self) -> None:
        """Cancel whatever it does."""
        self._scope.cancel()

    async def run(self) -> bytes:
        """Answer requests until one is for Hypercorn, whose beginning is returned, or none will come."""
        with self._scope:
            return await self._run()
        return b""

    async def _run(self) -> bytes:
        while await self._wait_line():
            if not is_for_devices(self._read):
                return self._read
            request = _Request(self._server, self, self._stream, self._read)
            if not await request.answer(self._address):
                if request.still_comes:
                    await self._linger()
                break
            self._read = request.sent_ahead
        return b""

    async def _wait_line(self) -> bool:
        """Wait until the first line of a request is there; whether it will be."""
        if self._server.stopping:
            return False
        with self._server.idle(self):
            if self._read:  # sent ahead: others have their turn first
                await trio.lowlevel.checkpoint()
            while b"\n" not in self._read and len(self._read) < _READ_BYTES:
                data = await self._stream.receive_some(_READ_BYTES)
                if not data:
                    return False
                self._read += data
        return not self._scope.cancel_called

    async def _linger(self) -> None:
        """Say that this was all, and let the client read it: a close would reset what it still sends into."""
        await self._stream.send_eof()
        size_bytes = 0
        with trio.move_on_after(_LINGER_S):
            while size_bytes < _LINGER_BYTES and (data := await self._stream.receive_some(_READ_BYTES)):
                size_bytes += len(data)


class _Request:
    """One request and its answer, between h11 and the application."""

    def __init__(
        self, server: Server, connection: _Connection, stream: trio.SocketStream, read: bytes
    ) -> None:
        self._server = server
        self._connection = connection
        self._stream = stream
        self._http = h11.Connection(
            h11.SERVER, max_incomplete_event_size=server.config.h11_max_incomplete_size
        )
        self._http.receive_data(read)
        self._head: h11.Response | None = None
        self._has_body = True

    @property
    def still_comes(self) -> bool:
        """Whether the client may be about to send more of it."""
        return self._http.their_state in (h11.IDLE, h11.SEND_BODY, h11.ERROR)

    @property
    def sent_ahead(self) -> bytes:
        """The beginning of the next request."""
        return self._http.trailing_data[0]

    async def answer(self, address: Mapping[str, Any]) -> bool:
        """Run the application; whether another request may follow."""
        try:
            request = await self._wait_head()
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint)
            return False
        if request is None:
            return False
        self._has_body = request.method != b"HEAD"
        try:
            await self._server.app(_scope_of(request, address), self._receive, self._send)
        except Exception:  # noqa: BLE001  # whatever it is, it ends this request alone
            _log.error("request_crashed", exc_info=True)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _wait_head(self) -> h11.Request | None:
        event: Any = self._http.next_event()
        if event is h11.NEED_DATA:  # seldom: a head is one packet
            with self._server.idle(self._connection):
                event = await self._next_event()
        if not isinstance(event, h11.Request):
            return None
        # Two lengths: a proxy may have believed the other one, and seen another request behind this.
        if sum(name in _LENGTHS for name, _ in event.headers) > 1:
            raise h11.RemoteProtocolError("the body has two lengths", error_status_hint=400)
        return event

    async def _refuse(self, status: int) -> None:
        """Answer what is no HTTP."""
        headers = [(b"content-length", b"0"), (b"connection", b"close"), self._server.date()]
        answer = self._encode(h11.Response(status_code=status, headers=headers))
        await self._write(answer + self._encode(h11.EndOfMessage()))

    # What the application receives

    async def _receive(self) -> Message:
        if self._http.their_state is not h11.SEND_BODY:
            await self._wait_disconnect()
            return {"type": "http.disconnect"}
        body = bytearray()
        try:
            event: Any = await self._next_event()
            while isinstance(event, h11.Data):  # all that is here: most bodies come in one packet
                body += event.data
                event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise RemoteProtocolError(f"the body is malformed: {error}") from None
        if event is None:
            return {"type": "http.disconnect"}
        more = not isinstance(event, h11.EndOfMessage)
        return {"type": "http.request", "body": bytes(body), "more_body": more}

    async def _next_event(self) -> h11.Event | None:
        """What comes next of the request; ``None`` if the client left."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(self._encode(h11.InformationalResponse(status_code=100, headers=[])))
            data = await self._read_some()
            if not data:
                return None
            self._http.receive_data(data)
        assert isinstance(event, h11.Event)
        return event

    async def _wait_disconnect(self) -> None:
        size_bytes = 0
        while size_bytes < _AHEAD_MAX_BYTES and (data := await self._read_some()):
            self._http.receive_data(data)
            size_bytes += len(data)

    async def _read_some(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(_READ_BYTES))
        except trio.BrokenResourceError:
            return b""

    # What it sends

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                # Goes out with the beginning of the body: one call, one packet.
                self._head = self._response(message["status"], message["headers"])
            case "http.response.body":
                data = self._take_head()
                if message.get("body") and self._has_body:
                    data += self._encode(h11.Data(data=message["body"]))
                if not message.get("more_body", False):
                    data += self._encode(h11.EndOfMessage())
                if data:
                    await self._write(data)
            case "http.response.pathsend":
                await self._send_file(message["path"])
            case other:
                raise InternalError(f"the application sent {other!r}, which this server does not know")

    def _response(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> h11.Response:
        sent = [*headers, self._server.date()]
        if not self._skip_body():
            sent.append((b"connection", b"close"))
        self._has_body = self._has_body and status not in _BODILESS
        return h11.Response(status_code=status, headers=sent)

    def _skip_body(self) -> bool:
        """Forget what is here of a body that the application did not read; whether that is all of it."""
        try:
            while self._http.their_state is h11.SEND_BODY:
                if self._http.next_event() is h11.NEED_DATA:
                    return False
        except h11.RemoteProtocolError:
            return False
        return self._http.their_state is not h11.ERROR

    def _take_head(self) -> bytes:
        head, self._head = self._head, None
        return b"" if head is None else self._encode(head)

    async def _send_file(self, path: str) -> None:
        """Send a whole file as the body; the disk may block, as it does in any server that sends files so."""
        head = self._take_head()
        with Path(path).open("rb", buffering=0) as file:  # noqa: ASYNC230  # as the line above says
            size = os.fstat(file.fileno()).st_size
            # To h11, a body is what has a length.
            self._http.send_with_data_passthrough(h11.Data(data=range(size)))  # type: ignore[arg-type]
            if size <= _SMALL_FILE_BYTES:
                data = file.read()
                if len(data) != size:
                    raise StorageError(_SHRANK)
                await self._write(head + data)
            else:
                await self._write(head)
                await self._copy(file.fileno(), size)
        self._encode(h11.EndOfMessage())

    async def _copy(self, descriptor: int, size: int) -> None:
        peer = self._stream.socket
        done = 0
        while done < size:
            try:
                sent = os.sendfile(peer.fileno(), descriptor, done, min(size - done, _SENDFILE_BYTES))
            except BlockingIOError:
                await trio.lowlevel.wait_writable(peer)
                continue
            except OSError:
                await self._give_up()
            if not sent:
                raise StorageError(_SHRANK)
            done += sent
            await trio.lowlevel.checkpoint()

    def _encode(self, event: h11.Event) -> bytes:
        return self._http.send(event) or b""

    async def _write(self, data: bytes) -> None:
        # Trio lets other tasks run after each send. A request has waited already, and most answers fit into
        # the socket's buffer: 15 us less for each (2026-11-26).
        try:
            sent = os.write(self._stream.socket.fileno(), data)
        except BlockingIOError:
            sent = 0
        except OSError:
            await self._give_up()
        if sent == len(data):
            return
        try:
            await self._stream.send_all(memoryview(data)[sent:])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._give_up()

    async def _give_up(self) -> NoReturn:
        """Nobody is there any more: cancel the request from within, and its connection with it."""
        self._connection.end()
        await trio.sleep_forever()
        raise AssertionError("unreachable")


def _scope_of(request: h11.Request, address: Mapping[str, Any]) -> Scope:
    path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.1"},
        "http_version": request.http_version.decode(),
        "method": request.method.decode().upper(),
        "scheme": "http",
        "path": unquote(path.decode()),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": list(request.headers),
        "state": {},
        "extensions": _EXTENSIONS,
        **address,
    }


def _host_and_port(where: Any) -> tuple[str, int] | None:
    """An address as ASGI has it; sockets of Unix have none."""
    return (where[0], where[1]) if isinstance(where, tuple) else None
