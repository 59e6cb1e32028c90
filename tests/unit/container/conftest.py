"""A host with a real worker, and bundles made of a few lines of script."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from walle_container import HostConfig, TaskHost, TaskLimits, TaskSpec

ALL = frozenset({"events", "log", "model", "params", "store", "tunnel"})


@pytest.fixture
async def host() -> AsyncIterator[TaskHost]:
    async with TaskHost(HostConfig(slots=2)) as opened:
        yield opened


@pytest.fixture
def make_spec(tmp_path: Path) -> Callable[..., TaskSpec]:
    numbers = count()

    def make(
        script: str,
        *,
        files: dict[str, str] | None = None,
        wall_s: float = 10.0,
        memory_bytes: int = 64 << 20,
        output_bytes: int = 64 << 10,
        **fields: Any,
    ) -> TaskSpec:
        bundle_dir = tmp_path / f"bundle{next(numbers)}"
        for name, text in {"main.py": script, **(files or {})}.items():
            path = bundle_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        limits = TaskLimits(wall_s=wall_s, memory_bytes=memory_bytes, output_bytes=output_bytes)
        fields.setdefault("capabilities", ALL)
        return TaskSpec(task="t", version="1.0", bundle_dir=bundle_dir, limits=limits, **fields)

    return make


@pytest.fixture
def inputs() -> dict[str, Any]:
    return {"events": [{"seq": 1, "kind": "click", "event_id": "buy"}], "visit": None, "trigger": {}}
