"""SIGKILL at any moment, half of the acknowledgements lost: every closed visit arrives once, in order.

And every visit was followed once by an extended trigger, and every click counted once in a window.
"""

from __future__ import annotations

import importlib.util
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from walle_agent.streams.storage import StreamStore
from walle_agent.streams.tunnel import TunnelSender
from walle_shared.protocol.tunnel import TunnelClass
from walle_shared.protocol.tunnel_receiver import (
    HelloReceived,
    RecordReceived,
    SequenceLedger,
    TunnelReceiver,
    ack_frames,
)

WRITER = Path(__file__).with_name("stream_writer.py")


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stream_writer", WRITER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Cloud:
    """Keeps ledger and records in one database transaction; it remembers nothing outside."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE ledger (incarnation TEXT PRIMARY KEY, state TEXT)")
        self.db.execute("CREATE TABLE records (class INTEGER, seq INTEGER, visit INTEGER, events INTEGER)")

    def take(self, incarnation: str, items: list[RecordReceived]) -> list[bytes]:
        self.db.execute("BEGIN")
        row = self.db.execute("SELECT state FROM ledger WHERE incarnation = ?", (incarnation,)).fetchone()
        ledger = SequenceLedger.from_plain(orjson.loads(row[0]) if row else None)
        for item in items:
            if ledger.admit(item):
                fields: Any = item.record.fields
                values = (item.klass, item.seq, fields["visit"], fields["events"])
                self.db.execute("INSERT INTO records VALUES (?, ?, ?, ?)", values)
        state = orjson.dumps(ledger.to_plain()).decode()
        self.db.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?)", (incarnation, state))
        self.db.execute("COMMIT")
        return ack_frames(ledger, items)


def upload(store: StreamStore, cloud: Cloud, rng: random.Random, *, lossy: bool) -> None:
    """Connections until nothing is left; lossy ones break before some acknowledgements are read."""
    done = False
    while not done:
        sender, receiver = TunnelSender(store.incarnation, store.numbers()), TunnelReceiver()
        assert isinstance(receiver.receive(sender.hello()), HelloReceived)
        while True:
            batch = store.next_batch(sender.sent, sender.room)
            if not batch:
                done = True
                break
            items = [receiver.receive(frame) for frame in sender.send(batch)]
            records = [item for item in items if isinstance(item, RecordReceived)]
            assert len(records) == len(items)
            acks = cloud.take(store.incarnation, records)
            if lossy and rng.random() < 0.5:
                break
            for ack in acks:
                acked = sender.receive(ack)
                if acked is not None:
                    store.ack(acked.klass, acked.seq)  # type: ignore[union-attr]
        if lossy and rng.random() < 0.3:
            return  # leave some for later


def kill_rounds(
    writer: ModuleType, folder: Path, *, rounds: int = 0, seconds: float = 0.0
) -> tuple[int, int]:
    """Kill so many times, and for at least so long; the visits that closed, and the kills."""
    rng = random.Random(11)
    path, cloud = folder / "streams.db", Cloud(folder / "cloud.db")
    incarnations = set[str]()
    ends_s, kills = time.monotonic() + seconds, 0
    while kills < rounds or time.monotonic() < ends_s:
        kills += 1
        work_until_killed(path, rng.uniform(0.02, 0.15))
        store = StreamStore.open(path, writer.SystemClock(), writer.ROOMY)
        assert store.damaged is None
        incarnations.add(store.incarnation)
        upload(store, cloud, rng, lossy=True)
        store.close()

    store, flow = writer.open_device(path)
    writer.commit(store, flow, flow.recover())
    upload(store, cloud, rng, lossy=False)
    visits = (store.next_seq - 1) // 4
    rows = store.read_rows(writer.TASK, "features", limit=10**6)
    followed = store.read_rows(writer.FOLLOWING, "followed", limit=10**6)
    counted = sum(row["clicks"] for row in store.read_rows(writer.SUMMING, "sums", limit=10**6))
    (stage,) = flow._pipeline._stages[writer.SUMMING]
    still_open = sum(row.values["clicks"] for row in stage.finish())
    clicks = sum(number % 4 in (1, 2) for number in range(store.next_seq - 1))
    store.close()

    assert len(incarnations) == 1
    expected = list(range(visits))
    assert sorted(row["visit"] for row in rows) == expected
    assert sorted(row["visit"] for row in followed) == expected
    assert counted + still_open + stage.late == clicks
    got = cloud.db.execute("SELECT visit, events FROM records ORDER BY visit").fetchall()
    assert got == [(visit, 4) for visit in expected]
    for klass in TunnelClass:
        numbers = cloud.db.execute(
            "SELECT seq FROM records WHERE class = ? ORDER BY rowid", (klass,)
        ).fetchall()
        assert numbers == [(seq,) for seq in range(1, len(numbers) + 1)]
    cloud.db.close()
    return visits, kills


def work_until_killed(path: Path, seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, str(WRITER), str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        if said != b"working\n":
            process.kill()
            raise AssertionError(process.stderr.read().decode())
        time.sleep(seconds)  # the moment of death is the point of the test
        assert process.poll() is None, process.stderr.read().decode()
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_few_kills_lose_and_double_nothing(writer: ModuleType, tmp_path: Path) -> None:
    visits, _ = kill_rounds(writer, tmp_path, rounds=10)
    assert visits > 10


@pytest.mark.slow_session
def test_many_kills_lose_and_double_nothing(writer: ModuleType, tmp_path: Path) -> None:
    visits, kills = kill_rounds(writer, tmp_path, seconds=120.0)
    assert visits > kills > 25
