"""The demo's stages against real processes: what a newcomer sees first must work."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder with a short name: the path of a Unix socket has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.e2e
def test_a_task_travels_from_a_git_tag_to_a_devices_answer(short_tmp: Path) -> None:
    summary_file = short_tmp / "summary.json"
    words = [sys.executable, "examples/demo", "--digits", "60", "--json", str(summary_file)]
    env = {**os.environ, "TMPDIR": str(short_tmp)}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(summary_file.read_text())
    assert summary["digits_read"] == 60
    assert summary["accuracy"] >= 0.95  # 57 of 60; the model reads 98 % of all held-out scans
    assert summary["size_reduction"] >= 0.9
    assert summary["recovered_version"] == "1.0.0"
    assert summary["rollback_reason"] == "3 of 3 runs failed (100.0%), over 20.0%"
    assert list(short_tmp.glob("walle-demo-*")) == []  # nothing is left behind


@pytest.mark.e2e
def test_a_stage_that_fails_is_named_and_the_exit_code_says_so(short_tmp: Path) -> None:
    """The demo on a machine whose control plane cannot start: one of its settings is refused."""
    env = {**os.environ, "TMPDIR": str(short_tmp), "WALLE_CONTROL_STREAM__HEARTBEAT_S": "0"}
    words = [sys.executable, "examples/demo", "--digits", "3"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "failed at control plane" in done.stdout
    assert "stream.heartbeat_s" in done.stdout
