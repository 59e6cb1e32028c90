"""Carries the journal to the sinks, and knows how far each of them is.

1. A sink's position moves only after ``write`` has returned: a crash between the two repeats rows, never
   skips them.
2. A staged batch is written down before it is handed over: after a crash the same rows form the same batch.
3. A sink that fails is tried again for ever, with a growing wait. Nothing else stops for it but the
   acknowledgements: see ``Sinks.wait_durable``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import trio

from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.telemetry import store
from walle_control.features.telemetry.arrivals import Arrivals
from walle_control.features.telemetry.sinks.sink import Row, Sink, SinkStatistics
from walle_control.features.webhooks import outbox
from walle_shared.backoff import Backoff
from walle_shared.clock import Clock
from walle_shared.errors import WalleError
from walle_shared.observe import get_logger
from walle_shared.units import HOUR_S

_log = get_logger("control.sinks")

#: Ceilings of the waits between two tries: a sink is one machine and not a fleet, so it is asked often.
_RETRY_BASE_S = 0.1
_RETRY_CAP_S = 5.0

#: How often rows that every sink has, and that are old enough, leave the journal; and how many at once.
_PRUNE_EVERY_S = 10.0
_PRUNE_ROWS = 10_000

#: How often webhooks hear that a sink fails, and how much of its words.
_TOLD_EVERY_S = HOUR_S
_ERROR_MAX_CHARS = 500


class SinkPump:
    """Carries the journal to one sink.

    Args:
        sink: where to.
        database: the journal's.
        arrivals: how far the journal reaches.
        clock: tells since when a sink fails.
    """

    def __init__(self, sink: Sink, database: Database, arrivals: Arrivals, clock: Clock) -> None:
        self.sink = sink
        self._database = database
        self._arrivals = arrivals
        self._clock = clock
        self._backoff = Backoff(_RETRY_BASE_S, _RETRY_CAP_S)
        self._planned = 0
        self._rows = self._batches = self._refused = self._failures = 0
        self._failing_since_ms = 0
        self._error = ""
        self._moved = trio.Event()
        self.written_id = 0

    async def load(self) -> None:
        """Go on where the last process stood; a new sink begins with the journal's first row."""
        name = self.sink.name
        self.written_id, self._planned = await self._database.read(lambda db: store.sink_position(db, name))

    async def follow(self) -> None:
        """Look how far another worker has carried it."""
        await self.load()
        self._stir()

    async def run(self) -> NoReturn:
        """Carry for ever, from where it stands now: another worker may have carried it until then."""
        known = False
        while True:
            try:
                if not known:
                    await self.load()
                    known = True
                await self._carry()
            except WalleError as error:
                await trio.sleep(await self._fail(error))
            else:
                self._recover()

    @property
    def holds(self) -> float:
        """Every row up to this id is durable in the sink."""
        if self.sink.batching.staged and not self._error:
            return math.inf
        return self.written_id

    async def wait_moved(self) -> None:
        """Wait until ``holds`` may have changed."""
        await self._moved.wait()

    def statistics(self) -> SinkStatistics:
        """How far it is, and what went wrong."""
        return SinkStatistics(
            self.sink.name,
            self.written_id,
            max(0, self._arrivals.head - self.written_id),
            self._rows,
            self._batches,
            self._refused,
            self._failures,
            self._failing_since_ms,
            self._error,
        )

    async def _carry(self) -> None:
        rows = await self._next_batch()
        if rows:
            self._refused += await self.sink.write(rows)
            self._rows += len(rows)
            self._batches += 1
        # An empty batch was planned before its rows were thinned out.
        await self._settle(rows[-1].id if rows else self._planned)

    async def _next_batch(self) -> Sequence[Row]:
        batching = self.sink.batching
        if self._planned > self.written_id:
            return await self._read(self._planned, math.inf)
        await self._arrivals.wait_beyond(self.written_id)
        if batching.linger_s:
            await self._linger(batching.linger_s)
        rows = await self._read(self._arrivals.head, batching.bytes_max)
        if batching.staged and rows:
            await self._plan(rows[-1].id)
        return rows

    async def _linger(self, linger_s: float) -> None:
        batching, arrivals = self.sink.batching, self._arrivals
        before_bytes = arrivals.size_bytes
        with trio.move_on_after(linger_s):
            while (
                arrivals.head - self.written_id < batching.rows_max
                and arrivals.size_bytes - before_bytes < batching.bytes_max
            ):
                await arrivals.wait_beyond(arrivals.head)

    async def _read(self, last_id: int, bytes_max: float) -> Sequence[Row]:
        after, rows_max = self.written_id, self.sink.batching.rows_max
        return await self._database.read(
            lambda db: store.read_journal(db, after, last_id, rows_max, bytes_max)
        )

    async def _plan(self, last_id: int) -> None:
        await self._save(self.written_id, last_id)
        self._planned = last_id

    async def _settle(self, last_id: int) -> None:
        await self._save(last_id, last_id)
        self.written_id = self._planned = last_id

    async def _save(self, written_id: int, planned_id: int) -> None:
        name = self.sink.name

        def job(db: Connection) -> None:
            store.save_sink_position(db, name, written_id, planned_id)

        await self._database.write(job)

    async def _fail(self, error: WalleError) -> float:
        first, self._error = not self._error, error.message
        self._failures += 1
        self._stir()
        if first:
            self._failing_since_ms = self._clock.wall_ms()
            _log.error("sink_failed", sink=self.sink.name, code=error.code, error=error.message)
            await self._tell_of_failure(error)
        return self._backoff.next_delay_s()

    async def _tell_of_failure(self, error: WalleError) -> None:
        name, at_ms = self.sink.name, self._failing_since_ms
        data = {"code": error.code, "error": error.message[:_ERROR_MAX_CHARS]}
        with suppress(WalleError):  # the database may be what fails; the log has it
            await self._database.write(
                lambda db: outbox.emit_seldom(db, at_ms, "sink.fail", "", name, data, every_s=_TOLD_EVERY_S)
            )

    def _recover(self) -> None:
        if self._error:
            _log.info("sink_recovered", sink=self.sink.name, failures=self._failures)
        self._error, self._failing_since_ms = "", 0
        self._backoff.reset()
        self._stir()

    def _stir(self) -> None:
        self._moved.set()
        self._moved = trio.Event()


