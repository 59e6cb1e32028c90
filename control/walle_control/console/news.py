"""Wakes the pages that are watched: a new epoch, new reports or features, or the server about to stop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import trio

from walle_control.features.telemetry.arrivals import Arrivals
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

    async def watch(self, patience_s: float, arrivals: Arrivals | None = None) -> AsyncGenerator[bool]:
        """Yield whenever there is news, and ``False`` after so long without; ends when the server stops.

        With ``arrivals``, features that came in are news too.
        """

        def state() -> tuple[int, int, int]:
            return self._hub.epoch, self._rung, arrivals.head if arrivals is not None else 0

        seen = state()
        while not self.stopping:
            with trio.move_on_after(patience_s):
                await self._wait_beyond(seen, arrivals)
            newest = state()
            if self.stopping:
                return
            yield newest != seen
            seen = newest
            await trio.sleep(NEWS_EVERY_S)

    async def _wait_beyond(self, seen: tuple[int, int, int], arrivals: Arrivals | None) -> None:
        epoch, rung, head = seen

        async def wait_reports() -> None:
            while self._rung == rung:
                await self._changed.wait()

        async def wait_features() -> None:
            if arrivals is None:
                await trio.sleep_forever()
            else:
                await arrivals.wait_beyond(head)

        await _wait_any(lambda: self._hub.wait_news(epoch), wait_reports, wait_features)


async def _wait_any(*waits: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:

        async def wait_one(wait: Callable[[], Awaitable[None]]) -> None:
            await wait()
            nursery.cancel_scope.cancel()

        for wait in waits:
            nursery.start_soon(wait_one, wait)
