"""How the console says things: times, sizes, shares, states. Pure; templates use these as filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from walle_control.percent import percent_of
from walle_shared.units import format_bytes

#: What a form did, by the word in the address it leads to.
DONE: Final[Mapping[str, str]] = {
    "create": "The release was made.",
    "promote": "The release goes on to its next stage.",
    "pause": "The release is paused: devices keep it, and it grows no further.",
    "stop": "The release was stopped: devices go back to what they had.",
    "resume": "The release goes on.",
    "rollback": "The release was taken back.",
    "approved": "Approved.",
    "rejected": "Turned down.",
    "glass_broken": "The release goes on without approval; the reason is kept.",
    "revoked": "Revoked.",
    "synced": "The repository was fetched.",
    "simulated": "The simulations were played again.",
    "granted": "The role was granted.",
    "withdrawn": "The role was withdrawn.",
}

#: How a state is marked: a word for the style sheet, which says good, bad, busy or idle.
TONES: Final[Mapping[str, str]] = {
    "live": "busy",
    "pending": "warn",
    "paused": "warn",
    "stopped": "idle",
    "rolled_back": "bad",
    "rejected": "idle",
    "pass": "good",
    "hold": "idle",
    "pause": "warn",
    "rollback": "bad",
    "ready": "good",
    "draft": "warn",
    "installed": "good",
    "installing": "busy",
    "unknown": "warn",
    "waiting": "warn",
    "failed": "bad",
    "quarantined": "bad",
    "reverted": "idle",
    "active": "good",
    "revoked": "bad",
    "success": "good",
    "failure": "bad",
    "open": "warn",
    "approved": "good",
    "glass_broken": "warn",
    "lapsed": "idle",
}

#: What a verdict means, for people.
VERDICTS: Final[Mapping[str, str]] = {
    "hold": "holds",
    "pass": "may grow",
    "pause": "should pause",
    "rollback": "must go back",
}

#: What a decision of the guard leads to.
CONSEQUENCES: Final[Mapping[str, str]] = {
    "hold": "hold",
    "pass": "grow",
    "pause": "pause",
    "rollback": "roll back",
}

_TITLES: Final[Mapping[int, str]] = {
    400: "This makes no sense yet",
    401: "Signed out",
    403: "Not allowed",
    404: "Not found",
    409: "Not possible now",
    413: "Too long",
    503: "Busy",
}
_AGES: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


def problem_title(status: int) -> str:
    """What went wrong, in two words."""
    return _TITLES.get(status, "That failed")


def moment(wall_ms: int) -> str:
    """A time in UTC."""
    return _time(wall_ms).strftime("%Y-%m-%d %H:%M:%S UTC")


def machine_time(wall_ms: int) -> str:
    """A time for the ``datetime`` attribute."""
    return _time(wall_ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(wall_ms: int, now_ms: int) -> str:
    """How long ago, or in how long, in its largest unit."""
    apart_ms = now_ms - wall_ms
    length = span(abs(apart_ms) / 1000)
    return f"in {length}" if apart_ms < 0 else f"{length} ago"


def span(seconds: float) -> str:
    """A length of time in its largest unit: ``3 min``."""
    ms = round(seconds * 1000)
    for unit_ms, name in _AGES:
        if ms >= unit_ms:
            return f"{ms // unit_ms} {name}"
    return "0 s" if ms <= 0 else "under 1 s"


def count(number: float) -> str:
    """A number with thousands apart by thin spaces."""
    return f"{number:,.0f}".replace(",", "\u202f")


def rate(part: float) -> str:
    """A rate as a percentage with two digits that matter."""
    percent = part * 100
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"


def label(word: str) -> str:
    """A name of a state or rule for people: ``rolled back``."""
    return word.replace("_", " ")


def dash(word: str) -> str:
    """A word that may say nothing."""
    return word if word not in ("", "none") else "-"


def tone(word: str) -> str:
    """How a state is marked."""
    return TONES.get(word, "idle")


def compact(value: Any) -> str:
    """Any value on one line."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _time(wall_ms: int) -> datetime:
    return datetime.fromtimestamp(min(max(wall_ms, 0), 253_370_764_800_000) / 1000, UTC)


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "moment": moment,
    "machine_time": machine_time,
    "age": age,
    "span": span,
    "count": count,
    "rate": rate,
    "label": label,
    "dash": dash,
    "tone": tone,
    "compact": compact,
    "bytes": format_bytes,
    "percent": percent_of,
}
