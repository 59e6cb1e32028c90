"""Writing to the audit log. Called by other features inside the transaction that makes the change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from walle_control.db.sql import Connection
from walle_control.features.audit.types import GENESIS, chain_hash
from walle_shared.protocol.codec import canonical


def record(
    db: Connection,
    at_ms: int,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry: change and entry are committed together or not at all. ``detail`` holds no secrets."""
    last = db.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    seq, before = (last["seq"] + 1, last["hash"]) if last else (1, GENESIS)
    detail = detail or {}
    db.execute(
        "INSERT INTO audit (seq, at_ms, actor, action, subject, detail, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (seq, at_ms, actor, action, subject, canonical(detail).decode(),
         chain_hash(before, seq, at_ms, actor, action, subject, detail)),
    )  # fmt: skip
