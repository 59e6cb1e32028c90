"""The store against real damage: a full disk, a file in use, a file that is rubbish or turns into it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from walle_agent.streams.database import STORAGE_BUSY, STORAGE_CORRUPT, STORAGE_FULL
from walle_agent.streams.event import make_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.service import ServiceLimits, open_streams
from walle_agent.streams.storage import RunCommit, StoreLimits, StreamStore
from walle_shared.clock import FixedClock, SystemClock
from walle_shared.errors import StorageError
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger
from walle_shared.protocol.tunnel import Record, TunnelClass

TASK = (ScenarioName("demo"), TaskName("page_view"))
IMPATIENT = StoreLimits(busy_timeout_s=0.05)


def run(last_seq: int, text: str = "") -> RunCommit:
    record = Record("demo", "page_view", "1.0", "r1", "view", 1, {"text": text})
    return RunCommit(TASK, "1.0", "r1", last_seq, (("features", {"text": text}),), (record,))


def open_store(path: Path) -> StreamStore:
    store = StreamStore.open(path, FixedClock(mono_ns=1), IMPATIENT)
    store.declare(TASK, {"features": {"text": "text"}})
    return store


def fill_disk(store: StreamStore) -> None:
    """Let SQLite find no page more, as on a full disk."""
    with store._database.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")


def free_disk(store: StreamStore) -> None:
    with store._database.reading() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")


def test_a_full_disk_keeps_nothing_of_a_run_and_heals(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    assert store.commit_run(run(1, "first"))
    before = store.statistics()
    fill_disk(store)
    with pytest.raises(StorageError, match="free some disk space") as caught:
        store.commit_run(run(2, "x" * 50_000))
    assert caught.value.code == STORAGE_FULL
    assert store.statistics() == before
    free_disk(store)
    assert store.commit_run(run(2, "second"))
    assert [row["text"] for row in store.read_rows(TASK, "features")] == ["first", "second"]
    assert [entry.seq for entry in store.next_batch({}, 10)] == [1, 2]
    store.close()


def test_events_that_met_a_full_disk_are_logged_later(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    flow = StreamFlow(store, FixedClock(mono_ns=1))
    flow.register(TASK, [Trigger(("page:item.exit",))])
    flow.accept([make_event("page_enter", page_id="item")])
    fill_disk(store)
    with pytest.raises(StorageError):
        flow.accept([make_event("click", args={"text": "x" * 30_000}), make_event("page_exit")])
    free_disk(store)
    (firing,) = flow.accept([])
    assert [event.kind for event in firing.events] == ["page_enter", "click", "page_exit"]
    assert [event.seq for event in firing.events] == [1, 2, 3]
    store.close()


def test_a_file_in_use_is_an_error_that_passes(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="another process holds the file") as caught:
        store.append([make_event("click")])
    assert caught.value.code == STORAGE_BUSY
    other.execute("ROLLBACK")
    other.close()
    assert [event.seq for event in store.append([make_event("click")])] == [1]
    store.close()


@pytest.mark.parametrize("rubbish", [b"not a database" * 1_000, b"SQLite format 3\x00" + bytes(8_192)])
def test_a_rubbish_file_is_set_aside_at_opening(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "s.db"
    for number in (1, 2):
        path.write_bytes(rubbish)
        store = open_store(path)
        assert store.damaged == tmp_path / f"s.db.corrupt-{number}"
        assert store.damaged.read_bytes() == rubbish
        assert store.commit_run(run(1))
        store.close()


def test_a_damaged_page_is_found_at_opening(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = open_store(path)
    incarnation = store.incarnation
    for number in range(50):
        store.commit_run(run(number + 1, "x" * 2_000))
    store.close()
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    store = open_store(path)
    assert store.damaged is not None
    assert store.incarnation != incarnation
    store.close()


def damage_open_file(path: Path) -> None:
    """Overwrite what an open store has on disk."""
    for name in (path, path.with_name(path.name + "-wal")):
        with name.open("r+b") as file:
            file.write(b"\xa5" * name.stat().st_size)


def damaged_store(path: Path) -> StreamStore:
    """A store whose file turned into rubbish behind its back, too large to sit in its page cache."""
    store = open_store(path)
    for _ in range(150):
        store.append([make_event("click", args={"text": "x" * 30_000})])
    damage_open_file(path)
    return store


def test_damage_at_run_time_is_named_and_replaced(tmp_path: Path) -> None:
    store = damaged_store(tmp_path / "s.db")
    incarnation = store.incarnation
    with pytest.raises(StorageError) as caught:
        store.pending()
    assert caught.value.code == STORAGE_CORRUPT
    assert store.replace_damaged() == tmp_path / "s.db.corrupt-1"
    assert store.incarnation != incarnation
    assert [event.seq for event in store.append([make_event("click")])] == [151]
    assert store.commit_run(run(151, "after"))
    assert store.read_rows(TASK, "features") == [{"text": "after"}]
    assert store.numbers()[TunnelClass.REALTIME] == (1, 1)
    store.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"s\.db: unable to open"):
        StreamStore.open(tmp_path / "missing" / "s.db", FixedClock())


@pytest.mark.slow
async def test_the_service_replaces_a_damaged_file_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with open_streams(path, SystemClock(), ServiceLimits(store=IMPATIENT)) as streams:
        await streams.register(TASK, [Trigger(("kind:click",))], {"features": {"text": "text"}})
        first = streams.incarnation
        for number in range(150):
            assert await streams.commit(run(number + 1, "x" * 30_000))
        damage_open_file(path)
        assert await streams.read_rows(TASK, "features") == []
        assert streams.incarnation != first
        assert await streams.commit(run(200, "after"))
        assert await streams.read_rows(TASK, "features") == [{"text": "after"}]
        assert streams.statistics().storage_errors == 1
        assert streams.statistics().store.set_aside == 1
