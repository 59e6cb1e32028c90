"""A disk that is really full: a small file system of its own, filled to the last byte, and freed again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from walle_agent.streams.database import STORAGE_FULL
from walle_agent.streams.event import RawEvent, make_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.pipeline import Firing
from walle_agent.streams.service import ServiceLimits, open_streams
from walle_agent.streams.storage import RunCommit, StreamStore
from walle_agent.streams.tables import Columns
from walle_shared.clock import FixedClock, SystemClock
from walle_shared.errors import StorageError
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger
from walle_shared.protocol.tunnel import Record
from walle_shared.units import KIB, MIB

TASK = (ScenarioName("demo"), TaskName("page_view"))
TRIGGERS = [Trigger(("page:item.exit",))]
TABLES: dict[str, Columns] = {"features": {"visit": "integer", "text": "text"}}
SIZE_BYTES = 16 * MIB  # the journal alone takes 4


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=700", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take every byte there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (MIB, 4 * KIB, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return ballast


def visit(number: int) -> list[RawEvent]:
    return [
        make_event("page_enter", page_id="item", visit_id=f"v{number}"),
        make_event("click", visit_id=f"v{number}", args={"text": "y" * 3_000}),
        make_event("page_exit", visit_id=f"v{number}"),
    ]


def run_of(firing: Firing) -> RunCommit:
    assert firing.visit is not None
    fields = {"visit": int(firing.visit.visit_id[1:]), "text": "z" * 500}
    record = Record("demo", "page_view", "1.0", "r1", "view", 1, fields)
    return RunCommit(TASK, "1.0", "r1", firing.last_seq, (("features", fields),), (record,))


def test_a_full_disk_stops_everything_and_loses_nothing(disk: Path) -> None:
    store = StreamStore.open(disk / "s.db", FixedClock(mono_ns=1))
    store.declare(TASK, TABLES)
    flow = StreamFlow(store, FixedClock(mono_ns=1))
    flow.register(TASK, TRIGGERS)
    flow.recover()
    refused, owed = list[StorageError](), list[Firing]()
    ballast = fill(disk)
    for number in range(200):
        try:
            owed += flow.accept(visit(number))
            for firing in list(owed):
                store.commit_run(run_of(firing))
                owed.remove(firing)
                flow.dealt_with(TASK, firing.last_seq)
            for entry in store.next_batch({}, 100):  # what has been sent makes room
                store.ack(entry.klass, entry.last_seq)
        except StorageError as error:
            refused.append(error)
            if len(refused) % 3 == 0:  # somebody frees space ...
                ballast.unlink(missing_ok=True)
        if number % 25 == 24 and not ballast.exists():  # ... and somebody takes it again
            ballast = fill(disk)
    assert len(refused) > 6
    assert {error.code for error in refused} == {STORAGE_FULL}
    assert "free some disk space" in refused[0].message
    ballast.unlink(missing_ok=True)
    owed += flow.accept([])
    for firing in owed:
        assert store.commit_run(run_of(firing))
        flow.dealt_with(TASK, firing.last_seq)
    assert [row["visit"] for row in store.read_rows(TASK, "features", limit=1_000)] == list(range(200))
    store.close()
    again = StreamStore.open(disk / "s.db", FixedClock(mono_ns=1))
    assert again.damaged is None
    flow = StreamFlow(again, FixedClock(mono_ns=1))
    flow.register(TASK, TRIGGERS)
    assert flow.recover() == []
    again.close()


async def test_the_service_waits_for_room_and_goes_on(disk: Path) -> None:
    limits = ServiceLimits(retry_s=0.01)
    async with (
        open_streams(disk / "s.db", SystemClock(), limits) as streams,
        trio.open_nursery() as nursery,
    ):
        await streams.register(TASK, TRIGGERS, TABLES)
        await nursery.start(streams.run)
        ballast = fill(disk)

        async def send() -> None:
            for number in range(40):
                for raw in visit(number):
                    await streams.inlet.emit(raw)

        nursery.start_soon(send)
        with trio.fail_after(60):
            while streams.statistics().storage_errors < 3:  # noqa: ASYNC110  # a counter tells nobody
                await trio.sleep(0.005)
            await trio.to_thread.run_sync(ballast.unlink)
            for number in range(40):
                firing = await streams.firings.receive()
                assert firing.visit is not None
                assert firing.visit.visit_id == f"v{number}"
                assert await streams.commit(run_of(firing))
                for entry in await streams.next_batch({}, 100):
                    await streams.ack(streams.incarnation, entry.klass, entry.last_seq)
            rows = await streams.read_rows(TASK, "features", limit=1_000)
        assert [row["visit"] for row in rows] == list(range(40))
        nursery.cancel_scope.cancel()
