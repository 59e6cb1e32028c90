"""Collective storage: rows in the tables that the task's task.toml declares, and a few values by key.

Rows are appended and never changed; a value replaces the one before. What a run puts is seen by its own reads
at once, and by others when the run has ended well: then it is committed with all else the run produced.
Otherwise it is dropped.
"""

from __future__ import annotations

from typing import Any

from walle_shared.errors import TaskError
from walle_task.context import RunContext, current

__all__ = ["Table", "get", "put", "table"]

ROWS_DEFAULT_LIMIT = 100


def table(name: str) -> Table:
    """The table ``name``; the host checks it and its columns against task.toml when they are used."""
    return Table(name, current())


def put(key: str, value: Any) -> None:
    """Keep ``value`` under ``key`` for later runs of this task; None forgets it.

    Raises:
        TaskError: the key is no short text, or the value is not JSON.
        LimitExceeded: the value, or all the run produced, is too large.
    """
    current().set_value(key, value)


def get(key: str, default: Any = None) -> Any:
    """What this run, or else an earlier run of this task, put under ``key``; ``default`` where nothing is."""
    context = current()
    context.check_granted("store.get")
    value = context.values[key] if key in context.values else context.ask("store.get", {"key": key})
    return default if value is None else value


class Table:
    """One table, for the length of a run."""

    def __init__(self, name: str, context: RunContext) -> None:
        self.name = name
        self._context = context

    def put(self, row: dict[str, Any]) -> None:
        """Append one row.

        Args:
            row: column name to value; JSON values only.

        Raises:
            TaskError: a value is not JSON.
            LimitExceeded: the row, or all the run produced, is too large.
        """
        self._context.add_row(self.name, row)

    def get(self, key: str | int, *, column: str = "key") -> dict[str, Any] | None:
        """The newest row whose ``column`` equals ``key``, or None."""
        found = self.rows(limit=1, where={column: key})
        return found[-1] if found else None

    def rows(
        self, *, limit: int = ROWS_DEFAULT_LIMIT, where: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The newest ``limit`` rows whose columns equal those of ``where``, oldest first.

        Raises:
            NotFound: the task has no such table or column.
        """
        if limit < 1:
            raise TaskError(f"limit must be at least 1, not {limit}")
        wanted = where or {}
        stored = self._context.ask("store.rows", {"table": self.name, "limit": limit, "where": wanted})
        own = [
            dict(write["row"])
            for write in self._context.rows
            if write["table"] == self.name and wanted.items() <= write["row"].items()
        ]
        return [*stored, *own][-limit:]
