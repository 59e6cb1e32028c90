"""The tunnel's WebSocket against a real server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio_websocket

from walle_agent.link.exchange import CredentialRefused
from walle_agent.link.transport import Transport
from walle_shared.errors import ConnectionLost, RemoteProtocolError
from walle_shared.limits import FRAME_MAX_BYTES


async def converse(request: trio_websocket.WebSocketRequest) -> None:
    """Refuse strangers; echo frames; say text or leave when asked to."""
    if dict(request.headers).get(b"authorization") != b"Bearer good" or request.path != "/d/v1/tunnel":
        await request.reject(401, body=b"{}")
        return
    socket = await request.accept()
    try:
        while True:
            message = await socket.get_message()
            if message == b"leave":
                await socket.aclose()
                return
            await socket.send_message("text" if message == b"text" else message)
    except trio_websocket.ConnectionClosed:
        return


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        listening: trio_websocket.WebSocketServer = await nursery.start(
            trio_websocket.serve_websocket, converse, "127.0.0.1", 0, None
        )
        yield f"http://127.0.0.1:{listening.port}"
        nursery.cancel_scope.cancel()


async def test_frames_go_both_ways() -> None:
    async with server() as url, Transport(url) as transport, transport.connect_tunnel("good") as channel:
        for frame in (b"", b"frame", b"x" * FRAME_MAX_BYTES):
            await channel.send(frame)
            assert await channel.receive() == frame


async def test_a_bad_credential_is_refused_by_type() -> None:
    async with server() as url, Transport(url) as transport:
        with pytest.raises(CredentialRefused):
            async with transport.connect_tunnel("bad"):
                pytest.fail("it was let in")


async def test_text_is_against_the_protocol() -> None:
    async with server() as url, Transport(url) as transport, transport.connect_tunnel("good") as channel:
        await channel.send(b"text")
        with pytest.raises(RemoteProtocolError):
            await channel.receive()


async def test_a_peer_that_leaves_is_a_lost_connection() -> None:
    async with server() as url, Transport(url) as transport, transport.connect_tunnel("good") as channel:
        await channel.send(b"leave")
        with pytest.raises(ConnectionLost):
            await channel.receive()
        with pytest.raises(ConnectionLost):
            await channel.send(b"more")


async def test_nobody_there_is_a_lost_connection() -> None:
    async with Transport("http://127.0.0.1:9") as transport:
        with pytest.raises(ConnectionLost, match="the tunnel"):
            async with transport.connect_tunnel("good"):
                pytest.fail("nobody is there")
