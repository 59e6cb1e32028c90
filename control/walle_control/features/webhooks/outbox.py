"""Queueing events for subscribers. Called by other features inside the transaction that makes the change."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from walle_control.db.sql import Connection
from walle_control.features.webhooks import store
from walle_control.features.webhooks.types import KINDS
from walle_shared.errors import InternalError
from walle_shared.protocol.codec import canonical


def emit(db: Connection, at_ms: int, kind: str, scenario: str, subject: str, data: Mapping[str, Any]) -> None:
    """Queue an event for whoever wants it: change and event are committed together or not at all.

    Args:
        db: the transaction.
        at_ms: when it happened.
        kind: one of ``KINDS``.
        scenario: where; empty for what belongs to none.
        subject: what it happened to, by id.
        data: more of it; no secrets.
    """
    if kind not in KINDS:
        raise InternalError(f"webhook event {kind!r} is not in the table of kinds")
    wanting = [webhook for webhook in store.webhooks(db) if webhook.wants(kind, scenario)]
    if wanting:
        message_id = new_message_id()
        text = message(kind, at_ms, {"scenario": scenario, "subject": subject, **data})
        for webhook in wanting:
            store.insert_delivery(db, webhook.id, message_id, kind, at_ms, text)


def emit_seldom(
    db: Connection,
    at_ms: int,
    kind: str,
    scenario: str,
    subject: str,
    data: Mapping[str, Any],
    *,
    every_s: float,
    about: str = "",
) -> None:
    """Queue an event of what goes on and on: of one subject, at most one in so long.

    Its data say as ``withheld`` how many there were since the one before.

    Args:
        db: the transaction.
        at_ms: when it happened.
        kind: one of ``KINDS``.
        scenario: where; empty for what belongs to none.
        subject: what it happened to, by id.
        data: more of it; no secrets.
        every_s: how often it is told at most.
        about: tells several things apart that happen to one subject.
    """
    said = store.find_notice(db, kind, subject, about)
    if said is not None and at_ms - said.at_ms < every_s * 1000:
        store.withhold(db, kind, subject, about)
        return
    store.save_notice(db, kind, subject, about, at_ms)
    emit(db, at_ms, kind, scenario, subject, {**data, "withheld": said.withheld if said else 0})


def new_message_id() -> str:
    """A name for an event, the same in every attempt: receivers tell repetitions by it."""
    return "msg_" + secrets.token_hex(12)


def message(kind: str, at_ms: int, data: Mapping[str, Any]) -> str:
    """The body of a delivery."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return canonical({"type": kind, "timestamp": moment, "data": data}).decode()
