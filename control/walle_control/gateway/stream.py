"""The push stream: server-sent events that say "epoch n exists" and nothing more.

The first event is the current epoch, unless the client says that it was the last it saw (``Last-Event-ID``);
after ``heartbeat_s`` of silence a comment keeps proxies from hanging up; before the server stops it says
goodbye. Each stream is told its own time to come back, and the more streams there are, the further apart
these lie: a server that starts again is not overrun.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from walle_control.config import StreamConfig
from walle_control.features.devices.service import DevicesService
from walle_control.gateway.hub import EpochHub, Seats
from walle_control.web.describe import Raw, describe
from walle_shared.ids import DeviceId
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import EpochNotice, GoodbyeNotice
from walle_shared.protocol.version import parse_epoch

#: OpenAPI has no words for streams of events: each is an ``EpochNotice``, or a ``GoodbyeNotice`` at the end.
EVENTS = Raw("text/event-stream", {})

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect events otherwise
]


class StreamRoutes:
    """The endpoint of the push stream."""

    def __init__(
        self,
        hub: EpochHub,
        seats: Seats,
        devices: DevicesService,
        config: StreamConfig,
        rng: random.Random | None = None,
    ) -> None:
        self._hub = hub
        self._rng = rng or random.Random()
        self._seats = seats
        self._devices = devices
        self._config = config

    @describe(EVENTS, errors=(503,))
    async def stream(self, request: Request, device_id: DeviceId) -> Response:
        """Server-sent events that say which epoch exists."""
        await self._devices.seen(device_id)
        return self._respond(request, lambda: self._devices.is_revoked(device_id))

    @describe(None, status=(204,))
    async def allowed(self, _request: Request, device_id: DeviceId) -> Response:
        """Whether a device may hold a stream; asked by a proxy that holds it."""
        await self._devices.seen(device_id)
        return Response(status_code=204)

    @describe(EVENTS, errors=(503,))
    async def follow(self, request: Request) -> Response:
        """The same for a server of the app that hands epochs on (``walle_control.push``)."""
        return self._respond(request, lambda: False)

    def _respond(self, request: Request, is_over: Callable[[], bool]) -> Response:
        seen = self._last_seen(request)
        return EventStream(self._seats, lambda send: self._converse(seen, is_over, send))

    def _last_seen(self, request: Request) -> int:
        """The epoch that the client saw last; -1 if none, or one that cannot be."""
        seen = parse_epoch(request.headers.get("last-event-id", ""))
        return seen if 0 < seen <= self._hub.epoch else -1

    async def _converse(
        self, seen: int, is_over: Callable[[], bool], send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        await send(f"retry: {round(self._retry_s() * 1000)}\n\n".encode())
        while not self._hub.stopping and not is_over():
            if self._hub.epoch > seen:
                seen = self._hub.epoch
                await send(event("epoch", EpochNotice(seen, self._config.spread_s), seen))
            with trio.move_on_after(self._config.heartbeat_s) as silence:
                await self._hub.wait_news(seen)
            if silence.cancelled_caught:
                await send(b":\n\n")
        await send(event("goodbye", GoodbyeNotice(round(self._retry_s(), 3))))

    def _retry_s(self) -> float:
        """When one of the streams there are should come back, so that not all of them do at once."""
        return self._config.retry_s + self._rng.random() * self._seats.taken / self._config.reconnects_per_s


class EventStream(Response):
    """A response that lasts as long as ``converse`` and the client do."""

    def __init__(
        self, seats: Seats, converse: Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]]
    ) -> None:
        super().__init__()
        self._seats = seats
        self._converse = converse

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Run the conversation as an ASGI application."""

        async def send_text(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        with self._seats.take():
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_disconnect, receive, nursery.cancel_scope)
                await self._converse(send_text)
                nursery.cancel_scope.cancel()
            # Outside the nursery: the end of the body makes Hypercorn report a disconnect, which would cancel
            # it half-way and leave the connection open.
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def event(name: str, message: object, event_id: int | None = None) -> bytes:
    """One server-sent event."""
    identity = b"" if event_id is None else b"id: %d\n" % event_id
    return b"event: %s\n%sdata: %s\n\n" % (name.encode(), identity, encode(message))


async def _cancel_on_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
