from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from walle_agent.state.reports import ReportQueue, ReportStatistics, new_report_id, read_statistics
from walle_shared.errors import StorageError
from walle_shared.ids import ReleaseId, TaskName, TaskVersion
from walle_shared.protocol.messages import Report

RELEASE = ReleaseId("r1")


def report(report_id: str) -> Report:
    return Report(report_id, RELEASE, TaskName("t"), TaskVersion("1.0"), "run", "success", 1, 0, 0.0)


def ids(queue: ReportQueue, limit: int = 100) -> list[str]:
    return [item.report_id for item in queue.next_batch(limit)[1]]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[ReportQueue]:
    queue = ReportQueue(tmp_path / "reports.db", capacity=3, on_corrupt=_no_corruption)
    yield queue
    queue.close()


def _no_corruption(error: StorageError) -> None:
    raise error


def test_reports_leave_only_when_acknowledged(queue: ReportQueue) -> None:
    for name in "abc":
        queue.put(report(name))
    numbers, reports = queue.next_batch(2)
    assert [item.report_id for item in reports] == ["a", "b"]
    assert ids(queue) == ["a", "b", "c"]
    queue.acknowledge(numbers)
    assert ids(queue) == ["c"]
    assert queue.statistics() == ReportStatistics(queued=1, delivered=2, evicted=0)


def test_a_full_queue_evicts_the_oldest_and_counts_them(queue: ReportQueue) -> None:
    for name in "abcde":
        queue.put(report(name))
    assert ids(queue) == ["c", "d", "e"]
    assert queue.statistics().evicted == 2


def test_attempts_count_up_over_restarts(tmp_path: Path) -> None:
    counted = []
    for _ in range(3):
        queue = ReportQueue(tmp_path / "reports.db", on_corrupt=_no_corruption)
        counted.append(queue.begin_attempt(RELEASE))
        queue.close()
    assert counted == [1, 2, 3]


def test_a_corrupt_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "reports.db"
    path.write_bytes(b"this is no database" * 100)
    noted: list[StorageError] = []
    queue = ReportQueue(path, on_corrupt=noted.append)
    queue.put(report("a"))
    assert ids(queue) == ["a"]
    queue.close()
    assert "reports.db.corrupt-1" in noted[0].message


def test_a_row_nobody_can_read_is_dropped_and_counted(tmp_path: Path, queue: ReportQueue) -> None:
    queue.put(report("a"))
    with sqlite3.connect(tmp_path / "reports.db") as db:
        db.execute("INSERT INTO reports (body) VALUES (?)", (b"{}",))
    db.close()
    queue.put(report("b"))
    assert ids(queue) == ["a", "b"]
    assert queue.statistics().evicted == 1


def test_statistics_can_be_read_from_outside(tmp_path: Path, queue: ReportQueue) -> None:
    queue.put(report("a"))
    assert read_statistics(tmp_path / "reports.db").queued == 1
    assert read_statistics(tmp_path / "none.db") == ReportStatistics(0, 0, 0)


def test_report_ids_differ() -> None:
    assert len({new_report_id() for _ in range(100)}) == 100
