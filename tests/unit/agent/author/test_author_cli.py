from __future__ import annotations

import json
from pathlib import Path

import pytest

from walle_agent.cli import EXIT_FAILED, EXIT_OK, EXIT_USAGE, main


def test_a_task_from_nothing_to_a_flame_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["task", "init", "visits"]) == EXIT_OK
    assert "walle-agent task run visits --events visits/tests/events.jsonl" in capsys.readouterr().out
    assert main(["task", "check", "visits"]) == EXIT_OK
    assert capsys.readouterr().out == "0 errors, 0 warnings\n"
    events = ["visits", "--events", "visits/tests/events.jsonl"]
    assert main(["task", "run", *events]) == EXIT_OK
    assert "2 runs, 0 failed" in capsys.readouterr().out
    assert main(["task", "run", *events, "--json"]) == EXIT_OK
    assert [run["ok"] for run in json.loads(capsys.readouterr().out)["runs"]] == [True, True]
    profile = ["task", "profile", *events, "--seconds", "0.001"]
    assert main([*profile, "--flame", "flame.svg"]) == EXIT_OK
    assert "run  (main.py:6)" in capsys.readouterr().out
    assert Path("flame.svg").read_text().startswith("<svg")
    assert main([*profile, "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["runs"] == 2


def test_check_tells_people_and_scripts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "main.py").write_text("import os\ndef run(): pass\n")
    assert main(["task", "check", str(folder)]) == EXIT_FAILED
    assert f"{folder}/main.py:1: error: a task may not import 'os'" in capsys.readouterr().out
    assert main(["task", "check", str(folder), "--json"]) == EXIT_FAILED
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["problems"][0]["line"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "{folder}", "--events", "{folder}/absent"], "absent: cannot be read"),
        (["run", "{folder}/absent", "--events", "x"], "is no folder"),
        (["check", "{folder}/absent"], "is no folder"),
        (["test", "{folder}"], "there are no tests"),
    ],
)
def test_what_is_missing_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    for path in (folder / "tests").iterdir():
        path.unlink()
    (folder / "tests").rmdir()
    assert main(["task", *(word.format(folder=folder) for word in arguments)]) == EXIT_USAGE
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_the_tasks_own_tests_run(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "test", str(folder), "--", "-q", "-p", "no:randomly"]) == EXIT_OK
    assert "4 passed" in capfd.readouterr().out
    (folder / "main.py").write_text("def run():\n    return 5\n")
    assert main(["task", "test", str(folder), "--", "-q", "-k", "summed"]) == EXIT_FAILED


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == EXIT_OK
    assert capsys.readouterr().out.startswith("walle-agent ")
