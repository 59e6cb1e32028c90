"""Counts, times and curves of a simulated fleet, and the chart they are drawn in."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree

import pytest

from walle_control.fleet.plot import line_chart, ticks
from walle_control.fleet.tally import Tally, curve


class Watch:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_coverage_rises_with_every_activation():
    watch = Watch()
    tally = Tally(watch)
    for watch.seconds in (10.0, 11.0, 12.0, 14.0):
        tally.activated("demo/t 1", "demo/t 2")
    points = tally.coverage("demo/t 2", 8, points=4)
    assert points == [(0.0, 1 / 8), (1.0, 2 / 8), (2.0, 3 / 8), (3.0, 3 / 8), (4.0, 4 / 8)]
    assert (tally.running["demo/t 1"], tally.running["demo/t 2"]) == (-4, 4)


def test_no_activation_is_no_curve():
    assert curve([], 0.0, 5) == []
    assert Tally(Watch()).coverage("demo/t 1", 5) == []


def test_the_summary_tells_how_long_news_took():
    watch = Watch()
    tally = Tally(watch)
    for watch.seconds in range(100):
        tally.heard_of(7)
    told = tally.summary(100, Counter(epoch=5), 1_000)["epochs"]["7"]
    assert told == {"devices": 100, "p50": 50, "p90": 90, "p99": 99, "last": 99}


@pytest.mark.parametrize("highest", [0.3, 1.0, 7.0, 42.0, 1_234.0, 3e9])
def test_ticks_are_round_and_reach_the_highest(highest):
    marks = ticks(highest)
    assert marks[0] == 0
    assert marks[-2] < highest <= marks[-1] * (1 + 1e-9)
    assert 3 <= len(marks) <= 8


def test_a_chart_is_well_formed_whatever_its_names():
    chart = line_chart("a < b & c", "s", {"<one>": [(0, 0), (5, 1)], "two": []}, y_percent=True)
    root = ElementTree.fromstring(chart)
    assert [line.get("fill") for line in root.iter("{http://www.w3.org/2000/svg}polyline")] == [
        "none",
        "none",
    ]
    assert "a < b & c" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
