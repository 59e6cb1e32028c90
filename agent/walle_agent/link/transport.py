"""The control plane over the network: httpx and trio-websocket, every body capped, every error typed."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx
import trio
import trio_websocket

from walle_agent.link.exchange import PROBLEM_MAX_BYTES, problem_error, range_start
from walle_shared.errors import (
    ConnectionLost,
    LengthOrHashError,
    LimitExceeded,
    PeerTimeout,
    RemoteProtocolError,
    TransportError,
    WalleError,
)
from walle_shared.learning import ROUNDS_FILE
from walle_shared.limits import (
    BODY_SLOWEST_BYTES_PER_S,
    EPOCH_MAX_BYTES,
    FRAME_MAX_BYTES,
    LEARNING_ROUNDS_MAX_BYTES,
    REQUEST_MAX_BYTES,
)
from walle_shared.protocol.codec import decode, encode
from walle_shared.protocol.messages import FileRef, TimeRequest
from walle_shared.protocol.sse import SseEvent, SseParser
from walle_shared.protocol.version import DEVICE_API, PROTOCOL_HEADER, PROTOCOL_VERSION, STATIC_ROOT
from walle_shared.signing import check_file
from walle_shared.tracing import TRACEPARENT, TraceContext, current_trace, new_trace

_COMMON_HEADERS = {PROTOCOL_HEADER: str(PROTOCOL_VERSION)}


@dataclass(frozen=True, slots=True)
class StaticAnswer:
    """A signed file that changes, as it came: its bytes, and the tag to ask conditionally with next time."""

    envelope: bytes
    etag: str


class Transport:
    """All requests of one agent to one control plane; use as an async context manager.

    Args:
        url: base URL of the control plane.
        timeout_s: how long one network operation may take.
        stream_silence_s: how long a push stream may say nothing.
        trace_share: the part of the requests that carry a trace.
        wire: what carries the requests; tests put a simulator here.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        stream_silence_s: float = 60.0,
        trace_share: float = 0.0,
        wire: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._stream_silence_s = stream_silence_s
        self._trace_share = trace_share
        self._tls: ssl.SSLContext | None = None
        self._client = httpx.AsyncClient(
            base_url=self._url,
            headers=_COMMON_HEADERS,
            timeout=httpx.Timeout(timeout_s),
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=4),
            transport=wire,
        )

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await self._client.aclose()

    async def get_epoch(self, etag: str = "") -> StaticAnswer | None:
        """Ask for the epoch file; None if it is still the one ``etag`` names.

        Raises:
            WalleError: transport, protocol or limit, by type.
        """
        headers = {"If-None-Match": etag} if etag else {}
        async with self._request(
            "GET", f"{STATIC_ROOT}/epoch.json", "the epoch file", headers=headers
        ) as answer:
            if answer.status_code == 304:
                return None
            await _raise_for_status(answer, "the epoch file")
            body = await _read_promised(answer, EPOCH_MAX_BYTES, "the epoch file")
            return StaticAnswer(body, answer.headers.get("ETag", ""))

    async def get_rounds(self, etag: str = "") -> StaticAnswer | None:
        """Ask for the file of the open learning rounds; None if there is none, or it is still ``etag``'s.

        Raises:
            WalleError: transport, protocol or limit, by type.
        """
        headers, what = {"If-None-Match": etag} if etag else {}, "the file of the learning rounds"
        async with self._request("GET", f"{STATIC_ROOT}/{ROUNDS_FILE}", what, headers=headers) as answer:
            if answer.status_code in (304, 404):
                return None
            await _raise_for_status(answer, what)
            body = await _read_promised(answer, LEARNING_ROUNDS_MAX_BYTES, what)
            return StaticAnswer(body, answer.headers.get("ETag", ""))

    async def get_file(self, kind: str, ref: FileRef, *, limit_bytes: int) -> bytes:
        """Fetch a small immutable file (``snapshot``, ``manifest``, ``delta``) and check length and digest.

        Raises:
            LengthOrHashError: not the promised bytes.
            LimitExceeded: the promise itself is over ``limit_bytes``.
            WalleError: transport or protocol, by type.
        """
        what = f"{kind} {ref.sha256[:12]}"
        if ref.size_bytes > limit_bytes:
            raise LimitExceeded(f"{what} of {ref.size_bytes} bytes is over the limit of {limit_bytes}")
        async with self._request("GET", f"{STATIC_ROOT}/{kind}/{ref.sha256}", what) as answer:
            await _raise_for_status(answer, what)
            return check_file(await _read_promised(answer, ref.size_bytes, what), ref, what)

    async def get_metadata(self, name: str, *, limit_bytes: int) -> bytes | None:
        """Fetch a trust metadata file; None if there is none of that name.

        Raises:
            LengthOrHashError: it is longer than ``limit_bytes``.
            WalleError: transport or protocol, by type.
        """
        async with self._request("GET", f"{STATIC_ROOT}/tuf/{name}", name) as answer:
            if answer.status_code == 404:
                return None
            await _raise_for_status(answer, name)
            return await _read_promised(answer, limit_bytes, name)

    async def ask_time(self, nonce: str) -> bytes:
        """Ask what time it is; the signed envelope.

        Raises:
            WalleError: transport or protocol, by type.
        """
        what, headers = "the server's time", {"Content-Type": "application/json"}
        async with self._request(
            "POST", f"{DEVICE_API}/time", what, headers=headers, content=encode(TimeRequest(nonce))
        ) as answer:
            await _raise_for_status(answer, what)
            return await _read_promised(answer, EPOCH_MAX_BYTES, what)

    @asynccontextmanager
    async def open_file(
        self, kind: str, ref: FileRef, start: int, url: str = ""
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Stream a ``blob`` or ``delta`` from byte ``start``; yields where the body begins and its chunks.

        Raises:
            WalleError: transport or protocol, by type.
        """
        what = f"{kind} {ref.sha256[:12]}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        headers["Accept-Encoding"] = (
            "identity"  # ranges and digests are over the file, not over an encoding of it
        )
        async with self._request(
            "GET", url or f"{STATIC_ROOT}/{kind}/{ref.sha256}", what, headers=headers
        ) as answer:
            await _raise_for_status(answer, what)
            begins = range_start(answer.status_code, answer.headers.get("Content-Range"), start)
            async with _body(answer, what) as chunks:
                yield begins, chunks

    async def post[T](self, path: str, message: object, cls: type[T], *, credential: str = "") -> T:
        """Send a message of the device API and decode the answer.

        Raises:
            CredentialRefused: the credential is no longer good.
            WalleError: transport, protocol or state, by type.
        """
        headers = {"Content-Type": "application/json", **_bearer(credential)}
        async with self._request(
            "POST", f"{DEVICE_API}/{path}", path, headers=headers, content=encode(message)
        ) as answer:
            await _raise_for_status(answer, path)
            body = await _read_capped(answer, REQUEST_MAX_BYTES, f"the answer to {path}")
        return decode(cls, body)

    async def get[T](self, path: str, cls: type[T], *, credential: str, limit_bytes: int) -> T:
        """Ask the device API and decode the answer.

        Raises:
            CredentialRefused: the credential is no longer good.
            WalleError: transport, protocol, limit or state, by type.
        """
        async with self._request("GET", f"{DEVICE_API}/{path}", path, headers=_bearer(credential)) as answer:
            await _raise_for_status(answer, path)
            body = await _read_capped(answer, limit_bytes, f"the answer to {path}")
        return decode(cls, body, limit_bytes=limit_bytes)

    async def events(self, credential: str, last_id: str = "") -> AsyncGenerator[SseEvent]:
        """The push stream, until the server ends it. Close it with ``aclosing``.

        ``last_id``: the last event seen, of an earlier stream; the server leaves out what is known.

        Raises:
            PeerTimeout: silence for ``stream_silence_s``.
            WalleError: transport or protocol, by type.
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **_bearer(credential)}
        if last_id:
            headers["Last-Event-ID"] = last_id
        timeout = httpx.Timeout(self._timeout_s, read=self._stream_silence_s)
        async with self._request(
            "GET", f"{DEVICE_API}/stream", "the push stream", headers=headers, timeout=timeout
        ) as answer:
            await _raise_for_status(answer, "the push stream")
            parser = SseParser()
            async with _body(answer, "the push stream") as chunks:
                async for chunk in chunks:
                    for event in parser.feed(chunk):
                        yield event

    @asynccontextmanager
    async def connect_tunnel(self, credential: str) -> AsyncIterator[WebSocketChannel]:
        """Open the upload tunnel.

        Raises:
            CredentialRefused: the credential is no longer good.
            WalleError: transport or protocol, by type.
        """
        try:
            stream = await self._open_stream()
            async with _closing_forcefully(stream), _unwrapped_nursery() as nursery:
                with trio.fail_after(self._timeout_s):
                    socket = await self._shake_hands(nursery, stream, credential)
                yield WebSocketChannel(socket)
                with trio.move_on_after(_GOODBYE_S):
                    await socket.aclose()
                nursery.cancel_scope.cancel()
        except trio_websocket.ConnectionRejected as error:
            raise problem_error("the tunnel", error.status_code, error.body or b"") from None
        except trio.TooSlowError:
            raise PeerTimeout("the tunnel: no answer in time") from None
        except (trio_websocket.HandshakeError, trio_websocket.ConnectionClosed, OSError) as error:
            raise ConnectionLost(f"the tunnel: {str(error) or type(error).__name__}") from None

    async def _open_stream(self) -> _Stream:
        """Connect to the control plane's host, with TLS where its URL says so."""
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        with trio.fail_after(self._timeout_s):
            if parts.scheme == "https":
                if self._tls is None:  # reading the authorities takes longer than shaking hands
                    self._tls = await trio.to_thread.run_sync(ssl.create_default_context)
                return await trio.open_ssl_over_tcp_stream(host, parts.port or 443, ssl_context=self._tls)
            return await trio.open_tcp_stream(host, parts.port or 80)

    def _trace(self) -> TraceContext:
        """A part, for one request, of what the running task works at."""
        drawn = new_trace(self._trace_share)
        work = current_trace()
        return drawn if work is None else replace(drawn, trace_id=work.trace_id)

    async def _shake_hands(
        self, nursery: trio.Nursery, stream: _Stream, credential: str
    ) -> trio_websocket.WebSocketConnection:
        parts = urlsplit(self._url)
        headers = {**_COMMON_HEADERS, **_bearer(credential), TRACEPARENT: str(self._trace())}
        return await trio_websocket.wrap_client_stream(
            nursery,
            stream,
            parts.netloc,
            f"{parts.path}{DEVICE_API}/tunnel",
            extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            max_message_size=FRAME_MAX_BYTES,
        )

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        what: str,
        *,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> AsyncIterator[httpx.Response]:
        request = self._client.build_request(
            method, path, headers=headers, content=content, timeout=timeout or httpx.USE_CLIENT_DEFAULT
        )
        request.headers[TRACEPARENT] = str(self._trace())
        answer: httpx.Response | None = None
        try:
            answer = await self._client.send(request, stream=True)
            yield answer
        except httpx.HTTPError as error:
            raise transport_error(error, what) from error
        finally:
            if answer is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                    await answer.aclose()


