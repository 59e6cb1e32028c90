"""Every row of a database as lines of JSON, the same from SQLite and PostgreSQL, and back into either.

A line is an object of one row, its columns in the order of their names; bytes are ``{"base64": text}``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from walle_control.db.sql import Backend, Connection
from walle_shared.errors import StorageError

#: What belongs to a running server or to the kind of database.
_OWN = frozenset({"lease", "schema_version", "console_session"})


class TableDigest:
    """Tells whether two tables hold the same rows, in whatever order they come."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, line: bytes) -> None:
        """Count a row in."""
        self.rows += 1
        self._sum += int.from_bytes(hashlib.sha256(line).digest())

    @property
    def hex(self) -> str:
        """The digest of all rows so far."""
        return f"{self._sum % (1 << 256):064x}"


def tables(backend: Backend, connection: Connection) -> list[str]:
    """The tables with rows worth keeping; none refers to one behind it."""
    return [name for name in backend.tables(connection) if name not in _OWN]


def lines(backend: Backend, connection: Connection, table: str) -> Iterator[bytes]:
    """Each row of a table as a line, inside a transaction."""
    for row in backend.scan(connection, table):
        plain = dict(row)
        yield orjson.dumps(
            {name: plain[name] for name in sorted(plain)}, default=_encode, option=orjson.OPT_APPEND_NEWLINE
        )


def load(connection: Connection, table: str, rows: Iterable[bytes]) -> TableDigest:
    """Insert lines into an empty table, inside a transaction.

    Raises:
        StorageError: a line is no row of it.
    """
    digest = TableDigest()
    for line in rows:
        digest.add(line)
        try:
            row: dict[str, Any] = orjson.loads(line)
            names, values = list(row), [_decode(value) for value in row.values()]
        except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError, KeyError) as error:
            raise StorageError(f"row {digest.rows} of table {table} is malformed: {error}") from None
        if not all(name.isidentifier() for name in names):
            raise StorageError(f"row {digest.rows} of table {table} has a column that is no name")
        marks = ", ".join("?" * len(names))
        connection.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", values)
    return digest


def _encode(value: Any) -> dict[str, str]:
    if isinstance(value, (bytes, memoryview)):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} in a column")


def _decode(value: Any) -> Any:
    return base64.b64decode(value["base64"], validate=True) if isinstance(value, dict) else value
