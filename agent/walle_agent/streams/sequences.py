"""The two sequences: every event in time order, and the events of one page visit.

``VisitTracker`` stands before the log and decides which visit an event belongs to. Every closing is an event
of its own in the log: where the app did not send one, the tracker adds a ``page_exit`` whose event id is
``walle.closed.<reason>``. ``PageSequences`` stands behind the log and only gathers. So the log alone says
what happened, and reading it again gives the same visits.

Rules:

1. ``page_enter`` opens a visit. With a ``visit_id`` any number may be open at once (interleaved pages); an
   enter under an open visit's id replaces that visit. Without one the app shows one page at a time: the enter
   replaces whatever such visit is open, and the tracker makes an id that starts with ``~``.
2. An event belongs to the open visit it names; without a name, to the open nameless-flow visit if it names
   the same page or none. Others belong to no visit and stay in the time-level sequence only.
3. A visit closes by ``page_exit``, replacement, age, number of events, bytes, or when too much is open
   (the oldest first). When the monotonic clock steps back the machine was restarted: all visits close.
4. A custom event ``app.background`` says that nobody looks any more. If nothing else comes for
   ``VISIT_BACKGROUND_S``, all visits close; any other event says that the user is back.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import orjson

from walle_agent.streams.event import RESERVED_PREFIX, Event, RawEvent
from walle_shared.limits import (
    VISIT_BACKGROUND_S,
    VISIT_MAX_BYTES,
    VISIT_MAX_EVENTS,
    VISIT_MAX_S,
    VISITS_OPEN_MAX,
    VISITS_OPEN_MAX_BYTES,
)

CloseReason = Literal["page_exit", "replaced", "age", "events", "bytes", "evicted", "restart", "background"]

#: Event id by which an app says that it went to the background.
BACKGROUND = "app.background"

#: Visit ids that start so were made here, for apps that show one page at a time; no app may use it.
NAMELESS = "~"

_CLOSED = RESERVED_PREFIX + "closed."
_VISIT_MAX_NS = round(VISIT_MAX_S * 1e9)
_BACKGROUND_NS = round(VISIT_BACKGROUND_S * 1e9)


@dataclass(frozen=True, slots=True)
class Visit:
    """A closed page visit: the page-level sequence."""

    visit_id: str
    page_id: str
    opened_ms: int
    closed_ms: int
    reason: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class SequenceStatistics:
    """Counters since the start; ``unattached`` events named no open visit."""

    opened: int = 0
    unattached: int = 0
    closed: Mapping[str, int] = field(default_factory=dict)
    open_now: int = 0


@dataclass(slots=True)
class _Open:
    visit_id: str
    page_id: str
    opened_ns: int
    events: int = 0
    size_bytes: int = 0


def _in_visit(raw: RawEvent, visit: _Open) -> RawEvent:
    """The event with its visit and page filled in; most apps name both."""
    if raw.visit_id and raw.page_id:
        return raw
    return replace(raw, visit_id=visit.visit_id, page_id=raw.page_id or visit.page_id)


def _new_visit_id() -> str:
    return secrets.token_hex(8)


class VisitTracker:
    """Gives each incoming event its visit and adds the closings that no app sent. Pure state, no I/O."""

    def __init__(self, new_visit_id: Callable[[], str] = _new_visit_id) -> None:
        self._new_visit_id = new_visit_id
        self._open: dict[str, _Open] = {}  # by visit id, oldest first
        self._nameless: str | None = None
        self._size_bytes = 0
        self._last_ns = 0
        self._last_ms = 0
        self._background_ns: int | None = None
        self._opened = 0
        self._unattached = 0
        self._closed: dict[str, int] = {}

    def complete(self, raw: RawEvent) -> list[RawEvent]:
        """The event with its visit filled in, and the closings that come before and after it.

        Args:
            raw: with ``mono_ns`` and ``wall_ms`` set.
        """
        out = self._restarted(raw) or self.overdue(raw.mono_ns)
        self._last_ns, self._last_ms = raw.mono_ns, raw.wall_ms
        if not raw.push:  # which is nothing that the user did
            self._background_ns = raw.mono_ns if raw.event_id == BACKGROUND else None
        if raw.kind == "page_enter":
            self._enter(raw, out)
        else:
            self._attach(raw, out)
        return out

    def overdue(self, mono_ns: int) -> list[RawEvent]:
        """Closings of the visits that have grown too old by ``mono_ns``, or that nobody came back to."""
        out: list[RawEvent] = []
        left_ns = self._background_ns
        if left_ns is not None and mono_ns - left_ns >= _BACKGROUND_NS:
            out += [self._close(v, "background", left_ns + _BACKGROUND_NS) for v in list(self._open.values())]
        while self._open:
            oldest = next(iter(self._open.values()))
            if mono_ns - oldest.opened_ns < _VISIT_MAX_NS:
                break
            out.append(self._close(oldest, "age", oldest.opened_ns + _VISIT_MAX_NS))
        return out

    def restore(self, event: Event) -> None:
        """Take note of an event read back from the log; its closings are in the log too."""
        self._last_ns, self._last_ms = event.mono_ns, event.wall_ms
        self._background_ns = event.mono_ns if event.event_id == BACKGROUND else None
        if event.kind == "page_enter":
            self._add(event.visit_id, event.page_id, event.mono_ns)
        visit = self._open.get(event.visit_id)
        if visit is None:
            return
        self._count(visit, len(orjson.dumps(event.args)))
        if event.kind == "page_exit":
            self._forget(visit)

    def statistics(self) -> SequenceStatistics:
        """Counters of openings, closings by reason, and events without a visit."""
        return SequenceStatistics(self._opened, self._unattached, dict(self._closed), len(self._open))

    def _restarted(self, raw: RawEvent) -> list[RawEvent]:
        if raw.mono_ns >= self._last_ns:
            return []
        return [self._close(visit, "restart", raw.mono_ns) for visit in list(self._open.values())]

    def _enter(self, raw: RawEvent, out: list[RawEvent]) -> None:
        visit_id = raw.visit_id or self._nameless
        replaced = self._open.get(visit_id) if visit_id else None
        if replaced is not None:
            out.append(self._close(replaced, "replaced", raw.mono_ns))
        visit = self._add(raw.visit_id or NAMELESS + self._new_visit_id(), raw.page_id, raw.mono_ns)
        self._opened += 1
        self._count(visit, raw.size_bytes)
        out.extend(self._evicted(visit, raw.mono_ns))
        out.append(_in_visit(raw, visit))

    def _attach(self, raw: RawEvent, out: list[RawEvent]) -> None:
        visit = self._visit_of(raw)
        if visit is None:
            self._unattached += 1
            out.append(raw)
            return
        out.append(_in_visit(raw, visit))
        self._count(visit, raw.size_bytes)
        if raw.kind == "page_exit":
            self._note_closed(visit, "page_exit")
        elif visit.events >= VISIT_MAX_EVENTS - 1:  # room for the closing itself
            out.append(self._close(visit, "events", raw.mono_ns))
        elif visit.size_bytes > VISIT_MAX_BYTES:
            out.append(self._close(visit, "bytes", raw.mono_ns))
        else:
            out.extend(self._evicted(visit, raw.mono_ns))

    def _visit_of(self, raw: RawEvent) -> _Open | None:
        if raw.visit_id:
            return self._open.get(raw.visit_id)
        visit = self._open.get(self._nameless) if self._nameless else None
        return visit if visit is not None and raw.page_id in ("", visit.page_id) else None

    def _evicted(self, newest: _Open, mono_ns: int) -> list[RawEvent]:
        out: list[RawEvent] = []
        while len(self._open) > VISITS_OPEN_MAX or self._size_bytes > VISITS_OPEN_MAX_BYTES:
            oldest = next(visit for visit in self._open.values() if visit is not newest)
            out.append(self._close(oldest, "evicted", mono_ns))
        return out

    def _add(self, visit_id: str, page_id: str, mono_ns: int) -> _Open:
        visit = self._open[visit_id] = _Open(visit_id, page_id, mono_ns)
        if visit_id.startswith(NAMELESS):
            self._nameless = visit_id
        return visit

    def _count(self, visit: _Open, size_bytes: int) -> None:
        visit.events += 1
        visit.size_bytes += size_bytes
        self._size_bytes += size_bytes

    def _close(self, visit: _Open, reason: CloseReason, mono_ns: int) -> RawEvent:
        self._note_closed(visit, reason)
        return RawEvent(
            "page_exit",
            _CLOSED + reason,
            visit.page_id,
            visit.visit_id,
            max(self._last_ms, 1),
            max(mono_ns, 1),
        )

    def _note_closed(self, visit: _Open, reason: CloseReason) -> None:
        self._forget(visit)
        self._closed[reason] = self._closed.get(reason, 0) + 1

    def _forget(self, visit: _Open) -> None:
        del self._open[visit.visit_id]
        self._size_bytes -= visit.size_bytes
        if self._nameless == visit.visit_id:
            self._nameless = None


class PageSequences:
    """Gathers the events of open visits from the log and hands each visit over when it closes."""

    def __init__(self) -> None:
        self._open: dict[str, list[Event]] = {}

    def feed(self, event: Event) -> Visit | None:
        """Take one event of the log; returns the visit it closes, if any."""
        if event.kind == "page_enter":
            self._open[event.visit_id] = [event]
            return None
        events = self._open.get(event.visit_id)
        if events is None:
            return None
        events.append(event)
        if event.kind != "page_exit":
            return None
        del self._open[event.visit_id]
        first = events[0]
        return Visit(
            event.visit_id, first.page_id, first.wall_ms, event.wall_ms, close_reason(event), tuple(events)
        )

    def first_open_seq(self) -> int | None:
        """Number of the oldest event still needed by an open visit."""
        return min((events[0].seq for events in self._open.values()), default=None)


def is_aside(event: Event) -> bool:
    """Whether the tracker added this event; it may complete a match and never breaks one."""
    return event.event_id.startswith(_CLOSED)


def close_reason(event: Event) -> str:
    """Why a ``page_exit`` of the log closed its visit: a ``CloseReason``."""
    return event.event_id.removeprefix(_CLOSED) if is_aside(event) else "page_exit"
