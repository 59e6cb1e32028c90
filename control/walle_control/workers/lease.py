"""The row that says which worker leads, and its fence: a number that rises whenever another one takes over.

Only PostgreSQL is shared by several workers, so this is its SQL; times are the server's, whatever the
workers' clocks say.
"""

from __future__ import annotations

from walle_control.db.sql import Connection
from walle_shared.errors import Conflict

_NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

_TAKE = f"""
    INSERT INTO lease (name, holder, fence, expires_ms) VALUES ('leader', ?, 1, {_NOW_MS} + ?)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, fence = lease.fence + 1,
        expires_ms = excluded.expires_ms
    WHERE lease.expires_ms <= {_NOW_MS}
    RETURNING fence
"""
_RENEW = f"UPDATE lease SET expires_ms = {_NOW_MS} + ? WHERE name = 'leader' AND holder = ? AND fence = ?"
_RELEASE = "UPDATE lease SET expires_ms = 0 WHERE name = 'leader' AND holder = ? AND fence = ?"


class LeadershipLost(Conflict):
    """Another worker leads by now; what this one wanted to write is the other's to decide."""

    code = "leadership_lost"


def take(db: Connection, holder: str, ttl_ms: int) -> int | None:
    """Lead from now on if nobody does: the fence, or ``None``."""
    row = db.execute(_TAKE, (holder, ttl_ms)).fetchone()
    return row["fence"] if row else None


def renew(db: Connection, holder: str, fence: int, ttl_ms: int) -> bool:
    """Go on leading; false if another worker has taken over."""
    return db.execute(_RENEW, (ttl_ms, holder, fence)).rowcount == 1


def release(db: Connection, holder: str, fence: int) -> None:
    """Let the next worker lead at once."""
    db.execute(_RELEASE, (holder, fence))


def check(db: Connection, holder: str, fence: int) -> None:
    """Check, inside the transaction of a leader's write, that it still leads.

    Raises:
        LeadershipLost: it does not.
    """
    row = db.execute("SELECT holder, fence FROM lease WHERE name = 'leader'").fetchone()
    if row is None or (row["holder"], row["fence"]) != (holder, fence):
        raise LeadershipLost("another worker leads by now")


def leader(db: Connection) -> str:
    """The worker whose lease has not run out; empty: none."""
    row = db.execute(f"SELECT holder FROM lease WHERE name = 'leader' AND expires_ms > {_NOW_MS}").fetchone()
    return row["holder"] if row else ""
