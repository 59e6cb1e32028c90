"""Windows in a device's own time: when it may begin with a release.

::

    02:00-05:00                          every night
    mon-fri 22:00-06:00, sat-sun 00:00-24:00

A window over midnight belongs to the day on which it opens. Days are ``mon`` to ``sun``, alone, as a range,
or several joined by ``+``. What counts is what a clock on the wall shows: in the night in which it is put
forward, a window opens no later than the first minute after the gap; in the night in which it is put back, a
window is open in both of the hours that bear its name.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from walle_shared.errors import ConfigError
from walle_shared.limits import WINDOWS_MAX_CHARS

#: The attribute of a profile that says where a device's clock hangs: an IANA name such as ``Europe/Berlin``.
TIMEZONE: Final = "timezone"

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MIN: Final = 24 * 60
_WEEK_MIN: Final = 7 * _DAY_MIN
_MINUTE_MS: Final = 60_000
#: A closed window opens within a week, unless the clock leaps over it: then in the next one.
_HORIZON_DAYS: Final = 15

_WINDOW = re.compile(
    r"(?:(?P<days>[a-z+\- ]+?)\s+)?(?P<from>\d\d?:\d\d)\s*-\s*(?P<to>\d\d?:\d\d)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Parsed windows: ``spans`` are the open minutes of a week that begins on Monday, merged, in order."""

    text: str
    spans: tuple[tuple[int, int], ...]

    def is_open(self, at_ms: int, zone: tzinfo) -> bool:
        """Whether a clock in ``zone`` shows a time within a window."""
        return self._wait_min(_minute_of_week(at_ms // _MINUTE_MS, zone)) == 0

    def opens_ms(self, at_ms: int, zone: tzinfo) -> int:
        """The first moment from ``at_ms`` on at which a window is open; ``at_ms`` itself if one is."""
        minute = at_ms // _MINUTE_MS
        wait_min = self._wait_min(_minute_of_week(minute, zone))
        if not wait_min:
            return at_ms
        for _ in range(_HORIZON_DAYS):
            if _offset(minute, zone) == _offset(minute + _DAY_MIN, zone):
                wait_min = self._wait_min(_minute_of_week(minute, zone))
            else:  # the clock is changed on this day: only looking minute by minute is sure
                wait_min = next(
                    (n for n in range(_DAY_MIN) if not self._wait_min(_minute_of_week(minute + n, zone))),
                    _DAY_MIN,
                )
            if wait_min < _DAY_MIN:
                return (minute + wait_min) * _MINUTE_MS
            minute += _DAY_MIN
        raise AssertionError("a window opens every week")

    def _wait_min(self, minute: int) -> int:
        """Minutes from a minute of the week to the next open one."""
        at = bisect_right(self.spans, minute, key=lambda span: span[0]) - 1
        if at >= 0 and minute < self.spans[at][1]:
            return 0
        after = self.spans[at + 1][0] if at + 1 < len(self.spans) else self.spans[0][0] + _WEEK_MIN
        return after - minute


@functools.lru_cache(256)
def parse_windows(text: str) -> Schedule | None:
    """Parse windows; ``None`` for the empty text, which is always open.

    Raises:
        ConfigError: naming the part that is none.
    """
    if not text.strip():
        return None
    if len(text) > WINDOWS_MAX_CHARS:
        raise ConfigError(f"windows may have at most {WINDOWS_MAX_CHARS} characters")
    spans: list[tuple[int, int]] = []
    for part in text.split(","):
        spans += _spans(part.strip())
    return Schedule(text, _merged(spans))


@functools.lru_cache(1_024)
def zone_of(name: object) -> tzinfo:
    """The zone of an IANA name; UTC for one that this machine does not know, or none."""
    try:
        return ZoneInfo(name) if isinstance(name, str) and name else UTC
    except (KeyError, ValueError, OSError):  # unknown, malformed, or a folder of the database
        return UTC


def _spans(part: str) -> list[tuple[int, int]]:
    match = _WINDOW.fullmatch(part)
    if match is None:
        raise ConfigError(
            f"{part[:80]!r} is no window: write 'mon-fri 02:00-05:00', or '02:00-05:00' for every day"
        )
    opens, closes = _minutes(match["from"], part), _minutes(match["to"], part)
    if opens == closes:
        raise ConfigError(f"window {part!r} is empty: write 00:00-24:00 for the whole day")
    if opens >= _DAY_MIN:
        raise ConfigError(f"window {part!r} opens at 24:00: write 00:00 of the next day")
    length = (closes - opens) % _DAY_MIN or _DAY_MIN
    spans = []
    for day in _days(match["days"] or "", part):
        start = day * _DAY_MIN + opens
        spans.append((start, min(start + length, _WEEK_MIN)))
        if start + length > _WEEK_MIN:  # Sunday night runs into Monday
            spans.append((0, start + length - _WEEK_MIN))
    return spans


def _minutes(text: str, part: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > _DAY_MIN:
        raise ConfigError(f"window {part!r}: {text} must be a time of day, such as 02:30")
    return hours * 60 + minutes


def _days(text: str, part: str) -> list[int]:
    if not text.strip():
        return list(range(7))
    days: list[int] = []
    for piece in text.lower().replace(" ", "").split("+"):
        first, dash, last = piece.partition("-")
        try:
            start, end = _DAYS.index(first), _DAYS.index(last if dash else first)
        except ValueError:
            raise ConfigError(f"window {part!r}: {piece!r} is no day; days are {', '.join(_DAYS)}") from None
        days += [(start + n) % 7 for n in range((end - start) % 7 + 1)]
    return days


def _merged(spans: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _local(minute: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC).astimezone(zone)


def _minute_of_week(minute: int, zone: tzinfo) -> int:
    local = _local(minute, zone)
    return local.weekday() * _DAY_MIN + local.hour * 60 + local.minute


def _offset(minute: int, zone: tzinfo) -> timedelta | None:
    return _local(minute, zone).utcoffset()
