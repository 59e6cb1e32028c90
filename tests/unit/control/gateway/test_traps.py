"""The push stream against real servers, one test for each trap that Hypercorn and SSE set.

1. At a stop, Hypercorn cancels streams without telling the application: the goodbye must be out before.
2. Its default keep-alive of 5 s and its backlog of 100 cut quiet streams and turn reconnecting fleets away.
3. After so many requests it ends a connection, and with it every stream that shares it.
4. A read timeout would cut streams, whose clients are silent; bodies need a limit of their own.
5. A client that hangs up must give its seat back, and one that reads slowly must not make a queue.
6. Middleware that collects answers (``BaseHTTPMiddleware``, gzip) would hold events back, and so do proxies.
7. A fleet whose streams end together must not come back together.
8. A client that comes back must not be told again what it knows, nor miss what it does not.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from types import MappingProxyType

import httpx
import pytest
import trio
import trio.testing
from starlette.applications import Starlette

from walle_control.config import ControlConfig, StreamConfig
from walle_control.gateway.hub import EpochHub, Seats
from walle_control.gateway.stream import EventStream, StreamRoutes
from walle_control.serve import hypercorn_config
from walle_shared.protocol.sse import SseEvent, SseParser
from walle_support.asgi import on_ours, on_trio


class Reader:
    """Reads a stream event by event."""

    def __init__(self, answer: httpx.Response, client: httpx.AsyncClient) -> None:
        self.headers = answer.headers
        self.client = client
        self._chunks = answer.aiter_bytes()
        self._parser = SseParser()
        self._events: list[SseEvent] = []

    async def next(self) -> SseEvent | None:
        """The next event; ``None`` at the end of the stream."""
        with trio.fail_after(20):
            while not self._events:
                try:
                    self._events = self._parser.feed(await anext(self._chunks))
                except StopAsyncIteration:
                    return None
        return self._events.pop(0)

    async def id(self) -> str:
        """The id of the next event."""
        event = await self.next()
        assert event is not None
        return event.event_id

    async def leave(self) -> None:
        """Read on in a cancelled scope: it ends all the generators of a body from the inside."""
        with trio.CancelScope() as scope:
            scope.cancel()
            async for _ in self._chunks:
                pass


@pytest.fixture(params=[on_ours, on_trio], ids=["ours", "hypercorn"])
def watching(request):
    """Opens a stream at the server of the devices, or at the one of operators and the app's servers."""
    return partial(_watching, request.param)


