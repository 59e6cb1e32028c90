"""Length-prefixed frames over a Unix socket: the agent's end of a worker's channels.

A light task's run costs the agent little more than one trip through the event loop, and each further one
would show. So the socket is used as it is: what it takes at once is sent without waiting, and one wait comes
before one receive.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

import trio

from walle_container import _vm
from walle_shared.errors import ConnectionLost, LimitExceeded, RemoteProtocolError
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES

_HEADER = struct.Struct("<I")
_RECEIVE_BYTES = 64 * 1024

# A worker takes a frame as soon as its slot reads; one that has not in this time is not reading at all.
SEND_TIMEOUT_S = 5.0


#: What is copied in this time by the thread that asks; more goes to another thread.
COPY_HERE_BYTES = 1 << 20

_DESCRIPTOR = struct.Struct("i")
_ROOM_BYTES = socket.CMSG_SPACE(_DESCRIPTOR.size)


class FrameChannel:
    """Whole frames in, whole frames out, whatever is cancelled.

    A frame may bring a descriptor along, which belongs to whoever takes it.

    Args:
        end: one end of a connected pair of Unix sockets; the channel owns it.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._buffer = bytearray()
        self._attached = -1

    async def send(self, payload: bytes, views: Sequence[memoryview] = ()) -> None:
        """Send one frame. Cancellation is held back until it is out, since half a frame would end the
        channel. Waits, and lets others run, only where the peer has to read first.

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
            data = memoryview(_HEADER.pack(len(payload)) + payload)
            sent = self._send_now(data, shared)
            if sent < len(data):
                await self._send_rest(data[sent:], -1 if sent else shared)
        except (trio.ClosedResourceError, OSError) as error:
            raise ConnectionLost("the worker has closed its channel") from error
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

    def close(self) -> None:
        """Close the socket; the peer sees its end, and whoever waits here is told that it is lost."""
        if (attached := self.take_attached()) >= 0:
            os.close(attached)
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _send_now(self, data: memoryview, shared: int) -> int:
        """Send what the socket takes at once: how many bytes. The first brings the descriptor along."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.pack(shared))] if shared >= 0 else []
        try:
            return self._socket.sendmsg([data], rights)
        except BlockingIOError:
            return 0

    async def _send_rest(self, data: memoryview, shared: int) -> None:
        with trio.move_on_after(SEND_TIMEOUT_S, shield=True) as scope:
            while data:
                await trio.lowlevel.wait_writable(self._open_socket())
                if sent := self._send_now(data, shared):
                    data, shared = data[sent:], -1
        if scope.cancelled_caught:
            raise ConnectionLost(f"the worker has not read its channel for {SEND_TIMEOUT_S:g} s")

    async def _fill(self, size_bytes: int) -> None:
        while len(self._buffer) < size_bytes:
            try:
                await trio.lowlevel.wait_readable(self._open_socket())
                data = self._receive_now()
            except BlockingIOError:
                continue
            except (trio.ClosedResourceError, OSError) as error:
                raise ConnectionLost("the worker's channel broke") from error
            if not data:
                raise ConnectionLost("the worker has closed its channel")
            self._buffer += data

    def _open_socket(self) -> socket.socket:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError
        return self._socket

    def _receive_now(self) -> bytes:
        """Some bytes; keeps the descriptor that comes with them, and closes one too many."""
        data, beside, _, _ = self._socket.recvmsg(_RECEIVE_BYTES, _ROOM_BYTES, socket.MSG_CMSG_CLOEXEC)
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
