"""Stream functions: worked cases and refusals; the random ones are in ``tests/property``."""

from __future__ import annotations

import pytest

from walle_shared.errors import TaskError
from walle_task import events, streams
from walle_task.streams import collect, count, distinct, of, session, sliding, sum_, tumbling
from walle_task.testing import fake_host

CLICKS = [
    {"kind": "exposure", "page_id": "feed", "wall_ms": 1_000, "args": {"item": {"id": "a", "price": 3}}},
    {"kind": "exposure", "page_id": "feed", "wall_ms": 2_000, "args": {"item": {"id": "b", "price": 5}}},
    {"kind": "click", "page_id": "feed", "wall_ms": 4_000, "args": {"item": {"id": "a", "price": 3}}},
    {"kind": "exposure", "page_id": "item", "wall_ms": 31_000, "args": {"item": {"id": "c", "price": 7}}},
]


def test_a_task_sums_up_what_it_is_given(tmp_path: object) -> None:
    del tmp_path
    with fake_host(events=CLICKS):
        seen = of(events.all())
        exposures, clicks = seen.filter(kind="exposure"), seen.filter(kind="click")
        per_page = (
            exposures.key_by("page_id")
            .time_window(tumbling(30_000))
            .aggregate(seen=count(), price=sum_("args.item.price"))
        )
        pairs = list(exposures.join(clicks, on="args.item.id", within_ms=10_000))
    assert [(row.key, row.start_ms, row.values) for row in per_page] == [
        ("feed", 0, {"seen": 2, "price": 8}),
        ("item", 30_000, {"seen": 1, "price": 7}),
    ]
    assert [(shown.args["item"]["id"], click.wall_ms) for shown, click in pairs] == [("a", 4_000)]


def test_a_stream_can_be_read_twice_and_a_predicate_may_be_a_function() -> None:
    odd = of([1, 2, 3]).filter(lambda n: n % 2).map(lambda n: n * 10)
    assert list(odd) == list(odd) == [10, 30]
    assert odd.reduce(lambda a, b: a + b, 0) == 40


@pytest.mark.parametrize(
    "make",
    [
        lambda: tumbling(0),
        lambda: sliding(5, 10),
        lambda: sliding(100_000, 1),
        lambda: session(0),
        lambda: of([]).time_window(tumbling(1), delay_ms=-1),
        lambda: of([]).time_window(sliding(10, 5)).reduce(lambda a, _: a, int),
    ],
)
def test_windows_that_make_no_sense_are_refused(make: object) -> None:
    with pytest.raises(TaskError):
        make()  # type: ignore[operator]


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HELD_MAX", 3)
    for aggregation in (collect(), distinct(lambda n: n)):
        with pytest.raises(TaskError, match="holds over 3 values"):
            of(range(4)).aggregate(held=aggregation)


def test_prepared_rows_are_read_by_the_name_of_their_stage():
    with fake_host(prepared={"per_page": [("p", 0, 10, {"n": 1})], "none": []}):
        assert streams.prepared("per_page") == [streams.Row("p", 0, 10, {"n": 1})]
        assert streams.prepared("none") == []
        with pytest.raises(TaskError, match=r"there is no stage 'other': add a \[\[prepare\]\]"):
            streams.prepared("other")


def test_a_histogram_has_a_bin_below_each_edge_and_one_above():
    values = [{"n": n} for n in (0, 1, 1.5, 3, 99)]
    assert streams.of(values).aggregate(h=streams.histogram("n", 1, 3))["h"] == [1, 2, 2]
    with pytest.raises(TaskError, match="must rise"):
        streams.histogram("n", 3, 1)
