"""A task made by ``walle-agent task init``, to be spoilt by tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from walle_agent.author.create import create_task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_task(tmp_path / "visits", scenario="demo")
    return tmp_path / "visits"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()  # a command sets the log's level
