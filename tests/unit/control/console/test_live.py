"""Pages that are watched hear of news, and only of news."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from walle_control.console.frame import COOKIE
from walle_control.console.news import News
from walle_control.gateway.hub import EpochHub


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0.05)


async def take(found: list[bool], news: News) -> None:
    async for is_new in news.watch(10.0):
        found.append(is_new)


async def test_news_are_epochs_and_reports_at_most_one_a_second(nursery, autojump_clock):
    hub = EpochHub()
    news, found = News(hub), []
    nursery.start_soon(take, found, news)
    await trio.sleep(0.1)
    for epoch in range(1, 6):
        hub.announce(epoch)
        news.ring()
        await trio.sleep(0.01)
    await trio.sleep(0.5)
    assert found == [True]
    await trio.sleep(1.0)
    assert found == [True, True]  # the rest of them at once
    await trio.sleep(8)
    assert found == [True, True]
    await trio.sleep(4)
    assert found == [True, True, False]  # a heartbeat
    news.ring()
    await trio.sleep(1.5)
    assert found[-1]
    hub.stop()


async def test_watching_ends_when_the_server_stops(autojump_clock):
    hub = EpochHub()
    hub.announce(1)
    news = News(hub)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, [], news)
        await trio.sleep(3)
        hub.stop()
    with trio.fail_after(5):
        await take([], news)


class Stream:
    """A stream of events, asked for with a cookie, as ASGI."""

    def __init__(self, app: Callable[..., object], cookie: str) -> None:
        self.status = 0
        self.body = b""
        self.leave = trio.Event()
        self._more = trio.Event()
        self._app = app
        headers = [(b"cookie", f"{COOKIE}={cookie}".encode()), (b"accept", b"text/event-stream")]
        self._scope = {
            "type": "http", "method": "GET", "path": "/console/live", "raw_path": b"/console/live",
            "root_path": "", "query_string": b"", "headers": headers, "scheme": "http", "http_version": "1.1",
            "server": ("control", 80),
        }  # fmt: skip

    async def run(self) -> None:
        async def receive():
            await self.leave.wait()
            return {"type": "http.disconnect"}

        async def send(message) -> None:
            self.status = message.get("status", self.status)
            self.body += message.get("body", b"")
            self._more.set()

        await self._app(self._scope, receive, send)

    async def wait_for(self, text: bytes) -> None:
        with trio.fail_after(10):
            while text not in self.body:
                self._more = trio.Event()
                await self._more.wait()


async def test_a_page_hears_of_a_release_and_of_the_end(boss, app, control, imported, nursery):
    from walle_control.features.releases.types import CreateRelease

    stream = Stream(app, boss.client.cookies[COOKIE])
    nursery.start_soon(stream.run)
    await stream.wait_for(b"retry: ")
    await imported("1.0.0")
    await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "ben")
    await stream.wait_for(b"event: news")
    assert control.console.watched.taken == 1
    control.hub.stop()
    with trio.fail_after(10):
        await control.say_goodbye()
    assert control.console.watched.taken == 0


async def test_nobody_watches_without_a_session(app, control):
    stream = Stream(app, "0" * 64)
    await stream.run()
    assert stream.status == 401
