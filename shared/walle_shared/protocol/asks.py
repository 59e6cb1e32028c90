"""Questions to the cloud half of a task, over the tunnel: their frames, and both halves without sockets.

::

    WELCOME   payload = JSON Welcome; the first frame to devices whose HELLO says "asks"    cloud -> device
    ASK       seq = id; payload = JSON Ask                                                  device -> cloud
    ASK_DATA  seq = id; payload = the next part of the data that the ASK announced          device -> cloud
    CANCEL    seq = id; nobody waits for this answer any more                               device -> cloud
    ANSWER    seq = id; payload = JSON Answer                                               cloud -> device
    PUSH      seq = number; payload = JSON Push: the answer to a question that could wait   cloud -> device
    TAKEN     seq = number; the PUSH is in the device's log                                 device -> cloud

A question is no part of the durable stream: it has an id of this connection, rising from 1, and a time within
which its answer is of use; when the connection ends, it is over. At most ``Welcome.asks`` are open at once.
The parts of one question's data come in a row, but for frames of other kinds and a CANCEL, which ends them;
the next ASK comes after the last part. A device that was never welcomed sends none of these frames, and a
cloud sends none to a device that does not say "asks", so older peers see nothing new.

A question that can wait is a record of the durable stream, named ``LATER``; its fields are ``payload`` and
``data`` (base64). Its answer is pushed until the device has TAKEN it; the ``ask`` of a Push names the record
for ever, so the device knows what it has seen. One PUSH is under way at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from walle_shared.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from walle_shared.limits import (
    CLOUD_ANSWER_MAX_BYTES,
    CLOUD_ASK_MAX_S,
    CLOUD_ASKS_OPEN_MAX,
    CLOUD_DATA_MAX_BYTES,
    CLOUD_PART_BYTES,
    CLOUD_PUSH_MAX_BYTES,
)
from walle_shared.protocol.codec import decode, encode
from walle_shared.protocol.tunnel import Frame, FrameKind, TunnelClass, encode_frame

#: The word of ``Hello.understands`` for the frames of this module.
ASKS: Final = "asks"
#: Name of the records that are questions; no upload can have it.
LATER: Final = "walle.ask"

#: Frames that devices send, and those that clouds send.
ASKING: Final = frozenset({FrameKind.ASK, FrameKind.ASK_DATA, FrameKind.CANCEL, FrameKind.TAKEN})
ANSWERING: Final = frozenset({FrameKind.WELCOME, FrameKind.ANSWER, FrameKind.PUSH})

_WITHIN_MAX_MS: Final = round(CLOUD_ASK_MAX_S * 1_000)
_INT_MAX: Final = 2**63 - 1
_NAME_MAX_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class Welcome:
    """The cloud answers questions: at most ``asks`` may be open."""

    asks: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """A question of one task on this device; ``extra`` may hold the ``traceparent`` of its run."""

    scenario: str
    task: str
    version: str
    release_id: str
    payload: Mapping[str, Any]
    within_ms: int
    data_bytes: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer, or the ``reason`` why there is none (``walle_task.cloud.Reason``)."""

    answer: Mapping[str, Any] | None = None
    reason: str = ""
    message: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Push:
    """The answer to the record ``ask`` of a task, ``payload``, or the ``reason`` why there is none."""

    ask: str
    scenario: str
    task: str
    payload: Mapping[str, Any] | None = None
    reason: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


# The cloud's half


@dataclass(frozen=True, slots=True)
class Asked:
    """A question is complete."""

    id: int
    ask: Ask
    data: bytes


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Nobody waits for this answer any more."""

    id: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A push is in the device's log."""

    number: int


AskEvent = Asked | Withdrawn | Taken


