"""ASGI applications on real servers: ours and Hypercorn in this event loop, or Hypercorn in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import hypercorn.asyncio
import hypercorn.trio
import trio
from hypercorn.config import Config

from walle_control.web.server import Server


def _listen() -> tuple[socket.socket, str]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


def _config(settings: dict[str, Any]) -> Config:
    config = Config()
    config.accesslog = config.errorlog = None
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def _bound(settings: dict[str, Any]) -> tuple[Config, str]:
    listener, url = _listen()
    return _config({"bind": [f"fd://{listener.detach()}"], **settings}), url


@asynccontextmanager
async def on_ours(app: Any, **settings: Any) -> AsyncIterator[str]:
    """Serve an application as ``walle-control`` does; its URL."""
    listener, url = _listen()
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(app, _config({"bind": [], **settings})).serve, listener, stop.wait)
        try:
            yield url
        finally:
            stop.set()


@asynccontextmanager
async def on_trio(app: Any, **settings: Any) -> AsyncIterator[str]:
    """Serve an application; its URL."""
    config, url = _bound(settings)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(hypercorn.trio.serve, app, config, shutdown_trigger=stop.wait, mode="asgi")
        )
        try:
            yield url
        finally:
            stop.set()


@contextmanager
def on_asyncio(app: Any, **settings: Any) -> Iterator[str]:
    """Serve an application in a thread; its URL."""
    config, url = _bound(settings)
    stop: list[Any] = []
    started = threading.Event()

    async def serve() -> None:
        ended = asyncio.Event()
        stop.append(partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set))
        started.set()
        await hypercorn.asyncio.serve(app, config, shutdown_trigger=ended.wait, mode="asgi")

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait()
    try:
        yield url
    finally:
        stop[0]()
        thread.join()
