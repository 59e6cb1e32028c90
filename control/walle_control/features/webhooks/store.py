"""Rows of the webhooks feature."""

from __future__ import annotations

from typing import NamedTuple, cast

import orjson

from walle_control.db.sql import Connection, Row
from walle_control.features.webhooks.types import Delivery, DeliveryState, Webhook

_COUNTED = (
    "SELECT webhook.*, (SELECT count(*) FROM webhook_delivery d WHERE d.webhook_id = webhook.id AND"
    " d.state = 'waiting') AS waiting, (SELECT count(*) FROM webhook_delivery d WHERE d.webhook_id ="
    " webhook.id AND d.state = 'dead') AS dead FROM webhook"
)


def insert_webhook(db: Connection, webhook: Webhook) -> None:
    """Add a subscription."""
    db.execute(
        "INSERT INTO webhook (id, url, events, scenario, note, active, created_ms, created_by, generation,"
        " rotated_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (webhook.id, webhook.url, orjson.dumps(webhook.events).decode(), webhook.scenario, webhook.note,
         int(webhook.active), webhook.created_ms, webhook.created_by, webhook.generation, webhook.rotated_ms),
    )  # fmt: skip


def webhooks(db: Connection) -> list[Webhook]:
    """All subscriptions, oldest first, uncounted."""
    return [_webhook(row) for row in db.execute("SELECT * FROM webhook ORDER BY created_ms, id")]


def counted_webhooks(db: Connection) -> list[Webhook]:
    """All subscriptions, oldest first, with how many of their deliveries wait or were given up."""
    return [_webhook(row) for row in db.execute(f"{_COUNTED} ORDER BY created_ms, id")]


def find_webhook(db: Connection, webhook_id: str) -> Webhook | None:
    """One subscription, counted."""
    row = db.execute(f"{_COUNTED} WHERE webhook.id = ?", (webhook_id,)).fetchone()
    return _webhook(row) if row else None


def delete_webhook(db: Connection, webhook_id: str) -> None:
    """End a subscription and forget its deliveries."""
    db.execute("DELETE FROM webhook_delivery WHERE webhook_id = ?", (webhook_id,))
    db.execute("DELETE FROM webhook WHERE id = ?", (webhook_id,))


def rotate(db: Connection, webhook_id: str, now_ms: int) -> None:
    """Give a subscription its next secret."""
    db.execute(
        "UPDATE webhook SET generation = generation + 1, rotated_ms = ? WHERE id = ?", (now_ms, webhook_id)
    )


def set_active(db: Connection, webhook_id: str, active: bool) -> None:
    """Let a subscription rest, or go on."""
    db.execute("UPDATE webhook SET active = ? WHERE id = ?", (int(active), webhook_id))


class Notice(NamedTuple):
    """When an event was queued that may recur at once, and how often it has recurred since."""

    at_ms: int
    withheld: int


def find_notice(db: Connection, kind: str, subject: str, about: str) -> Notice | None:
    """When such an event was last queued."""
    row = db.execute(
        "SELECT at_ms, withheld FROM webhook_notice WHERE kind = ? AND subject = ? AND about = ?",
        (kind, subject, about),
    ).fetchone()
    return Notice(row["at_ms"], row["withheld"]) if row else None


def save_notice(db: Connection, kind: str, subject: str, about: str, at_ms: int) -> None:
    """Remember that such an event is queued now."""
    db.execute(
        "INSERT INTO webhook_notice (kind, subject, about, at_ms, withheld) VALUES (?, ?, ?, ?, 0)"
        " ON CONFLICT (kind, subject, about) DO UPDATE SET at_ms = excluded.at_ms, withheld = 0",
        (kind, subject, about, at_ms),
    )


def withhold(db: Connection, kind: str, subject: str, about: str) -> None:
    """Count one that is not queued."""
    db.execute(
        "UPDATE webhook_notice SET withheld = withheld + 1 WHERE kind = ? AND subject = ? AND about = ?",
        (kind, subject, about),
    )


def insert_delivery(
    db: Connection, webhook_id: str, message_id: str, kind: str, at_ms: int, body: str
) -> None:
    """Queue an event for a subscriber."""
    db.execute(
        "INSERT INTO webhook_delivery (webhook_id, message_id, kind, at_ms, body, state, attempts, next_ms,"
        " error) VALUES (?, ?, ?, ?, ?, 'waiting', 0, ?, '')",
        (webhook_id, message_id, kind, at_ms, body, at_ms),
    )


def heads(db: Connection) -> list[Delivery]:
    """The first waiting delivery of every active subscription: what comes after it must wait for it."""
    rows = db.execute(
        "SELECT d.* FROM webhook_delivery d WHERE d.id IN (SELECT min(w.id) FROM webhook_delivery w JOIN"
        " webhook ON webhook.id = w.webhook_id WHERE w.state = 'waiting' AND webhook.active = 1"
        " GROUP BY w.webhook_id)"
    )
    return [_delivery(row) for row in rows]


def set_outcome(
    db: Connection, delivery_id: int, state: DeliveryState, attempts: int, next_ms: int, error: str
) -> None:
    """Write down what came of an attempt."""
    db.execute(
        "UPDATE webhook_delivery SET state = ?, attempts = ?, next_ms = ?, error = ? WHERE id = ?",
        (state, attempts, next_ms, error, delivery_id),
    )


def revive(db: Connection, webhook_id: str, now_ms: int) -> int:
    """Let deliveries that were given up be tried again; how many."""
    revived = db.execute(
        "UPDATE webhook_delivery SET state = 'waiting', attempts = 0, next_ms = ? WHERE webhook_id = ?"
        " AND state = 'dead'",
        (now_ms, webhook_id),
    )
    return revived.rowcount


def deliveries(db: Connection, webhook_id: str, before: int, limit: int) -> list[Delivery]:
    """Deliveries of a subscription, newest first."""
    rows = db.execute(
        "SELECT * FROM webhook_delivery WHERE webhook_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
        (webhook_id, before, limit),
    )
    return [_delivery(row) for row in rows]


def forget_delivered(db: Connection, before_ms: int) -> None:
    """Delete what was delivered and happened before a time."""
    db.execute("DELETE FROM webhook_delivery WHERE state = 'delivered' AND at_ms < ?", (before_ms,))


def _webhook(row: Row) -> Webhook:
    counted = "waiting" in row.keys()  # noqa: SIM118  # a row's own ``in`` looks at its values
    return Webhook(
        row["id"],
        row["url"],
        tuple(orjson.loads(row["events"])),
        row["scenario"],
        row["note"],
        bool(row["active"]),
        row["created_ms"],
        row["created_by"],
        row["generation"],
        row["rotated_ms"],
        row["waiting"] if counted else 0,
        row["dead"] if counted else 0,
    )


def _delivery(row: Row) -> Delivery:
    return Delivery(
        row["id"],
        row["webhook_id"],
        row["message_id"],
        row["kind"],
        row["at_ms"],
        row["body"],
        cast(DeliveryState, row["state"]),
        row["attempts"],
        row["next_ms"],
        row["error"],
    )
