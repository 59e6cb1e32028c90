"""Sessions of the console: a browser signs in with a token, or at the provider, and then shows a cookie.

1. A session may what its token may, worked out at every request: whoever revokes the token ends the session.
   Of who logged in at the provider, the claims count until the login lapses, and ``person grant`` at once.
2. Its secret is random, kept as a hash, and replaced every ``_ROTATE_MS``; the one before it still opens for
   ``_GRACE_MS``, for requests that were on their way. Shown after that it was copied: the session ends for
   whoever holds it.
3. It ends after ``lifetime_s``, after ``idle_s`` without a request, or by signing out; of the last, the
   provider is told, so that the refresh token counts no more.
4. Forms carry a word that only the session's own pages know (``csrf``).
5. A login is renewed by its refresh token shortly before it lapses, by one request at a time on all workers:
   most providers take a refresh token once. It is kept sealed, by a key that only the cookie holds. Whether
   anybody is there is another matter (3).
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import Final

import orjson
import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from walle_control.db.connection import Database
from walle_control.db.sql import Connection, Row
from walle_control.features.audit import log as audit
from walle_control.features.people import store
from walle_control.features.people.code_flow import CodeFlow, Login
from walle_control.features.people.oidc import Identity
from walle_control.features.people.service import hash_token, pairs, present
from walle_control.web.access import Principal, grants_of
from walle_control.web.problems import Unauthenticated
from walle_shared.clock import Clock
from walle_shared.errors import ConnectionLost, NotAllowed, TransportError
from walle_shared.observe import get_logger
from walle_shared.units import MINUTE_S

_ROTATE_MS: Final = 15 * MINUTE_S * 1000
_GRACE_MS: Final = MINUTE_S * 1000
#: When a session was used is written at most this often.
_SEEN_EVERY_MS: Final = MINUTE_S * 1000
#: A login is renewed so long before it lapses, so that nobody waits for the provider.
_EARLY_MS: Final = 30_000
#: Whoever renews has done so by then, or never will.
_RENEWAL_MAX_MS: Final = 30_000
_LOOK_AGAIN_S: Final = 0.1
#: Nobody who signs out waits longer for the provider.
_REVOCATION_MAX_S: Final = 3.0
#: A cookie is its secret, and for a login the key that its refresh token is sealed with.
_SECRET_CHARS: Final = 64
_NONCE_BYTES: Final = 12
_CREDENTIAL: Final = "oidc"

_log = get_logger("control.sessions")


@dataclass(frozen=True, slots=True)
class Session:
    """A session that may go on. ``secret``, the cookie, is new if it must be set anew, else empty."""

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
        flow: how logins are renewed, if there is a provider of identities.
    """

    def __init__(
        self, database: Database, clock: Clock, lifetime_s: float, idle_s: float, flow: CodeFlow | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._flow = flow
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
            self._forget_old(db, now_ms)
            store.insert_session(db, hash_token(secret), hashed, csrf, now_ms)
            audit.record(db, now_ms, principal.name, "session.open", principal.credential)
            return principal

        return Session(await self._database.write(job), csrf, secret)

    async def open_login(self, login: Login) -> Session:
        """Begin a session for who logged in at the provider of identities.

        Raises:
            NotAllowed: they hold no role here.
        """
        now_ms, secret, csrf = self._clock.wall_ms(), secrets.token_hex(32), secrets.token_hex(32)
        key, who = secrets.token_hex(32), login.identity
        roles, sealed = orjson.dumps(who.roles).decode(), _seal(login.refresh_token, key)

        def job(db: Connection) -> Principal:
            principal = _principal(db, who.name, roles)
            if not any(principal.grants.values()):
                raise NotAllowed(
                    f"{who.name} holds no role here: oidc.roles gives none for their claims; an admin gives"
                    f" one by 'walle-control person grant {who.name} ROLE'"
                )
            self._forget_old(db, now_ms)
            store.insert_login(db, hash_token(secret), csrf, now_ms, who.name, roles, who.expires_ms, sealed)
            audit.record(db, now_ms, who.name, "session.open", principal.credential)
            return principal

        return Session(await self._database.write(job), csrf, secret + key)

    async def find(self, secret: str, *, active: bool = True) -> Session:
        """The session of a cookie.

        Args:
            secret: the cookie.
            active: a person did something: it counts as use, and the secret may be replaced. A page that
                looks again by itself keeps nobody signed in.

        Raises:
            Unauthenticated: there is none, it has ended, or its token or login has.
            TransportError: its login has lapsed, and the provider is away.
        """
        now_ms, key = self._clock.wall_ms(), secret[_SECRET_CHARS:]
        hashed = _hash(secret)
        row = await self._database.read(lambda db: store.find_session(db, hashed))
        if row is None or self._is_over(row, now_ms):
            raise Unauthenticated("you are signed out: sign in again")
        if row["hash"] != hashed and now_ms - row["rotated_ms"] > _GRACE_MS:
            if not active:  # a stream holds the cookie it began with
                raise Unauthenticated("this session has a newer cookie: ask again with that")
            await self._database.write(lambda db: store.delete_session(db, hashed))
            raise Unauthenticated("this session was used from two places and has ended: sign in again")
        principal = await self._principal_of(row, hashed, key, now_ms)
        if not active:
            return Session(principal, row["csrf"])
        if now_ms - row["seen_ms"] >= _SEEN_EVERY_MS:
            self._database.submit(lambda db: store.touch_session(db, hashed, now_ms))
        fresh = ""
        if row["hash"] == hashed and now_ms - row["rotated_ms"] >= _ROTATE_MS:
            fresh = await self._rotate(hashed, now_ms)
        return Session(principal, row["csrf"], fresh and fresh + key)

    async def close(self, secret: str) -> None:
        """End a session, at the provider too if it can be; one that is not there has ended already."""

        def job(db: Connection) -> Row | None:
            now_ms, hashed = self._clock.wall_ms(), _hash(secret)
            row = store.find_session(db, hashed)
            if row is None:
                return None
            token = store.token_by_hash(db, row["token_hash"])
            store.delete_session(db, hashed)
            if row["person"]:
                audit.record(db, now_ms, row["person"], "session.close", _CREDENTIAL)
            elif token is not None:
                audit.record(db, now_ms, token.person, "session.close", token.id)
            return row

        row = await self._database.write(job)
        if row is not None and row["person"] and self._flow is not None:
            refresh_token = _unseal(row["sealed"], secret[_SECRET_CHARS:])
            if refresh_token:
                await self._revoke(self._flow, row["person"], refresh_token)

    async def _revoke(self, flow: CodeFlow, person: str, refresh_token: str) -> None:
        """Tell the provider that a login is over, and the audit log what came of it."""
        outcome, error = "no answer in time", ""
        with trio.move_on_after(_REVOCATION_MAX_S):
            try:
                outcome = "revoked" if await flow.revoke(refresh_token) else "not offered by the provider"
            except (Unauthenticated, TransportError) as raised:
                outcome, error = "failed", raised.message
                _log.warning("login_not_revoked", person=person, error=error)
        detail = {"outcome": outcome, **({"error": error} if error else {})}
        await self._database.write(
            lambda db: audit.record(db, self._clock.wall_ms(), person, "login.revoke", _CREDENTIAL, detail)
        )

    async def _principal_of(self, row: Row, hashed: str, key: str, now_ms: int) -> Principal:
        if not row["person"]:
            return (await self._database.read(lambda db: present(db, row["token_hash"], now_ms)))[1]
        if now_ms >= row["expires_ms"] - _EARLY_MS:
            row = await self._renewed(row, hashed, key, now_ms)
        return await self._database.read(lambda db: _principal(db, row["person"], row["roles"]))

    async def _renewed(self, row: Row, hashed: str, key: str, now_ms: int) -> Row:
        """The row of a login that is about to lapse, or has; renewed if it can be."""
        refresh_token, holds = _unseal(row["sealed"], key), now_ms < row["expires_ms"]
        if self._flow is not None and refresh_token:
            lapsed_ms = now_ms - _RENEWAL_MAX_MS
            if await self._database.write(lambda db: store.claim_renewal(db, hashed, now_ms, lapsed_ms)):
                try:
                    await self._renew(self._flow, row["person"], refresh_token, hashed, key)
                except TransportError as error:
                    _log.warning("login_not_renewed", person=row["person"], error=error.message)
                    if not holds:
                        raise
            elif not holds:
                await self._wait_renewed(hashed, now_ms)
            found = await self._database.read(lambda db: store.find_session(db, hashed))
            if found is not None:
                row, holds = found, now_ms < found["expires_ms"]
        if not holds:
            await self._database.write(lambda db: store.delete_session(db, hashed))
            raise Unauthenticated("your login has lapsed: sign in again", code="token_expired")
        return row

    async def _renew(self, flow: CodeFlow, person: str, refresh_token: str, hashed: str, key: str) -> None:
        # To its end even if nobody waits any more: the provider takes the refresh token once.
        with trio.CancelScope(shield=True):
            try:
                login = await flow.renew(refresh_token)
            except TransportError:
                await self._database.write(lambda db: store.end_renewal(db, hashed))
                raise
            except NotAllowed as error:
                await self._database.write(lambda db: store.delete_session(db, hashed))
                raise Unauthenticated(f"your login is over ({error.message}): sign in again") from None
            who = login.identity
            if who.name != person:
                await self._database.write(lambda db: store.delete_session(db, hashed))
                raise Unauthenticated(
                    "your login is over, since the provider renewed somebody else's: sign in again"
                )
            await self._database.write(lambda db: _keep_renewed(db, hashed, who, login.refresh_token, key))

    async def _wait_renewed(self, hashed: str, now_ms: int) -> None:
        """Wait until another request has renewed a login, or ended it.

        Raises:
            TransportError: it could not, or takes too long.
        """
        renewing = True
        with trio.move_on_after(_RENEWAL_MAX_MS / 1000):
            while renewing:
                row = await self._database.read(lambda db: store.find_session(db, hashed))
                if row is None or now_ms < row["expires_ms"]:
                    return
                renewing = row["renewing_ms"] != 0
                await trio.sleep(_LOOK_AGAIN_S)
        raise ConnectionLost("the provider of identities does not answer: try again later")

    def _forget_old(self, db: Connection, now_ms: int) -> None:
        store.delete_sessions(db, now_ms - self._lifetime_ms, now_ms - self._idle_ms)

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


def _hash(cookie: str) -> str:
    return hash_token(cookie[:_SECRET_CHARS])


def _principal(db: Connection, person: str, roles: str) -> Principal:
    """Who logged in at the provider, with what claims and grants give together."""
    claimed = [(place, role) for place, role in orjson.loads(roles)]
    return Principal(person, grants_of([*claimed, *pairs(store.roles_of(db, person))]), _CREDENTIAL)


def _keep_renewed(db: Connection, hashed: str, who: Identity, refresh_token: str, key: str) -> None:
    roles = orjson.dumps(who.roles).decode()
    store.renew_login(db, hashed, roles, who.expires_ms, _seal(refresh_token, key))


def _seal(refresh_token: str, key: str) -> str:
    """A refresh token as it is kept; empty: there is none."""
    if not refresh_token:
        return ""
    nonce = os.urandom(_NONCE_BYTES)
    return (nonce + ChaCha20Poly1305(bytes.fromhex(key)).encrypt(nonce, refresh_token.encode(), None)).hex()


def _unseal(sealed: str, key: str) -> str:
    """The refresh token; empty if there is none, or the cookie's key is not its own."""
    data = bytes.fromhex(sealed)
    try:
        return (
            ChaCha20Poly1305(bytes.fromhex(key))
            .decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], None)
            .decode()
        )
    except (InvalidTag, ValueError):
        return ""