class AskReceiver:
    """Checks what a device asks on one connection. Whatever it raises ends the connection.

    Invariant: at most ``open_max`` questions are open, of which one alone may be incomplete.
    """

    def __init__(self, open_max: int = CLOUD_ASKS_OPEN_MAX) -> None:
        self._open_max = open_max
        self._open: set[int] = set()
        self._newest = 0
        self._coming: tuple[int, Ask, bytearray] | None = None

    def receive(self, frame: Frame) -> AskEvent | None:
        """Take a frame of ``ASKING``; None for a part of a question.

        Raises:
            RemoteProtocolError: malformed, or out of order.
            LimitExceeded: too many open questions, or too much data.
        """
        if frame.kind is FrameKind.ASK:
            return self._begin(frame)
        if frame.kind is FrameKind.ASK_DATA:
            return self._go_on(frame)
        if frame.kind is FrameKind.CANCEL:
            return self._withdraw(frame)
        return Taken(_check_push(frame.seq))

    def answered(self, ask_id: int) -> None:
        """An answer was sent, or is not going to be: the question is open no longer."""
        self._open.discard(ask_id)

    def _begin(self, frame: Frame) -> Asked | None:
        if self._coming is not None:
            raise RemoteProtocolError(f"tunnel ask {frame.seq} begins within ask {self._coming[0]}")
        if not self._newest < frame.seq <= _INT_MAX:
            raise RemoteProtocolError(f"tunnel ask {frame.seq} after {self._newest}: ids must rise")
        ask = decode(Ask, frame.payload)
        if not 1 <= ask.within_ms <= _WITHIN_MAX_MS:
            raise RemoteProtocolError(f"tunnel ask {frame.seq}: within_ms {ask.within_ms} is out of range")
        if not 0 <= ask.data_bytes <= CLOUD_DATA_MAX_BYTES:
            raise LimitExceeded(f"tunnel ask {frame.seq}: {ask.data_bytes} bytes of data are out of range")
        if len(self._open) >= self._open_max:
            raise LimitExceeded(f"tunnel ask {frame.seq}: {self._open_max} questions are open already")
        self._newest = frame.seq
        self._open.add(frame.seq)
        if not ask.data_bytes:
            return Asked(frame.seq, ask, b"")
        self._coming = (frame.seq, ask, bytearray())
        return None

    def _go_on(self, frame: Frame) -> Asked | None:
        if self._coming is None or frame.seq != self._coming[0]:
            raise RemoteProtocolError(f"tunnel ask {frame.seq}: data that no question announced")
        _, ask, data = self._coming
        if not frame.payload or len(data) + len(frame.payload) > ask.data_bytes:
            raise RemoteProtocolError(f"tunnel ask {frame.seq}: not the {ask.data_bytes} bytes it announced")
        data += frame.payload
        if len(data) < ask.data_bytes:
            return None
        self._coming = None
        return Asked(frame.seq, ask, bytes(data))

    def _withdraw(self, frame: Frame) -> Withdrawn | None:
        if not 1 <= frame.seq <= self._newest:
            raise RemoteProtocolError(f"tunnel ask {frame.seq} is withdrawn, but was never asked")
        if frame.seq not in self._open:
            return None  # its answer is on the way
        self._open.discard(frame.seq)
        if self._coming is not None and self._coming[0] == frame.seq:
            self._coming = None
            return None  # it was never complete
        return Withdrawn(frame.seq)


def welcome_frame(open_max: int = CLOUD_ASKS_OPEN_MAX) -> bytes:
    """Frame that lets a device ask."""
    return _frame(FrameKind.WELCOME, 0, encode(Welcome(open_max)))


def answer_frame(ask_id: int, answer: Answer) -> bytes:
    """Frame that answers a question.

    Raises:
        LimitExceeded: the answer is over ``CLOUD_ANSWER_MAX_BYTES``.
    """
    payload = encode(answer)
    if len(payload) > CLOUD_ANSWER_MAX_BYTES:
        raise LimitExceeded(f"the answer has {len(payload)} bytes; the limit is {CLOUD_ANSWER_MAX_BYTES}")
    return _frame(FrameKind.ANSWER, ask_id, payload)


