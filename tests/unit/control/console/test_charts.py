"""Charts: well-formed whatever the numbers, and drawn where the numbers say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_control.console import charts, words
from walle_control.console.charts import Interval

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"),
    max_size=20,
)
COUNTS = st.integers(0, 10**9)
RATES = st.floats(0, 1)
TIMES = st.integers(0, 2 * 10**12)


def drawn(svg: str) -> ElementTree.Element:
    found = ElementTree.fromstring(svg)
    assert found.get("aria-label")
    for element in found.iter():
        for name, value in element.attrib.items():
            assert "nan" not in value.split(), name
            assert "inf" not in value, name
            assert name != "style"
    return found


@given(st.lists(st.tuples(NAMES, COUNTS), max_size=9), NAMES)
def test_shares_fill_the_bar(parts, title):
    svg = charts.shares(parts, "t" + title)
    if not sum(number for _, number in parts):
        assert svg == ""
        return
    rects = drawn(svg).findall("rect")
    assert len(rects) == len(parts)
    assert float(rects[-1].get("x", 0)) <= 720


@given(st.floats(-10, 1e6), st.floats(0.1, 100))
def test_evidence_passes_its_mark_when_it_does(has, needed):
    found = drawn(charts.evidence(has, needed, "t"))
    bar, mark = found.findall("rect")[1:]
    over = float(bar.get("width", 0)) >= float(mark.get("x", 0))
    assert (bar.get("class") == "over") == (has >= needed)
    assert over == (has >= needed) or abs(has - needed) < needed * 0.02


@given(st.lists(st.tuples(NAMES, RATES, RATES, RATES), min_size=1, max_size=3), st.floats(0.001, 0.999))
def test_intervals_stay_inside(arms, allowed):
    shown = [Interval(name, *sorted(rates)[1:2], min(rates), max(rates)) for name, *rates in arms]
    for circle in drawn(charts.intervals(shown, allowed, "t")).findall("circle"):
        assert 90 <= float(circle.get("cx", 0)) <= 720 - 24


@given(st.lists(st.tuples(TIMES, COUNTS), max_size=20), st.lists(st.tuples(TIMES, COUNTS), max_size=6))
def test_coverage_is_drawn_inside_its_frame(points, plan):
    svg = charts.coverage(sorted(points), sorted(plan), "t")
    if len({at for at, _ in (*points, *plan)}) < 2:
        assert svg == ""
        return
    for path in drawn(svg).findall("path"):
        for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d", "")):
            assert 55 <= float(x) <= 705
            assert 9 <= float(y) <= 221


@pytest.mark.parametrize(
    ("value", "nice"),
    [(0.0, 1.0), (0.03, 0.03), (1.0, 1.0), (1.2, 1.5), (2.3, 2.5), (3.1, 4.0), (7.0, 8.0), (1234.0, 1500.0)],
)
def test_axes_end_at_round_numbers(value, nice):
    assert charts._nice(value) == pytest.approx(nice)


def test_words():
    assert words.age(0, 90_000) == "1 min ago"
    assert words.age(90_000, 0) == "in 1 min"
    assert words.age(5, 5) == "0 s ago"
    assert words.span(0.2) == "under 1 s"
    assert words.span(172_800) == "2 d"
    assert words.count(1_234_567) == "1\u202f234\u202f567"
    assert (words.rate(0), words.rate(0.0123), words.rate(0.256)) == ("0 %", "1.2 %", "26 %")
    assert words.moment(10**18).startswith("9999")
    assert words.moment(-5).startswith("1970")
