"""A small HTTP/1.1 client under Trio for very many devices: few shared connections, and one per push stream.

``h11`` knows the protocol; this knows when to open and close a connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11
import trio

from walle_shared.errors import ConfigError, ConnectionLost

_RECEIVE_BYTES = 65_536
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status, the headers by lower-case name, the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens."""

    host: str
    port: int
    ssl: bool

    @classmethod
    def of(cls, url: str) -> Server:
        """The server of a URL.

        Raises:
            ConfigError: it is no HTTP URL without a path.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ConfigError(f"{url!r} is not like http://127.0.0.1:8700")
        is_ssl = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if is_ssl else 80), is_ssl)

    async def connect(self) -> trio.abc.Stream:
        """Open a connection.

        Raises:
            ConnectionLost: nobody answers.
        """
        try:
            if self.ssl:
                return await trio.open_ssl_over_tcp_stream(self.host, self.port)
            return await trio.open_tcp_stream(self.host, self.port)
        except OSError as error:
            raise ConnectionLost(f"{self.host} port {self.port} does not answer: {error}") from None


class Connection:
    """One connection, for one request at a time."""

    def __init__(self, server: Server, stream: trio.abc.Stream) -> None:
        self._server = server
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self.received_bytes = 0

    @property
    def reusable(self) -> bool:
        """Whether the last request left it fit for another."""
        return self._http.our_state is h11.IDLE

    async def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Ask, and read the whole answer.

        Raises:
            ConnectionLost: the connection ended, or what came was no HTTP.
        """
        head = await self.begin(method, path, headers, body)
        parts = []
        while (part := await self.next_part()) is not None:
            parts.append(part)
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return Answer(head.status_code, _names(head.headers), b"".join(parts))

    async def begin(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> h11.Response:
        """Ask, and read the head of the answer."""
        all_headers = {"Host": f"{self._server.host}:{self._server.port}", **headers}
        if body:
            all_headers["Content-Length"] = str(len(body))
        data = self._http.send(h11.Request(method=method, target=path, headers=list(all_headers.items())))
        if body:
            data = (data or b"") + (self._http.send(h11.Data(data=body)) or b"")
        data = (data or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLost(f"{path}: the connection broke: {error}") from None
        while True:
            event = await self._next(path)
            if isinstance(event, h11.Response):
                return event

    async def next_part(self) -> bytes | None:
        """More of the body, as it comes; None at its end."""
        while True:
            event = await self._next("body")
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if isinstance(event, h11.EndOfMessage):
                return None

    async def close(self) -> None:
        """Close it."""
        await trio.aclose_forcefully(self._stream)

    async def _next(self, what: str) -> object:
        while True:
            try:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    if isinstance(event, h11.ConnectionClosed):
                        raise ConnectionLost(f"{what}: the server closed the connection")
                    return event
                data = bytes(await self._stream.receive_some(_RECEIVE_BYTES))
                self.received_bytes += len(data)
                self._http.receive_data(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionLost(f"{what}: the connection broke: {error}") from None
            except h11.RemoteProtocolError as error:
                raise ConnectionLost(f"{what}: {error}") from None


@dataclass
class Pool:
    """Connections that are kept and shared.

    Args:
        server: where they lead.
        size: how many there may be.
    """

    server: Server
    size: int
    requests: Counter[str] = field(default_factory=Counter)
    received_bytes: int = 0

    def __post_init__(self) -> None:
        self._free = trio.Semaphore(self.size)
        self._idle: list[Connection] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        kind: str = "",
    ) -> Answer:
        """Ask on any connection; once more if a kept one had been closed meanwhile.

        Args:
            kind: counted under this name, or the path.

        Raises:
            ConnectionLost: no answer came.
        """
        self.requests[kind or path] += 1
        async with self._free:
            with trio.move_on_after(_TIMEOUT_S):
                while self._idle:
                    try:
                        return await self._use(self._idle.pop(), method, path, headers or {}, body)
                    except ConnectionLost:
                        continue
                fresh = Connection(self.server, await self.server.connect())
                return await self._use(fresh, method, path, headers or {}, body)
        raise ConnectionLost(f"{path}: no answer in {_TIMEOUT_S:g} s")

    async def _use(
        self, connection: Connection, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        done = False
        before = connection.received_bytes
        try:
            answer = await connection.request(method, path, headers, body)
            done = connection.reusable
        finally:
            self.received_bytes += connection.received_bytes - before
            if done:
                self._idle.append(connection)
            else:
                with trio.CancelScope(shield=True):
                    await connection.close()
        return answer

    async def close(self) -> None:
        """Close what is kept."""
        while self._idle:
            await self._idle.pop().close()


@asynccontextmanager
async def open_stream(
    server: Server, path: str, headers: Mapping[str, str]
) -> AsyncGenerator[tuple[int, Connection]]:
    """Ask for a stream on a connection of its own: the status, and where the body comes.

    Raises:
        ConnectionLost: nobody answers, or what came was no HTTP.
    """
    connection = Connection(server, await server.connect())
    try:
        head = await connection.begin("GET", path, headers, b"")
        yield head.status_code, connection
    finally:
        with trio.CancelScope(shield=True):
            await connection.close()


def _names(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {bytes(name).decode("latin-1"): bytes(value).decode("latin-1") for name, value in headers}
