"""Admin tokens: random, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from walle_control.db.connection import Database
from walle_control.features.people import store
from walle_control.web.problems import Unauthenticated
from walle_shared.clock import Clock

_PREFIX = "wadmin_"


def new_token() -> str:
    """A fresh admin token with 256 bits of randomness."""
    return _PREFIX + secrets.token_hex(32)


def hash_token(token: str) -> str:
    """What is stored of a token. Its randomness makes one plain SHA-256 enough."""
    return hashlib.sha256(token.encode()).hexdigest()


class PeopleService:
    """Who may administer."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def remember_sync(self, name: str, token: str) -> None:
        """Accept ``token`` from now on under ``name``; an older token of that name ends. Blocks."""
        now_ms = self._clock.wall_ms()
        self._database.write_sync(lambda db: store.insert_token(db, name, hash_token(token), now_ms))

    async def check(self, token: str) -> str:
        """Name of who holds ``token``.

        Raises:
            Unauthenticated: nobody does.
        """
        presented = hash_token(token)
        holder = ""
        for name, stored in await self._database.read(store.token_hashes):
            if hmac.compare_digest(presented, stored):
                holder = name
        if not holder:
            raise Unauthenticated("this admin token is not known here; see admin.token in the data folder")
        return holder
