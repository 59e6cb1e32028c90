"""The cloud's half of the upload tunnel, without sockets and without a database.

Rules:

1. ``TunnelReceiver`` lives as long as one connection. It decodes frames in the order they arrived and decides
   nothing: the same record may come out of it twice.
2. ``SequenceLedger`` lives as long as the sink remembers one (device, incarnation). It alone decides what is
   new. Load it, ask it and save it inside the transaction that writes the records, so that neither can be
   kept without the other, even when two connections of one device overlap.
3. An acknowledgement is made from a ledger whose transaction has committed, never from one that may still
   roll back.

How a sink uses them::

    receiver = TunnelReceiver()
    hello = receiver.receive(first_frame)                # HelloReceived
    ...
    items = [receiver.receive(frame), ...]               # RecordReceived | TombstoneReceived
    with transaction:
        ledger = SequenceLedger.from_plain(load(device, hello.incarnation))
        lost = ledger.settle(hello)                      # once per connection; 0 unless this sink forgot
        for item in items:
            fresh = ledger.admit(item)                   # 0: seen before
            ...
        save(device, hello.incarnation, ledger.to_plain())
    for frame in ack_frames(ledger, items):
        await send(frame)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from walle_shared.errors import LimitExceeded, RemoteProtocolError, StorageError
from walle_shared.limits import CLOUD_ASKS_OPEN_MAX, TUNNEL_GAPS_MAX
from walle_shared.protocol.asks import ASKING, AskEvent, AskReceiver
from walle_shared.protocol.codec import decode, encode
from walle_shared.protocol.messages import GoodbyeNotice
from walle_shared.protocol.tunnel import (
    Frame,
    FrameKind,
    Hello,
    Inflater,
    PaceNotice,
    Record,
    TunnelClass,
    decode_frame,
    encode_frame,
    tombstone_last,
)
from walle_shared.protocol.version import PROTOCOL_VERSION

#: Sequence numbers and times end where a signed 64-bit database column does.
_INT_MAX = 2**63 - 1
_INCARNATION = re.compile(r"[A-Za-z0-9_\-]{1,64}")


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """The connection's first frame: whose ledger to load, and the lowest number of each class to come."""

    incarnation: str
    first: Mapping[TunnelClass, int] = field(default_factory=dict)
    understands: frozenset[str] = frozenset()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordReceived:
    """A record, perhaps one that was received before: the ledger knows."""

    klass: TunnelClass
    seq: int
    record: Record

    @property
    def last_seq(self) -> int:
        """A record covers its own number only."""
        return self.seq


@dataclass(frozen=True, slots=True)
class TombstoneReceived:
    """Records ``seq`` to ``last_seq`` were evicted on the device and will never come."""

    klass: TunnelClass
    seq: int
    last_seq: int


Received = HelloReceived | RecordReceived | TombstoneReceived | AskEvent


class TunnelReceiver:
    """Decodes one connection's frames.

    Any error it raises ends the connection: the compression stream cannot be picked up again, and the device
    resends what was not acknowledged.
    """

    def __init__(self) -> None:
        self._inflater = Inflater()
        self._greeted = False
        # The device may have an answer, and ask again, a moment before it counts as sent here.
        self.asks = AskReceiver(2 * CLOUD_ASKS_OPEN_MAX)

    def receive(self, data: bytes) -> Received | None:
        """Decode the next frame; None for a part of something that is still to come.

        Raises:
            RemoteProtocolError: malformed, out of order, of another protocol version, or a frame that only
                the cloud may send.
            LimitExceeded: too large, packed or unpacked.
        """
        frame = decode_frame(data)
        if not self._greeted:
            return self._receive_hello(frame)
        if frame.kind is FrameKind.DATA:
            return self._receive_record(frame)
        if frame.kind is FrameKind.TOMBSTONE:
            return TombstoneReceived(frame.klass, _check_seq(frame.seq), _check_seq(tombstone_last(frame)))
        if frame.kind in ASKING:
            return self.asks.receive(frame)
        raise RemoteProtocolError(f"tunnel frame {frame.kind.name} is not for the cloud after HELLO")

    def _receive_hello(self, frame: Frame) -> HelloReceived:
        if frame.kind is not FrameKind.HELLO:
            raise RemoteProtocolError(f"tunnel must open with HELLO, not {frame.kind.name}")
        if frame.seq != PROTOCOL_VERSION:
            raise RemoteProtocolError(
                f"tunnel protocol {frame.seq} is not {PROTOCOL_VERSION}: update the older side"
            )
        hello = decode(Hello, frame.payload)
        if not _INCARNATION.fullmatch(hello.incarnation):
            raise RemoteProtocolError("tunnel incarnation must be 1 to 64 letters, digits, '_' or '-'")
        self._greeted = True
        understands = frozenset(hello.understands)
        return HelloReceived(hello.incarnation, _check_first(hello.first), understands, hello.extra)

    def _receive_record(self, frame: Frame) -> RecordReceived:
        record = decode(Record, self._inflater.decompress(frame.payload))
        if not 0 <= record.at_ms <= _INT_MAX:
            raise RemoteProtocolError("tunnel record: at_ms is out of range")
        return RecordReceived(frame.klass, _check_seq(frame.seq), record)


