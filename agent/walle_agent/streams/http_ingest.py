"""Events in over HTTP, for apps that cannot open a Unix socket. Loopback only.

::

    POST /events                                  one JSON object a line, as on the socket
    Authorization: Bearer <data_dir/events.token>

    200 {"accepted": 2, "refused": [{"line": 3, "code": "event", "message": "event.kind must be ..."}]}

Whoever can reach a loopback port is not thereby this user: any local account can, and any web page through a
browser. So a request needs the token, which only this user can read, and a ``Host`` that is a loopback name,
which a page of a re-bound DNS name does not send. The answer comes when the events are taken, so an app that
waits for it is held back when the agent is behind.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11
import orjson
import trio

from walle_agent.state.files import write_atomic
from walle_agent.streams.event import EventError, parse_event
from walle_agent.streams.ingest import Submit
from walle_shared.errors import ConfigError, StorageError
from walle_shared.limits import INLET_MAX_CLIENTS, REQUEST_MAX_BYTES
from walle_shared.observe import get_logger

TOKEN_FILE = "events.token"  # a file's name
PATH = b"/events"
_IDLE_S = 30.0
_LINGER_S = 1.0
_READ_BYTES = 65_536
#: Complaints in one answer; the rest are counted.
_REFUSALS_SHOWN = 20

_log = get_logger("agent.streams")


@dataclass(frozen=True, slots=True)
class HttpStatistics:
    """Connections now and since the start, requests answered, and those of them refused as a whole."""

    open_now: int = 0
    connections: int = 0
    requests: int = 0
    refused_requests: int = 0
    refused_lines: int = 0


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def make_token(path: Path) -> str:
    """The token of an earlier start, or a new one, readable by this user only.

    Raises:
        StorageError: it can be neither read nor written.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        token = ""
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: cannot be read: {error}: remove it, and a new one is made") from error
    if not token:
        token = secrets.token_urlsafe(32)
        write_atomic(path, token.encode() + b"\n")
    return token


class HttpListener:
    """Serves ``POST /events`` on a loopback address.

    Args:
        address: IP and port; port 0 is any free one.
        token_path: where the token is kept for apps to read.
        submit: ``EventInlet.emit``.
    """

    def __init__(self, address: tuple[str, int], token_path: Path, submit: Submit) -> None:
        self._address = address
        self._token_path = token_path
        self._submit = submit
        self._counts = {
            "open_now": 0,
            "connections": 0,
            "requests": 0,
            "refused_requests": 0,
            "refused_lines": 0,
        }
        self._token = b""
        self.port: int | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept connections until cancelled.

        Raises:
            ConfigError: the port is taken.
            StorageError: the token cannot be kept.
        """
        host, port = self._address
        self._token = (await trio.to_thread.run_sync(make_token, self._token_path)).encode()
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise ConfigError(
                f"agent.events_http {host}:{port}: {error.strerror or error}: choose another port"
            ) from error
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    def statistics(self) -> HttpStatistics:
        """Connections and refusals."""
        return HttpStatistics(**self._counts)

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self._counts["open_now"] >= INLET_MAX_CLIENTS:
            await stream.aclose()
            return
        self._counts["connections"] += 1
        self._counts["open_now"] += 1
        try:
            async with stream:
                await self._converse(_Conversation(stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the app went away; what was answered has been taken
        finally:
            self._counts["open_now"] -= 1

    async def _converse(self, conversation: _Conversation) -> None:
        """Answer requests until the app closes, is silent for long, or breaks the protocol."""
        while True:
            try:
                request, body = await conversation.receive(self._admit)
                answer = await self._take(body)
            except _RefusedError as refusal:
                self._counts["refused_requests"] += 1
                _log.warning("event_refused", code="http", message=refusal.message, status=refusal.status)
                await conversation.answer(
                    refusal.status, {"error": {"code": "http", "message": refusal.message}}
                )
                await conversation.close()
                return
            except _Over:
                return
            del request
            self._counts["requests"] += 1
            await conversation.answer(200, answer)
            if not conversation.start_next():
                return

    def _admit(self, request: h11.Request) -> None:
        headers = dict(request.headers)
        host = headers.get(b"host", b"").decode("latin-1")
        if not _is_loopback(host):
            raise _RefusedError(403, f"Host {host[:80]!r} is not a loopback name: use 127.0.0.1")
        if not hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + self._token):
            raise _RefusedError(401, f"Authorization must be Bearer and the token in {self._token_path.name}")
        if request.target != PATH:
            raise _RefusedError(404, "there is only /events here")
        if request.method != b"POST":
            raise _RefusedError(405, "events are POSTed")

    async def _take(self, body: bytes) -> dict[str, Any]:
        accepted = 0
        refused: list[dict[str, Any]] = []
        for number, line in enumerate(body.split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                await self._submit(parse_event(line))
            except EventError as error:
                refused.append({"line": number, "code": error.code, "message": error.message})
            else:
                accepted += 1
        self._counts["refused_lines"] += len(refused)
        return {"accepted": accepted, "refused": refused[:_REFUSALS_SHOWN], "refused_lines": len(refused)}


class _Over(Exception):
    """The app has nothing more to say."""


class _Conversation:
    """One connection: bytes to requests and answers, by h11."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER)

    async def receive(self, admit: Callable[[h11.Request], None]) -> tuple[h11.Request, bytes]:
        """The next request; ``admit`` may refuse it before its body is read.

        Raises:
            _RefusedError: it is not HTTP, too large, or was not admitted.
            _Over: there is none.
        """
        request: h11.Request | None = None
        body = bytearray()
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Request):
                request = event
                admit(request)
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > REQUEST_MAX_BYTES:
                    raise _RefusedError(
                        413, f"the body is over the limit of {REQUEST_MAX_BYTES} bytes: send less at once"
                    )
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return request, bytes(body)
            else:
                raise _Over

    async def answer(self, status: int, plain: dict[str, Any]) -> None:
        """Send one answer as JSON."""
        data = orjson.dumps(plain)
        headers = [("content-type", "application/json"), ("content-length", str(len(data)))]
        if status != 200:
            headers.append(("connection", "close"))
        await self._send(h11.Response(status_code=status, headers=headers))
        await self._send(h11.Data(data=data))
        await self._send(h11.EndOfMessage())

    async def close(self) -> None:
        """Let the app read the answer although the rest of its request is still on the way."""
        with trio.move_on_after(_LINGER_S):
            await self._stream.send_eof()
            while await self._stream.receive_some(_READ_BYTES):
                pass

    def start_next(self) -> bool:
        """Whether another request may come."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _next_event(self) -> Any:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise _RefusedError(error.error_status_hint, f"this is not HTTP/1.1: {error}") from None
            if event is not h11.NEED_DATA:
                return event
            with trio.move_on_after(_IDLE_S) as scope:
                self._http.receive_data(await self._stream.receive_some(_READ_BYTES))
            if scope.cancelled_caught:
                raise _Over

    async def _send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            await self._stream.send_all(data)


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
