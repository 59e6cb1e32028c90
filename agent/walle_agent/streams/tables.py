"""Collective storage: the typed tables that tasks declare, and a small key-value table.

A declared table ``features`` of task ``page_view`` in scenario ``demo`` is the SQLite table
``rows.demo.page_view.features``; its columns are the declared ones (names begin with a letter) and a few of
ours (names begin with an underscore). All functions run inside a transaction of the caller; what is kept in
memory is settled by ``committed`` or ``rolled_back``.

A table keeps the newest rows that its retention allows. All tables and values of a task together keep
``task_bytes``: what is too much pushes out the oldest rows, of a row's own table first, then of the task's
others. Values are never pushed out; those that cannot fit are refused.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from walle_shared.clock import Clock
from walle_shared.errors import Conflict, LimitExceeded, NotFound, TaskError
from walle_shared.ids import check_name
from walle_shared.limits import STORE_KEY_MAX_CHARS, STORE_VALUE_MAX_BYTES, TASK_ROW_MAX_BYTES
from walle_shared.manifest import ColumnType, Retention
from walle_shared.targeting.policy import TaskKey

Columns = Mapping[str, ColumnType]

#: What stands for a task's values where its tables have names.
VALUES = ""

_DAY_MS = 86_400_000
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1

SCHEMA = """
CREATE TABLE IF NOT EXISTS declared (
    name TEXT PRIMARY KEY, columns TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kv (
    scenario TEXT NOT NULL, task TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (scenario, task, key)
) STRICT, WITHOUT ROWID;
"""

#: Ours, as added to tables of files from before: time and size of a row.
_ADDED = {"_at_ms": "INTEGER NOT NULL DEFAULT 0", "_bytes": "INTEGER NOT NULL DEFAULT 0"}
_OURS = ", ".join(
    [
        "_id INTEGER PRIMARY KEY AUTOINCREMENT",
        "_seq INTEGER NOT NULL",
        "_version TEXT NOT NULL",
        *(f"{name} {kind}" for name, kind in _ADDED.items()),
    ]
)
#: Rows too old that one insertion clears away.
_AGED_AT_ONCE = 64
#: What a row takes besides its values.
_ROW_BYTES = 32
#: What entries of ``kv`` take, counted as rows are.
_VALUES_BYTES = f"coalesce(sum(length(CAST(key AS BLOB)) + length(value) + {_ROW_BYTES}), 0)"
_SQL_TYPES: dict[ColumnType, str] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "boolean": "INTEGER",
    "json": "TEXT",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A checked row: the SQL name of its table, its SQL values by column, and about how much it takes."""

    table: str
    values: Mapping[str, Any]
    size_bytes: int


class Tables:
    """Declared tables, by (task, table). Holds the declarations in memory as the file has them.

    Args:
        connection: the file.
        clock: the age of rows.
        rows_max: rows of a table whose task asks for no other number.
        task_bytes: what all tables and values of one task may take.
    """

    def __init__(
        self, connection: sqlite3.Connection, clock: Clock, *, rows_max: int, task_bytes: int
    ) -> None:
        self._clock = clock
        self._default = Retention(rows_max)
        self._task_bytes = task_bytes
        self._retention: dict[str, Retention] = {}
        self._columns: dict[str, dict[str, ColumnType]] = {
            name: orjson.loads(columns)
            for name, columns in connection.execute("SELECT name, columns FROM declared")
        }
        self._used: dict[str, int] = {  # by table, and by task for its values
            _values_name((scenario, task)): used
            for scenario, task, used in connection.execute(
                f"SELECT scenario, task, {_VALUES_BYTES} FROM kv GROUP BY scenario, task"
            )
        }
        for name in self._columns:
            self._add_ours(connection, name)
            self._used[name] = connection.execute(
                f'SELECT coalesce(sum(_bytes), 0) FROM "{name}"'
            ).fetchone()[0]
        self._saved = dict(self._used)

    def declare(self, connection: sqlite3.Connection, task: TaskKey, table: str, columns: Columns) -> None:
        """Make a table, or add the columns it lacks; none is ever removed.

        Raises:
            ConfigError: a name is illegal.
            Conflict: a column has another type already.
        """
        name = _sql_name(task, table)
        present = self._columns.get(name, {})
        for column, kind in columns.items():
            check_name(column, f"column of table {table}")
            if present.get(column, kind) != kind:
                raise Conflict(
                    f"table {table} of {task[1]}: {column} is {present[column]} and cannot become {kind}: "
                    "give the column or the table a new name"
                )
        if not present:
            listed = "".join(f', "{column}" {_SQL_TYPES[kind]}' for column, kind in columns.items())
            connection.execute(f'CREATE TABLE IF NOT EXISTS "{name}" ({_OURS}{listed}) STRICT')
        else:
            for column in columns.keys() - present.keys():
                connection.execute(
                    f'ALTER TABLE "{name}" ADD COLUMN "{column}" {_SQL_TYPES[columns[column]]}'
                )
        merged = {**present, **columns}
        connection.execute(
            "INSERT OR REPLACE INTO declared VALUES (?, ?)", (name, orjson.dumps(merged).decode())
        )

    def note_declared(self, task: TaskKey, table: str, columns: Columns, keep: Retention | None) -> None:
        """Remember a declaration whose transaction has committed."""
        name = _sql_name(task, table)
        self._columns[name] = {**self._columns.get(name, {}), **columns}
        self._retention[name] = keep or self._default

    def committed(self) -> None:
        """The transaction is in the file."""
        self._saved = dict(self._used)

    def rolled_back(self) -> None:
        """The transaction never was."""
        self._used = dict(self._saved)

    def used_bytes(self, task: TaskKey) -> int:
        """About what the tables and values of a task take."""
        return self._task_used(_values_name(task))

    def holds(self, task: TaskKey, table: str) -> bool:
        """Whether anything is in a table, or, for ``VALUES``, kept by key."""
        return self._used.get(_values_name(task) if table == VALUES else _sql_name(task, table), 0) > 0

    def columns(self, task: TaskKey, table: str) -> Columns:
        """Columns of a declared table.

        Raises:
            NotFound: the task has not declared it.
        """
        columns = self._columns.get(_sql_name(task, table))
        if columns is None:
            raise NotFound(
                f"task {task[1]} has no table {table[:80]!r}: declare it in task.toml under [tables]"
            )
        return columns

    def prepare(self, task: TaskKey, table: str, row: Mapping[str, Any]) -> Row:
        """Check a row before any transaction begins.

        Raises:
            NotFound: no such table.
            TaskError: the row does not fit its columns.
            LimitExceeded: the row is too large.
        """
        values = check_row(self.columns(task, table), row, table)
        return Row(_sql_name(task, table), values, _ROW_BYTES + _size(values))

    def insert(self, connection: sqlite3.Connection, row: Row, *, version: str, seq: int) -> int:
        """Add one row; returns how many rows had to go for it, or for their age."""
        listed = "".join(f', "{column}"' for column in row.values)
        marks = ", ?" * len(row.values)
        cursor = connection.execute(
            f'INSERT INTO "{row.table}" (_seq, _version, _at_ms, _bytes{listed}) VALUES (?, ?, ?, ?{marks})',
            (seq, version, self._clock.wall_ms(), row.size_bytes, *row.values.values()),
        )
        self._used[row.table] = self._used.get(row.table, 0) + row.size_bytes
        newest = cursor.lastrowid or 0
        evicted = self._delete(connection, row.table, "_id <= ?", newest - self._keep(row.table).rows)
        if oldest_ms := self._oldest_ms(row.table):  # oldest rows first: a scan of all would cost more
            some = f'_id IN (SELECT _id FROM "{row.table}" ORDER BY _id LIMIT {_AGED_AT_ONCE})'
            evicted += self._delete(connection, row.table, f"{some} AND _at_ms < ?", oldest_ms)
        return evicted + self._fit_task(connection, row.table, newest)

    def read(
        self, connection: sqlite3.Connection, task: TaskKey, table: str, where: Mapping[str, Any], limit: int
    ) -> list[dict[str, Any]]:
        """The newest ``limit`` rows whose columns equal ``where``, oldest first.

        Raises:
            NotFound: no such table.
            TaskError: ``where`` names a column that is not there, or a value of the wrong type.
        """
        columns = self.columns(task, table)
        wanted = check_row(columns, where, table)
        listed = ", ".join(f'"{column}"' for column in columns)
        test = "".join(f' AND "{column}" IS ?' for column in wanted)
        name = _sql_name(task, table)
        found = connection.execute(
            f'SELECT {listed} FROM "{name}" WHERE _at_ms >= ?{test} ORDER BY _id DESC LIMIT ?',
            (self._oldest_ms(name), *wanted.values(), max(0, limit)),
        ).fetchall()
        return [_row_from_sql(columns, row) for row in reversed(found)]

    def check_values(
        self, connection: sqlite3.Connection, task: TaskKey, values: Sequence[tuple[str, bytes | None]]
    ) -> None:
        """Refuse values that the task's room cannot hold even without its rows.

        Raises:
            LimitExceeded: naming sizes and limit; nothing has been written.
        """
        name = _values_name(task)
        grown = self._used.get(name, 0) + self._growth(connection, task, values)
        if values and grown > self._task_bytes:
            raise LimitExceeded(
                f"the values that {task[1]} keeps by key would take {grown} bytes; all it stores may take "
                f"{self._task_bytes}: forget some with store.put(key, None)"
            )

    def put_values(
        self, connection: sqlite3.Connection, task: TaskKey, values: Sequence[tuple[str, bytes | None]]
    ) -> int:
        """Keep what ``encode_value`` made, None forgets; returns how many rows had to go for it."""
        if not values:
            return 0
        name = _values_name(task)
        self._used[name] = self._used.get(name, 0) + self._growth(connection, task, values)
        for key, data in values:
            put_value(connection, task, key, data)
        return self._fit_task(connection, name, _INT_MAX)

    def _growth(
        self, connection: sqlite3.Connection, task: TaskKey, values: Sequence[tuple[str, bytes | None]]
    ) -> int:
        growth = 0
        for key, data in values:
            (before,) = connection.execute(
                f"SELECT {_VALUES_BYTES} FROM kv WHERE scenario = ? AND task = ? AND key = ?", (*task, key)
            ).fetchone()
            growth += (0 if data is None else _ROW_BYTES + len(key.encode()) + len(data)) - before
        return growth

    def _keep(self, name: str) -> Retention:
        return self._retention.get(name, self._default)

    def _oldest_ms(self, name: str) -> int:
        """Rows from before are too old."""
        days = self._keep(name).days
        return self._clock.wall_ms() - round(days * _DAY_MS) if days else 0

    def _fit_task(self, connection: sqlite3.Connection, name: str, newest: int) -> int:
        """Bring a task back within its bytes: its table ``name`` first, but for the row ``newest``."""
        evicted = 0
        own = [name] if name in self._columns else []
        for table in (*own, *(other for other in self._of_task(name) if other != name)):
            while (over := self._task_used(name) - self._task_bytes) > 0:
                rows = connection.execute(
                    f'SELECT _id, _bytes FROM "{table}" WHERE _id < ? ORDER BY _id LIMIT 64',
                    (newest if table == name else _INT_MAX,),
                ).fetchall()
                if not rows:
                    break
                last, freed = rows[0][0], 0
                for last, size_bytes in rows:  # noqa: B007  # how far to go
                    freed += size_bytes
                    if freed >= over:
                        break
                evicted += self._delete(connection, table, "_id <= ?", last)
        return evicted

    def _delete(self, connection: sqlite3.Connection, table: str, where: str, value: int) -> int:
        freed = connection.execute(
            f'DELETE FROM "{table}" WHERE {where} RETURNING _bytes', (value,)
        ).fetchall()
        self._used[table] = self._used.get(table, 0) - sum(size_bytes for (size_bytes,) in freed)
        return len(freed)

    def _of_task(self, name: str) -> list[str]:
        """The tables of the task that a table belongs to."""
        prefix = name[: name.rindex(".") + 1]
        return [table for table in self._columns if table.startswith(prefix)]

    def _task_used(self, name: str) -> int:
        prefix = name[: name.rindex(".") + 1]
        return sum(self._used.get(table, 0) for table in (*self._of_task(name), prefix))

    def _add_ours(self, connection: sqlite3.Connection, name: str) -> None:
        present = {row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')}
        for column in _ADDED.keys() - present:
            connection.execute(f'ALTER TABLE "{name}" ADD COLUMN {column} {_ADDED[column]}')


def encode_value(key: str, value: object) -> bytes | None:
    """A key-value entry as it is kept; None for None, which forgets the key.

    Raises:
        LimitExceeded: key or value too large.
        TaskError: not plain JSON.
    """
    if value is None:
        return None
    data = _dump(value, f"store value {key[:80]!r}")
    if len(data) > STORE_VALUE_MAX_BYTES or len(key) > STORE_KEY_MAX_CHARS:
        raise LimitExceeded(
            f"store value {key[:80]!r}: key of {len(key)} characters and value of {len(data)} bytes; "
            f"the limits are {STORE_KEY_MAX_CHARS} and {STORE_VALUE_MAX_BYTES}"
        )
    return data


def put_value(connection: sqlite3.Connection, task: TaskKey, key: str, data: bytes | None) -> None:
    """Keep what ``encode_value`` made under ``key``; None forgets it."""
    if data is None:
        connection.execute("DELETE FROM kv WHERE scenario = ? AND task = ? AND key = ?", (*task, key))
    else:
        connection.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", (*task, key, data))


def get_value(connection: sqlite3.Connection, task: TaskKey, key: str) -> Any:
    """What is kept under ``key``, or None."""
    row = connection.execute(
        "SELECT value FROM kv WHERE scenario = ? AND task = ? AND key = ?", (*task, key)
    ).fetchone()
    return None if row is None else orjson.loads(row[0])


def check_row(columns: Columns, row: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Check plain JSON values against declared columns and turn them into SQL values.

    Missing columns and None are NULL.

    Raises:
        TaskError: an undeclared column, or a value that is not of its column's type.
        LimitExceeded: the row is over ``TASK_ROW_MAX_BYTES``.
    """
    values: dict[str, Any] = {}
    for column, value in row.items():
        kind = columns.get(column)
        if kind is None:
            raise TaskError(
                f"{what}.{column[:80]} is not declared in task.toml; declared: {', '.join(columns)}"
            )
        values[column] = None if value is None else _CONVERTERS[kind](value, f"{what}.{column}")
    size_bytes = _size(values)
    if size_bytes > TASK_ROW_MAX_BYTES:
        raise LimitExceeded(f"{what}: a row of {size_bytes} bytes is over the limit of {TASK_ROW_MAX_BYTES}")
    return values


def _size(values: Mapping[str, Any]) -> int:
    """About what a row's values take."""
    return sum(len(value) if isinstance(value, str) else 8 for value in values.values() if value is not None)


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise TaskError(f"{what} must be text, not {type(value).__name__}")
    return value


def _integer(value: object, what: str) -> int:
    if type(value) is not int or not _INT_MIN <= value <= _INT_MAX:
        raise TaskError(f"{what} must be an integer of 64 bits, not {str(value)[:40]!r}")
    return value


def _real(value: object, what: str) -> float:
    if type(value) not in (int, float):
        raise TaskError(f"{what} must be a number, not {type(value).__name__}")
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise TaskError(f"{what} must be finite, not {number}")
    return number


def _boolean(value: object, what: str) -> int:
    if type(value) is not bool:
        raise TaskError(f"{what} must be true or false, not {type(value).__name__}")
    return int(value)


def _json(value: object, what: str) -> str:
    return _dump(value, what).decode()


def _dump(value: object, what: str) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise TaskError(f"{what} is not plain JSON: {error}") from None


_CONVERTERS: dict[ColumnType, Callable[[object, str], Any]] = {
    "text": _text,
    "integer": _integer,
    "real": _real,
    "boolean": _boolean,
    "json": _json,
}


def _row_from_sql(columns: Columns, row: Sequence[Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for (column, kind), value in zip(columns.items(), row, strict=True):
        if value is None:
            plain[column] = None
        elif kind == "boolean":
            plain[column] = bool(value)
        elif kind == "json":
            plain[column] = orjson.loads(value)
        else:
            plain[column] = value
    return plain


def _values_name(task: TaskKey) -> str:
    """The name that a task's values are counted under; no table has it."""
    return ".".join(("rows", task[0], task[1], ""))


def _sql_name(task: TaskKey, table: str) -> str:
    """The quoted-identifier name; parts hold no dot and no quote, so different tables never share one."""
    return ".".join(
        ("rows", check_name(task[0], "scenario"), check_name(task[1], "task"), check_name(table, "table"))
    )
