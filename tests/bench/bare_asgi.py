"""An application that does nothing, on our server or on Hypercorn: what a request costs before any of ours.

python bare_asgi.py PORT ours | Hypercorn
"""

from __future__ import annotations

import socket
import sys
from functools import partial
from typing import Any

import hypercorn.trio
import trio
from hypercorn.config import Config
from starlette.types import Receive, Scope, Send

from walle_control.web.server import Server


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, say that it was well."""
    assert scope["type"] == "http"
    while (await receive()).get("more_body", False):
        pass
    body = b'{"accepted":1,"duplicates":0}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _serve(port: int, server: str) -> None:
    config = Config()
    config.accesslog = config.errorlog = None
    config.include_server_header = False
    listener = socket.create_server(("127.0.0.1", port))
    if server == "ours":
        config.bind = []
        await Server(_answer, config).serve(listener, trio.sleep_forever)
    else:
        config.bind = [f"fd://{listener.detach()}"]
        app: Any = _answer
        await partial(hypercorn.trio.serve, app, config, mode="asgi")()


if __name__ == "__main__":
    trio.run(_serve, int(sys.argv[1]), sys.argv[2])
