"""Killed around every commit and file it writes, the control plane keeps what it has told is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIFE = Path(__file__).with_name("control_life.py")


@pytest.mark.slow
@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow_session)])
def test_whenever_it_dies_nothing_is_lost_and_nothing_half_done(tmp_path, stride):
    done = subprocess.run(
        [sys.executable, LIFE, tmp_path, str(stride)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *killed, last = map(json.loads, done.stdout.splitlines())
    assert [life for life in [*killed, last] if life["wrong"]] == [], done.stderr
    assert len(killed) > 50 / stride
    assert all(life["killed"] for life in killed)
    assert not last["killed"]
    assert last["told"] == 12  # the whole day
    told = [life["told"] for life in killed]
    assert told == sorted(told)
