"""Collective storage: rows in the tables that the task's task.toml declares, and a few values by key.

Rows are appended and never changed; a value replaces the one before. What a run puts is seen by its own reads
at once, and by others when the run has ended well: then it is committed with all else the run produced.
Otherwise it is dropped.

Rows are dicts, or instances of a dataclass::

    @dataclass
    class Read:
        digit: int
        score: float = 0.0

    reads = store.table("reads", Read)
    reads.put(Read(7, 0.98))
    best = max(read.score for read in reads.rows())
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, cast, overload

from walle_shared.errors import TaskError
from walle_shared.records import RecordError, from_plain
from walle_task.context import RunContext, current

__all__ = ["Table", "get", "put", "table"]

ROWS_DEFAULT_LIMIT = 100


@overload
def table(name: str) -> Table[dict[str, Any]]: ...
@overload
def table[R](name: str, row: type[R]) -> Table[R]: ...
def table(name: str, row: type[Any] = dict) -> Table[Any]:
    """The table ``name``; the host checks it and its columns against task.toml when they are used.

    Args:
        name: the table.
        row: what its rows are: dicts, or this dataclass, whose fields are columns.

    Raises:
        TaskError: ``row`` is neither.
    """
    return Table(name, current(), row)


def put(key: str, value: Any) -> None:
    """Keep ``value`` under ``key`` for later runs of this task; None forgets it.

    Raises:
        TaskError: the key is no short text, or the value is not JSON.
        LimitExceeded: the value, or all the run produced, is too large.
    """
    current().set_value(key, value)


@overload
def get(key: str, default: Any = None) -> Any: ...
@overload
def get[V](key: str, default: V, *, of: type[V]) -> V: ...
def get(key: str, default: Any = None, *, of: Any = None) -> Any:
    """What this run, or else an earlier run of this task, put under ``key``; ``default`` where nothing is.

    Args:
        key: the key.
        default: in place of nothing.
        of: the type that the value must have, such as ``int`` or a dataclass that was put as a dict.

    Raises:
        TaskError: the value has another type.
    """
    context = current()
    context.check_granted("store.get")
    value = context.values[key] if key in context.values else context.ask("store.get", {"key": key})
    if value is None:
        return default
    return value if of is None else _typed(of, value, f"store value {key[:80]!r}")


class Table[R]:
    """One table, for the length of a run."""

    def __init__(self, name: str, context: RunContext, row: type[R]) -> None:
        if row is not dict and not is_dataclass(row):
            raise TaskError(f"rows of table {name!r} are dicts or a dataclass, not {row!r:.80}")
        self.name = name
        self._context = context
        self._row = row

    def put(self, row: R) -> None:
        """Append one row.

        Args:
            row: column name to value; JSON values only.

        Raises:
            TaskError: a value is not JSON.
            LimitExceeded: the row, or all the run produced, is too large.
        """
        plain = asdict(row) if is_dataclass(row) and not isinstance(row, type) else row
        self._context.add_row(self.name, cast("dict[str, Any]", plain))

    def get(self, key: str | int, *, column: str = "key") -> R | None:
        """The newest row whose ``column`` equals ``key``, or None."""
        found = self.rows(limit=1, where={column: key})
        return found[-1] if found else None

    def rows(self, *, limit: int = ROWS_DEFAULT_LIMIT, where: dict[str, Any] | None = None) -> list[R]:
        """The newest ``limit`` rows whose columns equal those of ``where``, oldest first.

        A dataclass takes the columns that it has fields for; an empty one takes the field's default.

        Raises:
            NotFound: the task has no such table or column.
            TaskError: a row does not fit the dataclass; the message names the field.
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
        return [self._made(row) for row in [*stored, *own][-limit:]]

    def _made(self, row: dict[str, Any]) -> R:
        return cast(R, row) if self._row is dict else _typed(self._row, row, f"table {self.name}")


def _typed[V](wanted: type[V], value: Any, what: str) -> V:
    if is_dataclass(wanted) and isinstance(value, dict):
        known = {field.name for field in fields(wanted)}
        optional = {field.name for field in fields(wanted) if _has_default(field)}
        value = {
            name: item
            for name, item in value.items()
            if name in known and not (item is None and name in optional)
        }
    try:
        return from_plain(wanted, value)
    except RecordError as error:
        raise TaskError(f"{what}: {error}") from None


def _has_default(field: Any) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING
