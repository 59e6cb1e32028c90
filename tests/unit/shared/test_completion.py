"""What ``completion`` prints is a script by which a real bash completes."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from walle_agent import cli as agent
from walle_control.cli import main as control_main
from walle_engine import cli as engine
from walle_shared.completion import SHELLS

MAINS = {"walle-agent": agent.main, "walle-control": control_main, "walle-engine": engine.main}


def script(program: str, shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert MAINS[program](["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "words", "found"),
    [
        ("walle-agent", ["doc"], {"doctor"}),
        ("walle-agent", ["events", "re"], {"record", "replay"}),
        ("walle-control", ["release", "create", "--sta"], {"--stages"}),
        ("walle-control", ["trust", "s"], {"show", "sign", "submit"}),
        ("walle-engine", ["work"], {"workload"}),
        ("walle-engine", ["completion", ""], set(SHELLS)),
    ],
)
def test_bash_completes(
    program: str, words: list[str], found: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    line = " ".join(f"'{word}'" for word in (program, *words))
    function = f"_shtab_{program.replace('-', '_')}"
    drive = f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; {function}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(
        [bash, "--norc", "-s"],
        input=script(program, "bash", capsys) + "\n" + drive,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert found <= set(done.stdout.split())
    assert all(word.startswith(words[-1]) for word in done.stdout.split())


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_written_for(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "walle-engine" in script("walle-engine", shell, capsys)


def test_without_the_library_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert MAINS["walle-control"](["completion", "bash"]) == 2
    assert "pip install shtab" in capsys.readouterr().err