def push_frame(number: int, push: Push) -> bytes:
    """Frame that brings the answer to a question that could wait."""
    return _frame(FrameKind.PUSH, number, encode(push))


# The device's half


@dataclass(frozen=True, slots=True)
class Answered:
    """A question of ours is answered."""

    id: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Pushed:
    """An answer that could wait has come."""

    number: int
    push: Push


class AskSender:
    """One connection's questions: their ids, and which are open."""

    def __init__(self) -> None:
        self._granted = 0
        self._newest = 0
        self._open: set[int] = set()

    @property
    def is_welcome(self) -> bool:
        """Whether the cloud takes questions."""
        return self._granted > 0

    @property
    def room(self) -> int:
        """How many questions may be asked now."""
        return max(0, self._granted - len(self._open))

    def ask(self, ask: Ask, data: bytes) -> tuple[int, Iterator[bytes]]:
        """The id of a new question and the frames that ask it, which go out in a row.

        Raises:
            LocalProtocolError: there is no room for it.
        """
        if not self.room:
            raise LocalProtocolError(f"no question may be asked: {len(self._open)} are open")
        self._newest += 1
        self._open.add(self._newest)
        return self._newest, _ask_frames(self._newest, ask, data)

    def cancel(self, ask_id: int) -> bytes | None:
        """The frame that withdraws a question; None if it is not open any more."""
        if ask_id not in self._open:
            return None
        self._open.discard(ask_id)
        return _frame(FrameKind.CANCEL, ask_id, b"")

    def receive(self, frame: Frame) -> Welcome | Answered | Pushed | None:
        """Take a frame of ``ANSWERING``; None for the answer to a question that was withdrawn.

        Raises:
            RemoteProtocolError: malformed, or it answers what was never asked.
        """
        if frame.kind is FrameKind.WELCOME:
            return self._welcomed(decode(Welcome, frame.payload))
        if frame.kind is FrameKind.PUSH:
            push = decode(Push, frame.payload, limit_bytes=CLOUD_PUSH_MAX_BYTES)
            if not 1 <= len(push.ask) <= _NAME_MAX_CHARS:
                raise RemoteProtocolError("tunnel push: it must name the question")
            return Pushed(_check_push(frame.seq), push)
        if not 1 <= frame.seq <= self._newest:
            raise RemoteProtocolError(f"tunnel answer {frame.seq}: the newest question was {self._newest}")
        answer = decode(Answer, frame.payload)
        if (answer.answer is None) == (not answer.reason):
            raise RemoteProtocolError(
                f"tunnel answer {frame.seq}: must hold an answer or the reason for none"
            )
        if frame.seq not in self._open:
            return None
        self._open.discard(frame.seq)
        return Answered(frame.seq, answer)

    def _welcomed(self, welcome: Welcome) -> Welcome:
        if welcome.asks < 1:
            raise RemoteProtocolError(f"tunnel welcome: {welcome.asks} questions make no sense")
        self._granted = min(welcome.asks, CLOUD_ASKS_OPEN_MAX)
        return welcome


def taken_frame(number: int) -> bytes:
    """Frame that says that a push is in the device's log."""
    return _frame(FrameKind.TAKEN, number, b"")


def _ask_frames(ask_id: int, ask: Ask, data: bytes) -> Iterator[bytes]:
    yield _frame(FrameKind.ASK, ask_id, encode(ask))
    for begin in range(0, len(data), CLOUD_PART_BYTES):
        yield _frame(FrameKind.ASK_DATA, ask_id, data[begin : begin + CLOUD_PART_BYTES])


def _frame(kind: FrameKind, seq: int, payload: bytes) -> bytes:
    return encode_frame(Frame(kind, TunnelClass.REALTIME, seq, payload))


def _check_push(number: int) -> int:
    if not 1 <= number <= _INT_MAX:
        raise RemoteProtocolError(f"tunnel push number {number} is out of range")
    return number
