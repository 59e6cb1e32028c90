"""The small client: connections are kept, replaced when closed, and never left in a wrong state."""

from __future__ import annotations

import functools

import pytest
import trio

from walle_control.fleet.http import Pool, Server, open_stream
from walle_shared.errors import ConfigError, ConnectionLost

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "x"\r\n\r\nhello'
LAST = OK.replace(b"ETag", b"Connection: close\r\nETag")
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nevents\r\n"


class Peer:
    """Answers every request on a connection with the next of its answers, then hangs up."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.connections = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        while self.answers:
            data = b""
            while not data.endswith(b"\r\n\r\n"):
                more = await stream.receive_some()
                if not more:
                    return
                data += more
            answer = self.answers.pop(0)
            await stream.send_all(answer)
            if answer in (LAST, STREAM) or not answer:
                break
        await stream.aclose()

    async def listen(self, nursery: trio.Nursery) -> Server:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, self.serve, 0, host="127.0.0.1"))
        return Server.of(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")


async def test_a_connection_is_used_again(nursery):
    peer = Peer(OK, OK, OK)
    pool = Pool(await peer.listen(nursery), 2)
    answers = [await pool.request("GET", "/a", kind="a") for _ in range(3)]
    assert {(a.status, a.body, a.headers["etag"]) for a in answers} == {(200, b"hello", '"x"')}
    assert (peer.connections, pool.requests["a"], pool.received_bytes) == (1, 3, 3 * len(OK))
    await pool.close()


async def test_one_that_was_closed_is_replaced(nursery):
    peer = Peer(OK, b"", OK, LAST, OK)
    pool = Pool(await peer.listen(nursery), 1)
    assert [(await pool.request("GET", "/a")).status for _ in range(4)] == [200] * 4
    assert peer.connections == 3
    await pool.close()


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-no\r\n\r\n", OK[:-2]])
async def test_what_is_no_whole_answer_is_a_lost_connection(nursery, answer):
    pool = Pool(await Peer(answer).listen(nursery), 1)
    with pytest.raises(ConnectionLost):
        await pool.request("GET", "/a")


async def test_a_stream_comes_as_it_is_sent(nursery):
    async with open_stream(await Peer(STREAM).listen(nursery), "/s", {}) as (status, stream):
        assert (status, await stream.next_part()) == (200, b"events")
        with pytest.raises(ConnectionLost):
            await stream.next_part()


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://a", "http://", "http://a/b"])
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="is not like"):
        Server.of(url)
