"""Whole frames over a pair of sockets, whatever is cut off or cancelled."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from walle_container.channel import SEND_TIMEOUT_S, FrameChannel
from walle_shared.errors import ConnectionLost, LimitExceeded, RemoteProtocolError
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)  # takes little before its peer has to read
    yield left, right
    left.close()
    right.close()


@pytest.fixture
def left(ends: tuple[socket.socket, socket.socket]) -> socket.socket:
    return ends[0]


@pytest.fixture
def right(ends: tuple[socket.socket, socket.socket]) -> socket.socket:
    return ends[1]


LARGE = b"x" * 400_000


async def test_frames_arrive_whole_and_in_order(left: socket.socket, right: socket.socket):
    sender, receiver = FrameChannel(left), FrameChannel(right)
    frames = [b"", b"one", LARGE, b"two"]

    async def send() -> None:
        for frame in frames:
            await sender.send(frame)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert [await receiver.receive() for _ in frames] == frames


async def test_a_small_frame_is_sent_without_waiting(left: socket.socket, right: socket.socket):
    with trio.CancelScope() as scope:
        scope.cancel()
        await FrameChannel(left).send(b"one")
    assert await FrameChannel(right).receive() == b"one"


@pytest.mark.parametrize("size", [3, 400_000])
async def test_shared_memory_arrives_with_its_frame(left: socket.socket, right: socket.socket, size: int):
    sender, receiver = FrameChannel(left), FrameChannel(right)
    for expected in (b"numbers", b"others!"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.send, b"y" * size, [memoryview(expected)])
            assert len(await receiver.receive()) == size
        attached = receiver.take_attached()
        assert os.pread(attached, 7, 0) == expected
        os.close(attached)
        assert receiver.take_attached() == -1


async def test_a_cancelled_receive_loses_nothing(
    left: socket.socket, right: socket.socket, autojump_clock: trio.testing.MockClock
):
    receiver = FrameChannel(right)
    for part in (b"\x05\0", b"\0\0he", b"l"):
        left.sendall(part)
        with trio.move_on_after(1) as scope:
            await receiver.receive()
        assert scope.cancelled_caught
    left.sendall(b"lo")
    assert await receiver.receive() == b"hello"


@pytest.mark.parametrize("sent", [b"", b"\x05\0", b"\x05\0\0\0hel"])
async def test_an_end_in_the_middle_is_a_lost_connection(
    left: socket.socket, right: socket.socket, sent: bytes
):
    left.sendall(sent)
    left.close()
    with pytest.raises(ConnectionLost):
        await FrameChannel(right).receive()


@pytest.mark.parametrize("frame", [b"x", LARGE])
async def test_sending_to_a_closed_peer_is_a_lost_connection(
    left: socket.socket, right: socket.socket, frame: bytes
):
    right.close()
    with pytest.raises(ConnectionLost):
        await FrameChannel(left).send(frame)


async def test_closing_tells_those_who_wait_and_those_who_come(left: socket.socket, right: socket.socket):
    receiver = FrameChannel(right)

    async def wait() -> None:
        with pytest.raises(ConnectionLost):
            await receiver.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        receiver.close()
    receiver.close()
    with pytest.raises(ConnectionLost):
        await receiver.send(b"x")
    with pytest.raises(ConnectionLost):
        await receiver.receive()


async def test_too_large_frames_are_refused_both_ways(left: socket.socket, right: socket.socket):
    with pytest.raises(LimitExceeded, match=str(CONTAINER_FRAME_MAX_BYTES)):
        await FrameChannel(left).send(bytes(CONTAINER_FRAME_MAX_BYTES + 1))
    left.sendall(struct.pack("<I", CONTAINER_FRAME_MAX_BYTES + 1))
    with pytest.raises(RemoteProtocolError, match=str(CONTAINER_FRAME_MAX_BYTES)):
        await FrameChannel(right).receive()


async def test_a_peer_that_does_not_read_is_lost_after_a_while(
    left: socket.socket, right: socket.socket, autojump_clock: trio.testing.MockClock
):
    began_s = trio.current_time()
    with pytest.raises(ConnectionLost, match="not read"):
        await FrameChannel(left).send(LARGE)
    assert trio.current_time() - began_s == pytest.approx(SEND_TIMEOUT_S)


async def test_cancellation_does_not_cut_a_frame(
    left: socket.socket, right: socket.socket, autojump_clock: trio.testing.MockClock
):
    received = []

    async def read_late() -> None:
        await trio.sleep(2)
        received.append(await FrameChannel(right).receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_late)
        with trio.move_on_after(1):
            await FrameChannel(left).send(LARGE)
    assert received == [LARGE]
