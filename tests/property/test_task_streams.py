"""Stream functions against brute force: every window, every key, every pair worked out by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from walle_task.streams import (
    Row,
    collect,
    count,
    distinct,
    first,
    last,
    max_,
    mean,
    min_,
    of,
    session,
    sliding,
    sum_,
    tumbling,
)


@dataclass(frozen=True)
class Seen:
    wall_ms: int
    page_id: str = "p"
    args: dict[str, Any] = field(default_factory=dict)


seen = st.builds(
    Seen, st.integers(0, 60), st.sampled_from(["p", "q", "r"]), st.sampled_from([{}, {"n": 1}, {"n": 3}])
)
streams = st.lists(seen, max_size=25)
steps = st.tuples(st.integers(1, 6), st.integers(1, 4)).map(lambda t: (t[0] * t[1], t[0]))
ALL = {"n": count(), "total": sum_("args.n"), "least": min_("args.n"), "held": collect("wall_ms")}


def summary(items: list[Seen]) -> dict[str, Any]:
    values = [item.args["n"] for item in items if "n" in item.args]
    return {
        "n": len(items),
        "total": sum(values),
        "least": min(values, default=None),
        "held": [item.wall_ms for item in items],
    }


def in_order(items: list[Seen]) -> list[Seen]:
    return sorted(items, key=lambda item: item.wall_ms)


@given(streams, steps)
def test_windows_hold_what_lies_in_them(items: list[Seen], step: tuple[int, int]) -> None:
    size_ms, step_ms = step
    rows = of(items).key_by("page_id").time_window(sliding(size_ms, step_ms)).aggregate(**ALL)
    wanted = {}
    for key in ("p", "q", "r"):
        own = in_order([item for item in items if item.page_id == key])
        for start_ms in range(-size_ms // step_ms * step_ms, 61, step_ms):
            held = [item for item in own if start_ms <= item.wall_ms < start_ms + size_ms]
            if held:
                wanted[key, start_ms, start_ms + size_ms] = summary(held)
    assert {(row.key, row.start_ms, row.end_ms): row.values for row in rows} == wanted
    assert len(rows) == len(wanted)
    assert [row.end_ms for row in rows] == sorted(row.end_ms for row in rows if row.end_ms is not None)


@given(streams, st.integers(1, 12))
def test_sessions_end_by_silence(items: list[Seen], gap_ms: int) -> None:
    rows = of(items).key_by("page_id").time_window(session(gap_ms)).aggregate(**ALL)
    wanted: list[tuple[Any, ...]] = []
    for key in ("p", "q", "r"):
        group: list[Seen] = []
        for item in in_order([item for item in items if item.page_id == key]):
            if group and item.wall_ms - group[-1].wall_ms >= gap_ms:
                wanted.append((key, group[0].wall_ms, group[-1].wall_ms + gap_ms, summary(group)))
                group = []
            group.append(item)
        if group:
            wanted.append((key, group[0].wall_ms, group[-1].wall_ms + gap_ms, summary(group)))
    assert sorted(map(tuple, rows), key=str) == sorted(wanted, key=str)


@given(streams, steps, st.integers(0, 30))
def test_a_delay_accepts_disorder_and_counts_the_rest(
    items: list[Seen], step: tuple[int, int], delay_ms: int
) -> None:
    """An event that comes before its last window is final counts wherever it still can."""
    size_ms, step_ms = step
    windowed = of(items).time_window(sliding(size_ms, step_ms), delay_ms=delay_ms)
    rows = windowed.aggregate(n=count())
    wanted: dict[int, int] = {}
    late = 0
    closed_ms = -(10**9)
    for item in items:
        closed_ms = max(closed_ms, item.wall_ms - delay_ms)
        last_ms = item.wall_ms - item.wall_ms % step_ms
        starts = range(last_ms - size_ms + step_ms, last_ms + 1, step_ms)
        open_ = [
            start_ms for start_ms in starts if start_ms + size_ms > closed_ms and start_ms <= item.wall_ms
        ]
        late += not open_
        for start_ms in open_:
            wanted[start_ms] = wanted.get(start_ms, 0) + 1
    assert {row.start_ms: row.values["n"] for row in rows} == wanted
    assert windowed.late == late


@given(streams, st.integers(1, 12))
def test_sessions_out_of_order_are_those_in_order_if_the_delay_is_long(
    items: list[Seen], gap_ms: int
) -> None:
    window = session(gap_ms)
    ordered = of(items).time_window(window).aggregate(n=count(), total=sum_("args.n"))
    shuffled = of(items).time_window(window, delay_ms=100).aggregate(n=count(), total=sum_("args.n"))
    assert shuffled == ordered


@given(streams)
def test_keys_and_the_whole_stream(items: list[Seen]) -> None:
    rows = of(items).key_by("page_id").aggregate(n=count(), total=sum_("args.n"))
    for row in rows:
        own = [item for item in items if item.page_id == row.key]
        assert row == Row(row.key, None, None, {"n": len(own), "total": summary(own)["total"]})
    assert sum(row.values["n"] for row in rows) == len(items)
    values = [item.args["n"] for item in items if item.args]
    told = of(items).aggregate(
        mean=mean("args.n"),
        most=max_("args.n"),
        first=first("args.n"),
        last=last("args.n"),
        kinds=distinct("args.n"),
    )
    assert told == {
        "mean": sum(values) / len(values) if values else None,
        "most": max(values, default=None),
        "first": values[0] if values else None,
        "last": values[-1] if values else None,
        "kinds": len(set(values)),
    }


@given(streams, streams, st.integers(0, 20))
def test_joins_pair_the_newest_that_waits(lefts: list[Seen], rights: list[Seen], within_ms: int) -> None:
    pairs = list(of(lefts).join(of(rights), on="page_id", within_ms=within_ms, keep_unmatched=True))
    free = in_order(lefts)
    taken: dict[int, Seen] = {}
    for right in in_order(rights):
        waits = [
            place
            for place, left in enumerate(free)
            if left.page_id == right.page_id and place not in taken and left.wall_ms <= right.wall_ms
        ]
        if waits and right.wall_ms - free[waits[-1]].wall_ms <= within_ms:
            taken[waits[-1]] = right
    assert pairs == [(left, taken.get(place)) for place, left in enumerate(free)]


@given(streams, st.integers(1, 20))
def test_tumbling_windows_fold_as_they_aggregate(items: list[Seen], size_ms: int) -> None:
    folded = of(items).time_window(tumbling(size_ms)).reduce(lambda n, _: n + 1, int)
    counted = of(items).time_window(tumbling(size_ms)).aggregate(n=count())
    assert [row.values for row in folded] == [row.values["n"] for row in counted]
