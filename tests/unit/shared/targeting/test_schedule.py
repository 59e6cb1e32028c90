from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from walle_shared.errors import ConfigError
from walle_shared.targeting import parse_windows, zone_of

BERLIN, APIA = ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Apia")


def ms(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp() * 1000)


def opens(windows: str, at: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> str:
    schedule = parse_windows(windows)
    assert schedule is not None
    opens_ms = schedule.opens_ms(ms(at, zone, fold), zone)
    return datetime.fromtimestamp(opens_ms / 1000, UTC).astimezone(zone).isoformat()


def test_no_windows_are_always_open() -> None:
    assert parse_windows("") is parse_windows("  ") is None


@pytest.mark.parametrize(
    ("windows", "at", "then"),
    [
        ("02:00-05:00", "2026-07-01T01:00", "2026-07-01T02:00:00+02:00"),
        ("02:00-05:00", "2026-07-01T04:59:59", "2026-07-01T04:59:59+02:00"),
        ("02:00-05:00", "2026-07-01T05:00", "2026-07-02T02:00:00+02:00"),
        ("22:00-06:00", "2026-07-01T03:00", "2026-07-01T03:00:00+02:00"),
        ("fri 22:00-06:00", "2026-07-04T05:00", "2026-07-04T05:00:00+02:00"),  # Friday's night, on Saturday
        ("fri 22:00-06:00", "2026-07-05T05:00", "2026-07-10T22:00:00+02:00"),
        ("sun 22:00-06:00", "2026-07-06T05:00", "2026-07-06T05:00:00+02:00"),  # over the end of the week
        ("sat-mon 08:00-09:00", "2026-07-06T10:00", "2026-07-11T08:00:00+02:00"),
        ("Mon+Wed 8:00-24:00, sun 00:00-24:00", "2026-07-07T12:00", "2026-07-08T08:00:00+02:00"),
        # The clock is put forward from 2 to 3 o'clock on 29 March 2026, and back on 25 October.
        ("02:30-05:00", "2026-03-29T01:00", "2026-03-29T03:00:00+02:00"),
        ("02:15-02:45", "2026-03-29T01:00", "2026-03-30T02:15:00+02:00"),
        ("02:15-02:45", "2026-10-25T02:50", "2026-10-25T02:15:00+01:00"),
    ],
)  # fmt: skip
def test_the_next_opening(windows: str, at: str, then: str) -> None:
    assert opens(windows, at) == then


def test_a_day_that_a_zone_leapt_over_opens_in_the_week_after() -> None:
    assert opens("fri 12:00-13:00", "2011-12-24T00:00", APIA) == "2012-01-06T12:00:00+14:00"


@pytest.mark.parametrize(
    "text",
    ["2-5", "02:00", "25:00-26:00", "02:60-03:00", "02:00-02:00", "24:00-01:00", "moon 02:00-03:00",
     "mon- 02:00-03:00", "02:00-03:00,", "02:00-03:00; 04:00-05:00", "0" * 501],
)  # fmt: skip
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="window"):
        parse_windows(text)


@pytest.mark.parametrize("name", ["", None, 3, "Mars/Olympus", "Europe", "../etc/passwd", "a\0b", "x" * 400])
def test_an_unknown_zone_is_utc(name: object) -> None:
    assert zone_of(name) is UTC


times = st.times().map(lambda time: f"{time:%H:%M}")
parts = st.tuples(st.sampled_from(["", "mon", "tue-thu", "sat+sun", "sun"]), times, times).filter(
    lambda part: part[1] != part[2]
)
near_changes = st.sampled_from(["2026-03-28T12:00", "2026-10-24T12:00", "2026-07-01T12:00"])


@given(st.lists(parts, min_size=1, max_size=3), near_changes, st.integers(0, 3_000))
@example([("", "02:30", "02:45")], "2026-03-28T12:00", 0)
def test_the_first_open_minute_and_none_before(
    parts: list[tuple[str, str, str]], day: str, later: int
) -> None:
    schedule = parse_windows(", ".join(f"{days} {start}-{end}".strip() for days, start, end in parts))
    assert schedule is not None
    at_ms = ms(day) + later * 60_000
    opens_ms = schedule.opens_ms(at_ms, BERLIN)
    assert schedule.is_open(opens_ms, BERLIN)
    minutes = (opens_ms - at_ms) // 60_000
    for minute in {*range(min(minutes, 60)), *range(0, minutes, 7)}:
        assert not schedule.is_open(at_ms + minute * 60_000, BERLIN)
    assert opens_ms - at_ms <= timedelta(days=8) / timedelta(milliseconds=1)
