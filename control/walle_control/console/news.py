"""Wakes the pages that are being watched: a new epoch, new reports, or the server about to stop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import trio

from walle_control.gateway.hub import EpochHub

#: A page is told of news at most this often.
NEWS_EVERY_S = 1.0


class News:
    """Counts what happened, for whoever waits for more."""

    def __init__(self, hub: EpochHub) -> None:
        self._hub = hub
        self._rung = 0
        self._changed = trio.Event()

    @property
    def stopping(self) -> bool:
        """Whether the server is about to stop."""
        return self._hub.stopping

    def ring(self) -> None:
        """Reports arrived."""
        self._rung += 1
        self._changed.set()
        self._changed = trio.Event()

    async def watch(self, patience_s: float) -> AsyncGenerator[bool]:
        """Yield whenever there is news, and ``False`` after so long without; ends when the server stops."""
        seen = (self._hub.epoch, self._rung)
        while not self.stopping:
            with trio.move_on_after(patience_s):
                await self._wait_beyond(seen)
            newest = (self._hub.epoch, self._rung)
            if self.stopping:
                return
            yield newest != seen
            seen = newest
            await trio.sleep(NEWS_EVERY_S)

    async def _wait_beyond(self, seen: tuple[int, int]) -> None:
        epoch, rung = seen

        async def wait_reports() -> None:
            while self._rung == rung:
                await self._changed.wait()

        await _wait_any(lambda: self._hub.wait_news(epoch), wait_reports)


async def _wait_any(*waits: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:

        async def wait_one(wait: Callable[[], Awaitable[None]]) -> None:
            await wait()
            nursery.cancel_scope.cancel()

        for wait in waits:
            nursery.start_soon(wait_one, wait)
