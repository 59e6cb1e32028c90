"""What the examples share."""

from __future__ import annotations

import importlib.util
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

COMMON = Path(__file__).parents[3] / "examples" / "common"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_common_{name}", COMMON / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


page = load("page")
numbers = st.floats(-1e9, 1e9)


def texts(drawn: str) -> list[str]:
    return ["".join(item.itertext()) for item in ET.fromstring(drawn).iter("text")]


def test_a_page_holds_what_was_added_and_escapes_it(tmp_path: Path) -> None:
    made = page.Page("A & B", "SYNTHETIC <data>")
    made.heading("Cost")
    made.say("less > more")
    made.table(["what", "value"], [["<script>", 1], ["x", None]])
    made.bars("bars", {"a": 1.0, "b<": 0.5}, "ms")
    made.lines("lines", {"one": [(0, 1), (1, 2)], "flat": [(0, 1), (1, 1)]}, x="time", y="loss")
    made.spans("spans", {"truth": [(0, 1), (2, 3)], "found": []}, 10)
    made.write(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "<h1>A &amp; B</h1>" in html
    assert "SYNTHETIC &lt;data&gt;" in html
    assert "<td>&lt;script&gt;</td><td>1</td>" in html
    assert html.count("<svg") == html.count("<figure>") == 3
    assert "<script" not in html
    assert "http" not in html  # it needs nothing else


def test_an_index_leads_to_each_page_but_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(COMMON))
    index = load("index")
    sys.modules.pop("page")
    page.Page("B & more", "note").write(tmp_path / "b.html")
    page.Page("A", "note").write(tmp_path / "a.html")
    (tmp_path / "a.json").write_text("{}")
    for _ in range(2):  # the second time the index is there already
        html = index.write(tmp_path).read_text()
        assert re.findall('<a href="(.*?)">(.*?)</a>', html) == [("a.html", "A"), ("b.html", "B &amp; more")]


def test_bars_are_as_long_as_their_values() -> None:
    drawn = ET.fromstring(page.bars("t", {"a": 2.0, "b": 1.0, "none": 0.0}))
    long, short, none = (float(bar.attrib["width"]) for bar in drawn.iter("rect"))
    assert long == pytest.approx(2 * short, abs=0.2)
    assert none == 0


def test_curves_lie_between_round_numbers() -> None:
    drawn = page.lines("t", {"c": [(0, 0.12), (7, 0.93)]}, x="step")
    assert {"0", "0.2", "1", "8", "step", "c"} <= set(texts(drawn))
    (curve,) = ET.fromstring(drawn).iter("polyline")
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in curve.attrib["points"].split())
    assert x0 < x1
    assert y0 > y1  # up is less


@given(st.lists(st.tuples(numbers, numbers), min_size=0, max_size=5), st.dictionaries(st.text(), numbers))
def test_any_numbers_and_names_make_well_formed_plots(
    points: list[tuple[float, float]], values: dict[str, float]
) -> None:
    printable = {name: value for name, value in values.items() if name.isprintable()}
    ET.fromstring(page.lines("t", {"c": points}))
    ET.fromstring(page.bars("t", printable))
