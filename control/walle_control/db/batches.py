"""Writes of one kind that wait together become one job.

The writer commits jobs in groups as it is. But each job runs statements of its own, and at each of them the
writer's thread waits for PostgreSQL, or for the event loop to give the interpreter back. What many devices
write alike is written together instead, by a few statements of many rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import trio

from walle_control.db.connection import Database, fence
from walle_control.db.sql import Connection
from walle_shared.errors import ConnectionLost, StorageError

_BATCH_MAX_ITEMS = 256


@dataclass(frozen=True, slots=True)
class _Batch[T, R]:
    items: list[T]
    done: Future[Sequence[R]]
    #: One for all who wait: to wake the event loop for each costs more than what it wakes for.
    committed: trio.Event


class Batches[T, R]:
    """Collects what is to be written until the writer comes to it.

    Args:
        database: where to.
        write_many: writes items and returns a result for each. It must not matter whether items are written
            together or one after the other.
    """

    def __init__(
        self, database: Database, write_many: Callable[[Connection, Sequence[T]], Sequence[R]]
    ) -> None:
        self._database = database
        self._write_many = write_many
        self._lock = threading.Lock()
        self._open: _Batch[T, R] | None = None

    async def write(self, item: T) -> R:
        """Write an item. A caller that is cancelled leaves early; the write happens all the same.

        Raises:
            StorageError: the disk is full or the file damaged.
            ConnectionLost: its server is gone; if it went during the commit, the write may have happened.
        """
        assert fence.get() is None, "what is written together has no one fence"
        batch, place = self._add(item)
        await batch.committed.wait()
        try:
            return batch.done.result()[place]
        except (StorageError, ConnectionLost):
            raise
        except Exception:  # noqa: BLE001  # an item's own, whatever it is: nobody shall suffer from others
            return (await self._database.write(lambda db: self._write_many(db, [item])))[0]

    def _add(self, item: T) -> tuple[_Batch[T, R], int]:
        with self._lock:
            batch = self._open
            if batch is None or len(batch.items) >= _BATCH_MAX_ITEMS or batch.done.done():
                items: list[T] = []
                done = self._database.submit(partial(self._run, items))
                batch = self._open = _Batch(items, done, self._database.when(done))
            batch.items.append(item)
            return batch, len(batch.items) - 1

    def _run(self, items: list[T], db: Connection) -> Sequence[R]:
        with self._lock:
            if self._open is not None and self._open.items is items:
                self._open = None  # nobody comes in any more
        return self._write_many(db, items)
