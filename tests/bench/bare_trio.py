"""Servers that do nothing but what they are compared for: a file, a broadcast. What Trio itself can do.

python bare_trio.py PORT file PATH | hub
"""

from __future__ import annotations

import sys

import trio


async def _serve_file(port: int, path: str) -> None:
    body = await trio.Path(path).read_bytes()
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def converse(stream: trio.SocketStream) -> None:
        async for data in stream:
            for _ in range(data.count(b"\r\n\r\n")):
                await stream.send_all(answer)
                await stream.send_all(body)

    await trio.serve_tcp(converse, port, host="127.0.0.1")


async def _serve_hub(port: int) -> None:
    """A hub whose broadcast is a loop of sends; an event is one chunk."""
    event = b"event: epoch\ndata: 1234\n\n"
    chunk = b"%x\r\n%s\r\n" % (len(event), event)
    streams: list[trio.SocketStream] = []

    async def converse(stream: trio.SocketStream) -> None:
        request = await stream.receive_some(4096)
        if request.startswith(b"POST"):
            for each in streams:
                await each.send_all(chunk)
            return
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        streams.append(stream)
        await stream.receive_some(1)
        streams.remove(stream)

    await trio.serve_tcp(converse, port, host="127.0.0.1")


if __name__ == "__main__":
    if sys.argv[2] == "hub":
        trio.run(_serve_hub, int(sys.argv[1]))
    else:
        trio.run(_serve_file, int(sys.argv[1]), sys.argv[3])
