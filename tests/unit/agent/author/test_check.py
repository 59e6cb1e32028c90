from __future__ import annotations

from pathlib import Path

import pytest

from walle_agent.author import check
from walle_agent.author.check import check_folder, find_line, find_schema
from walle_agent.cli import main
from walle_shared.errors import ConfigError
from walle_shared.schema import parse_schema


def complain(folder: Path) -> list[str]:
    return [f"{problem.level}: {problem}" for problem in check_folder(folder)]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('entry = "main:run"', 'entry = "main.py"', "error: task.toml:6: task.entry 'main.py' is not like"),
        ('"log"]', '"disk"]', "error: task.toml:7: task.capabilities[4]: expected one of"),
        ('["page:item.exit"]', '["item"]', "error: task.toml:10: triggers[0].ids: 'item' is not like"),
        ('["page:item.exit"]', '["kind:tap"]', "error: task.toml:10: 'kind:tap' never matches: kinds are"),
        ("wall_s = 2.0", "wall_s = 0.0", "error: task.toml:13: limits.wall_s must be over 0"),
        ("wall_s = 2.0", "wall_s = 90", "warning: task.toml:13: limits.wall_s is 90 s; a device gives 60"),
        ("[limits]", "[surprise]\nx = 1\n[limits]", "error: task.toml:12: surprise: is not known"),
        (
            'clicks = "integer"',
            'clicks = "int"',
            "error: task.toml:22: tables.visits.clicks: expected one of",
        ),
        ("[params]", "[params", "error: task.toml:17: not TOML"),
        ('"store", ', "", "error: main.py:14: uses walle_task.store: add 'store' to task.capabilities"),
        ("[tables.visits]", "[tables.other]", "error: main.py:13: the table 'visits' is not declared"),
    ],
)
def test_what_is_wrong_in_the_task_file_is_named_with_its_line(
    folder: Path, old: str, new: str, expected: str
) -> None:
    change(folder / "task.toml", old, new)
    assert complain(folder)[0].startswith(expected)


def test_scripts_are_judged(folder: Path) -> None:
    change(folder / "main.py", "from walle_task", "import numpy\nfrom walle_task")
    assert complain(folder)[0].startswith("error: main.py:3: a task may not import 'numpy'")


def test_a_broken_model_is_named(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model/net.wmodel").write_bytes(b"nonsense")
    assert any(
        text.startswith("error: model/net.wmodel: the model is malformed") for text in complain(folder)
    )
    (folder / "model/net.wmodel").unlink()
    (folder / "model/other.onnx").write_bytes(b"nonsense")
    assert any(text.startswith("error: model/other.onnx: ") for text in complain(folder))


def test_recorded_events_are_read(folder: Path) -> None:
    with (folder / "tests/events.jsonl").open("a") as file:
        file.write('\n# a comment\n{"kind": "tap"}\n')
    (found,) = complain(folder)
    assert found.startswith("warning: tests/events.jsonl:13: event.kind must be one of")


def test_sizes_have_a_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "big.bin").write_bytes(bytes(2 << 20))
    monkeypatch.setattr(check, "IMPORT_FILE_MAX_BYTES", 1 << 20)
    monkeypatch.setattr(check, "IMPORT_BUNDLE_MAX_BYTES", 1 << 20)
    monkeypatch.setattr(check, "MANIFEST_MAX_FILES", 2)
    found = complain(folder)
    assert "error: big.bin: has 2.0 MiB; a release takes 1 a file" in found
    assert "error: task.toml: the task has 2.0 MiB in all; a release takes 1" in found
    assert "error: task.toml: the task has 3 files; a release takes 2" in found


def test_what_cannot_be_shipped_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to("main.py")
    with pytest.raises(ConfigError, match="is a symbolic link"):
        check_folder(folder)
    (folder / "link").unlink()
    (folder / "bräu.txt").touch()
    with pytest.raises(ConfigError, match="file path"):
        check_folder(folder)


def test_a_folder_without_a_task(tmp_path: Path) -> None:
    assert complain(tmp_path) == [
        "error: task.toml: is missing; 'walle-agent task init NAME' makes a task with one"
    ]
    with pytest.raises(ConfigError, match="is no folder"):
        check_folder(tmp_path / "absent")
    (tmp_path / "task.toml").write_bytes(b"\xff")
    assert complain(tmp_path)[0].startswith("error: task.toml: not UTF-8")


TOML = """
[task]
name = "x"
[[triggers]]
ids = 1
[[triggers]]
profile = 2
ids = [
  3,
]
"""


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("task.name 'X' is no name", 3),
        ("task.entry: is missing", 2),
        ("triggers[1].ids[0]: wrong", 8),
        ("triggers[0]: wrong", 4),
        ("triggers: is missing", 0),
        ("limits.wall_s must be", 0),
        ("Expected ']' (at line 7, column 2)", 7),
        ("", 0),
    ],
)
def test_the_line_a_complaint_is_about(message: str, line: int) -> None:
    assert find_line(TOML, message) == line


SCHEMA = """
[envelope]
wall_ms = "upload"
[events.page_enter.args]
item = { type = "text" }
"""


def test_what_may_leave_is_held_against_the_nearest_schema(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.parent / "events.toml").write_text(SCHEMA)
    assert main(["task", "check", str(folder)]) == 1
    said = capsys.readouterr().out
    lines = (folder / "task.toml").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith("[uploads.visit]")) + 1
    seen = "the task sees what is local (all fields of all events: it has no [reads])"
    assert f"task.toml:{line}: error: {seen}, so dwell_ms needs a range" in said
    reads = '[reads]\npage_enter = ["wall_ms"]\npage_exit = ["wall_ms"]\nclick = []\n\n[params]'
    change(folder / "task.toml", "[params]", reads)
    problems = check_folder(folder, parse_schema(SCHEMA))
    assert [str(p) for p in problems if p.level == "error"] == []
    assert any("reads.click is not declared in events.toml" in p.message for p in problems)
    change(folder / "task.toml", 'page_enter = ["wall_ms"]', 'page_enter = ["args.item"]')
    (problem, *_) = [p for p in check_folder(folder, parse_schema(SCHEMA)) if p.level == "error"]
    assert "what is local (page_enter.args.item)" in problem.message
    assert check_folder(folder) == tuple(p for p in check_folder(folder) if p.level == "warning")


def test_a_schema_is_found_up_to_the_top_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "events.toml").write_text("")
    task = tmp_path / "repo" / "tasks" / "one"
    task.mkdir(parents=True)
    assert find_schema(task) == tmp_path / "events.toml"
    (tmp_path / "repo" / ".git").mkdir()
    assert find_schema(task) is None
