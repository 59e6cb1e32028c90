"""SQLite: one file, one process, nothing to set up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from walle_control.db.migrations import MIGRATIONS, script_of
from walle_control.db.sql import Connection, IntegrityError, Row
from walle_shared.errors import StorageError

_BUSY_TIMEOUT_S = 10.0


class SqliteBackend:
    """The database in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def is_shared(self) -> bool:
        """Whether several workers may use it."""
        return False

    @property
    def octets(self) -> str:
        """The expression for the bytes of a text."""
        return "length(CAST({} AS BLOB))"

    def connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        """Open the file, or make it."""
        try:
            # Used by one thread at a time, but not always by the same one.
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise StorageError(f"{self.path}: cannot be opened: {error}") from None
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA query_only = ON" if read_only else "PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error as error:
            connection.close()
            raise StorageError(f"{self.path}: cannot be opened: {error}") from None
        return connection

    def begin(self, connection: Connection) -> None:
        """Begin to write: SQLite lets one writer in at a time."""
        connection.execute("BEGIN IMMEDIATE")

    def begin_read(self, connection: Connection) -> None:
        """Begin to read."""
        connection.execute("BEGIN")

    def in_transaction(self, connection: Connection) -> bool:
        """Whether a transaction is open."""
        return cast(sqlite3.Connection, connection).in_transaction

    def is_broken(self, _connection: Connection) -> bool:
        """Never: a file does not go away."""
        return False

    def migrate(self, connection: Connection, up_to: int | None = None) -> int:
        """Apply the migrations the file has not seen; ``PRAGMA user_version`` says which it has.

        Raises:
            StorageError: the file was made by a newer program.
        """
        db = cast(sqlite3.Connection, connection)
        with self.errors():
            version = self.schema_version(db)
            if version > len(MIGRATIONS):
                raise StorageError(
                    f"{self.path}: the database has schema {version}, this program knows {len(MIGRATIONS)}:"
                    " update walle-control"
                )
            for number, migration in enumerate(MIGRATIONS[version:up_to], start=version + 1):
                script = script_of(migration, "sqlite")
                db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
        return len(MIGRATIONS[version:up_to])

    def schema_version(self, connection: Connection) -> int:
        """The number of the last migration."""
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version

    def tables(self, connection: Connection) -> list[str]:
        """All tables, in the order in which they were made."""
        rows = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY rowid"
        )
        return [row["name"] for row in rows]

    def scan(self, connection: Connection, table: str) -> Iterator[Row]:
        """Every row of a table."""
        yield from connection.execute(f"SELECT * FROM {table}")

    def settle(self, connection: Connection) -> None:
        """Nothing to do: a new id follows the highest."""

    @contextmanager
    def errors(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise IntegrityError(f"{self.path}: {error}") from error
        except sqlite3.Error as error:
            raise StorageError(f"{self.path}: {error}") from error
