"""Whole frames over any stream, whatever is cut off or cancelled."""

from __future__ import annotations

import struct

import pytest
import trio
import trio.testing

from walle_container.channel import SEND_TIMEOUT_S, FrameChannel
from walle_shared.errors import ConnectionLost, LimitExceeded, RemoteProtocolError
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES


async def test_frames_arrive_whole_and_in_order():
    left, right = trio.testing.memory_stream_pair()
    sender, receiver = FrameChannel(left), FrameChannel(right)
    frames = [b"", b"one", b"x" * 200_000]
    for frame in frames:
        await sender.send(frame)
    assert [await receiver.receive() for _ in frames] == frames


async def test_a_cancelled_receive_loses_nothing(autojump_clock: trio.testing.MockClock):
    left, right = trio.testing.memory_stream_pair()
    receiver = FrameChannel(right)
    for part in (b"\x05\0", b"\0\0he", b"l"):
        await left.send_all(part)
        with trio.move_on_after(1) as scope:
            await receiver.receive()
        assert scope.cancelled_caught
    await left.send_all(b"lo")
    assert await receiver.receive() == b"hello"


@pytest.mark.parametrize("sent", [b"", b"\x05\0", b"\x05\0\0\0hel"])
async def test_an_end_in_the_middle_is_a_lost_connection(sent: bytes):
    left, right = trio.testing.memory_stream_pair()
    if sent:
        await left.send_all(sent)
    await left.aclose()
    with pytest.raises(ConnectionLost):
        await FrameChannel(right).receive()


async def test_sending_to_a_closed_peer_is_a_lost_connection():
    left, right = trio.testing.memory_stream_pair()
    await right.aclose()
    with pytest.raises(ConnectionLost):
        await FrameChannel(left).send(b"x")


async def test_too_large_frames_are_refused_both_ways():
    left, right = trio.testing.memory_stream_pair()
    with pytest.raises(LimitExceeded, match=str(CONTAINER_FRAME_MAX_BYTES)):
        await FrameChannel(left).send(bytes(CONTAINER_FRAME_MAX_BYTES + 1))
    await left.send_all(struct.pack("<I", CONTAINER_FRAME_MAX_BYTES + 1))
    with pytest.raises(RemoteProtocolError, match=str(CONTAINER_FRAME_MAX_BYTES)):
        await FrameChannel(right).receive()


async def test_a_peer_that_does_not_read_is_lost_after_a_while(autojump_clock: trio.testing.MockClock):
    left, _right = trio.testing.lockstep_stream_pair()
    began_s = trio.current_time()
    with pytest.raises(ConnectionLost, match="not read"):
        await FrameChannel(left).send(b"x")
    assert trio.current_time() - began_s == pytest.approx(SEND_TIMEOUT_S)


async def test_cancellation_does_not_cut_a_frame(autojump_clock: trio.testing.MockClock):
    left, right = trio.testing.lockstep_stream_pair()
    received = []

    async def read_late() -> None:
        await trio.sleep(2)
        received.append(await FrameChannel(right).receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_late)
        with trio.move_on_after(1):
            await FrameChannel(left).send(b"whole")
    assert received == [b"whole"]
