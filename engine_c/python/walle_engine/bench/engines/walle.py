"""Walle's own engine; reads the ``.wmodel`` that ``settings["converted"]`` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from walle_engine import api

DISTRIBUTION = "walle"


def load(job: Mapping[str, Any]) -> Callable[[], Sequence[object]]:
    """Map the model and make a session; it prepares itself at the first run."""
    settings, inputs = job["settings"], job["inputs"]
    model = api.load(settings["converted"])
    session = model.session(threads=job["threads"], precision=settings["precision"])
    return lambda: list(session.run(inputs).values())
