from __future__ import annotations

import xml.etree.ElementTree as ET

from walle_agent.author.profile import flame_graph, merge, table, table_lines, to_plain
from walle_container.spec import ProfileNode

MS = 1_000_000
TREE = (
    ProfileNode(-1, "run", "run", "", 1, 10 * MS),
    ProfileNode(0, "library", "find", "imports.py:1", 5, 2 * MS),  # the container's
    ProfileNode(1, "task", "<module>", "main.py:1", 1, 1 * MS),
    ProfileNode(0, "task", "run", "main.py:5", 1, 7 * MS),
    ProfileNode(3, "library", "dumps", "json/__init__.py:183", 2, 1 * MS),
    ProfileNode(3, "model", "digits", "", 1, 5 * MS),
    ProfileNode(5, "engine", "Conv <3x3>", "", 4, 4 * MS),
    ProfileNode(3, "task", "walk", "main.py:9", 1, 1 * MS),
    ProfileNode(7, "task", "walk", "main.py:9", 1, 1 * MS),
)


def test_trees_are_added_up_and_the_container_is_one_line() -> None:
    found = table(merge([TREE, TREE]))
    lines = {line.name: line for line in found if line.kind != "run"}
    assert "find" not in lines
    assert (lines["run"].calls, lines["digits"].calls, lines["Conv <3x3>"].calls) == (2, 2, 8)
    assert lines["digits"].self_ns == 2 * MS
    assert lines["walk"].total_ns == 2 * MS  # recursion counts once
    assert lines["walk"].self_ns == 2 * MS
    assert sum(line.self_ns for line in found) == 20 * MS


def test_a_name_of_two_kinds_is_two_lines() -> None:
    lines = [line for line in table(merge([TREE])) if line.name == "run"]
    assert {line.kind for line in lines} == {"run", "task"}


def test_the_table_for_a_person() -> None:
    shown = list(table_lines(merge([TREE, TREE]), 2, most=3))
    assert shown[1].split() == ["4.000", "40.0", "4.000", "4", "engine", "Conv", "<3x3>"]
    assert shown[-1].endswith("4 more")
    assert "dumps  (json/__init__.py:183)" in "\n".join(table_lines(merge([TREE]), 1))
    assert to_plain(merge([TREE]))[0]["self_ms"] == 4.0


def test_the_flame_graph_is_one_svg_whose_widths_are_time() -> None:
    text = flame_graph(merge([TREE]), "visits <1>")
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    groups = root.findall(f"{space}g")
    titles = {group.findtext(f"{space}title", ""): group for group in groups}
    (conv,) = [group for title, group in titles.items() if title.startswith("engine Conv <3x3>: 40.0 %")]
    box = conv.find(f"{space}rect")
    assert box is not None
    assert float(box.get("width", "0")) == 480.0
    assert "href" not in text.replace("http://www.w3.org", "")


def test_nothing_profiled_is_still_a_graph() -> None:
    ET.fromstring(flame_graph(merge([]), "empty"))
    assert len(list(table_lines(merge([]), 1))) == 2
