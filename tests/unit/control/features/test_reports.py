"""Reports recorded together are as reports recorded one after the other, by the plainest of statements."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.db.sqlite import SqliteBackend
from walle_control.features.audiences import store as audiences
from walle_control.features.releases import read_model as releases
from walle_control.features.rollouts.votes import Told, votes_of
from walle_control.features.telemetry.service import record
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName
from walle_shared.protocol.messages import NO_RELEASE, Report
from walle_shared.targeting import SHARE_ONE, Holdout, holdouts_of

HOLDOUT = Holdout("some", SHARE_ONE // 2, "salt")
KNOWN = {ReleaseId("r1"): ScenarioName("demo"), ReleaseId("r2"): ScenarioName("shop")}
TABLES = {
    "report": "device_id, report_id",
    "report_count": "release_id, stage, outcome, error_class",
    "device_task": "device_id, scenario, task",
    "vote": "release_id, device_id, arm, kind",
}


def told(rng: random.Random) -> Told:
    """A report of a few devices about a few releases, often one that came before."""
    number = rng.randrange(60)
    device, rng = DeviceId(f"d{rng.randrange(5)}"), random.Random(number)
    report = Report(
        report_id=f"rep-{number}",
        release_id=ReleaseId(rng.choice(["r1", "r2", "nobody's"])),
        task=rng.choice(["a", "b"]),
        version=f"{number}",
        stage=rng.choice(["start", "install", "run", "revert"]),
        outcome=rng.choice(["success", "failure"]),
        attempt=1,
        at_ms=rng.randrange(10),
        duration_ms=float(number),
        error_class=rng.choice(["none", "runtime", "network"]),
        votes=rng.random() < 0.7,
        control_of=ReleaseId(rng.choice([NO_RELEASE, "r1", "r2", "gone"])),
        peak_bytes=number,
    )  # fmt: skip
    return Told(device, report, 1_000)


def record_plainly(db: Connection, each: Told) -> bool:
    """What ``record`` means, for one report."""
    device, report, now_ms = each
    if db.execute(
        "SELECT 1 FROM report WHERE device_id = ? AND report_id = ?", (device, report.report_id)
    ).fetchone():
        return False
    db.execute(
        "INSERT INTO report (device_id, report_id, release_id, task, version, stage, outcome, error_class,"
        " code, message, attempt, at_ms, duration_ms, received_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', ?, ?, ?, ?)",
        (device, report.report_id, report.release_id, report.task, report.version, report.stage,
         report.outcome, report.error_class, report.attempt, report.at_ms, report.duration_ms, now_ms),
    )  # fmt: skip
    if report.release_id not in KNOWN:
        return True
    key = (report.release_id, report.stage, report.outcome, report.error_class)
    where = "WHERE release_id = ? AND stage = ? AND outcome = ? AND error_class = ?"
    if not db.execute(f"UPDATE report_count SET n = n + 1 {where}", key).rowcount:
        db.execute("INSERT INTO report_count VALUES (?, ?, ?, ?, 1)", key)
    if report.stage in ("install", "revert") or (report.stage == "start" and not report.control_of):
        place = (device, KNOWN[report.release_id], report.task)
        known = db.execute(
            "SELECT at_ms FROM device_task WHERE device_id = ? AND scenario = ? AND task = ?", place
        ).fetchone()
        if known is None or report.at_ms >= known["at_ms"]:
            db.execute("DELETE FROM device_task WHERE device_id = ? AND scenario = ? AND task = ?", place)
            db.execute(
                "INSERT INTO device_task (device_id, scenario, task, version, release_id, stage, outcome,"
                " at_ms, error_class, attempt, barred_s, received_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*place, report.version, report.release_id, report.stage, report.outcome, report.at_ms,
                 report.error_class, report.attempt, report.barred_s, now_ms),
            )  # fmt: skip
    held_out = report.control_of in KNOWN and holdouts_of(device, KNOWN[report.control_of], [HOLDOUT])
    for release, vote in votes_of(report, device, now_ms, "holdout" if held_out else "control"):
        if release in KNOWN:
            db.execute(
                "INSERT INTO vote (release_id, device_id, arm, kind, at_ms, duration_ms, peak_bytes)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (release, device, vote.arm, vote.kind, vote.at_ms, vote.duration_ms, vote.peak_bytes),
            )
    return True


def contents(db: Connection, order: str = "") -> dict[str, list[dict]]:
    """All rows without their ids; ``order`` by id where there is one, else by key."""
    found = {}
    for table, key in TABLES.items():
        by = "id" if order and table in ("report", "vote") else key
        rows = [dict(row) for row in db.execute(f"SELECT * FROM {table} ORDER BY {by}")]
        found[table] = [{name: value for name, value in row.items() if name != "id"} for row in rows]
    return found


@pytest.fixture(autouse=True)
def known(monkeypatch) -> None:
    """Two releases, without what a release needs."""
    monkeypatch.setattr(
        releases, "scenarios_of", lambda _db, ids: {each: KNOWN[each] for each in ids if each in KNOWN}
    )


@pytest.fixture
def plain() -> Iterator[Connection]:
    """A database in memory."""
    backend = SqliteBackend(Path(":memory:"))
    connection = backend.connect()
    backend.migrate(connection)
    yield connection
    connection.close()


@pytest.mark.parametrize("seed", range(4))
def test_together_is_as_one_after_the_other(database: Database, plain: Connection, seed: int) -> None:
    rng = random.Random(seed)
    database.write_sync(lambda db: audiences.put_holdout(db, HOLDOUT, 0))
    everything = [told(rng) for _ in range(250)]
    expected = [record_plainly(plain, each) for each in everything]
    found: list[bool] = []
    while len(found) < len(everything):
        part = everything[len(found) : len(found) + rng.choice((1, 2, 10, 100))]
        found += database.write_sync(lambda db, part=part: record(db, part))
    assert found == expected
    assert 50 < sum(expected) < 250
    rows = database.read_sync(lambda db: contents(db, "by arrival"))
    assert rows == contents(plain, "by arrival")
    assert all(rows.values())
    assert {vote["arm"] for vote in rows["vote"]} == {"treatment", "control", "holdout"}


def test_nothing_is_recorded_of_nothing(database: Database) -> None:
    assert database.write_sync(lambda db: record(db, [])) == []
