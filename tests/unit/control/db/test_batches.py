"""Writes that wait together: one job, a result for each, and nobody suffers from others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from walle_control.db.batches import Batches
from walle_control.db.connection import Database
from walle_control.db.sql import Connection, IntegrityError, insert_rows
from walle_shared.errors import ConnectionLost, StorageError


class Writes:
    """Numbers into a table; remembers which came together."""

    def __init__(self, database: Database) -> None:
        database.write_sync(lambda db: db.execute("CREATE TABLE t (n BIGINT PRIMARY KEY)"))
        self.together: list[list[int]] = []

    def __call__(self, db: Connection, items: Sequence[int]) -> list[int]:
        self.together.append(list(items))
        insert_rows(db, "INSERT INTO t (n)", [(n,) for n in items])
        return [n * 10 for n in items]


@contextmanager
def writer_stopped(database: Database) -> Iterator[Callable[[], None]]:
    """The writer waits until the function is called, or at the end."""
    go_on = threading.Event()
    database.submit(lambda db: go_on.wait())
    try:
        yield go_on.set
    finally:
        go_on.set()


def numbers(db: Connection) -> list[int]:
    return [row["n"] for row in db.execute("SELECT n FROM t ORDER BY n")]


async def write_all(
    database: Database, batches: Batches[int, int], items: Sequence[int]
) -> dict[int, object]:
    """Write items that all wait at once; what came of each."""
    got: dict[int, object] = {}

    async def write(n: int) -> None:
        try:
            got[n] = await batches.write(n)
        except Exception as error:  # noqa: BLE001
            got[n] = error

    async with trio.open_nursery() as nursery:
        with writer_stopped(database) as go_on:
            for n in items:
                nursery.start_soon(write, n)
            await trio.testing.wait_all_tasks_blocked()
            go_on()
    return got


async def test_what_waits_together_is_written_together(database: Database) -> None:
    writes = Writes(database)
    got = await write_all(database, Batches(database, writes), range(300))
    assert got == {n: n * 10 for n in range(300)}
    assert [len(items) for items in writes.together] == [256, 44]
    assert await database.read(numbers) == list(range(300))


async def test_an_item_that_cannot_be_written_fails_alone(database: Database) -> None:
    writes = Writes(database)
    batches = Batches(database, writes)
    assert await batches.write(7) == 70
    got = await write_all(database, batches, [6, 7, 8])
    assert (got[6], got[8]) == (60, 80)
    assert isinstance(got[7], IntegrityError)
    assert await database.read(numbers) == [6, 7, 8]


async def test_what_is_cancelled_is_written_all_the_same(database: Database) -> None:
    batches = Batches(database, Writes(database))
    async with trio.open_nursery() as nursery:
        with writer_stopped(database) as go_on:
            nursery.start_soon(batches.write, 1)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            go_on()
    assert await batches.write(2) == 20
    assert await database.read(numbers) == [1, 2]


async def test_a_batch_that_was_never_run_takes_nobody_in(database: Database, monkeypatch) -> None:
    batches = Batches(database, Writes(database))
    with monkeypatch.context() as broken:

        def refuse() -> None:
            raise ConnectionLost("gone")

        broken.setattr(database, "_begin", refuse)
        got = await write_all(database, batches, [1, 2])
        assert {type(error) for error in got.values()} == {ConnectionLost}
    assert await batches.write(3) == 30


async def test_a_closed_database_says_so(database: Database) -> None:
    batches = Batches(database, Writes(database))
    database.close()
    with pytest.raises(StorageError, match="closed"):
        await batches.write(1)
