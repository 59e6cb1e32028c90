"""What webhooks would be told, without any receiver: a subscription, and what is queued for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from walle_control.db.connection import Database
from walle_control.features.webhooks import store
from walle_control.features.webhooks.types import Webhook


class Heard(NamedTuple):
    """One event."""

    kind: str
    subject: str
    data: dict[str, Any]


def listen(database: Database, *kinds: str) -> Callable[[], list[Heard]]:
    """Subscribe to some kinds of events; the result tells what was queued so far, oldest first."""
    webhook = Webhook("w0", "https://example.org/hook", kinds, "", "", True, 1, "test", 1, 0)
    database.write_sync(lambda db: store.insert_webhook(db, webhook))

    def heard() -> list[Heard]:
        rows = database.read_sync(
            lambda db: db.execute("SELECT kind, body FROM webhook_delivery ORDER BY id").fetchall()
        )
        events = [(row["kind"], json.loads(row["body"])["data"]) for row in rows]
        return [Heard(kind, data.pop("subject"), data) for kind, data in events]

    return heard
