"""Put the newest epoch on your own server's answers: ASGI middleware, and where it learns the epoch.

::

    from walle_control.push import EpochHeader, EpochSource

    source = EpochSource("https://control.example")      # polls; with token=... it is told at once
    app = EpochHeader(app, source)                       # any ASGI application

    with source:                                         # a thread, from start to stop
        serve(app)

An answer carries ``Walle-Epoch: n`` unless its request said that it knows n. That is a hint and needs no
protection: devices believe only the signed epoch file, which the hint makes them read. Requests never wait
for the control plane: what is known stands in a variable, and a thread keeps it fresh. If the control plane
is away, the last epoch stays. Needs nothing of the server, nor of its event loop: Trio, asyncio, or none.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

import httpx
import orjson

from walle_shared.backoff import Backoff
from walle_shared.errors import RemoteProtocolError, WalleError
from walle_shared.limits import EPOCH_MAX_BYTES
from walle_shared.protocol.sse import SseParser
from walle_shared.protocol.version import EPOCH_HEADER, STATIC_ROOT, parse_epoch

__all__ = ["EpochHeader", "EpochSource"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A stream that has said nothing for so long, not even a heartbeat, is gone.
_SILENCE_S: Final = 60.0
_TIMEOUT_S: Final = 10.0

_HEADER: Final = EPOCH_HEADER.lower().encode()


class KnowsEpoch(Protocol):
    """Whatever knows the newest epoch."""

    @property
    def epoch(self) -> int:
        """The newest epoch; 0 as long as none is known."""
        ...


class EpochHeader:
    """ASGI middleware that adds the header to HTTP answers; all else passes untouched.

    Args:
        app: the application.
        source: knows the newest epoch.
    """

    def __init__(self, app: Application, source: KnowsEpoch) -> None:
        self._app = app
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        known = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        asked = parse_epoch(known.decode("latin-1"))

        async def send_marked(message: Message) -> None:
            epoch = self._source.epoch
            if message["type"] == "http.response.start" and epoch > asked:
                message = {
                    **message,
                    "headers": [*message.get("headers", ()), (_HEADER, str(epoch).encode())],
                }
            await send(message)

        await self._app(scope, receive, send_marked)


class EpochSource:
    """Keeps the newest epoch of a control plane, in a thread of its own.

    Args:
        url: the control plane, or any server of its static files.
        token: an operator's token: the epoch is pushed then, and polled only while that fails.
        poll_s: mean time between two looks.
        transport: what carries the requests, if not the network.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        poll_s: float = 5.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.epoch = 0
        self._url = url.rstrip("/")
        self._token = token
        self._poll_s = poll_s
        self._transport = transport
        self._etag = ""
        self._stopping = threading.Event()
        self._rng = random.Random()
        self._client: httpx.Client | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; once."""
        self._client = httpx.Client(
            base_url=self._url,
            timeout=httpx.Timeout(_TIMEOUT_S, read=_SILENCE_S if self._token else _TIMEOUT_S),
            transport=self._transport,
        )
        self._thread = threading.Thread(
            target=self._run, args=(self._client,), name="walle-epochs", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End. Does not wait for a request that is under way: the thread holds nothing back."""
        self._stopping.set()
        if self._client is not None:
            self._client.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, client: httpx.Client) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            wait_s = self._poll_s * self._rng.uniform(0.8, 1.2)
            try:
                self._poll(client)
                if self._token:
                    self._follow(client, backoff)  # comes back only when the stream has ended
                    wait_s = min(wait_s, backoff.next_delay_s())
                else:
                    backoff.reset()
            except (httpx.HTTPError, WalleError, RuntimeError):  # RuntimeError: the client was closed
                wait_s = min(wait_s, backoff.next_delay_s()) if self._token else backoff.next_delay_s()
            self._stopping.wait(wait_s)

    def _poll(self, client: httpx.Client) -> None:
        headers = {"If-None-Match": self._etag} if self._etag else {}
        answer = client.get(f"{STATIC_ROOT}/epoch.json", headers=headers)
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return
        answer.raise_for_status()
        self._take(_epoch_of(answer.content))
        self._etag = answer.headers.get("ETag", "")

    def _follow(self, client: httpx.Client, backoff: Backoff) -> None:
        """Listen until the stream ends."""
        headers = {"Authorization": f"Bearer {self._token}", "Last-Event-ID": str(self.epoch)}
        parser = SseParser()
        with client.stream("GET", "/api/v1/stream", headers=headers) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                for event in parser.feed(chunk):
                    if event.name == "epoch":
                        self._take(parse_epoch(event.event_id))
                        backoff.reset()
                if self._stopping.is_set():
                    return

    def _take(self, epoch: int) -> None:
        self.epoch = max(self.epoch, epoch)


def _epoch_of(envelope: bytes) -> int:
    """The epoch of an epoch file. Nobody believes it unsigned, so its signature need not be looked at."""
    try:
        epoch = orjson.loads(envelope)["signed"]["epoch"] if len(envelope) <= EPOCH_MAX_BYTES else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        epoch = None
    if type(epoch) is not int:
        raise RemoteProtocolError("the epoch file is none")
    return epoch
