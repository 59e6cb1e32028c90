"""Events over HTTP, asked by a real client over a real loopback port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from walle_agent.streams.event import RawEvent
from walle_agent.streams.http_ingest import HttpListener, make_token
from walle_shared.limits import REQUEST_MAX_BYTES


class Served:
    def __init__(self, folder: Path) -> None:
        self.events: list[RawEvent] = []
        self.token = folder / "events.token"
        self.listener = HttpListener(("127.0.0.1", 0), self.token, self.submit)

    async def submit(self, raw: RawEvent) -> None:
        self.events.append(raw)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.port}/events"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token.read_text().strip()}"}


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Served, httpx.AsyncClient]]:
    door = Served(folder)
    async with trio.open_nursery() as nursery:
        await nursery.start(door.listener.run)
        async with httpx.AsyncClient(trust_env=False) as client:
            yield door, client
        nursery.cancel_scope.cancel()


async def test_lines_are_taken_and_complaints_name_theirs(tmp_path: Path) -> None:
    async with served(tmp_path) as (door, client):
        body = b'{"kind": "click", "event_id": "a"}\n\n{"kind": "clck"}\n{"kind": "scroll"}'
        answer = await client.post(door.url, content=body, headers=door.headers)
        again = await client.post(door.url, content=b'{"kind": "click"}', headers=door.headers)
        assert door.listener.statistics().connections == 1
    assert answer.status_code == again.status_code == 200
    assert answer.json()["accepted"] == 2
    (refusal,) = answer.json()["refused"]
    assert refusal["line"] == 3
    assert "event.kind must be one of" in refusal["message"]
    assert [event.kind for event in door.events] == ["click", "scroll", "click"]
    assert door.token.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/events", {"Authorization": "Bearer wrong"}, 401),
        ("POST", "/events", {"Authorization": ""}, 401),
        ("POST", "/events", {"Host": "evil.example:8710"}, 403),
        ("POST", "/events", {"Host": "[", "Origin": "http://evil.example"}, 403),
        ("POST", "/other", {}, 404),
        ("GET", "/events", {}, 405),
    ],
)
async def test_who_may_not_is_refused(
    tmp_path: Path, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with served(tmp_path) as (door, client):
        url = door.url.removesuffix("/events") + path
        answer = await client.request(method, url, content=b"{}", headers=door.headers | headers)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == "http"
    assert door.events == []


async def test_a_body_without_end_is_cut_off(tmp_path: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(REQUEST_MAX_BYTES // 65_536 + 2):
            yield b" " * 65_536

    async with served(tmp_path) as (door, client):
        answer = await client.post(door.url, content=body(), headers=door.headers)
        assert answer.status_code == 413
        assert door.listener.statistics().refused_requests == 1


@pytest.mark.parametrize(
    "rubbish", [b"\x16\x03\x01 not http\r\n\r\n", b"POST /events HTTP/1.1\r\n\r\n", b"G" * 70_000]
)
async def test_rubbish_is_answered_and_harms_nobody(tmp_path: Path, rubbish: bytes) -> None:
    async with served(tmp_path) as (door, client):
        stream = await trio.open_tcp_stream("127.0.0.1", door.listener.port or 0)
        async with stream:
            await stream.send_all(rubbish)
            answer = bytearray()
            async for part in stream:
                answer += part
        assert answer.startswith(b"HTTP/1.1 4")
        assert (await client.post(door.url, content=b"", headers=door.headers)).status_code == 200


def test_a_token_is_kept_and_can_be_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.token"
    token = make_token(path)
    assert make_token(path) == token
    assert len(token) > 40
