"""Tells every open conversation of the newest epoch, without a queue for any of them.

A conversation remembers the epoch it sent last and waits for a newer one; who was slow sees only the newest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from walle_control.web.problems import Busy


class EpochHub:
    """The newest epoch, and whether the server is about to stop."""

    def __init__(self) -> None:
        self.epoch = 0
        self._changed = trio.Event()
        self._stopping = trio.Event()

    @property
    def stopping(self) -> bool:
        """Whether every conversation should say goodbye."""
        return self._stopping.is_set()

    def announce(self, epoch: int) -> None:
        """A newer epoch was published; an older number changes nothing."""
        if epoch > self.epoch:
            self.epoch = epoch
            self._wake()

    def stop(self) -> None:
        """Ask every conversation to say goodbye."""
        self._stopping.set()
        self._wake()

    async def wait_news(self, seen: int) -> None:
        """Wait until there is a newer epoch than ``seen``, or the server stops."""
        while self.epoch <= seen and not self.stopping:
            await self._changed.wait()

    async def wait_stopping(self) -> None:
        """Wait until the server stops."""
        await self._stopping.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Seats:
    """How many conversations of a kind are held, and how many may be."""

    def __init__(self, what: str, limit: int) -> None:
        self.taken = 0
        self._left = trio.Event()
        self._what = what
        self._limit = limit

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a seat for a conversation.

        Raises:
            Busy: all are taken.
        """
        if self.taken >= self._limit:
            raise Busy(f"all {self._limit} {self._what} are taken: come back later")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._left.set()
            self._left = trio.Event()

    async def wait_empty(self) -> None:
        """Wait until no seat is taken."""
        while self.taken:
            await self._left.wait()
