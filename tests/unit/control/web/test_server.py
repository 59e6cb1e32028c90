"""The server of devices' requests, compared with Hypercorn, which answers all others."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from walle_control.web import server as module
from walle_control.web.problems import on_walle_error
from walle_control.web.requests import read_body
from walle_control.web.static import StoredFile
from walle_shared.errors import WalleError
from walle_support.asgi import on_ours, on_trio

SMALL, LARGE = b"walle" * 2_000, bytes(range(256)) * 2_048
GET = b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class World:
    """An application, and what became of its requests."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.entered, self.go_on, self.cancelled = trio.Event(), trio.Event(), trio.Event()
        for name, data in (("small", SMALL), ("large", LARGE)):
            (folder / name).write_bytes(data)
        routes = [
            Route(f"{root}/{endpoint.__name__}", endpoint, methods=["GET", "POST"])
            for root in ("/d/v1", "/api/v1")
            for endpoint in (self.echo, self.deaf, self.crash, self.wait, self.count, self.empty, self.who)
        ]
        routes.append(Route("/s/blob/{name}", self.file, methods=["GET"]))
        self.app = Starlette(routes=routes, exception_handlers={WalleError: on_walle_error})
        self.app.state.body_timeout_s = 20.0

    async def echo(self, request: Request) -> Response:
        return Response(await read_body(request), headers={"X-Query": request.url.query})

    async def deaf(self, _request: Request) -> Response:
        return Response(b"no", 401)

    async def crash(self, _request: Request) -> Response:
        raise ZeroDivisionError

    async def empty(self, _request: Request) -> Response:
        return Response(status_code=204)

    async def count(self, _request: Request) -> Response:
        async def numbers() -> AsyncIterator[bytes]:
            for number in range(5):
                yield b"%d\n" % number

        return StreamingResponse(numbers(), media_type="text/plain")

    async def who(self, request: Request) -> Response:
        is_ours = "http.response.pathsend" in request.scope.get("extensions", {})
        return Response(b"ours" if is_ours else b"hypercorn")

    async def wait(self, request: Request) -> Response:
        async def watch(scope: trio.CancelScope) -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            self.entered.set()
            try:
                await self.go_on.wait()
            except trio.Cancelled:
                self.cancelled.set()
                raise
            nursery.cancel_scope.cancel()
        return Response(b"done")

    async def file(self, request: Request) -> Response:
        path = self.folder / request.path_params["name"]
        return StoredFile(path, headers={"ETag": '"e"'}, stat_result=path.stat())


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[trio.SocketStream]:
    """A connection to the server."""
    parts = httpx.URL(url)
    with trio.fail_after(20):
        async with await trio.open_tcp_stream(parts.host, parts.port) as stream:
            yield stream


async def talk(url: str, pieces: Sequence[bytes]) -> bytes:
    """Send pieces, read until the server hangs up; its answers without their dates."""
    got = b""
    async with connected(url) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            try:
                for piece in pieces:
                    await stream.send_all(piece)
                    await trio.lowlevel.checkpoint()
            except trio.BrokenResourceError:
                return  # it said all it will

        nursery.start_soon(send)
        async for data in stream:
            got += data
        nursery.cancel_scope.cancel()
    return re.sub(rb"date: [^\r]+\r\n", b"", got)


def statuses(answers: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+)", answers)]


