"""One worker leads: it alone judges releases, signs epochs anew, fills the sinks.

1. A worker leads while its lease lasts. It renews the lease well before the end, and stops its work when it
   could not: before any other worker may begin.
2. A leader that stood still for so long that another one took over may wake up and write. Its writes carry
   its fence (``db.connection.fence``), which their own transaction checks: they are refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import NoReturn

import trio

from walle_control.db.connection import Database, Job, fence
from walle_control.db.sql import Connection
from walle_control.workers import lease
from walle_shared.errors import WalleError
from walle_shared.observe import get_logger

_log = get_logger("control.leadership")

#: A leader that died is followed after so long; it renews three times within that.
LEASE_S = 5.0
_RENEW_S = LEASE_S / 3
_RELEASE_MAX_S = 1.0

Work = Callable[[], Awaitable[object]]


class Leadership:
    """This worker's part in who leads.

    Args:
        database: shared with the other workers.
        holder: this worker's name, which no other has.
    """

    def __init__(self, database: Database, holder: str) -> None:
        self._database = database
        self.holder = holder
        self.fence: int | None = None

    @property
    def leads(self) -> bool:
        """Whether this worker leads, as far as it knows."""
        return self.fence is not None

    async def run(self, work: Work) -> NoReturn:
        """Run ``work`` while this worker leads, anew each time it comes to lead; for ever."""
        while True:
            number, taken_s = await self._try_to_take()
            if number is None:
                await trio.sleep(_RENEW_S)
                continue
            _log.info("leadership_taken", holder=self.holder, fence=number)
            self.fence = number
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._work, work, number)
                    await self._hold(number, taken_s)
                    self.fence = None  # at once: what was begun may wait long for a database that is cut off
                    _log.warning("leadership_lost", holder=self.holder, fence=number)
                    nursery.cancel_scope.cancel()
            finally:
                self.fence = None
                await self._release(number)

    async def _try_to_take(self) -> tuple[int | None, float]:
        try:
            return await self._in_turn(lambda db: lease.take(db, self.holder, _ms(LEASE_S)))
        except WalleError as error:
            _log.warning("leadership_unknown", code=error.code, error=error.message)
            return None, 0.0

    async def _in_turn[R](self, job: Job[R]) -> tuple[R, float]:
        """Write; the result, and when the turn came, which may be long after it was asked for."""

        def timed(db: Connection) -> tuple[R, float]:
            at_s = perf_counter()
            return job(db), at_s

        result, at_s = await self._database.write(timed)
        return result, trio.current_time() - (perf_counter() - at_s)

    async def _hold(self, number: int, renewed_s: float) -> None:
        """Renew until another worker leads, or the lease runs out."""
        while True:
            await trio.sleep(_RENEW_S)
            with trio.move_on_at(renewed_s + LEASE_S) as in_time:
                try:
                    held, turn_s = await self._in_turn(
                        lambda db: lease.renew(db, self.holder, number, _ms(LEASE_S))
                    )
                    if not held:
                        return
                    renewed_s = turn_s
                except WalleError as error:
                    _log.warning("leadership_unknown", code=error.code, error=error.message)
            if in_time.cancelled_caught or trio.current_time() >= renewed_s + LEASE_S:
                return

    async def _work(self, work: Work, number: int) -> None:
        fence.set(lambda db: lease.check(db, self.holder, number))
        await work()

    async def _release(self, number: int) -> None:
        with trio.move_on_after(_RELEASE_MAX_S, shield=True), suppress(WalleError):
            await self._database.write(lambda db: lease.release(db, self.holder, number))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
