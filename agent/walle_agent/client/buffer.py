"""Events on their way from an app: encoded, bounded, the less useful ones given up first. Pure, no I/O."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from walle_agent.streams.event import EventKind, make_event
from walle_shared.records import to_plain

CAPACITY = 1_024
LINGER_S = 0.05
BATCH_BYTES = 256 * 1024
RETRY_FIRST_S, RETRY_MAX_S = 0.1, 5.0
SOCKET_TIMEOUT_S = 5.0

#: What a full buffer gives up, in this order; kinds that are missing here only go when nothing else is left.
_EXPENDABLE: tuple[EventKind, ...] = ("scroll", "exposure", "custom")
_MEMBERS = ("kind", "event_id", "page_id", "visit_id", "wall_ms", "mono_ns", "args")


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """Counters since the start.

    Attributes:
        waiting: events in the buffer.
        sent: events handed to the agent's socket.
        dropped: events lost to a full buffer, by kind.
        refused: events the agent refused, and its last complaint.
        connected: whether the agent is there.
    """

    waiting: int = 0
    sent: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0
    complaint: str = ""
    connected: bool = False


class EventBuffer:
    """Encoded events, oldest first, and what became of the others.

    Args:
        capacity: events that may wait.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lines: deque[tuple[EventKind, bytes]] = deque()
        self._dropped: Counter[str] = Counter()
        self.sent = self.refused = 0
        self.complaint = ""
        self.connected = False

    def add(self, kind: EventKind, line: bytes) -> bool:
        """Put an event in; False if it was lost, or another of more use kept in its place."""
        if len(self._lines) >= self._capacity and not self._make_room(kind):
            self._dropped[kind] += 1
            return False
        self._lines.append((kind, line))
        return True

    def take(self) -> tuple[list[tuple[EventKind, bytes]], bytes]:
        """The oldest events, up to ``BATCH_BYTES``, and their bytes; they are out until ``put_back``."""
        batch: list[tuple[EventKind, bytes]] = []
        size = 0
        while self._lines and (not batch or size + len(self._lines[0][1]) <= BATCH_BYTES):
            batch.append(self._lines.popleft())
            size += len(batch[-1][1])
        return batch, b"".join(line for _, line in batch)

    def settle(self, batch: list[tuple[EventKind, bytes]], written: int) -> None:
        """Say how many bytes of a batch went out: what was not written whole comes back."""
        while batch and written >= len(batch[0][1]):
            written -= len(batch.pop(0)[1])
            self.sent += 1
        self._lines.extendleft(reversed(batch))

    def hear(self, answers: bytes) -> None:
        """The agent answers only what it refuses, one JSON line each."""
        for line in answers.splitlines():
            self.refused += 1
            self.complaint = line.decode(errors="replace")[:500]

    def statistics(self) -> ClientStatistics:
        """Counters since the start."""
        return ClientStatistics(
            len(self._lines), self.sent, dict(self._dropped), self.refused, self.complaint, self.connected
        )

    def __bool__(self) -> bool:
        return bool(self._lines)

    def _make_room(self, kind: EventKind) -> bool:
        """Give up the oldest event of the most expendable kind, if that is of less use than ``kind``."""
        for expendable in _EXPENDABLE:
            if expendable == kind:
                return False
            for place, (present, _) in enumerate(self._lines):
                if present == expendable:
                    del self._lines[place]
                    self._dropped[expendable] += 1
                    return True
        if kind not in _EXPENDABLE:
            self._dropped[self._lines.popleft()[0]] += 1
            return True
        return False


def encode_event(
    kind: EventKind,
    *,
    event_id: str = "",
    page_id: str = "",
    visit_id: str = "",
    args: Mapping[str, Any] | None = None,
    wall_ms: int = 0,
) -> bytes:
    """One event as the agent's socket takes it, its time filled in.

    Raises:
        EventError: the agent would refuse it; the message names the member.
    """
    mono_ns = 0 if wall_ms else time.monotonic_ns()  # a recorded time is not now
    wall_ms = wall_ms or time.time_ns() // 1_000_000
    raw = make_event(
        kind,
        event_id=event_id,
        page_id=page_id,
        visit_id=visit_id,
        wall_ms=wall_ms,
        mono_ns=mono_ns,
        args=args,
    )
    plain = to_plain(raw)
    return orjson.dumps({name: plain[name] for name in _MEMBERS if plain[name]}) + b"\n"


class Emitter(ABC):
    """The one call that an app makes, whoever sends behind it."""

    def emit(
        self,
        kind: EventKind,
        *,
        event_id: str = "",
        page_id: str = "",
        visit_id: str = "",
        args: Mapping[str, Any] | None = None,
        wall_ms: int = 0,
    ) -> bool:
        """Hand in one event; returns at once.

        Returns:
            False if the event was lost because the buffer is full.

        Raises:
            EventError: it is not an event; the message names the member.
        """
        line = encode_event(
            kind, event_id=event_id, page_id=page_id, visit_id=visit_id, args=args, wall_ms=wall_ms
        )
        return self._put(kind, line)

    @abstractmethod
    def _put(self, kind: EventKind, line: bytes) -> bool:
        """Buffer an encoded event, and wake whoever sends; False if it was lost."""
