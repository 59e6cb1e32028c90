"""A task made by ``walle-agent task init``, to be spoilt by tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from walle_agent.author.create import create_task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_task(tmp_path / "visits", scenario="demo")
    return tmp_path / "visits"
