"""Length-prefixed frames over a Trio stream: the agent's end of a worker's channels."""

from __future__ import annotations

import struct

import trio

from walle_shared.errors import ConnectionLost, LimitExceeded, RemoteProtocolError
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES

_HEADER = struct.Struct("<I")
_RECEIVE_BYTES = 64 * 1024

# A worker takes a frame as soon as its slot reads; one that has not in this time is not reading at all.
SEND_TIMEOUT_S = 5.0


class FrameChannel:
    """Whole frames in, whole frames out, whatever is cancelled.

    Args:
        stream: any Trio stream; the channel owns it.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def send(self, payload: bytes) -> None:
        """Send one frame. Cancellation is held back until it is out, since half a frame would end the
        channel.

        Raises:
            LimitExceeded: it is larger than a frame may be; nothing was sent.
            ConnectionLost: the peer is gone or does not read.
        """
        if len(payload) > CONTAINER_FRAME_MAX_BYTES:
            raise LimitExceeded(
                f"a container frame has {len(payload)} bytes; "
                f"the limit is {CONTAINER_FRAME_MAX_BYTES}: pass less at once"
            )
        with trio.move_on_after(SEND_TIMEOUT_S, shield=True) as scope:
            try:
                await self._stream.send_all(_HEADER.pack(len(payload)) + payload)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionLost("the worker has closed its channel") from error
        if scope.cancelled_caught:
            raise ConnectionLost(f"the worker has not read its channel for {SEND_TIMEOUT_S:g} s")

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

    async def aclose(self) -> None:
        """Close the stream; the peer sees its end."""
        await self._stream.aclose()

    async def _fill(self, size_bytes: int) -> None:
        while len(self._buffer) < size_bytes:
            try:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionLost("the worker's channel broke") from error
            if not data:
                raise ConnectionLost("the worker has closed its channel")
            self._buffer += data
