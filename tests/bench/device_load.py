"""Many devices from one process: raw sockets and one poll loop, so that the servers are what is measured.

``Streams``: hold push streams and count what arrives on them. ``run_cycles``: what a device does on a push,
each on a connection of its own: ask for the epoch, fetch a file, check its digest, report. ``run_requests``:
requests on connections that stay.
"""

from __future__ import annotations

import hashlib
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import orjson

_CONNECTING = 256
_READ_BYTES = 1 << 18
_PATIENCE_S = 120.0


@dataclass
class Stream:
    """One push stream, and how often it said ``data:``."""

    sock: socket.socket
    heard: int = 0


class Streams:
    """Push streams held at one address."""

    def __init__(self, address: tuple[str, int], credentials: Sequence[str]) -> None:
        self._selector = selectors.DefaultSelector()
        self.streams: list[Stream] = []
        for at in range(0, len(credentials), _CONNECTING):
            for credential in credentials[at : at + _CONNECTING]:
                self._open(address, credential)
            self.wait_heard(1)

    def _open(self, address: tuple[str, int], credential: str) -> None:
        sock = socket.create_connection(address, timeout=_PATIENCE_S)
        sock.sendall(
            b"GET /d/v1/stream HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n"
            b"Authorization: Bearer %s\r\n\r\n" % credential.encode()
        )
        sock.setblocking(False)
        stream = Stream(sock)
        self.streams.append(stream)
        self._selector.register(sock, selectors.EVENT_READ, stream)

    def wait_heard(self, count: int) -> float:
        """Read until every stream has heard so many events; the moment of the last."""
        waiting = sum(stream.heard < count for stream in self.streams)
        deadline = time.monotonic() + _PATIENCE_S
        while waiting:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{waiting} of {len(self.streams)} streams did not hear event {count}")
            for key, _ in self._selector.select(1.0):
                stream: Stream = key.data
                data = stream.sock.recv(_READ_BYTES)
                if not data or b" 503 " in data[:20]:
                    raise ConnectionError(f"a stream ended: {data[:200]!r}")
                before = stream.heard
                stream.heard += data.count(b"data:")
                waiting -= before < count <= stream.heard
        return time.perf_counter()

    def close(self) -> None:
        """Hang up."""
        for stream in self.streams:
            stream.sock.close()
        self._selector.close()


@dataclass
class Cycle:
    """One device on its way through its requests."""

    requests: list[bytes]
    sock: socket.socket
    step: int = 0
    got: bytearray = field(default_factory=bytearray)


def run_cycles(
    address: tuple[str, int], devices: Sequence[Sequence[bytes]], blob_sha256: str, at_once: int
) -> float:
    """Let each device make its requests, ``at_once`` of them side by side; how long it took.

    Raises:
        ConnectionError: a server said anything but 200.
        ValueError: a file was not what its digest says.
    """
    selector = selectors.DefaultSelector()
    waiting = iter(devices)
    running = 0
    start = time.perf_counter()
    for requests in _take(waiting, at_once):
        _start(selector, address, requests)
        running += 1
    while running:
        for key, _ in selector.select(5.0):
            cycle: Cycle = key.data
            if not _advance(cycle, blob_sha256):
                continue
            selector.unregister(cycle.sock)
            cycle.sock.close()
            running -= 1
            for requests in _take(waiting, 1):
                _start(selector, address, requests)
                running += 1
    selector.close()
    return time.perf_counter() - start


def _start(selector: selectors.BaseSelector, address: tuple[str, int], requests: Sequence[bytes]) -> None:
    sock = socket.create_connection(address, timeout=_PATIENCE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(requests[0])
    sock.setblocking(False)
    selector.register(sock, selectors.EVENT_READ, Cycle(list(requests), sock))


def _advance(cycle: Cycle, blob_sha256: str) -> bool:
    """Take in what came; whether the device is done."""
    data = cycle.sock.recv(_READ_BYTES)
    if not data:
        raise ConnectionError(f"hung up in step {cycle.step}: {bytes(cycle.got[:200])!r}")
    cycle.got += data
    head_end = cycle.got.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    head = bytes(cycle.got[:head_end]).lower()
    if b" 200 " not in head[:20]:
        raise ConnectionError(f"step {cycle.step}: {bytes(cycle.got[:300])!r}")
    at = head.index(b"content-length: ") + 16
    size = int(head[at : at + 12].split(b"\r")[0])
    if len(cycle.got) < head_end + 4 + size:
        return False
    if blob_sha256 and size >= 65536 and hashlib.sha256(cycle.got[head_end + 4 :]).hexdigest() != blob_sha256:
        raise ValueError("the file is not what its digest says")
    cycle.got.clear()
    cycle.step += 1
    if cycle.step == len(cycle.requests):
        return True
    cycle.sock.sendall(cycle.requests[cycle.step])
    return False


def run_requests(address: tuple[str, int], requests: Sequence[Sequence[bytes]]) -> float:
    """Make requests one after the other on each of several connections that stay; how long it took.

    Raises:
        ConnectionError: a server said anything but 200, or hung up.
    """
    selector = selectors.DefaultSelector()
    cycles = []
    for listed in requests:
        sock = socket.create_connection(address, timeout=_PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cycles.append(Cycle(list(listed), sock))
    start = time.perf_counter()
    for cycle in cycles:
        cycle.sock.sendall(cycle.requests[0])
        cycle.sock.setblocking(False)
        selector.register(cycle.sock, selectors.EVENT_READ, cycle)
    running = len(cycles)
    while running:
        for key, _ in selector.select(5.0):
            if _advance(key.data, ""):
                selector.unregister(key.fileobj)
                running -= 1
    spent = time.perf_counter() - start
    for cycle in cycles:
        cycle.sock.close()
    selector.close()
    return spent


def _take[T](items: Iterator[T], count: int) -> Iterator[T]:
    for _ in range(count):
        try:
            yield next(items)
        except StopIteration:
            return


def get(path: str, credential: str = "") -> bytes:
    """A request for a file."""
    who = f"Authorization: Bearer {credential}\r\n" if credential else ""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n{who}\r\n".encode()


def post_report(credential: str, report_id: str, release: str) -> bytes:
    """A request that reports a good installation."""
    report = {
        "report_id": report_id, "release_id": release, "task": "greeter", "version": "1.0.0",
        "stage": "install", "outcome": "success", "attempt": 1, "at_ms": 5, "duration_ms": 1.0,
    }  # fmt: skip
    body = orjson.dumps({"reports": [report]})
    return (
        b"POST /d/v1/reports HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s" % (credential.encode(), len(body), body)
    )
