"""The task's log: kept with the run's result, :data:`walle_task.context.LOG_MAX_ENTRIES` lines at most."""

from __future__ import annotations

from typing import Any

from walle_task.context import current

__all__ = ["debug", "error", "info", "warning"]


def debug(message: str, /, **fields: Any) -> None:
    """Log something only the author wants to know."""
    _add("debug", message, fields)


def info(message: str, /, **fields: Any) -> None:
    """Log something worth knowing."""
    _add("info", message, fields)


def warning(message: str, /, **fields: Any) -> None:
    """Log something odd that the task coped with."""
    _add("warning", message, fields)


def error(message: str, /, **fields: Any) -> None:
    """Log something the task could not do."""
    _add("error", message, fields)


def _add(level: str, message: str, fields: dict[str, Any]) -> None:
    context = current()
    context.check_granted("log")
    context.add_log(level, message, fields)
