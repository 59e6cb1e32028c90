"""Rows of the telemetry feature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from walle_control.db.sql import Connection, insert_rows
from walle_control.db.sql import Row as SqlRow
from walle_control.features.rollouts.votes import Told
from walle_control.features.telemetry.sinks.sink import Row
from walle_control.features.telemetry.types import (
    FeatureQuery,
    InstalledTask,
    ReportCount,
    ReportQuery,
    StoredFeature,
    StoredReport,
)
from walle_shared.ids import DeviceId, ScenarioName
from walle_shared.protocol.messages import Report
from walle_shared.protocol.tunnel import Record
from walle_shared.records import from_plain

#: Query member -> column.
_FEATURE_COLUMNS = {
    "scenario": "scenario", "task": "task", "name": "name", "device": "device_id", "release": "release_id",
}  # fmt: skip
_REPORT_COLUMNS = {"release": "release_id", "device": "device_id", "outcome": "outcome"}


def insert_reports(db: Connection, told: Sequence[Told]) -> list[bool]:
    """Add reports; for each whether it is new."""
    rows = [
        (device_id, report.report_id, report.release_id, report.task, report.version, report.stage,
         report.outcome, report.error_class, report.code, report.message, report.attempt, report.at_ms,
         report.duration_ms, at_ms)
        for device_id, report, at_ms in told
    ]  # fmt: skip
    added = insert_rows(
        db,
        "INSERT INTO report (device_id, report_id, release_id, task, version, stage, outcome, error_class,"
        " code, message, attempt, at_ms, duration_ms, received_ms)",
        rows,
        "ON CONFLICT (device_id, report_id) DO NOTHING",
    )
    if added == len(rows):
        return [True] * added
    # Writers take turns and ids rise: what was added is the newest.
    newest = db.execute("SELECT device_id, report_id FROM report ORDER BY id DESC LIMIT ?", (added,))
    fresh = {(row["device_id"], row["report_id"]) for row in newest}
    are_new = []
    for device_id, report, _ in told:
        are_new.append((device_id, report.report_id) in fresh)
        fresh.discard((device_id, report.report_id))  # once more is a repetition
    return are_new


def count_reports(db: Connection, reports: Iterable[Report]) -> None:
    """Add reports to the counters they belong to."""
    counts = Counter((r.release_id, r.stage, r.outcome, r.error_class) for r in reports)
    insert_rows(
        db,
        "INSERT INTO report_count (release_id, stage, outcome, error_class, n)",
        [(*key, n) for key, n in counts.items()],
        "ON CONFLICT (release_id, stage, outcome, error_class) DO UPDATE SET n = report_count.n + excluded.n",
    )


def set_installed(db: Connection, told: Iterable[tuple[Told, ScenarioName]]) -> None:
    """Remember what devices last said about their tasks' installations."""
    last: dict[tuple[DeviceId, ScenarioName, str], Told] = {}
    for said, scenario in told:
        key = (said.device_id, scenario, said.report.task)
        if key not in last or said.report.at_ms >= last[key].report.at_ms:
            last[key] = said
    insert_rows(
        db,
        "INSERT INTO device_task (device_id, scenario, task, version, release_id, stage, outcome, at_ms,"
        " error_class, attempt, barred_s, received_ms)",
        [
            (*key, report.version, report.release_id, report.stage, report.outcome, report.at_ms,
             report.error_class, report.attempt, report.barred_s, at_ms)
            for key, (_, report, at_ms) in last.items()
        ],
        "ON CONFLICT (device_id, scenario, task) DO UPDATE SET version = excluded.version,"
        " release_id = excluded.release_id, stage = excluded.stage, outcome = excluded.outcome,"
        " at_ms = excluded.at_ms, error_class = excluded.error_class, attempt = excluded.attempt,"
        " barred_s = excluded.barred_s, received_ms = excluded.received_ms"
        " WHERE excluded.at_ms >= device_task.at_ms",
    )  # fmt: skip


def installed_tasks(db: Connection, device_id: DeviceId, now_ms: int) -> tuple[InstalledTask, ...]:
    """What a device last said about each task, and what that means now."""
    rows = db.execute(
        "SELECT scenario, task, version, release_id, stage, outcome, at_ms, error_class, attempt, barred_s,"
        " received_ms FROM device_task WHERE device_id = ? ORDER BY scenario, task",
        (device_id,),
    )
    return tuple(from_plain(InstalledTask, dict(row)).as_of(now_ms) for row in rows)


def counts(db: Connection, release_id: str) -> tuple[ReportCount, ...]:
    """The counters of a release."""
    rows = db.execute(
        "SELECT stage, outcome, error_class, n FROM report_count WHERE release_id = ?"
        " ORDER BY stage, outcome, error_class",
        (release_id,),
    )
    return tuple(ReportCount(**row) for row in rows)


def list_reports(db: Connection, query: ReportQuery, after: int, limit: int) -> list[StoredReport]:
    """Reports by arrival."""
    rows = _select(db, "report", _wheres(query, _REPORT_COLUMNS), after, limit)
    return [from_plain(StoredReport, dict(row)) for row in rows]


def newest_reports(db: Connection, query: ReportQuery, limit: int) -> list[StoredReport]:
    """The last reports, newest first."""
    rows = _select(db, "report", _wheres(query, _REPORT_COLUMNS), 0, limit, newest_first=True)
    return [from_plain(StoredReport, dict(row)) for row in rows]


