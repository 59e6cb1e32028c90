"""The push stream under a virtual clock, spoken to as an ASGI application."""

from __future__ import annotations

from random import Random

import pytest
import trio
import trio.testing
from starlette.requests import Request

from walle_control.gateway.hub import EpochHub, Seats
from walle_control.gateway.stream import EventStream
from walle_control.web.problems import Busy


class Client:
    """The far end: collects what is sent and can hang up."""

    def __init__(self) -> None:
        self.sent: list[dict] = []
        self.gone = trio.Event()

    async def receive(self) -> dict:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        self.sent.append(message)

    @property
    def text(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class AtOnce(Random):
    """No jitter."""

    def random(self) -> float:
        return 0.0


def asking(**headers: str) -> Request:
    """A request for the stream."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})


@pytest.fixture
def client() -> Client:
    return Client()


async def test_stream_of_a_device_tells_epochs_beats_and_says_goodbye(control, enrol, nursery, client):
    from walle_control.gateway.stream import StreamRoutes

    device = await enrol()
    config = control.config.stream
    routes = StreamRoutes(control.hub, control.streams, control.devices, config, AtOnce())
    response = await routes.stream(asking(), device.id)
    nursery.start_soon(response, {}, client.receive, client.send)
    await trio.testing.wait_all_tasks_blocked()
    assert client.text == b'retry: 2000\n\nevent: epoch\nid: 1\ndata: {"epoch":1,"spread_s":0.0}\n\n'
    control.hub.announce(7)
    control.hub.announce(6)  # late: not news
    control.hub.announce(8)
    await trio.testing.wait_all_tasks_blocked()
    assert client.text.endswith(b'event: epoch\nid: 8\ndata: {"epoch":8,"spread_s":0.0}\n\n')
    assert b"id: 7" not in client.text
    assert control.streams.taken == 1
    control.hub.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert client.text.endswith(b'event: goodbye\ndata: {"retry_s":2.0}\n\n')
    assert client.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert control.streams.taken == 0


async def test_a_client_that_hangs_up_leaves_its_seat(nursery, client):
    seats = Seats("push streams", 1)

    async def converse(send):
        await send(b"hello")
        await trio.sleep_forever()

    nursery.start_soon(EventStream(seats, converse), {}, client.receive, client.send)
    await trio.testing.wait_all_tasks_blocked()
    assert seats.taken == 1
    with pytest.raises(Busy, match="all 1 push streams are taken"):
        await EventStream(seats, converse)({}, client.receive, client.send)
    client.gone.set()
    await seats.wait_empty()
    assert client.text == b"hello"


async def test_hub_wakes_who_waits_for_news_or_the_end(autojump_clock):
    hub = EpochHub()
    hub.announce(3)
    await hub.wait_news(2)
    with trio.move_on_after(10) as waited:
        await hub.wait_news(3)
    assert waited.cancelled_caught
    hub.stop()
    await hub.wait_news(3)
    await hub.wait_stopping()
