"""What the guide shows runs, in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]


def test_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "guide" / "compress-a-model.md").read_text()
    names: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(code, "compress-a-model.md", "exec"), names)
    sqnr_db, worst = capsys.readouterr().out.split()
    assert float(sqnr_db) > 20
    assert worst in names["tuned"].layers
    assert (tmp_path / "digits-int8.wmodel").exists()
