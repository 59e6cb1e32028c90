"""How far the journal of features reaches, for whoever waits for more."""

from __future__ import annotations

import math

import trio


class Arrivals:
    """The journal's newest id. Long polls and pumps wait here, not on the database."""

    def __init__(self) -> None:
        self.head = 0
        self.size_bytes = 0
        self._more = trio.Event()
        self._polls_end = False

    def advance(self, head: int, size_bytes: int = 0) -> None:
        """So much is committed now; ``size_bytes`` of fields are new."""
        if head > self.head:
            self.head = head
            self.size_bytes += size_bytes
            self._stir()

    def end_polls(self) -> None:
        """Nobody shall wait for an answer any more: the server stops."""
        self._polls_end = True
        self._stir()

    async def poll_beyond(self, row_id: int, within_s: float) -> bool:
        """As ``wait_beyond``, for a client: false at once when the server stops."""
        with trio.move_on_after(within_s):
            while self.head <= row_id and not self._polls_end:
                await self._more.wait()
        return self.head > row_id

    async def wait_beyond(self, row_id: int, within_s: float = math.inf) -> bool:
        """Wait for a row after ``row_id``; false if none came in time."""
        with trio.move_on_after(within_s):
            while self.head <= row_id:
                await self._more.wait()
        return self.head > row_id

    def _stir(self) -> None:
        self._more.set()
        self._more = trio.Event()