def insert_feature(
    db: Connection, device_id: DeviceId, origin: str, record: Record, fields: bytes, now_ms: int
) -> None:
    """Add a feature to the journal; ``fields`` are the record's as JSON."""
    trace = record.trace
    db.execute(
        "INSERT INTO feature (device_id, origin, scenario, task, version, release_id, name, at_ms,"
        " received_ms, fields, trace_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (device_id, origin, record.scenario, record.task, record.version, record.release_id, record.name,
         record.at_ms, now_ms, fields.decode(), trace.trace_id if trace is not None else ""),
    )  # fmt: skip


def journal_head(db: Connection) -> int:
    """The newest id of the journal; 0 before the first."""
    return total(db, "feature")


def arrived_by_minute(
    db: Connection, after: int, last_id: int, since_ms: int, octets: str
) -> list[tuple[int, int, int]]:
    """How many rows, with how many bytes of fields, came in each minute (since 1970) after a time.

    Only rows after one id up to another count. ``octets`` is the database's word for the bytes of a text.
    """
    rows = db.execute(
        f"SELECT received_ms / 60000 AS minute, count(*) AS n, sum({octets.format('fields')}) AS size_bytes"
        " FROM feature WHERE id > ? AND id <= ? AND received_ms >= ? GROUP BY minute",
        (after, last_id, since_ms),
    )
    return [(row["minute"], row["n"], int(row["size_bytes"])) for row in rows]


def read_journal(db: Connection, after: int, last_id: int, rows_max: int, bytes_max: float) -> Sequence[Row]:
    """Rows after one id up to another, in order, within the limits but at least one."""
    rows: list[Row] = []
    size_bytes = 0
    for found in db.execute(
        "SELECT * FROM feature WHERE id > ? AND id <= ? ORDER BY id LIMIT ?", (after, last_id, rows_max)
    ):
        size_bytes += len(found["fields"])
        if rows and size_bytes > bytes_max:
            break
        rows.append(Row(**dict(found)))
    return rows


def prune_journal(db: Connection, written_id: int, before_ms: int, rows_max: int) -> int:
    """Delete rows up to an id that came before a time; how many. The newest row stays: it holds the count."""
    return db.execute(
        "DELETE FROM feature WHERE id IN (SELECT id FROM feature WHERE id <= ? AND received_ms < ?"
        " AND id < (SELECT max(id) FROM feature) ORDER BY id LIMIT ?)",
        (written_id, before_ms, rows_max),
    ).rowcount


def sink_position(db: Connection, name: str) -> tuple[int, int]:
    """Up to which id a sink has the journal, and up to which the batch goes that it may have begun."""
    row = db.execute("SELECT written_id, planned_id FROM sink WHERE name = ?", (name,)).fetchone()
    return (row["written_id"], row["planned_id"]) if row else (0, 0)


def save_sink_position(db: Connection, name: str, written_id: int, planned_id: int) -> None:
    """Remember how far a sink is."""
    db.execute(
        "INSERT INTO sink (name, written_id, planned_id) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET written_id = excluded.written_id,"
        " planned_id = excluded.planned_id",
        (name, written_id, planned_id),
    )


def list_features(db: Connection, query: FeatureQuery, after: int, limit: int) -> list[StoredFeature]:
    """Features by arrival."""
    rows = _select(db, "feature", _wheres(query, _FEATURE_COLUMNS), after, limit)
    return [from_plain(StoredFeature, {**row, "fields": orjson.loads(row["fields"])}) for row in rows]


def total(db: Connection, table: str) -> int:
    """How many rows ever came into ``report`` or ``feature`` (thinning out never takes the newest)."""
    highest: int = db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
    return highest


def load_ledger(db: Connection, device_id: DeviceId, incarnation: str) -> Mapping[str, Any] | None:
    """The tunnel ledger of one incarnation of a device's store."""
    row = db.execute(
        "SELECT ledger FROM tunnel_ledger WHERE device_id = ? AND incarnation = ?", (device_id, incarnation)
    ).fetchone()
    if row is None:
        return None
    plain: Mapping[str, Any] = orjson.loads(row["ledger"])
    return plain


def save_ledger(
    db: Connection,
    device_id: DeviceId,
    incarnation: str,
    plain: Mapping[str, Any],
    lost: int,
    now_ms: int,
) -> None:
    """Store a tunnel ledger; ``lost`` more records will never come."""
    db.execute(
        "INSERT INTO tunnel_ledger (device_id, incarnation, ledger, lost, updated_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (device_id, incarnation) DO UPDATE SET ledger = excluded.ledger,"
        " lost = tunnel_ledger.lost + excluded.lost, updated_ms = excluded.updated_ms",
        (device_id, incarnation, orjson.dumps(plain).decode(), lost, now_ms),
    )


def _wheres(query: FeatureQuery | ReportQuery, columns: Mapping[str, str]) -> dict[str, str]:
    return {column: value for name, column in columns.items() if (value := getattr(query, name))}


def _select(
    db: Connection,
    table: str,
    wheres: Mapping[str, str],
    after: int,
    limit: int,
    *,
    newest_first: bool = False,
) -> list[SqlRow]:
    # Table and column names come from the tables above, never from a request.
    conditions = "".join(f" AND {column} = ?" for column in wheres)
    order = "DESC" if newest_first else "ASC"
    return db.execute(
        f"SELECT * FROM {table} WHERE id > ?{conditions} ORDER BY id {order} LIMIT ?",
        (after, *wheres.values(), limit),
    ).fetchall()
