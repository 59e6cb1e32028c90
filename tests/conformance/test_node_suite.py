"""Every official case that has passed goes on passing: all but those ``not_passed.txt`` lists."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("node_suite.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--kinds=node", *(f"--set={name}=false" for name in ("merge", "claims", "fuse", "reuse"))],
        ["--kinds=node", "--set=claims=false", "--set=verify=true"],
    ],
    ids=["as usual", "nothing optimised", "merging verified"],
)
def test_cases_not_listed_as_failing_pass(arguments: list[str]) -> None:
    command = [sys.executable, str(SUITE), "--listed", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unknown_kind_is_refused() -> None:
    command = [sys.executable, str(SUITE), "--kinds", "nod"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "unknown kinds nod" in done.stderr


def test_every_case_not_passed_has_a_reason() -> None:
    suite = runpy.run_path(str(SUITE))
    listed = suite["read_not_passed"]()
    assert not [key for key in listed if suite["explain"](key) == suite["UNEXPLAINED"]]
    assert not [p for p, _ in suite["REASONS"] if not any(re.match(p, key) for key in listed)]
