"""Features in PostgreSQL: one table, filled by COPY in a worker thread, one transaction a batch.

A row's key is (device, origin), so rows that come again after a crash change nothing. ``fields`` is ``json``
and not ``jsonb``, which refuses the character U+0000 that a text may hold; cast where you need the operators.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

from walle_control.features.telemetry.sinks.sink import Batching, Row
from walle_shared.errors import ConfigError, ConnectionLost, StorageError

if TYPE_CHECKING:
    import psycopg

TABLE = "walle_feature"
COLUMNS = tuple(field.name for field in dataclasses.fields(Row))

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    id bigint NOT NULL, device_id text NOT NULL, origin text NOT NULL, scenario text NOT NULL,
    task text NOT NULL, version text NOT NULL, release_id text NOT NULL, name text NOT NULL,
    at_ms bigint NOT NULL, received_ms bigint NOT NULL, fields json NOT NULL,
    trace_id text NOT NULL DEFAULT '',
    PRIMARY KEY (device_id, origin)
);
CREATE INDEX IF NOT EXISTS {TABLE}_by_id ON {TABLE} (id);
CREATE INDEX IF NOT EXISTS {TABLE}_by_name ON {TABLE} (scenario, task, name, id);
"""
_TRACE_ID = f"ALTER TABLE {TABLE} ADD COLUMN IF NOT EXISTS trace_id text NOT NULL DEFAULT ''"
_INCOMING = f"CREATE TEMPORARY TABLE walle_incoming (LIKE {TABLE}) ON COMMIT DELETE ROWS"
_COPY = "COPY walle_incoming FROM STDIN"  # the table's columns are those of ``Row``, in its order
_KEEP = f"INSERT INTO {TABLE} SELECT * FROM walle_incoming ON CONFLICT DO NOTHING"

#: A server that does not answer must become an error: within these, whatever it is that hangs.
_LIMITS = {
    "connect_timeout": 10,
    "tcp_user_timeout": 20_000,
    "options": "-c statement_timeout=30s -c lock_timeout=20s -c synchronous_commit=on",
}


class PostgresSink:
    """The table ``walle_feature`` of one database.

    Args:
        url: such as ``postgresql://user@host/database``; what it leaves out comes from ``PG*`` variables.
    """

    name = "postgres"
    batching = Batching(rows_max=5_000)

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    async def write(self, rows: Sequence[Row]) -> int:
        """Copy one batch."""
        await trio.to_thread.run_sync(self._write, rows)
        return 0

    async def aclose(self) -> None:
        """Close the connection."""
        self._close()

    def _write(self, rows: Sequence[Row]) -> None:
        with postgres_errors("sinks.postgres_url"):
            try:
                self._connection = self._connection or self._connect()
                with self._connection.transaction(), self._connection.cursor() as cursor:
                    with cursor.copy(_COPY) as copy:
                        for row in rows:
                            copy.write_row([getattr(row, name) for name in COLUMNS])
                    cursor.execute(_KEEP)
            except BaseException:
                self._close()  # whatever state it is in, the next try begins anew
                raise

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg

        connection = psycopg.connect(self._url, autocommit=True, **_LIMITS)  # type: ignore[arg-type]
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise StorageError(
                f"sinks.postgres_url: the database is {encoding}; make one with ENCODING 'UTF8'"
            )
        connection.execute(_SCHEMA)
        columns = connection.execute(f"SELECT * FROM {TABLE} LIMIT 0").description or ()
        if len(columns) < len(COLUMNS):  # a table from before; to ask always would wait for all who read it
            connection.execute(_TRACE_ID)
        connection.execute(_INCOMING)
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def require_psycopg() -> None:
    """Check that psycopg is there.

    Raises:
        ConfigError: it is not.
    """
    try:
        import psycopg  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise ConfigError(
            f"sinks.postgres_url is set, but psycopg does not load ({error}): pip install 'walle[postgres]'"
        ) from None


@contextmanager
def postgres_errors(where: str) -> Iterator[None]:
    """psycopg's errors as ours."""
    import psycopg

    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise ConnectionLost(f"{where}: {_one_line(error)}") from None
    except psycopg.Error as error:
        raise StorageError(f"{where}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
