"""The events that triggered the run: what the user did, oldest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from walle_task.context import RunContext, current

__all__ = ["Event", "Visit", "all", "last", "of", "trigger", "visit"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing the user or the app did.

    Attributes:
        seq: the device's own rising number.
        kind: ``page_enter``, ``scroll``, ``exposure``, ``click``, ``page_exit`` or ``custom``.
        event_id: what it was done to.
        page_id: the page it happened on.
        visit_id: the visit to that page.
        wall_ms: wall clock, ms since 1970; for reporting only.
        mono_ns: monotonic clock, ns; for order and durations.
        args: details.
    """

    seq: int
    kind: str
    event_id: str = ""
    page_id: str = ""
    visit_id: str = ""
    wall_ms: int = 0
    mono_ns: int = 0
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit to one page, from enter to exit.

    Attributes:
        visit_id: its name on this device.
        page_id: the page.
        opened_ms: wall clock at enter, ms since 1970.
        closed_ms: wall clock at exit, or None while it is open.
        reason: why it closed: the user left, another page replaced it, or it took too long.
        events: what happened in it, oldest first.
    """

    visit_id: str
    page_id: str = ""
    opened_ms: int = 0
    closed_ms: int | None = None
    reason: str = ""
    events: tuple[Event, ...] = ()

    def of(self, kind: str) -> list[Event]:
        """The visit's events of one kind, oldest first."""
        return [event for event in self.events if event.kind == kind]


_EVENT_FIELDS = frozenset(field.name for field in fields(Event))
_VISIT_FIELDS = frozenset(field.name for field in fields(Visit)) - {"events"}


def all() -> list[Event]:
    """Every event of the matched slice, oldest first."""
    return list(_matched(_context()))


def visit() -> Visit | None:
    """The page visit that triggered the run, with its events; None where no visit did."""
    context = _context()
    plain = context.inputs.get("visit")
    if plain is None:
        return None
    if context.visit_cache is None:
        context.visit_cache = _visit_from_plain(plain, _matched(context))
    return context.visit_cache


def trigger() -> dict[str, Any]:
    """What fired the run, as the pipeline describes it."""
    return dict(_context().inputs.get("trigger") or {})


def of(kind: str) -> list[Event]:
    """The events of one kind, oldest first."""
    return [event for event in _matched(_context()) if event.kind == kind]


def last(kind: str | None = None, event_id: str | None = None) -> Event | None:
    """The newest event with that kind and id (None: any), or None."""
    for event in reversed(_matched(_context())):
        if kind in (None, event.kind) and event_id in (None, event.event_id):
            return event
    return None


def _context() -> RunContext:
    context = current()
    context.check_granted("events")
    return context


def _matched(context: RunContext) -> tuple[Event, ...]:
    if context.events_cache is None:
        context.events_cache = _events_from_plain(context.inputs.get("events") or ())
    return context.events_cache


def _events_from_plain(plain: Any) -> tuple[Event, ...]:
    """Build events; fields a newer pipeline adds are ignored."""
    return tuple(Event(**_known(event, _EVENT_FIELDS)) for event in plain)


def _visit_from_plain(plain: Mapping[str, Any], matched: tuple[Event, ...]) -> Visit:
    """Build a visit; where nothing is said of its events, they are the matched ones."""
    own = plain.get("events")
    return Visit(**_known(plain, _VISIT_FIELDS), events=matched if own is None else _events_from_plain(own))


def _known(plain: Mapping[str, Any], names: frozenset[str]) -> Mapping[str, Any]:
    return plain if plain.keys() <= names else {name: plain[name] for name in plain.keys() & names}
