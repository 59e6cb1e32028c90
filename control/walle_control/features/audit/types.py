"""Types of the audit feature, and the rule of the chain."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from walle_control.web.requests import page_after, page_limit
from walle_shared.errors import TrustError
from walle_shared.protocol.codec import canonical

#: What the first entry follows.
GENESIS: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change: ``actor`` did ``action`` to ``subject``; ``hash`` covers it and everything before it."""

    seq: int
    at_ms: int
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries."""

    after: int = page_after()
    limit: int = page_limit()


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries, oldest first; ask again with ``after=next``."""

    entries: tuple[AuditEntry, ...]
    next: int


def chain_hash(
    before: str, seq: int, at_ms: int, actor: str, action: str, subject: str, detail: object
) -> str:
    """The hash of an entry behind one with the hash ``before``."""
    return hashlib.sha256(
        before.encode() + canonical([seq, at_ms, actor, action, subject, detail])
    ).hexdigest()


def check_chain(entries: Iterable[AuditEntry], before: str = GENESIS, seq: int = 0) -> str:
    """Follow the chain behind ``seq``, whose hash is ``before``; the hash of the last entry.

    Raises:
        TrustError: an entry was changed, left out or put in; names the first.
    """
    for entry in entries:
        expected = chain_hash(
            before, seq + 1, entry.at_ms, entry.actor, entry.action, entry.subject, entry.detail
        )
        if entry.seq != seq + 1 or entry.hash != expected:
            raise TrustError(
                f"the audit log is broken at entry {seq + 1}: it was changed after it was written"
            )
        before, seq = entry.hash, entry.seq
    return before
