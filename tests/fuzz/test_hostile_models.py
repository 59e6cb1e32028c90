"""Hostile ONNX models and made-up graphs: a result or a typed error, in bounded time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("hostile_models.py")
ROUNDS = {"convert": 150, "build": 600}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ROUNDS)
def test_nothing_but_results_and_typed_errors(mode: str, tmp_path: Path) -> None:
    arguments = [mode, "--seed", "11", "--rounds", str(ROUNDS[mode]), "--cases", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    outcomes = summary["outcomes"]
    assert sum(outcomes.values()) == ROUNDS[mode]
    assert outcomes["accepted"] > ROUNDS[mode] // 100  # else nothing past the first check was tried
    assert outcomes["ModelError"] > ROUNDS[mode] // 10
    assert summary["peak_bytes"] < 2 << 30
