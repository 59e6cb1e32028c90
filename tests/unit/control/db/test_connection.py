"""The writer, its groups and the readers, on each kind of database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from walle_control.db.connection import Database, Job, fence
from walle_control.db.migrations import MIGRATIONS
from walle_control.db.postgres import PostgresBackend
from walle_control.db.sql import Connection, IntegrityError
from walle_shared.errors import ConfigError, ConnectionLost, NotAllowed, NotFound, StorageError
from walle_support.servers import ServerProcess


@pytest.fixture
def table(database: Database) -> Database:
    """A database with a table of numbers."""
    database.write_sync(lambda db: db.execute("CREATE TABLE t (n BIGINT PRIMARY KEY, word TEXT)"))
    return database


def insert(n: int, word: str = "") -> Job[int]:
    return lambda db: db.execute("INSERT INTO t VALUES (?, ?) RETURNING n", (n, word)).fetchone()["n"]


def numbers(db: Connection) -> list[int]:
    return [row["n"] for row in db.execute("SELECT n FROM t ORDER BY n")]


async def test_many_writers_at_once_all_commit(table: Database) -> None:
    async with trio.open_nursery() as nursery:
        for n in range(300):
            nursery.start_soon(table.write, insert(n))
    assert await table.read(numbers) == list(range(300))


async def test_a_job_that_fails_undoes_only_itself(table: Database) -> None:
    def failing(db: Connection) -> None:
        insert(1)(db)
        raise NotFound("halfway")

    first, failed, last = table.submit(insert(10)), table.submit(failing), table.submit(insert(11))
    assert [first.result(), last.result()] == [10, 11]
    with pytest.raises(NotFound, match="halfway"):
        failed.result()
    assert await table.read(numbers) == [10, 11]


async def test_a_broken_rule_of_the_schema_is_the_jobs_own(table: Database) -> None:
    jobs = [table.submit(insert(n)) for n in (1, 1, 2)]
    with pytest.raises(IntegrityError):
        jobs[1].result()
    assert await table.read(numbers) == [1, 2]


async def test_readers_cannot_write(table: Database) -> None:
    with pytest.raises(StorageError, match=r"read-?only"):
        await table.read(insert(1))
    await table.read(numbers)


async def test_a_write_of_a_cancelled_caller_still_happens(table: Database) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await table.write(insert(7))
    await table.write(insert(8))
    assert await table.read(numbers) == [7, 8]


async def test_a_fence_refuses_the_writes_of_its_task_and_its_children(table: Database) -> None:
    def closed(db: Connection) -> None:
        numbers(db)  # it sees the transaction
        raise NotAllowed("not the leader any more")

    async def under_the_fence() -> None:
        fence.set(closed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, 1)
            nursery.start_soon(refused, 2)

    async def refused(n: int) -> None:
        with pytest.raises(NotAllowed):
            await table.write(insert(n))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(under_the_fence)
    await table.write(insert(3))
    assert await table.read(numbers) == [3]


async def test_texts_and_numbers_come_back_as_they_went_in(table: Database) -> None:
    text = "50% of ? 'quoted' \U0001f40b"
    await table.write(insert(-(2**63), text))
    rows = await table.read(
        lambda db: db.execute("SELECT * FROM t WHERE word LIKE '50%' OR word = '?'").fetchall()
    )
    assert [dict(row) for row in rows] == [{"n": -(2**63), "word": text}]
    (row,) = rows
    assert (row[0], row["word"], list(row), row.keys()) == (-(2**63), text, [-(2**63), text], ["n", "word"])
    total = await table.read(lambda db: db.execute("SELECT sum(n), count(*) FROM t").fetchone())
    assert tuple(total) == (-(2**63), 1)


def test_closing_commits_what_is_queued(table: Database) -> None:
    last = table.submit(insert(1))
    table.close()
    assert last.result() == 1
    with pytest.raises(StorageError, match="is closed"):
        table.submit(insert(2))


# SQLite


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    path.write_bytes(b"this is not a database, not at all" * 100)
    with pytest.raises(StorageError, match=r"test\.db: cannot be opened"):
        Database(path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StorageError, match="update walle-control"):
        Database(path)


# PostgreSQL


@pytest.fixture
def two(postgres_schema: str) -> Iterator[tuple[Database, Database]]:
    """Two workers' connections to one database."""
    with Database(PostgresBackend(postgres_schema)) as one, Database(PostgresBackend(postgres_schema)) as two:
        one.write_sync(lambda db: db.execute("CREATE TABLE t (n BIGINT PRIMARY KEY, word TEXT)"))
        yield one, two


async def test_writers_of_two_workers_take_turns(two: tuple[Database, Database]) -> None:
    def next_number(db: Connection) -> int:
        return insert(db.execute("SELECT count(*) FROM t").fetchone()[0])(db)  # read, decide, write

    async with trio.open_nursery() as nursery:
        for database in two * 50:
            nursery.start_soon(database.write, next_number)
    assert await two[0].read(numbers) == list(range(100))


async def test_a_lost_server_is_an_error_that_may_be_tried_again(two: tuple[Database, Database]) -> None:
    database, other = two
    await database.write(insert(1))
    await database.read(numbers)
    for connection in (database._connection, *database._idle_readers):
        assert connection is not None
        pid = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
        other.write_sync(lambda db, pid=pid: db.execute("SELECT pg_terminate_backend(?::int)", (pid,)))
    assert await database.read(numbers) == [1]  # on a new connection
    await database.write(insert(2))
    assert await database.read(numbers) == [1, 2]


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost, match=r"database\.url"):
        Database(PostgresBackend(f"postgresql://walle@/walle?host={tmp_path}"))


def test_a_url_that_is_none_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"database\.url"):
        PostgresBackend("postgresql://walle@/walle?colour=green")


def test_an_encoding_that_lacks_characters_is_refused(postgres_for_all: ServerProcess) -> None:
    import psycopg

    with psycopg.connect(postgres_for_all.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    with pytest.raises(StorageError, match="UTF8"):
        Database(PostgresBackend(postgres_for_all.url.replace("/postgres?", "/latin?")))