def chunked() -> Iterator[bytes]:
    yield from (b"one ", b"two ", b"three")


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("GET", "/s/blob/small", {}),
        ("GET", "/s/blob/large", {}),
        ("HEAD", "/s/blob/large", {}),
        ("GET", "/s/blob/large", {"headers": {"Range": "bytes=100-300000"}}),
        ("GET", "/s/blob/large", {"headers": {"Range": "bytes=5-", "If-Range": '"e"'}}),
        ("GET", "/s/blob/large", {"headers": {"Range": "bytes=9999999-"}}),
        ("GET", "/s/nothing", {}),
        ("PUT", "/d/v1/echo", {}),
        ("POST", "/d/v1/echo?a=%20b", {"content": b"x" * 200_000}),
        ("POST", "/d/v1/echo", {"content": chunked}),
        ("POST", "/d/v1/echo", {"headers": {"Expect": "100-continue"}, "content": b"hello"}),
        ("POST", "/d/v1/echo", {"content": b"", "headers": {"Content-Length": "0"}}),
        ("GET", "/d/v1/%65cho", {}),
        ("GET", "/d/v1/count", {}),
        ("HEAD", "/d/v1/count", {}),
        ("GET", "/d/v1/empty", {}),
        ("GET", "/d/v1/crash", {}),
    ],
)
async def test_answers_are_those_of_hypercorn(world, method: str, path: str, more: dict):
    answers = []
    for serve in (on_ours, on_trio):
        async with serve(world.app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
            content = more.get("content", b"")
            sent = aiter_of(content()) if callable(content) else content
            answer = await client.request(method, path, headers=more.get("headers"), content=sent)
            headers = {k: v for k, v in answer.headers.items() if k not in ("date", "server", "connection")}
            answers.append((answer.status_code, headers, answer.content))
    assert answers[0] == answers[1]
    assert answers[0][0] != 500 or path.endswith("crash")


async def aiter_of(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@given(cuts=st.lists(st.integers(1, 330), max_size=8))
@settings(max_examples=25)
def test_it_does_not_matter_how_requests_come_in(tmp_path_factory, cuts: list[int]):
    sent = (
        GET % b"/s/blob/small"
        + b"POST /d/v1/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nfour"
        + b"POST /d/v1/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        + LAST % b"/d/v1/count"
    )
    ends = [*sorted({cut for cut in cuts if cut < len(sent)}), len(sent)]
    pieces = [sent[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    async def ask() -> bytes:
        async with on_ours(World(tmp_path_factory.mktemp("files")).app) as url:
            return await talk(url, pieces)

    answers = trio.run(ask)
    assert statuses(answers) == [200, 200, 200, 200]
    assert b"four" in answers
    assert b"\r\n\r\nabcHTTP/1.1" in answers
    assert answers.endswith(b"2\r\n4\n\r\n0\r\n\r\n")
    assert SMALL in answers


async def test_a_connection_goes_to_hypercorn_with_the_first_request_that_is_for_it(world):
    async with on_ours(world.app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        who = [(await client.get(f"{root}/v1/who")).text for root in ("/d", "/d", "/api", "/d")]
    assert who == ["ours", "ours", "hypercorn", "hypercorn"]


async def test_what_is_sent_ahead_goes_to_hypercorn_too(world):
    async with on_ours(world.app) as url:
        answers = await talk(url, [GET % b"/d/v1/who" + GET % b"/api/v1/who" + LAST % b"/d/v1/who"])
    assert statuses(answers) == [200, 200, 200]
    assert re.findall(rb"\r\n\r\n(ours|hypercorn)", answers) == [b"ours", b"hypercorn", b"hypercorn"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /d/v1/echo\r\n\r\n", 400),
        (b"GET /d/v1/echo HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET /d/v1/echo HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", 400),
        (
            b"POST /d/v1/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\n",
            400,
        ),
        (b"GET /d/v1/echo HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 200_000, 431),
        (b"GET /d/v1/" + b"x" * 200_000, 431),
        (b"GET /s/\xff\x00 HTTP/1.1\r\n\r\n", 400),
        (b"POST /d/v1/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
async def test_what_is_no_http_is_refused(world, sent: bytes, status: int):
    async with on_ours(world.app) as url:
        assert statuses(await talk(url, [sent])) == [status]


async def test_an_answer_reaches_a_client_that_still_sends(world):
    size = 4 << 20
    head = b"POST /d/v1/deaf HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size
    async with on_ours(world.app) as url:
        answers = await talk(url, [head, *[bytes(1 << 16)] * (size >> 16)])
    assert statuses(answers) == [401]
    assert b"connection: close" in answers


async def test_a_short_body_that_nobody_reads_is_skipped(world):
    post = b"POST /d/v1/deaf HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    async with on_ours(world.app) as url:
        assert statuses(await talk(url, [post + post + LAST % b"/d/v1/who"])) == [401, 401, 200]


async def test_a_crash_ends_one_request_only(world):
    async with on_ours(world.app) as url:
        assert statuses(await talk(url, [GET % b"/d/v1/crash" + LAST % b"/d/v1/who"])) == [500, 200]


@pytest.mark.parametrize("begun", [b"", b"GET /d/v1", b"GET /d/v1/who HTTP/1.1\r\nHos"])
async def test_who_sends_nothing_is_hung_up_on(world, begun: bytes):
    async with on_ours(world.app, keep_alive_timeout=0.05) as url:
        assert await talk(url, [begun]) == b""


async def test_a_file_that_became_shorter_ends_the_connection(world, monkeypatch):
    for name, whole in (("small", SMALL), ("large", LARGE)):
        path = world.folder / name
        before = path.stat()
        longer = os.stat_result((*before[:6], len(whole) + 5, *before[7:]))
        monkeypatch.setattr(module.os, "fstat", lambda _fd, known=longer: known)
        monkeypatch.setattr(type(path), "stat", lambda _path, known=longer: known)
        async with on_ours(world.app) as url:
            answer = await talk(url, [GET % f"/s/blob/{name}".encode()])
        monkeypatch.undo()
        assert len(answer.partition(b"\r\n\r\n")[2]) <= len(whole)


async def test_a_request_ends_with_its_client(world):
    async with on_ours(world.app) as url:
        async with connected(url) as stream:
            await stream.send_all(GET % b"/d/v1/wait")
            await world.entered.wait()
        with trio.fail_after(20):
            await world.cancelled.wait()


async def test_who_leaves_in_the_middle_of_a_file_ends_its_request(world):
    (world.folder / "huge").write_bytes(bytes(64 << 20))
    async with on_ours(world.app) as url:
        async with connected(url) as stream:
            await stream.send_all(GET % b"/s/blob/huge")
            await stream.receive_some(10)
        assert statuses(await talk(url, [LAST % b"/d/v1/who"])) == [200]


async def test_a_stop_ends_what_waits_and_lets_finish_what_runs(world):
    async with trio.open_nursery() as nursery:
        waits, runs = trio.Event(), {}

        async def use(url: str) -> None:
            async with connected(url) as idle, connected(url) as busy:
                await idle.send_all(GET % b"/d/v1/who")
                assert b"ours" in await idle.receive_some()
                await busy.send_all(GET % b"/d/v1/wait")
                await world.entered.wait()
                waits.set()
                runs["idle"] = await idle.receive_some()
                world.go_on.set()
                runs["busy"] = await busy.receive_some()

        async with on_ours(world.app, graceful_timeout=20.0) as url:
            nursery.start_soon(use, url)
            await waits.wait()
    assert runs["idle"] == b""
    assert runs["busy"].endswith(b"done")


async def test_a_stop_waits_for_nobody_who_has_the_whole_answer(world):
    async with trio.open_nursery() as nursery:
        stopped = trio.Event()

        async def hold(url: str, task_status) -> None:
            async with connected(url) as stream:
                await stream.send_all(LAST % b"/d/v1/who")
                assert b"ours" in await stream.receive_some()
                task_status.started()
                await stopped.wait()

        async with on_ours(world.app, graceful_timeout=20.0) as url:
            await nursery.start(hold, url)
            began = trio.current_time()
        assert trio.current_time() - began < module._LINGER_S / 2
        stopped.set()


async def test_a_stop_cancels_what_does_not_end(world):
    async with trio.open_nursery() as nursery:

        async def use(url: str) -> None:
            async with connected(url) as busy:
                await busy.send_all(GET % b"/d/v1/wait")
                assert await busy.receive_some() == b""

        async with on_ours(world.app, graceful_timeout=0.1) as url:
            nursery.start_soon(use, url)
            await world.entered.wait()
    assert world.cancelled.is_set()
