"""The upload tunnel: binary frames over one WebSocket, each WebSocket message one frame.

::

    frame   = kind u8 | class u8 | seq u64 | payload          (integers big-endian)
    HELLO     class 0, seq = protocol version, payload = JSON Hello            device -> cloud, first frame
    DATA      one record; payload = zlib stream of JSON Record                 device -> cloud
    TOMBSTONE payload = last seq u64: records seq..last were evicted unsent    device -> cloud
    ACK       everything of this class up to and including seq is committed    cloud -> device
    GOODBYE   payload = JSON GoodbyeNotice                                     cloud -> device
    PACE      seq = frames the device may have unacknowledged from now on,     cloud -> device
              payload = JSON PaceNotice; only to devices whose HELLO says they understand "pace"
    WELCOME .. TAKEN  questions to the cloud half of a task, and answers: see ``asks``

Sequence numbers start at 1, rise by one per class and store incarnation, and a tombstone consumes the numbers
it covers, so the receiver can tell "lost on purpose" from "still to come". Delivery is at least once; the
receiver drops what it has seen by (device, incarnation, class, seq), and its memory of that commits together
with the record. The device has at most ``limits.TUNNEL_WINDOW_FRAMES`` frames unacknowledged, and sends no
more once they hold ``limits.TUNNEL_WINDOW_BYTES``. A cloud whose stores lag says PACE: it is alive, has less
room, and the device's patience begins anew.

One deflate stream per connection and direction is flushed at each frame: repeated member names cost a few
bytes. It carries one device's records only, never text of another party beside a secret.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from walle_shared.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from walle_shared.limits import FRAME_MAX_BYTES, FRAME_MAX_INFLATED_BYTES
from walle_shared.tracing import TRACEPARENT, TraceContext, parse_traceparent

_HEAD = struct.Struct(">BBQ")
_U64 = struct.Struct(">Q")


class FrameKind(IntEnum):
    """What a frame is."""

    HELLO = 1
    DATA = 2
    TOMBSTONE = 3
    ACK = 4
    GOODBYE = 5
    PACE = 6
    WELCOME = 7
    ASK = 8
    ASK_DATA = 9
    CANCEL = 10
    ANSWER = 11
    PUSH = 12
    TAKEN = 13


class TunnelClass(IntEnum):
    """Priority class: lower goes first, each has its own sequence."""

    REALTIME = 0
    BATCH = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, payload still encoded."""

    kind: FrameKind
    klass: TunnelClass
    seq: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who speaks: the random name of the device's store, renewed whenever the store is made anew.

    ``first`` names, by class (``"REALTIME": 17``), the lowest number that may still come: what lies below was
    acknowledged once. A receiver that was restored from an older backup learns from it what it has lost, and
    does not wait for ever. ``understands`` lists optional frames that may be sent to the device.
    """

    incarnation: str
    first: Mapping[str, int] = field(default_factory=dict)
    understands: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PaceNotice:
    """Why the cloud changes the pace; empty once all is well again."""

    reason: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


#: The word of ``Hello.understands`` for PACE frames.
PACE = "pace"


@dataclass(frozen=True, slots=True)
class Record:
    """One feature on its way to the cloud; ``fields`` holds only what the task's manifest declares."""

    scenario: str
    task: str
    version: str
    release_id: str
    name: str
    at_ms: int
    fields: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trace(self) -> TraceContext | None:
        """The trace of the run that made it, if it is one of those that are followed."""
        context = parse_traceparent(self.extra.get(TRACEPARENT))
        return context if context is not None and context.sampled else None


def encode_frame(frame: Frame) -> bytes:
    """Encode one frame.

    Raises:
        LocalProtocolError: longer than ``FRAME_MAX_BYTES``.
    """
    data = _HEAD.pack(frame.kind, frame.klass, frame.seq) + frame.payload
    if len(data) > FRAME_MAX_BYTES:
        raise LocalProtocolError(f"tunnel frame of {len(data)} bytes is over the limit of {FRAME_MAX_BYTES}")
    return data


def decode_frame(data: bytes) -> Frame:
    """Decode one frame from the peer.

    Raises:
        RemoteProtocolError: too short, of unknown kind or class.
        LimitExceeded: too long.
    """
    if len(data) > FRAME_MAX_BYTES:
        raise LimitExceeded(f"tunnel frame of {len(data)} bytes is over the limit of {FRAME_MAX_BYTES}")
    if len(data) < _HEAD.size:
        raise RemoteProtocolError(
            f"tunnel frame of {len(data)} bytes has no room for its head of {_HEAD.size}"
        )
    kind, klass, seq = _HEAD.unpack_from(data)
    try:
        return Frame(FrameKind(kind), TunnelClass(klass), seq, data[_HEAD.size :])
    except ValueError as error:
        raise RemoteProtocolError(f"tunnel frame: {error}") from None


def tombstone_payload(last_seq: int) -> bytes:
    """Payload of a TOMBSTONE frame."""
    return _U64.pack(last_seq)


def tombstone_last(frame: Frame) -> int:
    """Last sequence number a TOMBSTONE frame covers.

    Raises:
        RemoteProtocolError: malformed, or ending before it starts.
    """
    if len(frame.payload) != _U64.size:
        raise RemoteProtocolError("tombstone frame must carry exactly one u64")
    last: int = _U64.unpack(frame.payload)[0]
    if last < frame.seq:
        raise RemoteProtocolError(f"tombstone ends at {last}, before it starts at {frame.seq}")
    return last


class Deflater:
    """The sending half of a connection's compression; start a new one per connection."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(6)

    def compress(self, data: bytes) -> bytes:
        """Compress one record so that the receiver can read it at once."""
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)


class Inflater:
    """The receiving half; refuses payloads that inflate beyond ``FRAME_MAX_INFLATED_BYTES``."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    def decompress(self, data: bytes) -> bytes:
        """Inflate one record.

        Raises:
            RemoteProtocolError: not the next part of the stream.
            LimitExceeded: it would grow too large; the connection must be closed, the stream is lost.
        """
        try:
            plain = self._stream.decompress(data, FRAME_MAX_INFLATED_BYTES)
        except zlib.error as error:
            raise RemoteProtocolError(f"tunnel payload does not inflate: {error}") from None
        if self._stream.unconsumed_tail:
            raise LimitExceeded(f"tunnel payload inflates beyond {FRAME_MAX_INFLATED_BYTES} bytes")
        return plain
