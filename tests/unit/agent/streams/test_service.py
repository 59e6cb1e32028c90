from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from walle_agent.streams.event import make_event
from walle_agent.streams.pipeline import Firing
from walle_agent.streams.service import ServiceLimits, StreamService, open_streams
from walle_agent.streams.storage import RunCommit, StoreLimits
from walle_shared.clock import SystemClock
from walle_shared.errors import TaskError
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger
from walle_shared.protocol.tunnel import Record, TunnelClass

TASK = (ScenarioName("demo"), TaskName("page_view"))
TABLES = {"features": {"n": "integer"}}
ONE_FLUSH = ServiceLimits(linger_s=60.0, linger_flushes=1, flush_rows=10)


def run(firing: Firing | int, n: int = 0) -> RunCommit:
    last_seq = firing if isinstance(firing, int) else firing.last_seq
    record = Record("demo", "page_view", "1.0", "r", "view", 1, {"n": n})
    return RunCommit(TASK, "1.0", "r", last_seq, (("features", {"n": n}),), (record,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "streams.db"


@pytest.fixture
async def streams(path: Path) -> AsyncIterator[StreamService]:
    async with open_streams(path, SystemClock(), ONE_FLUSH) as streams:
        await streams.register(TASK, [Trigger(("page:item.exit",))], TABLES)  # type: ignore[arg-type]
        yield streams


async def visit_page(streams: StreamService) -> None:
    await streams.inlet.emit(make_event("page_enter", page_id="item"))
    await streams.inlet.emit(make_event("page_exit"))


async def test_events_become_firings_and_runs_become_rows(
    streams: StreamService, nursery: trio.Nursery
) -> None:
    await nursery.start(streams.run)
    await visit_page(streams)
    with trio.fail_after(5):
        firing = await streams.firings.receive()
        assert await streams.commit(run(firing, 1))
        assert await streams.read_rows(TASK, "features") == [{"n": 1}]
        async with trio.open_nursery() as again:
            again.start_soon(streams.commit, run(firing, 2))
            await trio.testing.wait_all_tasks_blocked()
            await streams.flush()
        assert await streams.read_rows(TASK, "features") == [{"n": 1}]
    assert streams.statistics().flow.owed == 0
    assert [entry.seq for entry in await streams.next_batch({}, 10)] == [1]


async def test_runs_gather_under_load_and_a_read_flushes_them(
    streams: StreamService, nursery: trio.Nursery
) -> None:
    with trio.fail_after(5):
        assert await streams.commit(run(1, 1))  # at once: nothing was committed lately
        for number in (2, 3):
            nursery.start_soon(streams.commit, run(number, number))
        await trio.testing.wait_all_tasks_blocked()
        assert streams.statistics().waiting_commits == 2
        before = streams.statistics().store.transactions
        rows = await streams.read_rows(TASK, "features")
        assert sorted(row["n"] for row in rows) == [1, 2, 3]  # Trio starts tasks in random order
        assert streams.statistics().store.transactions == before + 1


async def test_enough_rows_flush_without_waiting(streams: StreamService) -> None:
    with trio.fail_after(5):
        await streams.commit(run(1))
        async with trio.open_nursery() as nursery:
            for number in range(2, 8):
                nursery.start_soon(streams.commit, run(number))
    assert streams.statistics().store.runs == 7


async def test_a_bad_run_is_refused_alone(streams: StreamService, nursery: trio.Nursery) -> None:
    bad = RunCommit(TASK, "1.0", "r", 3, (("features", {"n": "three"}),))
    with trio.fail_after(5):
        await streams.commit(run(1, 1))
        nursery.start_soon(streams.commit, run(2, 2))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(streams.flush)
        with pytest.raises(TaskError, match=r"features\.n must be an integer"):
            await streams.commit(bad)
        assert await streams.read_rows(TASK, "features") == [{"n": 1}, {"n": 2}]


async def test_closing_flushes_and_owed_firings_survive(path: Path) -> None:
    with trio.fail_after(10):
        async with open_streams(path, SystemClock(), ONE_FLUSH) as streams, trio.open_nursery() as nursery:
            await streams.register(TASK, [Trigger(("page:item.exit",))], TABLES)  # type: ignore[arg-type]
            await nursery.start(streams.run)
            await visit_page(streams)
            await visit_page(streams)
            first, second = [await streams.firings.receive() for _ in range(2)]
            await streams.commit(run(first, 1))
            nursery.cancel_scope.cancel()
        async with open_streams(path, SystemClock()) as streams, trio.open_nursery() as nursery:
            await streams.register(TASK, [Trigger(("page:item.exit",))], TABLES)  # type: ignore[arg-type]
            await nursery.start(streams.run)
            assert await streams.firings.receive() == second
            await streams.dismiss(second)
            assert streams.statistics().flow.owed == 0
            assert await streams.read_rows(TASK, "features") == [{"n": 1}]
            nursery.cancel_scope.cancel()


async def test_the_tunnel_is_woken_by_records_only(streams: StreamService) -> None:
    with trio.fail_after(5):
        seen = await streams.wait_outgoing(-1)
        await streams.commit(RunCommit(TASK, "1.0", "r", 1))
        with trio.move_on_after(0.01) as scope:
            await streams.wait_outgoing(seen)
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(streams.wait_outgoing, seen)
            nursery.start_soon(streams.commit, run(2))
            await trio.testing.wait_all_tasks_blocked()
            await streams.flush()
        (entry,) = await streams.next_batch({}, 10)
        await streams.ack("another store", TunnelClass.REALTIME, entry.seq)
        assert (await streams.numbers())[TunnelClass.REALTIME] == (1, 1)
        await streams.ack(streams.incarnation, TunnelClass.REALTIME, entry.seq)
        assert (await streams.numbers())[TunnelClass.REALTIME] == (2, 1)


async def test_a_file_that_another_process_holds_keeps_only_the_writer_waiting(
    path: Path, nursery: trio.Nursery
) -> None:
    patient = replace(ONE_FLUSH, store=StoreLimits(busy_timeout_s=60.0))
    async with open_streams(path, SystemClock(), patient) as streams:
        await streams.register(TASK, [], TABLES)  # type: ignore[arg-type]
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            nursery.start_soon(streams.commit, run(1, 1))
            await trio.testing.wait_all_tasks_blocked()  # would come back after a minute, were it not so
            assert streams.statistics().store.runs == 0
            other.execute("ROLLBACK")
            with trio.fail_after(30):
                assert await streams.read_rows(TASK, "features") == [{"n": 1}]
        assert streams.statistics().storage_errors == 0


async def test_what_was_committed_goes_into_the_file_before_a_commit_has_to_take_it_there(
    path: Path, streams: StreamService, nursery: trio.Nursery
) -> None:
    await nursery.start(streams.run)
    with trio.fail_after(30):
        for number in range(1, 100):
            await streams.inlet.emit(make_event("scroll"))
            while streams.statistics().store.events < number:
                await trio.testing.wait_all_tasks_blocked()
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as file:  # without its log
        (events,) = file.execute("SELECT count(*) FROM events").fetchone()
    assert 50 < events < 100
