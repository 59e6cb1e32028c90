"""What the stores may ask of a database, whichever it is.

Stores write SQL that SQLite and PostgreSQL both understand: ``?`` for parameters, ``RETURNING``, ``ON
CONFLICT (columns) DO UPDATE`` with the table's name before a column that is also in ``excluded``. Times and
numbers are integers or floats, never booleans in a column. All writers of a database take turns, so a job may
read, decide and write without thinking of others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Protocol

from walle_shared.errors import Conflict


class IntegrityError(Conflict):
    """A rule of the schema does not allow the change."""

    code = "integrity"


class Row(Protocol):
    """A row: its values by name or position; ``dict(row)`` and ``Type(**row)`` work."""

    def keys(self) -> list[str]:
        """The names of the columns."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """A value by its column's name or position."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The values in order."""
        ...


class Cursor(Protocol):
    """What a statement found or changed."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    def fetchone(self) -> Any:
        """The next row, or ``None``."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The rows that are left."""
        ...


class Connection(Protocol):
    """One conversation with the database; used by one thread at a time."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Cursor:
        """Run one statement."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Backend(Protocol):
    """A kind of database: how to connect, to begin, to upgrade it, and whose errors mean what.

    ``connect`` and ``migrate`` raise ``StorageError`` or ``ConnectionLost``; what connections raise becomes
    ours inside ``errors``.
    """

    @property
    def name(self) -> str:
        """What to call the database in messages."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether several workers may use it."""
        ...

    @property
    def octets(self) -> str:
        """The expression for the bytes of a text, which stands for ``{}``."""
        ...

    def connect(self, *, read_only: bool = False) -> Connection:
        """Open a connection."""
        ...

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that writes: from here to its end no other writer has its turn."""
        ...

    def begin_read(self, connection: Connection) -> None:
        """Begin a transaction that sees one state of everything."""
        ...

    def in_transaction(self, connection: Connection) -> bool:
        """Whether a transaction must be rolled back before the next begins."""
        ...

    def is_broken(self, connection: Connection, /) -> bool:
        """Whether the connection can never be used again."""
        ...

    def migrate(self, connection: Connection, up_to: int | None = None) -> int:
        """Bring the schema up to date, or up to one version; how many migrations were applied."""
        ...

    def schema_version(self, connection: Connection) -> int:
        """How many migrations were ever applied."""
        ...

    def tables(self, connection: Connection) -> list[str]:
        """All tables, in the order in which they were made."""
        ...

    def scan(self, connection: Connection, table: str) -> Iterator[Row]:
        """Every row of a table, inside a transaction, without holding them all."""
        ...

    def settle(self, connection: Connection) -> None:
        """Let new ids follow those of rows that were put in with theirs."""
        ...

    def errors(self) -> AbstractContextManager[None]:
        """Turn the database's errors into ``StorageError``, ``ConnectionLost`` or ``IntegrityError``."""
        ...


#: Rows of one statement, few enough kinds for both databases to keep them prepared.
_ROWS = (256, 128, 64, 32, *range(16, 0, -1))


def insert_rows(db: Connection, into: str, rows: Sequence[Sequence[Any]], then: str = "") -> int:
    """Insert rows by as few statements as possible; how many were inserted or changed.

    Args:
        db: where to.
        into: ``INSERT INTO table (columns)``.
        rows: the values, in the order of the columns.
        then: ``ON CONFLICT ...``; an update must not meet the same row twice.
    """
    changed = done = 0
    while done < len(rows):
        size = next(size for size in _ROWS if size <= len(rows) - done)
        part = rows[done : done + size]
        statement = f"{into} VALUES {_marks(size, len(part[0]))} {then}"
        changed += db.execute(statement, [value for row in part for value in row]).rowcount
        done += size
    return changed


@lru_cache(maxsize=1024)
def _marks(rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return ", ".join([row] * rows)