class SequenceLedger:
    """Which sequence numbers of one (device, incarnation) the sink has.

    Per class: every number up to ``contiguous``, and a few ranges beyond it. A device sends in order, so the
    ranges stay empty but for overlapping connections; their number is capped because the peer is not trusted.
    """

    def __init__(self) -> None:
        self._lines = {klass: _Line() for klass in TunnelClass}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any] | None) -> SequenceLedger:
        """Rebuild from ``to_plain``'s value; ``None`` for a pair never heard of.

        Raises:
            StorageError: what was stored is not a ledger.
        """
        ledger = cls()
        try:
            for name, saved in (plain or {}).items():
                line = ledger._lines[TunnelClass[name]]
                line.contiguous = int(saved["contiguous"])
                line.beyond = [(int(first), int(last)) for first, last in saved["beyond"]]
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"stored tunnel ledger is damaged ({error!r}): restore it from backup"
            ) from None
        return ledger

    def to_plain(self) -> dict[str, Any]:
        """The whole state as plain JSON values, to be stored in the sink's transaction."""
        return {
            klass.name: {"contiguous": line.contiguous, "beyond": [list(pair) for pair in line.beyond]}
            for klass, line in self._lines.items()
        }

    def admit(self, item: RecordReceived | TombstoneReceived) -> int:
        """Note an item's numbers and say how many of them are new.

        Returns:
            0 for a duplicate. 1 for a new record. For a tombstone the number of records lost for good, which
            leaves out those that had arrived after all.

        Raises:
            LimitExceeded: the peer left more than ``TUNNEL_GAPS_MAX`` gaps.
        """
        return self._lines[item.klass].add(item.seq, item.last_seq)

    def settle(self, hello: HelloReceived) -> int:
        """Close what lies below the numbers a device still holds: a sink restored from a backup goes on.

        Returns:
            How many records the sink once acknowledged and no longer has; 0 in normal life.
        """
        lost = 0
        for klass, first in hello.first.items():
            line = self._lines[klass]
            if first > line.contiguous + 1:
                lost += line.add(line.contiguous + 1, first - 1)
        return lost

    def contiguous(self, klass: TunnelClass) -> int:
        """Highest number of the class up to which nothing is missing; 0 if nothing came."""
        return self._lines[klass].contiguous


class _Line:
    """One class's numbers: all of 1..contiguous, plus disjoint rising ranges beyond."""

    __slots__ = ("beyond", "contiguous")

    def __init__(self) -> None:
        self.contiguous = 0
        self.beyond: list[tuple[int, int]] = []

    def add(self, first: int, last: int) -> int:
        before = self._count()
        merged: list[tuple[int, int]] = []
        low, high = first, last
        for start, end in self.beyond:
            if end + 1 < low or high + 1 < start:
                merged.append((start, end))
            else:
                low, high = min(low, start), max(high, end)
        if low <= self.contiguous + 1:
            contiguous = max(self.contiguous, high)
        else:
            contiguous = self.contiguous
            merged.append((low, high))
        if len(merged) > TUNNEL_GAPS_MAX:
            raise LimitExceeded(f"tunnel sequence has over {TUNNEL_GAPS_MAX} gaps: the sender skips numbers")
        self.contiguous, self.beyond = contiguous, sorted(merged)
        return self._count() - before

    def _count(self) -> int:
        return self.contiguous + sum(end - start + 1 for start, end in self.beyond)


def ack_frames(
    ledger: SequenceLedger, items: Iterable[RecordReceived | TombstoneReceived] = ()
) -> list[bytes]:
    """Frames that acknowledge what the committed ``ledger`` holds.

    Args:
        ledger: as saved by the transaction that just committed.
        items: what came in; only their classes are acknowledged. Without items, every class that has numbers.
    """
    classes = {item.klass for item in items} or set(TunnelClass)
    return [
        encode_frame(Frame(FrameKind.ACK, klass, ledger.contiguous(klass)))
        for klass in sorted(classes)
        if ledger.contiguous(klass) > 0
    ]


def goodbye_frame(notice: GoodbyeNotice) -> bytes:
    """Frame that asks the device to leave and come back later."""
    return encode_frame(Frame(FrameKind.GOODBYE, TunnelClass.REALTIME, 0, encode(notice)))


def pace_frame(window: int, notice: PaceNotice) -> bytes:
    """Frame that grants the device ``window`` unacknowledged frames from now on."""
    return encode_frame(Frame(FrameKind.PACE, TunnelClass.REALTIME, window, encode(notice)))


def _check_first(first: Mapping[str, int]) -> dict[TunnelClass, int]:
    known = TunnelClass.__members__
    return {known[name]: _check_seq(seq) for name, seq in first.items() if name in known}


def _check_seq(seq: int) -> int:
    if not 1 <= seq <= _INT_MAX:
        raise RemoteProtocolError(f"tunnel sequence number {seq} is out of range")
    return seq
