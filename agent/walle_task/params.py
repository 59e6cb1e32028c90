"""The task's parameters: the ``[params]`` table of its task.toml, as the release set them."""

from __future__ import annotations

from typing import Any

from walle_task.context import current

__all__ = ["all", "get"]


def get(name: str, default: Any = None) -> Any:
    """The parameter ``name``, or ``default`` where it is not set."""
    return _params().get(name, default)


def all() -> dict[str, Any]:
    """Every parameter; a copy."""
    return dict(_params())


def _params() -> dict[str, Any]:
    context = current()
    context.check_granted("params")
    return context.params
