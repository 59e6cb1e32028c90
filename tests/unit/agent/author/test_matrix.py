"""The simulations a task declares: every cell played for real, every way to fail told by its kind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_agent.author.matrix import Isa, differences, matrix_lines, read_suite, simulate_matrix
from walle_agent.cli import main
from walle_engine import api
from walle_shared.errors import ConfigError
from walle_task.authoring import read_folder

EXAMPLES = Path(__file__).parents[4] / "examples"
SUITE = "simulations/simulations.toml"
GOLDEN = "simulations/golden/visits.json"


async def kinds(folder: Path, *, update: bool = False) -> list[list[str]]:
    """The kinds of failures of every cell."""
    result = await simulate_matrix(read_folder(folder), update=update)
    assert result.passed == (not any(cell.failures for cell in result.cells))
    return [[failure.kind for failure in cell.failures] for cell in result.cells]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_profile_may_name_any_instruction_set() -> None:
    assert get_args(Isa) == ("", *api.isas())


async def test_a_new_task_passes_on_every_profile(folder: Path) -> None:
    result = await simulate_matrix(read_folder(folder))
    assert (result.passed, result.smoked) == (True, False)
    assert [(cell.recording, cell.profile, cell.runs) for cell in result.cells] == [
        ("visits", "phone", 2),
        ("visits", "old_phone", 2),
    ]
    assert list(matrix_lines(result))[-1] == "2 cells, 0 failed"


@pytest.mark.parametrize("example", ["digit_reader", "item_page_view"])
async def test_the_examples_pass(example: str) -> None:
    result = await simulate_matrix(read_folder(EXAMPLES / example / "task"))
    assert list(matrix_lines(result))[-1] == "2 cells, 0 failed"


async def test_other_output_than_expected_fails_until_it_is_taken_over(folder: Path) -> None:
    replace(folder / "main.py", '"clicks": ', '"clicks": 1 + ')
    assert await kinds(folder) == [["golden_differs"] * 5, ["golden_differs"] * 5]
    assert await kinds(folder, update=True) == [[], []]
    assert await kinds(folder) == [[], []]


async def test_a_run_that_fails_fails_its_cell(folder: Path) -> None:
    replace(folder / "main.py", "def run()", "def run():\n    {}['absent']\n\ndef was()")
    result = await simulate_matrix(read_folder(folder))
    first = result.cells[0].failures[0]
    assert first.kind == "run_failed"
    assert first.message.startswith("run 1: exception: KeyError: 'absent'")


@pytest.mark.parametrize(
    ("budget", "kind"),
    [("cpu_s = 1e-7", "over_cpu"), ("memory_bytes = 1", "over_memory"), ("output_bytes = 1", "over_output")],
)
async def test_a_budget_that_does_not_do_is_named(folder: Path, budget: str, kind: str) -> None:
    replace(folder / SUITE, "cpu_s = 1.0\nmemory_bytes = 16777216      # 16 MiB", budget)
    assert await kinds(folder) == [[kind], [kind]]


async def test_a_profile_that_allows_less_than_the_task_asks_for_is_what_counts(folder: Path) -> None:
    replace(
        folder / "main.py",
        "def run()",
        "def run():\n    bytearray(20_000_000)\n    return work()\n\ndef work()",
    )
    replace(folder / SUITE, "33554432", "8388608")
    replace(folder / SUITE, "memory_bytes = 16777216 ", "memory_bytes = 33554432 ")
    phone, old_phone = await kinds(folder)
    assert phone == []
    assert old_phone[:2] == ["run_failed", "run_failed"]


async def test_events_that_are_none_and_recordings_that_fire_nothing_fail(folder: Path) -> None:
    (folder / "simulations/visits.jsonl").write_text('{"kind": "tap"}\n')
    assert await kinds(folder) == [["refused_event", "nothing_fired", "golden_differs"]] * 2


async def test_a_recording_without_expectation_fails(folder: Path) -> None:
    (folder / GOLDEN).unlink()
    assert await kinds(folder) == [["no_golden"], ["no_golden"]]
    (folder / GOLDEN).write_text("{")
    assert await kinds(folder) == [["no_golden"], ["no_golden"]]


async def test_each_version_of_the_app_has_its_own_recording(folder: Path) -> None:
    simulations = folder / "simulations"
    replace(folder / SUITE, '"visits.jsonl"', '"visits-{app_version}.jsonl"\napp_versions = ["7.1", "8"]')
    for version in ("7.1", "8"):
        shutil.copy(simulations / "visits.jsonl", simulations / f"visits-{version}.jsonl")
    result = await simulate_matrix(read_folder(folder), update=True)
    assert [(cell.app_version, cell.profile) for cell in result.cells] == [
        ("7.1", "phone"), ("8", "phone"), ("7.1", "old_phone"), ("8", "old_phone"),
    ]  # fmt: skip
    assert sorted(path.name for path in (simulations / "golden").iterdir()) == [
        "visits-7.1.json", "visits-8.json", "visits.json",
    ]  # fmt: skip


async def test_a_task_without_simulations_is_loaded(folder: Path) -> None:
    shutil.rmtree(folder / "simulations")
    result = await simulate_matrix(read_folder(folder))
    assert (result.passed, result.smoked) == (True, True)
    replace(folder / "main.py", "def run()", "import socket\n\ndef run()")
    result = await simulate_matrix(read_folder(folder))
    assert [failure.kind for failure in result.cells[0].failures] == ["load"]
    assert "socket" in result.cells[0].failures[0].message
    replace(folder / "main.py", "import socket\n\ndef run()", "run = 5\n\ndef was()")
    assert await kinds(folder) == [["load"]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "recordings must not be empty"),
        ('[[recordings]]\nname = "a/b"\nevents = "e"', r"recordings\[0\].name must be letters"),
        ('[[recordings]]\nname = "a"\nevents = "e-{app_version}"', "must name {app_version} if there are"),
        (
            '[[recordings]]\nname = "a"\nevents = "e"\napp_versions = ["1"]',
            "must name {app_version} if there are",
        ),
        ('[[recordings]]\nname = "a"\nevents = "e"\n[profiles.x]\nisa = "mmx"', "profiles.x.isa"),
        (
            '[[recordings]]\nname = "a"\nevents = "e"\n[profiles.x]\nwall_max_s = 0',
            "wall_max_s must be over 0",
        ),
        ('[[recordings]]\nname = "a"\nevents = "e"\n[budgets]\ncpu_s = -1', "cpu_s must not be negative"),
        (
            '[[recordings]]\nname = "a"\nevents = "e"\n[[recordings]]\nname = "a"\nevents = "e"',
            "names of their own",
        ),
        ("recordings = 5", "recordings"),
    ],
)
def test_a_suite_that_makes_no_sense_is_refused_by_name(folder: Path, text: str, complaint: str) -> None:
    (folder / SUITE).write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read_suite(folder)


async def test_recordings_stay_in_their_folder(folder: Path) -> None:
    replace(folder / SUITE, '"visits.jsonl"', '"../tests/events.jsonl"')
    with pytest.raises(ConfigError, match="lies outside of the folder"):
        await simulate_matrix(read_folder(folder))


def test_the_command_says_how_each_cell_did(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "simulate", str(folder), "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["passed"] is True
    (folder / GOLDEN).unlink()
    assert main(["task", "simulate", str(folder)]) == 1
    assert "no_golden: simulations/golden/visits.json is not there" in capsys.readouterr().out


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(JSON, JSON)
def test_values_differ_exactly_where_they_do(one: object, other: object) -> None:
    assert list(differences(one, one, 0.0)) == []
    same = orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)
    assert (list(differences(one, other, 0.0)) == []) == same


@pytest.mark.parametrize(
    ("expected", "found", "tells"),
    [
        (1.0, 1.00005, []),
        (1.0, 1.1, ["runs: 1.1, expected 1.0"]),
        ([1, True], [1, 1], ["runs[1]: 1, expected true"]),
        ({"a": 1}, {"b": 1}, ["runs.a: missing", "runs.b: not expected"]),
        ([1], [1, 2], ["runs: 2 items, 1 expected"]),
        ("x", None, ['runs: null, expected "x"']),
    ],
)
def test_a_difference_is_told_with_its_place(expected: object, found: object, tells: list[str]) -> None:
    assert list(differences(expected, found, 1e-4)) == tells
