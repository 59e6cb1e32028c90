"""Each sink against the real thing, and the pump that carries the journal to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from walle_control.db.connection import Database
from walle_control.features.telemetry.arrivals import Arrivals
from walle_control.features.telemetry.service import TelemetryService
from walle_control.features.telemetry.sinks.nats import NatsSink, encode_row
from walle_control.features.telemetry.sinks.parquet import ParquetSink
from walle_control.features.telemetry.sinks.postgres import TABLE, PostgresSink
from walle_control.features.telemetry.sinks.pump import Sinks
from walle_control.features.telemetry.sinks.sink import Batching, Row, Sink
from walle_shared.clock import FixedClock
from walle_shared.errors import ConnectionLost, RemoteProtocolError, StorageError
from walle_shared.ids import DeviceId
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.protocol.tunnel_receiver import RecordReceived
from walle_support.heard import listen
from walle_support.servers import ServerProcess

D1 = DeviceId("d1")
FIELDS: dict[str, Any] = {"n": "integer", "r": "real", "t": "text", "b": "boolean", "j": "json"}


def row(row_id: int, fields: dict[str, Any], *, name: str = "seen", task: str = "reader") -> Row:
    key = ("demo", task, "1.0.0", "r1", name)
    return Row(row_id, "d1", f"inc:BATCH:{row_id}", *key, 5, 6, json.dumps(fields))


def item(seq: int, *, name: str = "seen") -> RecordReceived:
    record = Record("demo", "reader", "1.0.0", "r1", name, 5, {"n": seq})
    return RecordReceived(TunnelClass.BATCH, seq, record)


async def declared(scenario: str, task: str, version: str, name: str) -> dict[str, Any] | None:
    return FIELDS if (scenario, task, version, name) == ("demo", "reader", "1.0.0", "seen") else None


class ListSink:
    """Remembers its batches; fails while ``error`` is set."""

    name = "list"

    def __init__(self, batching: Batching | None = None) -> None:
        self.batching = batching or Batching()
        self.batches: list[list[int]] = []
        self.error: StorageError | None = None
        self.closed = False

    async def write(self, rows: Sequence[Row]) -> int:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.batches.append([row.id for row in rows])
        return 0

    async def aclose(self) -> None:
        self.closed = True


def services(database: Database, *sinks: Sink, keep_s: float = 0.0) -> tuple[TelemetryService, FixedClock]:
    clock, arrivals = FixedClock(), Arrivals()
    carried = Sinks(sinks, database, arrivals, clock, keep_s=keep_s)
    return TelemetryService(database, clock, lambda: None, arrivals, carried), clock


async def start(telemetry: TelemetryService, nursery: trio.Nursery) -> None:
    await telemetry.sinks.load()
    nursery.start_soon(telemetry.sinks.run)


async def wait_until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - the states are counters
            await trio.sleep(0.001)


# The pump


async def test_a_sink_gets_every_row_once_and_in_order(database: Database, nursery: trio.Nursery) -> None:
    sink = ListSink()
    telemetry, _ = services(database, sink)
    await telemetry.record_tunnel(D1, "inc", [item(1), item(2)])  # before the pump: it waits in the journal
    await start(telemetry, nursery)
    await telemetry.record_tunnel(D1, "inc", [item(2), item(3)])
    assert await telemetry.sinks.wait_durable(telemetry.journal_head, within_s=60)
    assert [row_id for batch in sink.batches for row_id in batch] == [1, 2, 3]
    (statistics,) = telemetry.sink_list().sinks
    assert (statistics.written_id, statistics.lag_rows, statistics.rows) == (3, 0, 3)


async def test_the_next_process_goes_on_where_the_sink_stands(database: Database) -> None:
    for seq, expected in ((1, [[1]]), (2, [[2]])):
        sink = ListSink()
        telemetry, _ = services(database, sink)
        async with trio.open_nursery() as nursery:
            await start(telemetry, nursery)
            await telemetry.record_tunnel(D1, "inc", [item(seq)])
            assert await telemetry.sinks.wait_durable(seq, within_s=60)
            nursery.cancel_scope.cancel()
        assert sink.batches == expected
        assert sink.closed


async def test_a_failing_sink_is_late_says_why_and_loses_nothing(
    database: Database, nursery: trio.Nursery
) -> None:
    sink, other = ListSink(), ListSink()
    other.name = "other"
    sink.error = StorageError("the disk is full")
    telemetry, clock = services(database, sink, other)
    heard = listen(database)
    await start(telemetry, nursery)
    await telemetry.record_tunnel(D1, "inc", [item(1)])
    assert not await telemetry.sinks.wait_durable(1, within_s=0.05)
    await wait_until(lambda: telemetry.sinks.behind(1) == "list: the disk is full")
    failing = telemetry.sink_list().sinks[0]
    assert failing.failures > 0
    assert failing.failing_since_ms > 0
    sink.error = None
    assert await telemetry.sinks.wait_durable(1, within_s=60)
    assert sink.batches == other.batches == [[1]]
    assert telemetry.sink_list().sinks[0].error == ""
    for seq, hours in ((2, 0), (3, 1)):  # it fails again, at once and an hour later
        clock.advance(hours * 3_600)
        failures = telemetry.sink_list().sinks[0].failures
        sink.error = StorageError("the disk is full again")
        await telemetry.record_tunnel(D1, "inc", [item(seq)])
        await wait_until(lambda failures=failures: telemetry.sink_list().sinks[0].failures > failures + 1)
        sink.error = None
        assert await telemetry.sinks.wait_durable(seq, within_s=60)
    events = [(event.kind, event.subject, event.data["error"], event.data["withheld"]) for event in heard()]
    assert events == [
        ("sink.fail", "list", "the disk is full", 0), ("sink.fail", "list", "the disk is full again", 1),
    ]  # fmt: skip


async def test_a_staged_sink_keeps_the_borders_of_a_batch_across_a_crash(database: Database) -> None:
    broken, mended = ListSink(Batching(rows_max=2, staged=True)), ListSink(Batching(rows_max=5, staged=True))
    broken.error = StorageError("killed in the middle")
    telemetry, _ = services(database, broken)
    async with trio.open_nursery() as nursery:
        await start(telemetry, nursery)
        await telemetry.record_tunnel(D1, "inc", [item(seq) for seq in (1, 2, 3)])
        await wait_until(lambda: telemetry.sink_list().sinks[0].failures > 0)
        nursery.cancel_scope.cancel()
    telemetry, _ = services(database, mended)
    async with trio.open_nursery() as nursery:
        await start(telemetry, nursery)
        await wait_until(lambda: sum(map(len, mended.batches)) == 3)
        nursery.cancel_scope.cancel()
    assert mended.batches == [[1, 2], [3]]


async def test_devices_need_not_wait_for_a_staged_sink_unless_it_fails(
    database: Database, nursery: trio.Nursery
) -> None:
    sink = ListSink(Batching(rows_max=2, linger_s=3_600, staged=True))
    telemetry, _ = services(database, sink)
    await start(telemetry, nursery)
    await telemetry.record_tunnel(D1, "inc", [item(1)])
    assert await telemetry.sinks.wait_durable(1, within_s=60)
    assert sink.batches == []
    sink.error = StorageError("the disk is full")
    await telemetry.record_tunnel(D1, "inc", [item(2)])  # the batch is full
    await wait_until(lambda: telemetry.sink_list().sinks[0].error != "")
    assert not await telemetry.sinks.wait_durable(2, within_s=0.01)


async def test_the_journal_keeps_what_a_sink_lacks_and_its_newest_row(
    database: Database, nursery: trio.Nursery
) -> None:
    sink = ListSink()
    telemetry, clock = services(database, sink, keep_s=60)
    await telemetry.record_tunnel(D1, "inc", [item(1), item(2), item(3)])
    clock.advance(61)
    assert await telemetry.sinks.prune_once() == 0
    await start(telemetry, nursery)
    assert await telemetry.sinks.wait_durable(3, within_s=60)
    assert await telemetry.sinks.prune_once() == 2
    await telemetry.record_tunnel(D1, "inc", [item(4)])
    assert telemetry.journal_head == 4


async def test_names_that_are_no_names_are_refused(database: Database) -> None:
    telemetry, _ = services(database)
    for name in ("x" * 129, "a\0b", "a\nb"):
        with pytest.raises(RemoteProtocolError, match="name is not a name"):
            await telemetry.record_tunnel(D1, "inc", [item(1, name=name)])
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    record = Record("demo", "reader", "1.0.0", "r1", "seen", 5, {"j": deep})
    with pytest.raises(RemoteProtocolError, match="BATCH 1: fields: Recursion"):
        await telemetry.record_tunnel(D1, "inc", [RecordReceived(TunnelClass.BATCH, 1, record)])
    assert (await telemetry.record_tunnel(D1, "inc", [item(1)])).contiguous(TunnelClass.BATCH) == 1


# Parquet


def parquet_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def read_parquet(folder: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    tables = [parquet.ParquetFile(path).read() for path in parquet_files(folder)]
    return [found for table in tables for found in table.to_pylist()]


async def test_parquet_files_have_the_types_of_the_manifest(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, declared, roll_s=60, roll_bytes=1 << 20)
    full = {"n": -(2**63), "r": 1, "t": "ä\0", "b": True, "j": {"a": [1]}}
    for _ in range(2):  # again, as after a crash
        assert await sink.write([row(1, full), row(2, {"n": None})]) == 0
    (path,) = parquet_files(tmp_path)
    where = "scenario=demo/task=reader/version=1.0.0/name=seen/0000000000000001-0000000000000002.parquet"
    assert path == tmp_path / where
    first, second = read_parquet(tmp_path)
    assert first["fields"] == {**full, "r": 1.0, "j": '{"a":[1]}'}
    assert second["fields"] == dict.fromkeys(FIELDS)
    assert (first["id"], first["device_id"], first["at_ms"]) == (1, "d1", 5)


async def test_what_no_manifest_declares_is_kept_as_json(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, declared, roll_s=60, roll_bytes=1 << 20)
    strange = [
        row(1, {"n": 2**63}), row(2, {"n": True}), row(3, {"other": 1}), row(4, {"t": 5}),
        row(5, {"n": 1}, name="../../x"), row(6, {"n": 1}, task="elsewhere"), row(7, {"b": 1}),
    ]  # fmt: skip
    await sink.write([*strange, row(8, {"n": 8})])
    assert {path.parent.name for path in parquet_files(tmp_path)} == {"undeclared", "name=seen"}
    found = {r["id"]: r for r in read_parquet(tmp_path / "undeclared")}
    assert {row_id: r["fields"] for row_id, r in found.items()} == {r.id: r.fields for r in strange}
    assert found[5]["name"] == "../../x"


async def test_a_parquet_file_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    sink = ParquetSink(tmp_path / "file", declared, roll_s=60, roll_bytes=1 << 20)
    with pytest.raises(StorageError, match="cannot be written"):
        await sink.write([row(1, {"n": 1})])


# PostgreSQL


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(url) as connection:
        return connection.execute(sql).fetchall()  # type: ignore[arg-type]


def change(url: str, sql: str) -> None:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute(sql)  # type: ignore[arg-type]


@pytest.mark.slow
async def test_postgres_keeps_each_row_once_and_comes_back_after_a_crash(postgres: ServerProcess) -> None:
    sink = PostgresSink(postgres.url)
    rows = [row(1, {"t": "tab\t\\N\0 ä"}), row(2, {"n": 2})]
    await sink.write(rows)
    await sink.write([rows[1], row(3, {"n": 3})])
    found = query(postgres.url, f"SELECT id, device_id, origin, fields FROM {TABLE} ORDER BY id")
    assert [r[:3] for r in found] == [(n, "d1", f"inc:BATCH:{n}") for n in (1, 2, 3)]
    assert found[0][3] == {"t": "tab\t\\N\0 ä"}
    postgres.kill()
    with pytest.raises(ConnectionLost, match=r"sinks\.postgres_url"):
        await sink.write([row(4, {})])
    postgres.start()
    await sink.write([row(4, {})])
    assert query(postgres.url, f"SELECT count(*) FROM {TABLE}") == [(4,)]
    await sink.aclose()
    # A table from before features had a trace.
    change(postgres.url, f"ALTER TABLE {TABLE} DROP COLUMN trace_id")
    await sink.write([replace(row(5, {}), trace_id="5f")])
    found = query(postgres.url, f"SELECT id, trace_id FROM {TABLE} ORDER BY id DESC LIMIT 2")
    assert found == [(5, "5f"), (4, "")]
    await sink.aclose()


# NATS


def read_stream(url: str, stream: str) -> list[tuple[str, dict[str, Any]]]:
    import asyncio

    import nats

    async def read() -> list[tuple[str, dict[str, Any]]]:
        client = await nats.connect(url)
        context = client.jetstream()
        info = await context.stream_info(stream)
        found = [await context.get_msg(stream, seq) for seq in range(1, info.state.last_seq + 1)]
        await client.close()
        return [(message.subject or "", json.loads(message.data or b"")) for message in found]

    return asyncio.run(read())


@pytest.mark.slow
async def test_nats_keeps_each_row_once_and_comes_back_after_a_crash(nats_server: ServerProcess) -> None:
    sink = NatsSink(nats_server.url, "FEATURES", "walle.features")
    rows = [row(1, {"t": "ä"}), row(2, {"n": 2}, name="odd name.>")]
    assert await sink.write(rows) == 0
    assert await sink.write([rows[1], row(3, {"n": 3})]) == 0
    found = await trio.to_thread.run_sync(read_stream, nats_server.url, "FEATURES")
    assert [body["id"] for _, body in found] == [1, 2, 3]
    assert found[0] == ("walle.features.demo.reader.seen", json.loads(encode_row(rows[0])))
    assert found[1][0] == "walle.features.demo.reader.odd%20name%2E%3E"
    assert await sink.write([row(4, {"t": "x" * 2_000_000}), row(5, {})]) == 1  # over the server's limit
    nats_server.kill()
    with pytest.raises(ConnectionLost, match=r"sinks\.nats_url"):
        await sink.write([row(6, {})])
    await trio.to_thread.run_sync(nats_server.start)
    await sink.write([row(6, {})])
    found = await trio.to_thread.run_sync(read_stream, nats_server.url, "FEATURES")
    assert [body["id"] for _, body in found] == [1, 2, 3, 5, 6]
    await sink.aclose()
