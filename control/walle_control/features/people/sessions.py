"""Sessions of the console: a browser signs in with a token once, and then shows a cookie.

1. A session may what its token may, worked out at every request: whoever revokes the token ends the session.
2. Its secret is random, kept as a hash, and replaced every ``_ROTATE_MS``; the one before it still opens for
   ``_GRACE_MS``, for requests that were on their way. Shown after that it was copied: the session ends for
   whoever holds it.
3. It ends after ``lifetime_s``, after ``idle_s`` without a request, or by signing out.
4. Forms carry a word that only the session's own pages know (``csrf``).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from walle_control.db.connection import Database
from walle_control.db.sql import Connection, Row
from walle_control.features.audit import log as audit
from walle_control.features.people import store
from walle_control.features.people.service import hash_token, present
from walle_control.web.access import Principal
from walle_control.web.problems import Unauthenticated
from walle_shared.clock import Clock
from walle_shared.units import MINUTE_S

_ROTATE_MS: Final = 15 * MINUTE_S * 1000
_GRACE_MS: Final = MINUTE_S * 1000
#: When a session was used is written at most this often.
_SEEN_EVERY_MS: Final = MINUTE_S * 1000


@dataclass(frozen=True, slots=True)
class Session:
    """A session that may go on. ``secret`` is new if the cookie must be set anew, else empty."""

    principal: Principal
    csrf: str
    secret: str = ""


class SessionsService:
    """Knows who is signed in to the console.

    Args:
        database: where they are remembered.
        clock: when they end.
        lifetime_s: how long one lasts at the most.
        idle_s: how long one lasts without a request.
    """

    def __init__(self, database: Database, clock: Clock, lifetime_s: float, idle_s: float) -> None:
        self._database = database
        self._clock = clock
        self._lifetime_ms = round(lifetime_s * 1000)
        self._idle_ms = round(idle_s * 1000)

    async def open(self, token: str) -> Session:
        """Begin a session for whoever holds a token.

        Raises:
            Unauthenticated: the token is unknown, revoked or expired.
        """
        now_ms, secret, csrf = self._clock.wall_ms(), secrets.token_hex(32), secrets.token_hex(32)
        hashed = hash_token(token)

        def job(db: Connection) -> Principal:
            shown, principal = present(db, hashed, now_ms)
            store.touch_token(db, shown.id, now_ms)
            store.delete_sessions(db, now_ms - self._lifetime_ms, now_ms - self._idle_ms)
            store.insert_session(db, hash_token(secret), hashed, csrf, now_ms)
            audit.record(db, now_ms, principal.name, "session.open", principal.credential)
            return principal

        return Session(await self._database.write(job), csrf, secret)

    async def find(self, secret: str, *, active: bool = True) -> Session:
        """The session of a cookie.

        Args:
            secret: the cookie.
            active: a person did something: it counts as use, and the secret may be replaced. A page that
                looks again by itself keeps nobody signed in.

        Raises:
            Unauthenticated: there is none, it has ended, or its token has.
        """
        now_ms, hashed = self._clock.wall_ms(), hash_token(secret)
        row = await self._database.read(lambda db: store.find_session(db, hashed))
        if row is None or self._is_over(row, now_ms):
            raise Unauthenticated("you are signed out: sign in again")
        if row["hash"] != hashed and now_ms - row["rotated_ms"] > _GRACE_MS:
            if not active:  # a stream holds the cookie it began with
                raise Unauthenticated("this session has a newer cookie: ask again with that")
            await self._database.write(lambda db: store.delete_session(db, hashed))
            raise Unauthenticated("this session was used from two places and has ended: sign in again")
        _, principal = await self._database.read(lambda db: present(db, row["token_hash"], now_ms))
        if not active:
            return Session(principal, row["csrf"])
        if now_ms - row["seen_ms"] >= _SEEN_EVERY_MS:
            self._database.submit(lambda db: store.touch_session(db, hashed, now_ms))
        fresh = ""
        if row["hash"] == hashed and now_ms - row["rotated_ms"] >= _ROTATE_MS:
            fresh = await self._rotate(hashed, now_ms)
        return Session(principal, row["csrf"], fresh)

    async def close(self, secret: str) -> None:
        """End a session; one that is not there has ended already."""

        def job(db: Connection) -> None:
            now_ms, hashed = self._clock.wall_ms(), hash_token(secret)
            row = store.find_session(db, hashed)
            if row is None:
                return
            token = store.token_by_hash(db, row["token_hash"])
            store.delete_session(db, hashed)
            if token is not None:
                audit.record(db, now_ms, token.person, "session.close", token.id)

        await self._database.write(job)

    def _is_over(self, row: Row, now_ms: int) -> bool:
        return bool(
            now_ms - row["created_ms"] >= self._lifetime_ms or now_ms - row["seen_ms"] >= self._idle_ms
        )

    async def _rotate(self, hashed: str, now_ms: int) -> str:
        """Replace the secret; empty if a request beside this one was faster."""
        fresh = secrets.token_hex(32)

        def job(db: Connection) -> bool:
            return store.rotate_session(db, hashed, hash_token(fresh), now_ms)

        return fresh if await self._database.write(job) else ""
