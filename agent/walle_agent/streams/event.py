"""One user-behaviour event: as an app hands it in, and as the log keeps it.

An app writes JSON, one object a line::

    {"kind": "click", "event_id": "add_cart", "page_id": "item", "visit_id": "v1", "wall_ms": 1700000000000,
     "mono_ns": 123456789, "args": {"sku": "red"}}

Only ``kind`` is required, and ``page_id`` where a page is entered. ``event_id`` is the kind where omitted.
``mono_ns`` is when it happened, by ``CLOCK_MONOTONIC``; without it, an event happened when it came in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from walle_shared.errors import RemoteProtocolError
from walle_shared.limits import EVENT_MAX_ARGS, EVENT_MAX_BYTES
from walle_shared.schema import EVENT_KINDS, EventKind

#: Event ids that start so are made by the agent itself; no app may use them.
RESERVED_PREFIX = "walle."
#: Event id of the answer to a question that could wait.
CLOUD_ANSWER = "cloud_answer"

__all__ = [
    "CLOUD_ANSWER",
    "EVENT_KINDS",
    "RESERVED_PREFIX",
    "Event",
    "EventError",
    "EventKind",
    "RawEvent",
    "make_event",
    "parse_event",
]

_WALL_MAX_MS = 2**53
_ID = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
_VISIT_ID = re.compile(r"[A-Za-z0-9_.:#\-]{1,128}")
_PAGE_MARKS = (".enter", ".exit")
_MONO_MAX_NS = 2**62
_MEMBERS = frozenset({"kind", "event_id", "page_id", "visit_id", "wall_ms", "mono_ns", "args"})


class EventError(RemoteProtocolError):
    """An app handed in something that is not an event; the message names the member."""

    code = "event"


@dataclass(frozen=True, slots=True)
class RawEvent:
    """An event before the log gave it a number.

    Attributes:
        wall_ms: milliseconds since 1970 by the app's clock; 0 = when it came in.
        mono_ns: ``CLOCK_MONOTONIC`` when it happened; 0 = when it comes in.
        timed: whether that is the app's word.
        size_bytes: length of its line, for the caps on open visits.
        push: where it is the answer of a cloud half, the question's name for ever; else empty.
    """

    kind: str
    event_id: str
    page_id: str = ""
    visit_id: str = ""
    wall_ms: int = 0
    mono_ns: int = 0
    args: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    timed: bool = False
    push: str = ""

    def stamped(self, mono_ns: int, wall_ms: int) -> RawEvent:
        """The same event at these times; ``replace``, for every event, would take five times as long."""
        if (mono_ns, wall_ms) == (self.mono_ns, self.wall_ms):
            return self
        return RawEvent(
            self.kind,
            self.event_id,
            self.page_id,
            self.visit_id,
            wall_ms,
            mono_ns,
            self.args,
            self.size_bytes,
            self.timed,
            self.push,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """An event in the log: ``seq`` rises by one per event and is never used twice."""

    seq: int
    kind: str
    event_id: str
    page_id: str
    visit_id: str
    wall_ms: int
    mono_ns: int
    args: Mapping[str, Any]


def parse_event(data: bytes) -> RawEvent:
    """Read one event as an app wrote it.

    Raises:
        EventError: too long, not JSON, or naming the member that is wrong, missing or unknown.
    """
    if len(data) > EVENT_MAX_BYTES:
        raise EventError(
            f"event of {len(data)} bytes is over the limit of {EVENT_MAX_BYTES}: send less in args"
        )
    try:
        plain = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EventError(f"event is not JSON: {error}") from None
    if not isinstance(plain, dict):
        raise EventError('event must be a JSON object such as {"kind": "click"}')
    return _check(plain, len(data))


def make_event(
    kind: EventKind,
    *,
    event_id: str = "",
    page_id: str = "",
    visit_id: str = "",
    wall_ms: int = 0,
    mono_ns: int = 0,
    args: Mapping[str, Any] | None = None,
) -> RawEvent:
    """Make an event inside the process, under the same rules as one from a socket.

    Raises:
        EventError: as for ``parse_event``.
    """
    plain: dict[str, Any] = {"kind": kind, "args": dict(args or {}), "wall_ms": wall_ms, "mono_ns": mono_ns}
    plain |= {
        key: value
        for key, value in (("event_id", event_id), ("page_id", page_id), ("visit_id", visit_id))
        if value
    }
    try:
        data = orjson.dumps(plain)
    except orjson.JSONEncodeError as error:
        raise EventError(f"event args are not plain JSON values: {error}") from None
    return parse_event(data)


def _check(plain: dict[str, Any], size_bytes: int) -> RawEvent:
    if not plain.keys() <= _MEMBERS:
        stranger = next(key for key in plain if key not in _MEMBERS)
        raise EventError(f"event.{stranger[:80]} is not known: put details into args")
    kind = plain.get("kind")
    if not isinstance(kind, str) or kind not in EVENT_KINDS:
        raise EventError(f"event.kind must be one of {', '.join(sorted(EVENT_KINDS))}, not {_show(kind)}")
    event_id = _check_id(plain, "event_id", kind, _ID)
    if event_id.startswith(RESERVED_PREFIX):
        raise EventError(f"event.event_id must not start with {RESERVED_PREFIX!r}: those are the agent's own")
    page_id = _check_id(plain, "page_id", "", _ID)
    if page_id.endswith(_PAGE_MARKS):
        raise EventError(
            f"event.page_id {page_id!r} must not end in .enter or .exit: triggers use these marks"
        )
    if kind == "page_enter" and not page_id:
        raise EventError("event.page_id is missing: a page_enter must name its page")
    return RawEvent(
        kind,
        event_id,
        page_id,
        _check_id(plain, "visit_id", "", _VISIT_ID),
        _check_time(plain, "wall_ms", _WALL_MAX_MS, "milliseconds since 1970"),
        _check_time(plain, "mono_ns", _MONO_MAX_NS, "nanoseconds of CLOCK_MONOTONIC"),
        _check_args(plain.get("args", {})),
        size_bytes,
        plain.get("mono_ns", 0) != 0,
    )


def _check_id(plain: dict[str, Any], name: str, default: str, pattern: re.Pattern[str]) -> str:
    value = plain.get(name, default)
    if value == default:
        return default
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise EventError(
            f"event.{name} must be 1 to 128 letters, digits, '_', '-' or '.', not {_show(value)}"
        )
    return value


def _check_time(plain: dict[str, Any], name: str, most: int, what: str) -> int:
    value = plain.get(name, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise EventError(f"event.{name} must be {what}, not {_show(value)}")
    return value


def _check_args(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise EventError(f"event.args must be an object, not {_show(value)}")
    if len(value) > EVENT_MAX_ARGS:
        raise EventError(f"event.args has {len(value)} members; the limit is {EVENT_MAX_ARGS}")
    return value


def _show(value: object) -> str:
    return repr(value)[:60]