type _Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

#: How long the body of an answer may take, however short it is.
_BODY_GRACE_S = 30.0

#: How long the peer of a tunnel may take to say goodbye.
_GOODBYE_S = 2.0


@asynccontextmanager
async def _closing_forcefully(stream: _Stream) -> AsyncIterator[None]:
    """Close the socket whatever happened: trio-websocket leaves it open when it is refused or left."""
    try:
        yield
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def _unwrapped_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery for one helper task; the body's error comes out as it is, not in a group."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


class WebSocketChannel:
    """Binary messages of one WebSocket; the ``FrameChannel`` of the tunnel."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        """Send one frame.

        Raises:
            ConnectionLost: the socket is closed.
        """
        try:
            await self._socket.send_message(data)
        except trio_websocket.ConnectionClosed as error:
            raise ConnectionLost(f"the tunnel closed: {error.reason}") from None

    async def receive(self) -> bytes:
        """Wait for one frame.

        Raises:
            ConnectionLost: the socket is closed.
            RemoteProtocolError: the peer sent text.
        """
        try:
            message: bytes | str = await self._socket.get_message()
        except trio_websocket.ConnectionClosed as error:
            raise ConnectionLost(f"the tunnel closed: {error.reason}") from None
        if isinstance(message, str):
            raise RemoteProtocolError("the tunnel carries binary frames; the peer sent text")
        return message

    async def ping(self) -> None:
        """Send a WebSocket ping and wait for its pong.

        Raises:
            ConnectionLost: the socket is closed.
        """
        try:
            await self._socket.ping()
        except trio_websocket.ConnectionClosed as error:
            raise ConnectionLost(f"the tunnel closed: {error.reason}") from None


def transport_error(error: httpx.HTTPError, what: str) -> WalleError:
    """The typed error for one of httpx's."""
    if isinstance(error, httpx.TimeoutException):
        return PeerTimeout(f"{what}: no answer in time")
    if isinstance(error, httpx.RemoteProtocolError):
        return ConnectionLost(f"{what}: the connection broke off: {error}")
    if isinstance(error, httpx.DecodingError):
        return RemoteProtocolError(f"{what}: the body does not decode: {error}")
    if isinstance(error, httpx.TransportError):
        return ConnectionLost(f"{what}: {str(error) or type(error).__name__}")
    return TransportError(f"{what}: {error}")


