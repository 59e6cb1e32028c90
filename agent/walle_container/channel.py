"""Length-prefixed frames over a Trio stream: the agent's end of a worker's channels."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

import trio

from walle_container import _vm
from walle_shared.errors import ConnectionLost, LimitExceeded, LocalProtocolError, RemoteProtocolError
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES

_HEADER = struct.Struct("<I")
_RECEIVE_BYTES = 64 * 1024

# A worker takes a frame as soon as its slot reads; one that has not in this time is not reading at all.
SEND_TIMEOUT_S = 5.0


#: What is copied in this time by the thread that asks; more goes to another thread.
COPY_HERE_BYTES = 1 << 20

_DESCRIPTOR = struct.Struct("i")


class FrameChannel:
    """Whole frames in, whole frames out, whatever is cancelled.

    Over a Unix socket a frame may bring a descriptor along, which belongs to whoever takes it.

    Args:
        stream: any Trio stream; the channel owns it. Only over a ``SocketStream`` do descriptors go.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._attached = -1

    async def send(self, payload: bytes, views: Sequence[memoryview] = ()) -> None:
        """Send one frame. Cancellation is held back until it is out, since half a frame would end the
        channel.

        Args:
            payload: the frame.
            views: what goes beside it, as shared memory.

        Raises:
            LimitExceeded: it is larger than a frame may be; nothing was sent.
            ConnectionLost: the peer is gone or does not read.
        """
        if len(payload) > CONTAINER_FRAME_MAX_BYTES:
            raise LimitExceeded(
                f"a container frame has {len(payload)} bytes; "
                f"the limit is {CONTAINER_FRAME_MAX_BYTES}: pass less at once"
            )
        shared = await _share(views)
        try:
            with trio.move_on_after(SEND_TIMEOUT_S, shield=True) as scope:
                try:
                    await self._send_all(_HEADER.pack(len(payload)) + payload, shared)
                except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
                    raise ConnectionLost("the worker has closed its channel") from error
            if scope.cancelled_caught:
                raise ConnectionLost(f"the worker has not read its channel for {SEND_TIMEOUT_S:g} s")
        finally:
            if shared >= 0:
                os.close(shared)

    async def receive(self) -> bytes:
        """Receive one frame; cancelling loses nothing, the next call goes on where this one stopped.

        Raises:
            ConnectionLost: the peer is gone.
            RemoteProtocolError: it announced a frame that is too large.
        """
        await self._fill(_HEADER.size)
        (size_bytes,) = _HEADER.unpack_from(self._buffer)
        if size_bytes > CONTAINER_FRAME_MAX_BYTES:
            raise RemoteProtocolError(
                f"a worker announced a frame of {size_bytes} bytes; the limit is {CONTAINER_FRAME_MAX_BYTES}"
            )
        await self._fill(_HEADER.size + size_bytes)
        frame = bytes(self._buffer[_HEADER.size : _HEADER.size + size_bytes])
        del self._buffer[: _HEADER.size + size_bytes]
        return frame

    def take_attached(self) -> int:
        """The descriptor that has come with the last frame, now the caller's; -1 for none."""
        attached, self._attached = self._attached, -1
        return attached

    async def aclose(self) -> None:
        """Close the stream; the peer sees its end."""
        if (attached := self.take_attached()) >= 0:
            os.close(attached)
        await self._stream.aclose()

    async def _send_all(self, data: bytes, shared: int) -> None:
        if shared >= 0:
            if not isinstance(self._stream, trio.SocketStream):
                raise LocalProtocolError("this channel takes no tensors")
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.pack(shared))
            sent = await self._stream.socket.sendmsg([data[:1]], [rights])
            data = data[sent:]
        await self._stream.send_all(data)

    async def _fill(self, size_bytes: int) -> None:
        while len(self._buffer) < size_bytes:
            try:
                data = await self._receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
                raise ConnectionLost("the worker's channel broke") from error
            if not data:
                raise ConnectionLost("the worker has closed its channel")
            self._buffer += data

    async def _receive_some(self) -> bytes:
        """Some bytes; keeps the descriptor that comes with them, and closes one too many."""
        if not isinstance(self._stream, trio.SocketStream):
            return bytes(await self._stream.receive_some(_RECEIVE_BYTES))
        room = socket.CMSG_SPACE(_DESCRIPTOR.size)
        data, beside, _, _ = await self._stream.socket.recvmsg(_RECEIVE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                for (descriptor,) in _DESCRIPTOR.iter_unpack(content[: len(content) // 4 * 4]):
                    if (before := self.take_attached()) >= 0:
                        os.close(before)
                    self._attached = descriptor
        return data


async def _share(views: Sequence[memoryview]) -> int:
    """The descriptor of memory with a copy of the views; -1 where there are none."""
    if not views:
        return -1
    if sum(view.nbytes for view in views) <= COPY_HERE_BYTES:
        return _vm.share(views)
    return await trio.to_thread.run_sync(_vm.share, views)