class Sinks:
    """All sinks of one control plane.

    Args:
        sinks: which; may be none, then the journal alone keeps the features.
        database: the journal's.
        arrivals: how far the journal reaches.
        clock: wall time.
        keep_s: how long the journal keeps a row that all sinks have; 0: for ever.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        database: Database,
        arrivals: Arrivals,
        clock: Clock,
        *,
        keep_s: float = 0.0,
    ) -> None:
        self._pumps = [SinkPump(sink, database, arrivals, clock) for sink in sinks]
        self._database = database
        self._arrivals = arrivals
        self._clock = clock
        self._keep_s = keep_s
        self._carries = False

    async def load(self) -> None:
        """Learn how far the journal and each sink are."""
        self._arrivals.advance(await self._database.read(store.journal_head))
        for pump in self._pumps:
            await pump.load()

    async def follow(self) -> None:
        """Learn how far another worker has carried the journal, unless this one does."""
        self._arrivals.advance(await self._database.read(store.journal_head))
        if not self._carries:
            for pump in self._pumps:
                await pump.follow()

    async def run(self) -> NoReturn:
        """Carry for ever."""
        self._carries = True
        try:
            async with trio.open_nursery() as nursery:
                for pump in self._pumps:
                    nursery.start_soon(pump.run)
                nursery.start_soon(self._prune)
                await trio.sleep_forever()
        finally:
            self._carries = False
            with trio.CancelScope(shield=True):
                for pump in self._pumps:
                    await pump.sink.aclose()
        raise AssertionError("unreachable")

    async def wait_durable(self, row_id: int, within_s: float = math.inf) -> bool:
        """Wait until every sink has the journal up to ``row_id``; false if one does not in time."""
        with trio.move_on_after(within_s):
            for pump in self._pumps:
                while pump.holds < row_id:
                    await pump.wait_moved()
        return all(pump.holds >= row_id for pump in self._pumps)

    def behind(self, row_id: int) -> str:
        """Which sinks do not have ``row_id`` yet, and why, in words."""
        late = [pump.statistics() for pump in self._pumps if pump.holds < row_id]
        return "; ".join(f"{s.name}: {s.error or 'catching up'}" for s in late)

    def statistics(self) -> tuple[SinkStatistics, ...]:
        """How far each sink is."""
        return tuple(pump.statistics() for pump in self._pumps)

    async def prune_once(self) -> int:
        """Take from the journal what every sink has and what is old enough; how many rows."""
        written = min((pump.written_id for pump in self._pumps), default=0)
        before_ms = self._clock.wall_ms() - int(self._keep_s * 1000)
        return await self._database.write(lambda db: store.prune_journal(db, written, before_ms, _PRUNE_ROWS))

    async def _prune(self) -> NoReturn:
        while True:
            await trio.sleep(_PRUNE_EVERY_S)
            try:
                while self._keep_s and await self.prune_once() == _PRUNE_ROWS:
                    pass
            except WalleError as error:  # e.g. a full disk: tried again soon
                _log.error("journal_prune_failed", code=error.code, error=error.message)
