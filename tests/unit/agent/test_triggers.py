"""``walle-agent trigger explain``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from walle_agent.cli import EXIT_OK, EXIT_USAGE, main

PAGE_VIEW = Path(__file__).parents[3] / "examples" / "item_page_view"


def test_a_task_over_its_recorded_stream(capsys: pytest.CaptureFixture[str]) -> None:
    task, events = str(PAGE_VIEW / "task"), str(PAGE_VIEW / "events.jsonl")
    assert main(["trigger", "explain", task, "--events", events]) == EXIT_OK
    shown = capsys.readouterr().out
    assert "1 exit(item_detail)" in shown
    assert "568 events, 30 beginnings, 30 fires" in shown
    assert "and 10 more: --all shows them" in shown
    assert main(["trigger", "explain", task, "--events", events, "--all", "--json"]) == EXIT_OK
    (plain,) = json.loads(capsys.readouterr().out)
    assert [attempt["outcome"] for attempt in plain["attempts"]] == ["fired"] * 30


def test_a_picture_alone_needs_no_stream(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trigger", "explain", "on a !b within 10s"]) == EXIT_OK
    assert "silence until 10s after the first event" in capsys.readouterr().out


def test_errors_point_at_the_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text('# a note\n{"kind": "click"}\n{"kind": "clck"}\n')
    assert main(["trigger", "explain", "on a", "--events", str(events)]) == EXIT_USAGE
    assert "events.jsonl:3: event.kind must be one of" in capsys.readouterr().err
    assert main(["trigger", "explain", "on a ~>"]) == EXIT_USAGE
    assert "\n         ^" in capsys.readouterr().err
    assert main(["trigger", "explain", str(tmp_path / "task.toml")]) == EXIT_USAGE
    assert "task.toml: cannot be read" in capsys.readouterr().err
