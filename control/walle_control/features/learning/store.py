"""Rows of the learning feature. Parts of updates live from their arrival to the end of their round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import groupby
from operator import itemgetter

import orjson

from walle_control.db.sql import Connection, Row
from walle_control.features.learning.averaging import ServerState
from walle_control.features.learning.types import CollectedUpdate, PlanRow, PlanState, RoundRow, WholeBackup
from walle_control.features.learning.updates import from_bytes, to_bytes
from walle_shared.ids import DeviceId
from walle_shared.learning import BackupPart, UpdatePart
from walle_shared.protocol.codec import encode
from walle_shared.records import from_plain

_PLAN = (
    "SELECT id, scenario, task, version, model, base, loss, parameters, wish, state, reason, created_ms,"
    " created_by, ended_ms FROM learning_plan"
)
_ROUND_COLUMNS = tuple(field.name for field in fields(RoundRow))
_ROUND = f"SELECT {', '.join(_ROUND_COLUMNS)} FROM learning_round"


def insert_plan(db: Connection, plan: PlanRow, state: ServerState, holdout: bytes) -> None:
    """Add a plan with the model that it starts from."""
    db.execute(
        "INSERT INTO learning_plan (id, scenario, task, version, model, base, loss, parameters, wish, state,"
        " reason, created_ms, created_by, ended_ms, weights, first, second, holdout)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (plan.id, plan.scenario, plan.task, plan.version, plan.model, plan.base, plan.loss,
         encode(plan.parameters).decode(), encode(plan.wish).decode(), plan.state, plan.reason,
         plan.created_ms, plan.created_by, plan.ended_ms, to_bytes(state.weights), b"", b"", holdout),
    )  # fmt: skip


def find_plan(db: Connection, plan: str) -> PlanRow | None:
    """A plan by its id."""
    row = db.execute(f"{_PLAN} WHERE id = ?", (plan,)).fetchone()
    return _plan(row) if row else None


def list_plans(db: Connection) -> list[PlanRow]:
    """All plans, newest first."""
    return [_plan(row) for row in db.execute(f"{_PLAN} ORDER BY created_ms DESC, id")]


def running_plans(db: Connection) -> list[PlanRow]:
    """The plans whose rounds go on."""
    return [_plan(row) for row in db.execute(f"{_PLAN} WHERE state = 'running' ORDER BY id")]


def end_plan(db: Connection, plan: str, state: PlanState, reason: str, now_ms: int) -> None:
    """Say that a plan is over."""
    db.execute(
        "UPDATE learning_plan SET state = ?, reason = ?, ended_ms = ? WHERE id = ?",
        (state, reason, now_ms, plan),
    )


def server_state(db: Connection, plan: str) -> ServerState:
    """The model of a plan as it is now, and what its optimiser keeps."""
    row = db.execute("SELECT weights, first, second FROM learning_plan WHERE id = ?", (plan,)).fetchone()
    first, second = (from_bytes(bytes(row[name])) if row[name] else None for name in ("first", "second"))
    return ServerState(from_bytes(bytes(row["weights"])), first, second)


def save_server_state(db: Connection, plan: str, state: ServerState) -> None:
    """Replace it."""
    first, second = (b"" if each is None else to_bytes(each) for each in (state.first, state.second))
    db.execute(
        "UPDATE learning_plan SET weights = ?, first = ?, second = ? WHERE id = ?",
        (to_bytes(state.weights), first, second, plan),
    )


def holdout_of(db: Connection, plan: str) -> bytes:
    """The held-out data of a plan; empty: it has none."""
    row = db.execute("SELECT holdout FROM learning_plan WHERE id = ?", (plan,)).fetchone()
    return bytes(row["holdout"])


def insert_round(db: Connection, row: RoundRow) -> None:
    """Add a round."""
    marks = ", ".join("?" * len(_ROUND_COLUMNS))
    db.execute(
        f"INSERT INTO learning_round ({', '.join(_ROUND_COLUMNS)}) VALUES ({marks})",
        [getattr(row, name) for name in _ROUND_COLUMNS],
    )


def update_round(db: Connection, row: RoundRow) -> None:
    """Replace what is said of a round, but for what arriving updates count."""
    db.execute(
        "UPDATE learning_round SET state = ?, closed_ms = ?, updates = ?, refused = refused + ?, loss = ?,"
        " accuracy = ?, reason = ? WHERE plan = ? AND number = ?",
        (row.state, row.closed_ms, row.updates, row.refused, row.loss, row.accuracy, row.reason,
         row.plan, row.number),
    )  # fmt: skip


def find_round(db: Connection, plan: str, number: int) -> RoundRow | None:
    """A round of a plan."""
    row = db.execute(f"{_ROUND} WHERE plan = ? AND number = ?", (plan, number)).fetchone()
    return RoundRow(**dict(row)) if row else None


def rounds_of(db: Connection, plan: str, limit: int) -> list[RoundRow]:
    """Rounds of a plan, newest first."""
    rows = db.execute(f"{_ROUND} WHERE plan = ? ORDER BY number DESC LIMIT ?", (plan, limit))
    return [RoundRow(**dict(row)) for row in rows]


def count_rounds(db: Connection, plan: str) -> dict[str, int]:
    """How many rounds of a plan are in each state."""
    rows = db.execute(
        "SELECT state, count(*) AS n FROM learning_round WHERE plan = ? GROUP BY state", (plan,)
    )
    return {row["state"]: row["n"] for row in rows}


def count_update(db: Connection, plan: str, number: int, column: str) -> None:
    """Count an update that is not kept: ``refused`` or ``late``."""
    db.execute(
        f"UPDATE learning_round SET {column} = {column} + 1 WHERE plan = ? AND number = ?", (plan, number)
    )


def first_part(db: Connection, plan: str, number: int, device_id: DeviceId) -> tuple[str, int] | None:
    """The id and the number of parts of the update that a device has begun to send."""
    row = db.execute(
        "SELECT id, parts FROM learning_part WHERE plan = ? AND round = ? AND device_id = ? LIMIT 1",
        (plan, number, device_id),
    ).fetchone()
    return (row["id"], row["parts"]) if row else None


def insert_part(db: Connection, device_id: DeviceId, part: UpdatePart, body: bytes) -> None:
    """Keep a part of an update; one that is there stays."""
    db.execute(
        "INSERT INTO learning_part (plan, round, device_id, part, parts, id, samples, encoding, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (plan, round, device_id, part) DO NOTHING",
        (part.plan, part.round, device_id, part.part, part.parts, part.id, part.samples, part.encoding, body),
    )


def count_collected(db: Connection, plan: str, number: int) -> int:
    """From how many devices a whole update is there."""
    row = db.execute(
        "SELECT count(*) AS n FROM (SELECT device_id FROM learning_part WHERE plan = ? AND round = ?"
        " GROUP BY device_id HAVING count(*) = min(parts)) AS whole",
        (plan, number),
    ).fetchone()
    return int(row["n"])


def collected(db: Connection, plan: str, number: int) -> Iterator[CollectedUpdate]:
    """The whole updates of a round, without saying whose they are."""
    rows = db.execute(
        "SELECT device_id, parts, samples, encoding, body FROM learning_part WHERE plan = ? AND round = ?"
        " ORDER BY device_id, part",
        (plan, number),
    )
    for _, group in groupby(rows, itemgetter("device_id")):
        parts = list(group)
        if len(parts) == parts[0]["parts"]:
            body = b"".join(bytes(row["body"]) for row in parts)
            yield CollectedUpdate(parts[0]["samples"], parts[0]["encoding"], body)


def delete_parts(db: Connection, plan: str, number: int) -> None:
    """Forget the single updates of a round."""
    db.execute("DELETE FROM learning_part WHERE plan = ? AND round = ?", (plan, number))


def insert_backup(
    db: Connection, device_id: DeviceId, task: tuple[str, str], about: BackupPart, body: bytes
) -> None:
    """Keep a part of a sealed personal model; parts of another one of this device go."""
    owner = (device_id, *task)
    db.execute(
        "DELETE FROM learning_backup WHERE device_id = ? AND scenario = ? AND task = ? AND id <> ?",
        (*owner, about.id),
    )
    db.execute(
        "INSERT INTO learning_backup (device_id, scenario, task, part, parts, id, about, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device_id, scenario, task, part) DO NOTHING",
        (*owner, about.part, about.parts, about.id, encode(about).decode(), body),
    )


def whole_backups(db: Connection, limit: int) -> list[WholeBackup]:
    """Personal models of which all parts are there."""
    owners = db.execute(
        "SELECT device_id, scenario, task FROM learning_backup GROUP BY device_id, scenario, task"
        " HAVING count(*) = min(parts) LIMIT ?",
        (limit,),
    ).fetchall()
    found = list[WholeBackup]()
    for owner in owners:
        rows = db.execute(
            "SELECT about, body FROM learning_backup WHERE device_id = ? AND scenario = ? AND task = ?"
            " ORDER BY part",
            tuple(owner),
        ).fetchall()
        about = from_plain(BackupPart, orjson.loads(rows[0]["about"]))
        sealed = b"".join(bytes(row["body"]) for row in rows)
        found.append(WholeBackup(owner["device_id"], owner["scenario"], owner["task"], about, sealed))
    return found


def delete_backup(db: Connection, whole: WholeBackup) -> None:
    """Forget the parts of a personal model."""
    db.execute(
        "DELETE FROM learning_backup WHERE device_id = ? AND scenario = ? AND task = ? AND id = ?",
        (whole.device_id, whole.scenario, whole.task, whole.about.id),
    )


def _plan(row: Row) -> PlanRow:
    plain = dict(row)
    plain["parameters"] = orjson.loads(plain["parameters"])
    plain["wish"] = orjson.loads(plain["wish"])
    return from_plain(PlanRow, plain)
