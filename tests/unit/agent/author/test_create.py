from __future__ import annotations

from pathlib import Path

import pytest

from walle_agent.author.check import check_folder
from walle_agent.author.create import create_task
from walle_agent.author.matrix import simulate_matrix
from walle_shared.errors import ConfigError, Conflict, StorageError
from walle_task.authoring import read_folder


def test_a_new_task_has_no_fault_and_keeps_its_tests_to_itself(folder: Path) -> None:
    assert check_folder(folder) == ()
    task = read_folder(folder)
    assert sorted(task.files) == ["main.py", "task.toml"]
    assert (task.definition.task.scenario, task.definition.task.name) == ("demo", "visits")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        ".gitignore",
        "events.jsonl",
        "main.py",
        "simulations.toml",
        "task.toml",
        "test_main.py",
        "visits.json",
        "visits.jsonl",
    ]


def test_what_is_there_is_left_alone(folder: Path) -> None:
    before = (folder / "main.py").read_text()
    with pytest.raises(Conflict, match="holds something already"):
        create_task(folder, scenario="other")
    assert (folder / "main.py").read_text() == before


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert create_task(tmp_path / "empty", scenario="demo")


def test_names_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'My-Task' is not a name"):
        create_task(tmp_path / "My-Task", scenario="demo")
    with pytest.raises(ConfigError, match="scenario"):
        create_task(tmp_path / "fine", scenario="Demo!")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        create_task(tmp_path / "file" / "task", scenario="demo")


async def test_a_task_with_a_cloud_half_is_without_fault_and_passes_its_simulations(tmp_path: Path) -> None:
    written = create_task(tmp_path / "asker", scenario="demo", cloud=True)
    assert tmp_path / "asker/cloud.py" in written
    assert check_folder(tmp_path / "asker") == ()
    result = await simulate_matrix(read_folder(tmp_path / "asker"))
    assert result.passed, result
