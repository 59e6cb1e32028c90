"""The documentation against the code: what it names exists, what exists is named, its examples run."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from walle_agent.author.check import check_folder
from walle_container.scripts import check_scripts
from walle_engine.convert import convert
from walle_shared.manifest import parse_task_file
from walle_shared.privacy import complaints, local_reads
from walle_shared.schema import parse_schema
from walle_shared.triggers import compile_trigger, parse
from walle_support.loading import load_script
from walle_task import cv, matrix
from walle_task.testing import fake_host

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "build", "dist", "node_modules", ".git"} & {*path.relative_to(ROOT).parts}
)
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


reference = load_script(ROOT / "docs/reference/generate.py", "reference_pages")
COMMANDS = {command.prog: command for parser in reference.parsers() for command in reference.commands(parser)}


def _fences(page: Path, language: str) -> list[str]:
    return [text for name, text in _FENCE.findall(page.read_text()) if name == language]


def _command_lines(text: str) -> list[list[str]]:
    """The commands of our programs in a text, as words, without what is behind two spaces."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        command = re.sub(r"^\s*(examples?: |\$ )?(\.venv/bin/)?", "", line)
        if re.match(r"walle-(agent|control|engine) [a-z]", command):
            words = shlex.split(re.split(r"\s{2,}", command)[0], comments=True)
            found.append([word for word in words if word != "&"])
    return found


# Reference pages


@pytest.mark.parametrize("name", ["ops.md", "http.md", "cli.md", "metrics.md", "errors.md", "settings.md"])
def test_a_reference_page_says_what_the_code_says(name: str) -> None:
    written = (ROOT / "docs/reference" / name).read_text()
    assert written == reference.pages()[name], "run: .venv/bin/nox -s reference"


