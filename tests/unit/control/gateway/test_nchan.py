"""The relay to nchan, against a stand-in that can forget and fail."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
import trio

from walle_control.gateway import nchan
from walle_control.gateway.hub import EpochHub
from walle_control.gateway.nchan import NchanRelay


class StandIn:
    """A channel as nchan has it: the newest message, in memory."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.posts = 0
        self.down = False

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        if self.down:
            raise httpx.ConnectError("refused", request=request)
        if request.method == "POST":
            self.posts += 1
            self.messages = [(request.headers["X-EventSource-Event"], request.content)]
            return httpx.Response(201)
        return (
            httpx.Response(200, json={"messages": len(self.messages)})
            if self.messages
            else httpx.Response(404)
        )


@pytest.fixture
def channel() -> StandIn:
    return StandIn()


@pytest.fixture
def hub(channel: StandIn, nursery: trio.Nursery) -> EpochHub:
    hub = EpochHub()
    hub.announce(3)
    nursery.start_soon(NchanRelay("http://nginx/push/epoch", hub, 2.5, httpx.MockTransport(channel)).run)
    return hub


async def wait_until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - the state is the stand-in's
            await trio.sleep(0.01)


async def test_each_epoch_is_posted_once(hub: EpochHub, channel: StandIn, autojump_clock: object) -> None:
    await wait_until(lambda: channel.messages == [("epoch", b'{"epoch":3,"spread_s":2.5}')])
    hub.announce(4)
    await wait_until(lambda: channel.messages == [("epoch", b'{"epoch":4,"spread_s":2.5}')])
    await trio.sleep(10 * nchan._CHECK_S)
    assert channel.posts == 2


async def test_it_is_posted_again_after_a_restart(
    hub: EpochHub, channel: StandIn, autojump_clock: object
) -> None:
    await wait_until(lambda: channel.posts == 1)
    channel.messages.clear()
    await wait_until(lambda: channel.posts == 2)


async def test_what_was_missed_is_posted_once_it_is_back(
    hub: EpochHub, channel: StandIn, autojump_clock: object
) -> None:
    await wait_until(lambda: channel.posts == 1)
    channel.down = True
    hub.announce(9)
    await trio.sleep(5 * nchan._CHECK_S)
    channel.down = False
    await wait_until(lambda: channel.messages == [("epoch", b'{"epoch":9,"spread_s":2.5}')])