def _bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"} if credential else {}


async def _raise_for_status(answer: httpx.Response, what: str) -> None:
    if not answer.is_success:
        try:
            body = await _read_capped(answer, PROBLEM_MAX_BYTES, what)
        except LimitExceeded:
            body = b""
        raise problem_error(what, answer.status_code, body, answer.headers.get("Retry-After"))


async def _read_capped(answer: httpx.Response, limit_bytes: int, what: str) -> bytes:
    """Read a body of at most so many bytes, as long as it does not trickle in for ever."""
    body = bytearray()
    slowest_s = _BODY_GRACE_S + limit_bytes / BODY_SLOWEST_BYTES_PER_S
    try:
        with trio.fail_after(slowest_s):
            async with _body(answer, what) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > limit_bytes:
                        raise LimitExceeded(f"{what} is over the limit of {limit_bytes} bytes")
    except trio.TooSlowError:
        raise PeerTimeout(f"{what}: did not come within {slowest_s:.0f} s") from None
    return bytes(body)


async def _read_promised(answer: httpx.Response, limit_bytes: int, what: str) -> bytes:
    """As ``_read_capped``, where more than was promised is a lie."""
    try:
        return await _read_capped(answer, limit_bytes, what)
    except LimitExceeded as error:
        raise LengthOrHashError(str(error)) from None


@asynccontextmanager
async def _body(answer: httpx.Response, what: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """The chunks of a body, which the caller need not read to the end.

    httpx nests several async generators; closing the outer one leaves the inner ones to the garbage
    collector. Reading on in a cancelled scope ends them all, from the inside.
    """
    chunks = _chunks(answer, what)
    try:
        yield chunks
    finally:
        with trio.CancelScope() as scope, suppress(WalleError):
            scope.cancel()
            async for _ in chunks:
                pass


async def _chunks(answer: httpx.Response, what: str) -> AsyncGenerator[bytes]:
    try:
        async for chunk in answer.aiter_bytes():
            yield chunk
    except httpx.HTTPError as error:
        raise transport_error(error, what) from error