def _given_codes(path: Path) -> set[str]:
    """The codes that calls in a file give, those that only log left out."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return {
        str(keyword.value.value)
        for call in calls
        if not ast.unparse(call.func).startswith("_log.")
        for keyword in call.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
    }


def test_every_code_of_an_error_is_explained() -> None:
    sources = [path for room in ("agent", "control", "shared") for path in (ROOT / room).rglob("*.py")]
    assert set().union(*map(_given_codes, sources)) == reference.SPECIAL_CODES


def test_the_reference_misses_no_page() -> None:
    present = {path.name for path in (ROOT / "docs/reference").glob("*.md")}
    assert present == reference.pages().keys()


# Settings


@pytest.mark.parametrize("name", ["agent", "control"])
def test_every_setting_in_the_example_file_is_explained(name: str) -> None:
    """That every setting is there is for ``tests/unit/<program>/test_config.py`` to prove."""
    text = (ROOT / "configs" / f"{name}.toml").read_text()
    lines = re.sub(r"^\[profile\]\n(.+\n)*", "", text, flags=re.MULTILINE).splitlines()  # free attributes
    settings = [n for n, line in enumerate(lines) if re.match(r"\w+ *=", line)]
    assert settings
    for n in settings:
        assert "# " in lines[n] or lines[n - 1].startswith("# "), f"{lines[n]} is not explained"


# Commands


@pytest.mark.parametrize("program", COMMANDS)
def test_a_command_has_help_with_an_example_that_parses(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = _program(program.split()[0])
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([*program.split()[1:], "--help"])
    assert ended.value.code == 0
    assert "example" in capsys.readouterr().out
    epilog = COMMANDS[program].epilog
    assert epilog is not None
    examples = _command_lines(epilog)
    assert any(" ".join(words[: len(program.split())]) == program for words in examples)
    for words in examples:
        _check_parses(words)


@pytest.mark.parametrize("program", ["walle-agent", "walle-control", "walle-engine"])
def test_a_programs_help_has_examples_that_parse(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _program(program).parse_args(["--help"])
    assert ended.value.code == 0
    examples = _command_lines(capsys.readouterr().out)
    assert len(examples) >= 4
    for words in examples:
        _check_parses(words)


def _sh_commands() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        for language in ("sh", ""):
            for text in _fences(page, language):
                for words in _command_lines(text):
                    yield str(page.relative_to(ROOT)), words


@pytest.mark.parametrize(
    ("page", "words"),
    [pytest.param(page, words, id=f"{page}: {shlex.join(words[:3])}") for page, words in _sh_commands()],
)
def test_a_command_in_a_page_parses(page: str, words: list[str]) -> None:
    _check_parses(words)


def _program(name: str) -> argparse.ArgumentParser:
    found: argparse.ArgumentParser = next(parser for parser in reference.parsers() if parser.prog == name)
    return found


def _check_parses(words: list[str]) -> None:
    try:
        _program(words[0]).parse_args(words[1:])
    except SystemExit:
        pytest.fail(f"not a command: {shlex.join(words)}")


# Pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: no such file"
        if anchor:
            headings = [
                re.sub(r"[^\w\- ]", "", found).lower() for found in _HEADING.findall(file.read_text())
            ]
            assert anchor in [heading.replace(" ", "-") for heading in headings], f"{target}: no such heading"


def test_the_page_finder_finds_the_pages() -> None:
    assert {ROOT / "README.md", ROOT / "docs/guide/write-a-task.md"} <= {*PAGES}
    assert len(list(_sh_commands())) >= 3


def test_the_triggers_in_the_guide_are_triggers() -> None:
    page = ROOT / "docs/guide/triggers.md"
    lines = [line for text in _fences(page, "text") for line in text.splitlines() if line.startswith("on ")]
    assert len(lines) >= 4
    for line in lines:
        compile_trigger(parse(line))
    for text in _fences(page, "python"):
        exec(compile(text, page.name, "exec"), {})
    for text in _fences(page, "toml"):
        head = '[task]\nscenario = "demo"\nname = "one"\n'
        assert parse_task_file(head + text).triggers


def test_what_the_guides_declare_can_be_declared() -> None:
    head = '[task]\nscenario = "demo"\nname = "one"\n[[triggers]]\nids = ["kind:click"]\n'
    stages = [text for text in _fences(ROOT / "docs/guide/write-a-task.md", "toml") if "[[prepare]]" in text]
    assert len(stages) == 1
    assert parse_task_file(head + stages[0]).prepare
    registry, manifest = _fences(ROOT / "docs/guide/privacy.md", "toml")
    schema = parse_schema(registry)
    task = parse_task_file(head + manifest)
    assert list(complaints(task, schema)) == []
    assert local_reads(task, parse_schema("")) == ("add_cart.page_id", "add_cart.args.item_id")
    assert parse_schema((ROOT / "configs/events.toml").read_text()).events


@pytest.mark.slow
def test_the_task_in_the_guide_runs(tmp_path: Path) -> None:
    script, training, filed, test = _fences(ROOT / "docs/guide/write-a-task.md", "python")
    task = tmp_path / "digit_reader"
    shutil.copytree(ROOT / "examples/digit_reader/task", task)
    (task / "main.py").write_text(script)
    (task / "tests").mkdir()
    (task / "tests/test_main.py").write_text(test)
    problems = [problem for problem in check_folder(task) if problem.level == "error"]
    assert problems == []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(task / "tests")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout

    convert(task / "model/digits.onnx", task / "model/digits.wmodel")
    own: dict[str, Any] = {}
    exec(compile(training, "main.py", "exec"), own)
    with fake_host(bundle_dir=task) as host:
        losses = own["run"]()
    assert losses[-1] < losses[0] / 2
    assert host.values["tuned"]["steps"] == len(losses) == 20

    exec(compile(filed, "main.py", "exec"), own)
    _, picture = cv.imencode(".png", matrix.zeros((2, 3), dtype=matrix.uint8))
    with fake_host(events=[{"kind": "custom", "args": {"frame": "a.png"}}], inbox={"a.png": bytes(picture)}):
        assert own["run"]() == {"height": 2}


def test_the_two_halves_in_the_guide_are_without_fault(tmp_path: Path) -> None:
    page = ROOT / "docs/guide/ask-the-cloud.md"
    device, half, test = _fences(page, "python")
    (section,) = _fences(page, "toml")
    head = (
        '[task]\nscenario = "demo"\nname = "looker"\ncapabilities = ["events", "model", "tunnel", "cloud"]\n'
        '[[triggers]]\nids = ["event:frame"]\n[uploads.seen]\nlabel = "integer"\n'
    )
    files = {"main.py": device, "cloud.py": half, "model/small.onnx": "", "cloud/big.onnx": ""}
    task = parse_task_file(head + section)
    assert check_scripts({path: text.encode() for path, text in files.items()}, task) == ()
    compile(test, page.name, "exec")
