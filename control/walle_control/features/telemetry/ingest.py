"""How features come in: how many a minute, from whom late or with gaps, what was refused, how sinks do.

Each row is counted once: a look adds up those that came since the last one. The first look after a start goes
back an hour, and over ``_FIRST_ROWS_MAX`` rows at the most.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.telemetry import store
from walle_control.features.telemetry.service import TelemetryService
from walle_control.features.telemetry.sinks.sink import SinkStatistics
from walle_shared.clock import Clock
from walle_shared.errors import WalleError
from walle_shared.ids import DeviceId
from walle_shared.units import HOUR_S, MINUTE_S

_MINUTE_MS: Final = round(MINUTE_S * 1000)
_MINUTES: Final = round(HOUR_S / MINUTE_S)
_FIRST_ROWS_MAX: Final = 1_000_000
#: Of so many rows, the newest, it is told which were long on their way.
_LATE_ROWS: Final = 10_000
#: A record that took longer from its run to here was late.
_LATE_MS: Final = _MINUTE_MS
_LISTED: Final = 20
_WORDS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class IngestMinute:
    """What came in a minute: rows, and bytes of their fields."""

    at_ms: int
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LateDevice:
    """A device whose records were long on their way, by its own clock: how many, and the longest."""

    device_id: DeviceId
    rows: int
    longest_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class LossyDevice:
    """A device that gave up records for want of space, and when it last said anything."""

    device_id: DeviceId
    lost: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A tunnel that was not opened, or was ended for what it sent."""

    at_ms: int
    device_id: str
    code: str
    error: str


@dataclass(frozen=True, slots=True)
class IngestView:
    """The state of ingest; tunnels, streams and what was refused are of the worker that answers."""

    tunnels: int
    streams: int
    head: int
    minutes: tuple[IngestMinute, ...]
    late: tuple[LateDevice, ...]
    lossy: tuple[LossyDevice, ...]
    refused: Mapping[str, int]
    refusals: tuple[Refusal, ...]
    sinks: tuple[SinkStatistics, ...]


class Refusals:
    """The tunnels that this worker refused or ended: how many by code, and the last of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.counts: Counter[str] = Counter()
        self.last: deque[Refusal] = deque(maxlen=_LISTED)

    def add(self, device_id: str, error: WalleError) -> None:
        """One more."""
        self.counts[error.code] += 1
        self.last.appendleft(
            Refusal(self._clock.wall_ms(), device_id, error.code, error.message[:_WORDS_MAX])
        )


@dataclass(slots=True)
class _Counted:
    """The rows up to an id, by the minute they came in."""

    row_id: int = 0
    minutes: dict[int, tuple[int, int]] = field(default_factory=dict)


class IngestService:
    """Says how features come in.

    Args:
        database: the journal's.
        clock: what an hour ago was.
        telemetry: knows the journal's head and the sinks.
        refusals: the tunnels that this worker refused.
        held: how many tunnels and push streams this worker holds.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        telemetry: TelemetryService,
        refusals: Refusals,
        held: Callable[[], tuple[int, int]],
    ) -> None:
        self._database = database
        self._clock = clock
        self._telemetry = telemetry
        self._refusals = refusals
        self._held = held
        self._counted = _Counted()

    async def view(self) -> IngestView:
        """The state of ingest now."""
        now_ms, counted = self._clock.wall_ms(), self._counted
        octets = self._database.backend.octets

        def read(db: Connection) -> tuple[_Counted, list[LateDevice], list[LossyDevice]]:
            return _count(db, counted, now_ms, octets), _late(db), _lossy(db)

        # Two who ask at once each count from where both stood: the later answer is as right.
        self._counted, late, lossy = await self._database.read(read)
        tunnels, streams = self._held()
        sinks = self._telemetry.sink_list()
        return IngestView(
            tunnels,
            streams,
            sinks.head,
            _minutes(self._counted, now_ms),
            tuple(late),
            tuple(lossy),
            dict(self._refusals.counts.most_common()),
            tuple(self._refusals.last),
            sinks.sinks,
        )


def _count(db: Connection, counted: _Counted, now_ms: int, octets: str) -> _Counted:
    head, since_ms = store.journal_head(db), now_ms - _MINUTES * _MINUTE_MS
    after = max(counted.row_id, head - _FIRST_ROWS_MAX)
    minutes = {minute: sums for minute, sums in counted.minutes.items() if minute * _MINUTE_MS >= since_ms}
    for minute, rows, size_bytes in store.arrived_by_minute(db, after, head, since_ms, octets):
        known_rows, known_bytes = minutes.get(minute, (0, 0))
        minutes[minute] = known_rows + rows, known_bytes + size_bytes
    return _Counted(head, minutes)


def _minutes(counted: _Counted, now_ms: int) -> tuple[IngestMinute, ...]:
    """The last hour minute by minute, the present one last."""
    newest = now_ms // _MINUTE_MS
    return tuple(
        IngestMinute(minute * _MINUTE_MS, *counted.minutes.get(minute, (0, 0)))
        for minute in range(newest - _MINUTES + 1, newest + 1)
    )


def _late(db: Connection) -> list[LateDevice]:
    rows = db.execute(
        "SELECT device_id, count(*) AS rows, max(received_ms - at_ms) AS longest_ms,"
        " max(received_ms) AS last_ms FROM feature WHERE id > ? AND received_ms - at_ms > ?"
        " GROUP BY device_id ORDER BY longest_ms DESC, device_id LIMIT ?",
        (store.journal_head(db) - _LATE_ROWS, _LATE_MS, _LISTED),
    )
    return [LateDevice(**row) for row in rows]


def _lossy(db: Connection) -> list[LossyDevice]:
    rows = db.execute(
        "SELECT device_id, lost, updated_ms AS last_ms FROM tunnel_ledger WHERE lost > 0"
        " ORDER BY lost DESC, device_id LIMIT ?",
        (_LISTED,),
    )
    return [LossyDevice(**row) for row in rows]
