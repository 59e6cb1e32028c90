from __future__ import annotations

import sqlite3

import pytest
import trio

from walle_control.db.connection import Database
from walle_control.db.migrations import MIGRATIONS
from walle_shared.errors import NotFound, StorageError


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "test.db") as database:
        database.write_sync(lambda db: db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT"))
        yield database


def insert(n: int):
    return lambda db: db.execute("INSERT INTO t VALUES (?)", (n,)) and n


def numbers(db: sqlite3.Connection) -> list[int]:
    return [row["n"] for row in db.execute("SELECT n FROM t ORDER BY n")]


async def test_many_writers_at_once_all_commit(database):
    async with trio.open_nursery() as nursery:
        for n in range(300):
            nursery.start_soon(database.write, insert(n))
    assert await database.read(numbers) == list(range(300))


async def test_a_job_that_fails_undoes_only_itself(database):
    def failing(db):
        insert(1)(db)
        raise NotFound("halfway")

    jobs = [database.submit(job) for job in (insert(10), failing, insert(11))]
    assert [jobs[0].result(), jobs[2].result()] == [10, 11]
    with pytest.raises(NotFound, match="halfway"):
        jobs[1].result()
    assert await database.read(numbers) == [10, 11]


async def test_readers_cannot_write(database):
    with pytest.raises(StorageError, match="readonly"):
        await database.read(insert(1))


async def test_a_write_of_a_cancelled_caller_still_happens(database):
    with trio.CancelScope() as scope:
        scope.cancel()
        await database.write(insert(7))
    await database.write(insert(8))
    assert await database.read(numbers) == [7, 8]


def test_closing_commits_what_is_queued(tmp_path):
    database = Database(tmp_path / "test.db")
    database.submit(lambda db: db.execute("CREATE TABLE t (n INTEGER)"))
    last = database.submit(insert(1))
    database.close()
    assert last.result() == 1
    with pytest.raises(StorageError, match="is closed"):
        database.submit(insert(2))


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "test.db"
    path.write_bytes(b"this is not a database, not at all" * 100)
    with pytest.raises(StorageError, match=r"test\.db: cannot be opened"):
        Database(path)


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "test.db"
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StorageError, match="update walle-control"):
        Database(path)