@asynccontextmanager
async def _watching(
    serve, app: Starlette, device, settings=MappingProxyType({}), **headers: str
) -> AsyncIterator[Reader]:
    """A device's stream from a real server."""
    sent = {**device.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with (
        serve(app, **settings) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
        client.stream("GET", "/d/v1/stream", headers=sent) as answer,
    ):
        assert answer.status_code == 200
        reader = Reader(answer, client)
        try:
            yield reader
        finally:
            await reader.leave()


async def test_1_a_goodbye_is_out_before_the_stream_ends_and_it_ends_cleanly(watching, app, control, enrol):
    async with watching(app, await enrol(), {"graceful_timeout": 5.0}) as reader:
        assert await reader.id() == "1"
        control.hub.stop()
        goodbye = await reader.next()
        assert goodbye is not None
        assert (goodbye.name, json.loads(goodbye.data)["retry_s"] >= 2.0) == ("goodbye", True)
        assert await reader.next() is None  # an end, not a protocol error


def test_2_and_3_and_4_the_settings_that_keep_streams_alive():
    settings = hypercorn_config(ControlConfig(stream=StreamConfig(heartbeat_s=45.0)), 3)
    assert settings.keep_alive_timeout >= 2 * 45.0
    assert settings.backlog >= 4_096
    assert settings.keep_alive_max_requests > 10**9
    assert settings.read_timeout is None
    assert settings.graceful_timeout == ControlConfig().server.graceful_s
    assert ControlConfig().server.body_timeout_s > 0


async def test_3_a_stream_outlives_many_requests_of_the_same_client(watching, app, control, enrol):
    settings = {"keep_alive_max_requests": hypercorn_config(ControlConfig(), 3).keep_alive_max_requests}
    async with watching(app, await enrol(), settings) as reader:
        await reader.next()
        for _ in range(50):
            assert (await reader.client.get("/s/epoch.json")).status_code == 200
        control.hub.announce(5)
        assert await reader.id() == "5"


async def test_5_a_client_that_hangs_up_gives_its_seat_back(watching, app, control, enrol):
    async with watching(app, await enrol()) as reader:
        await reader.next()
        assert control.streams.taken == 1
    with trio.fail_after(20):
        await control.streams.wait_empty()


async def test_5_a_slow_reader_finds_the_newest_epoch_and_no_queue(nursery):
    hub, seats = EpochHub(), Seats("streams", 1)
    sent: list[bytes] = []
    reading = trio.Semaphore(0)
    routes = StreamRoutes(hub, seats, None, StreamConfig(), Random(1))

    async def send(message: dict) -> None:
        await reading.acquire()
        sent.append(message.get("body", b""))

    hub.announce(1)
    stream = EventStream(seats, lambda out: routes._converse(-1, lambda: False, out))
    nursery.start_soon(stream, {}, trio.sleep_forever, send)
    for _ in range(3):
        reading.release()
    await trio.testing.wait_all_tasks_blocked()
    for epoch in range(2, 1_000):
        hub.announce(epoch)
        await trio.lowlevel.checkpoint()
    for _ in range(3):
        reading.release()
    await trio.testing.wait_all_tasks_blocked()
    ids = [line for body in sent for line in body.splitlines() if line.startswith(b"id: ")]
    assert (ids[0], len(ids), ids[-1]) == (b"id: 1", 3, b"id: 999")  # one was on its way


async def test_6_nothing_collects_the_answers(watching, app, enrol):
    assert not [each for each in app.user_middleware if "gzip" in each.cls.__name__.lower()]
    assert not [each for each in app.user_middleware if "dispatch" in vars(each.cls)]
    async with watching(app, await enrol(), accept_encoding="gzip") as reader:
        assert reader.headers["x-accel-buffering"] == "no"
        assert reader.headers["cache-control"] == "no-store"
        assert "content-encoding" not in reader.headers
        assert await reader.next() is not None


def test_7_streams_are_told_to_come_back_apart():
    seats = Seats("streams", 10_000)
    routes = StreamRoutes(EpochHub(), seats, None, StreamConfig(reconnects_per_s=100.0), Random(7))
    seats.taken = 5_000
    told = sorted(routes._retry_s() for _ in range(5_000))
    assert told[0] >= 2.0
    arrivals = [sum(second <= t < second + 1 for t in told) for second in range(2, 52)]
    assert max(arrivals) <= 100 + 5 * 10
    seats.taken = 1
    assert routes._retry_s() < 2.1


async def test_7_who_finds_no_seat_is_told_when_to_come_back(app, control, enrol):
    control.streams._limit = 0
    device = await enrol()
    async with on_trio(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        answer = await client.get("/d/v1/stream", headers=device.headers)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("last", ["", "3", "99", "x", "-4"])
async def test_8_who_comes_back_is_told_what_is_news(watching, app, control, enrol, last: str):
    control.hub.announce(4)
    async with watching(app, await enrol(), last_event_id=last) as reader:
        assert await reader.id() == "4"


async def test_8_who_knows_it_all_waits_for_the_next(watching, app, control, enrol):
    control.hub.announce(4)
    async with watching(app, await enrol(), last_event_id="4") as reader:
        await trio.testing.wait_all_tasks_blocked(0.05)
        control.hub.announce(5)
        assert await reader.id() == "5"
