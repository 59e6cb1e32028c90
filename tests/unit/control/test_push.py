"""The epoch on the answers of the app's own server, from the control plane to the agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import pytest
import trio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from walle_agent.client.epochs import EpochHook
from walle_agent.streams.ingest import EventListener
from walle_control.push import EpochHeader, EpochSource
from walle_shared.protocol.version import EPOCH_HEADER
from walle_support.asgi import on_asyncio, on_trio


@dataclass
class Known:
    """Knows an epoch."""

    epoch: int = 0


def shop(source: object) -> EpochHeader:
    """An app's own server, with the middleware."""

    async def item(_request: object) -> PlainTextResponse:
        return PlainTextResponse("a chair", headers={"X-Own": "1"})

    async def film(_request: object) -> StreamingResponse:
        return StreamingResponse(iter([b"one ", b"two"]))

    app = Starlette(routes=[Route("/item", item), Route("/film", film), Route("/broken", lambda _: 1 / 0)])
    return EpochHeader(app, source)


def wait_until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_an_answer_carries_the_epoch_unless_the_client_knows_it():
    known = Known()
    with on_asyncio(shop(known)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        assert EPOCH_HEADER not in client.get("/item").headers
        known.epoch = 7
        for path, text in (("/item", "a chair"), ("/film", "one two"), ("/nowhere", "Not Found")):
            answer = client.get(path)
            assert (answer.headers[EPOCH_HEADER], answer.text) == ("7", text)
        assert client.get("/item").headers["X-Own"] == "1"
        for says, told in (("6", "7"), ("7", None), ("8", None), ("x", "7"), ("-1", "7"), ("9" * 30, "7")):
            assert client.get("/item", headers={EPOCH_HEADER: says}).headers.get(EPOCH_HEADER) == told


async def test_what_is_no_http_passes_untouched():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    scope = {"type": "lifespan"}
    await EpochHeader(app, Known(3))(scope, min, max)
    assert seen == [(scope, min, max)]


async def test_the_hook_tells_the_agent_once_over_its_socket(tmp_path: Path, nursery):
    hinted: list[int] = []
    known = Known(5)
    listener = EventListener(tmp_path / "events.sock", refuse, hinted.append)
    await nursery.start(listener.run)
    hook = EpochHook(tmp_path / "events.sock")
    async with (
        on_trio(shop(known)) as url,
        httpx.AsyncClient(base_url=url, event_hooks=hook.async_hooks(), trust_env=False) as client,
    ):
        for _ in range(3):
            await client.get("/item")
        known.epoch = 6
        answers = [await client.get("/item") for _ in range(3)]
    assert [EPOCH_HEADER in answer.headers for answer in answers] == [True, False, False]
    with trio.fail_after(10):
        while hinted != [5, 6]:  # noqa: ASYNC110  # a list tells nobody
            await trio.sleep(0.01)
    assert listener.statistics().refused_lines == 0


async def refuse(_raw: object) -> None:
    raise AssertionError("a hint is no event")


def test_without_an_agent_the_hook_does_no_harm_and_tells_later(tmp_path: Path):
    told: list[int] = []
    hook = EpochHook(tmp_path / "nobody.sock")
    with on_asyncio(shop(Known(5))) as url:
        with httpx.Client(base_url=url, event_hooks=hook.hooks(), trust_env=False) as client:
            assert client.get("/item").text == "a chair"
            assert hook.epoch == 0
        here = EpochHook(told.append)  # the agent may run in this process
        with httpx.Client(base_url=url, event_hooks=here.hooks(), trust_env=False) as client:
            client.get("/item")
            client.get("/item")
    assert told == [5]


class Plane:
    """The static side of a control plane, as a transport."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.statuses: list[int] = []
        self.broken = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.broken:
            self.statuses.append(0)
            raise httpx.ConnectError("refused", request=request)
        etag = f'"{self.epoch}"'
        if request.headers.get("If-None-Match") == etag:
            self.statuses.append(304)
            return httpx.Response(304)
        self.statuses.append(200)
        body = orjson.dumps({"signed": {"epoch": self.epoch}, "signatures": []})
        return httpx.Response(200, content=body, headers={"ETag": etag})


@contextmanager
def polled(plane: Plane) -> Iterator[EpochSource]:
    with EpochSource("http://control", poll_s=0.01, transport=httpx.MockTransport(plane)) as source:
        yield source


def test_a_source_polls_conditionally_and_outlives_outages():
    plane = Plane(3)
    with polled(plane) as source:
        wait_until(lambda: source.epoch == 3 and 304 in plane.statuses)
        plane.broken = True
        wait_until(lambda: 0 in plane.statuses)
        assert source.epoch == 3
        plane.epoch, plane.broken = 4, False
        wait_until(lambda: source.epoch == 4)
        plane.epoch = 2  # an old cache
        seen = len(plane.statuses)
        wait_until(lambda: len(plane.statuses) > seen + 1)
        assert source.epoch == 4
    asked = len(plane.statuses)
    time.sleep(0.05)
    assert len(plane.statuses) <= asked + 1


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"signed": {"epoch": "9"}}', b'{"signed": 3}', b"x" * 20_000]
)
def test_a_source_ignores_what_is_no_epoch(body: bytes):
    asked: list[int] = []

    def answer(_request: httpx.Request) -> httpx.Response:
        asked.append(1)
        return httpx.Response(200, content=body)

    with EpochSource("http://control", poll_s=0.01, transport=httpx.MockTransport(answer)) as source:
        wait_until(lambda: bool(asked))
        assert source.epoch == 0


async def test_a_source_with_a_token_is_told_at_once(app, control, admin_token: str):
    async with on_trio(app) as url:
        with EpochSource(url, token=admin_token, poll_s=1e6) as source:
            await trio.to_thread.run_sync(
                wait_until, lambda: source.epoch == 1 and control.streams.taken == 1
            )
            for epoch in (2, 9):
                control.hub.announce(epoch)
                await trio.to_thread.run_sync(wait_until, lambda: source.epoch == epoch)  # noqa: B023  # waited for
        control.hub.stop()
        with trio.fail_after(20):
            await control.streams.wait_empty()


def test_a_source_whose_token_is_refused_goes_on_polling():
    plane, refused = Plane(3), []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/stream":
            refused.append(request.headers["Authorization"])
            return httpx.Response(401)
        return plane(request)

    transport = httpx.MockTransport(answer)
    with EpochSource("http://control", token="t", poll_s=0.01, transport=transport) as source:
        wait_until(lambda: len(refused) > 1)
        plane.epoch = 4
        wait_until(lambda: source.epoch == 4)
    assert set(refused) == {"Bearer t"}


def test_a_source_whose_stream_ends_listens_again_soon():
    streams = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/api/v1/stream":
            return Plane(3)(request)
        streams.append(request.headers["Last-Event-ID"])
        return httpx.Response(200, content=b"event: epoch\nid: %d\ndata: {}\n\n" % (3 + len(streams)))

    transport = httpx.MockTransport(answer)
    with EpochSource("http://control", token="t", poll_s=1e6, transport=transport) as source:
        wait_until(lambda: source.epoch >= 5)
    assert streams[:2] == ["3", "4"]
