"""Rows of the cloud feature: budgets by hour, questions that can wait, and answers on their way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from walle_control.db.sql import Connection
from walle_shared.ids import DeviceId
from walle_shared.protocol.asks import Push
from walle_shared.protocol.codec import decode, encode
from walle_shared.protocol.tunnel import Record
from walle_shared.tracing import TRACEPARENT

#: Hours of budgets that are kept, besides the one that is.
_HOURS_KEPT: Final = 2
#: Of one device: questions that wait, and answers that wait for it; beyond, the oldest answers are dropped.
LATER_MAX: Final = 256
PUSHES_MAX: Final = 256


def take_budget(
    db: Connection, release_id: str, device_id: DeviceId, hour: int, wanted: int, limit: int
) -> int:
    """Give out up to ``wanted`` of what is left of an hour's budget; how much that is."""
    row = db.execute(
        "SELECT used FROM cloud_budget WHERE release_id = ? AND device_id = ? AND hour = ?",
        (release_id, device_id, hour),
    ).fetchone()
    if row is None:
        db.execute("DELETE FROM cloud_budget WHERE hour < ?", (hour - _HOURS_KEPT,))
    given = max(0, min(wanted, limit - (int(row["used"]) if row is not None else 0)))
    db.execute(
        "INSERT INTO cloud_budget (release_id, device_id, hour, used) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (release_id, device_id, hour) DO UPDATE SET used = cloud_budget.used + excluded.used",
        (release_id, device_id, hour, given),
    )
    return given


def give_budget_back(db: Connection, release_id: str, device_id: DeviceId, hour: int, unspent: int) -> None:
    """Take back what was given out and not spent."""
    db.execute(
        "UPDATE cloud_budget SET used = used - ? WHERE release_id = ? AND device_id = ? AND hour = ?",
        (unspent, release_id, device_id, hour),
    )


@dataclass(frozen=True, slots=True)
class Later:
    """A question that can wait; ``origin`` names the record for ever."""

    id: int
    device_id: DeviceId
    origin: str
    scenario: str
    task: str
    version: str
    release_id: str
    fields: dict[str, Any]
    trace: str
    tries: int


def keep_later(db: Connection, device_id: DeviceId, origin: str, record: Record, fields: bytes) -> None:
    """Keep a question of a device; one too many is answered with a refusal at once."""
    waiting = db.execute("SELECT count(*) AS n FROM cloud_later WHERE device_id = ?", (device_id,)).fetchone()
    if waiting["n"] >= LATER_MAX:
        put_push(db, device_id, Push(origin, record.scenario, record.task, reason="busy"))
        return
    trace = record.extra.get(TRACEPARENT)
    db.execute(
        "INSERT INTO cloud_later (device_id, origin, scenario, task, version, release_id, fields, trace,"
        " tries) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (device_id, origin, record.scenario, record.task, record.version, record.release_id, fields.decode(),
         trace[:512] if isinstance(trace, str) else ""),
    )  # fmt: skip


def next_later(db: Connection, after: int, limit: int) -> list[Later]:
    """Questions in the order they came."""
    rows = db.execute(
        "SELECT id, device_id, origin, scenario, task, version, release_id, fields, trace, tries"
        " FROM cloud_later WHERE id > ? ORDER BY id LIMIT ?",
        (after, limit),
    )
    return [Later(**{**dict(row), "fields": orjson.loads(row["fields"])}) for row in rows]


def count_later(db: Connection) -> tuple[int, int]:
    """How many questions wait, and how many answers."""
    later = db.execute("SELECT count(*) AS n FROM cloud_later").fetchone()
    pushes = db.execute("SELECT count(*) AS n FROM cloud_push").fetchone()
    return int(later["n"]), int(pushes["n"])


def try_again(db: Connection, later_id: int) -> None:
    """A question could not be answered now, and may be asked again."""
    db.execute("UPDATE cloud_later SET tries = tries + 1 WHERE id = ?", (later_id,))


def settle_later(db: Connection, later: Later, push: Push) -> None:
    """A question is answered: the answer takes its place."""
    db.execute("DELETE FROM cloud_later WHERE id = ?", (later.id,))
    put_push(db, later.device_id, push)


def put_push(db: Connection, device_id: DeviceId, push: Push) -> None:
    """Keep an answer until the device has it; the oldest go if it stays away for too long."""
    db.execute("INSERT INTO cloud_push (device_id, body) VALUES (?, ?)", (device_id, encode(push).decode()))
    db.execute(
        "DELETE FROM cloud_push WHERE device_id = ? AND id <= (SELECT id FROM cloud_push WHERE device_id = ?"
        " ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (device_id, device_id, PUSHES_MAX),
    )


def next_push(db: Connection, device_id: DeviceId) -> tuple[int, Push] | None:
    """The oldest answer that a device has not taken."""
    row = db.execute(
        "SELECT id, body FROM cloud_push WHERE device_id = ? ORDER BY id LIMIT 1", (device_id,)
    ).fetchone()
    return None if row is None else (int(row["id"]), decode(Push, row["body"].encode()))


def awaited(db: Connection) -> list[DeviceId]:
    """The devices for which there are answers."""
    rows = db.execute("SELECT DISTINCT device_id FROM cloud_push")
    return [DeviceId(row["device_id"]) for row in rows]


def taken(db: Connection, device_id: DeviceId, number: int) -> None:
    """A device has an answer."""
    db.execute("DELETE FROM cloud_push WHERE device_id = ? AND id = ?", (device_id, number))
