"""The tunnel's store under failure: whatever fails, an acknowledged record is there once and no other is."""

from __future__ import annotations

import sqlite3

import pytest

from walle_control.db.connection import Database
from walle_control.features.telemetry.service import TelemetryService
from walle_control.features.telemetry.types import FeatureQuery
from walle_shared.clock import FixedClock
from walle_shared.errors import StorageError
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.protocol.tunnel_receiver import HelloReceived, RecordReceived, TombstoneReceived

BATCH = TunnelClass.BATCH


def record(seq: int) -> RecordReceived:
    return RecordReceived(BATCH, seq, Record("demo", "t", "1", "r1", "f", seq, {"n": seq}))


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "control.db") as database:
        yield database


@pytest.fixture
def telemetry(database):
    return TelemetryService(database, FixedClock(), lambda: None)


async def stored(telemetry) -> list[int]:
    page = await telemetry.features(FeatureQuery(), 0, 1000)
    return [feature.fields["n"] for feature in page.features]


async def test_failing_at_any_statement_keeps_records_and_ledger_together(telemetry, database):
    """Fail the n-th statement of the transaction, then n+1, until it passes: never half of it."""
    group = [record(1), record(2), TombstoneReceived(BATCH, 3, 5), record(6)]
    passed_at = 0
    for allowed in range(1, 30):
        budget = [allowed]

        def spend(action: int, name: str | None, *_: object, budget: list[int] = budget) -> int:
            if action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE) and name != "sqlite_master":
                budget[0] -= 1
                return sqlite3.SQLITE_DENY if budget[0] < 0 else sqlite3.SQLITE_OK
            return sqlite3.SQLITE_OK

        database.write_sync(lambda db, spend=spend: db.set_authorizer(spend))
        try:
            ledger = await telemetry.record_tunnel("d1", "inc", group)
        except StorageError:
            database.write_sync(lambda db: db.set_authorizer(None))
            assert await stored(telemetry) == []
            ledger = await telemetry.open_tunnel("d1", HelloReceived("inc"))
            assert ledger.contiguous(BATCH) == 0
            continue
        passed_at = allowed
        database.write_sync(lambda db: db.set_authorizer(None))
        break
    assert passed_at > 1
    assert ledger.contiguous(BATCH) == 6
    assert await stored(telemetry) == [1, 2, 6]


async def test_overlapping_connections_of_one_device_store_each_record_once(telemetry):
    await telemetry.record_tunnel("d1", "inc", [record(1), record(3)])
    ledger = await telemetry.record_tunnel("d1", "inc", [record(2), record(3), record(4)])
    assert ledger.contiguous(BATCH) == 4
    assert sorted(await stored(telemetry)) == [1, 2, 3, 4]


async def test_a_new_incarnation_or_device_starts_its_own_numbers(telemetry):
    for device, incarnation in (("d1", "a"), ("d1", "b"), ("d2", "a")):
        await telemetry.record_tunnel(device, incarnation, [record(1)])
    assert await stored(telemetry) == [1, 1, 1]


async def test_a_sink_that_forgot_goes_on_where_the_device_stands(telemetry):
    ledger = await telemetry.open_tunnel("d1", HelloReceived("inc", {BATCH: 41}))
    assert ledger.contiguous(BATCH) == 40
    ledger = await telemetry.record_tunnel("d1", "inc", [record(41)])
    assert ledger.contiguous(BATCH) == 41
