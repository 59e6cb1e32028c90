"""Keeps trust metadata signed and published, calls for people before theirs expires, tells the time."""

from __future__ import annotations

import re
from functools import partial

import trio

from walle_control.config import TrustConfig
from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.trust.book import TrustBook
from walle_control.features.trust.types import RoleStatus, TrustStatus
from walle_control.features.webhooks import outbox
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError
from walle_shared.limits import TIME_NONCE_CHARS
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import TimeRequest
from walle_shared.signing import SigningKey, sign_envelope
from walle_shared.trust.roles import EXCLUSIVE, POLICY, TIME_KIND, TIMESTAMP, SignedTime
from walle_shared.units import DAY_S

_log = get_logger("control.trust")

#: The roles that sign what is told to single devices.
_TELLS = (TIMESTAMP, POLICY, EXCLUSIVE)

_NONCE = re.compile(rf"[0-9a-f]{{{TIME_NONCE_CHARS}}}")


class TrustService:
    """What runs beside the requests, and what they ask. ``load`` before use."""

    def __init__(self, database: Database, book: TrustBook, clock: Clock, config: TrustConfig) -> None:
        self._database = database
        self._book = book
        self._clock = clock
        self._warn_ms = round(config.warn_s * 1000)
        self._publishing = trio.Lock()
        self._keys: dict[str, list[SigningKey]] = {}
        self._called_for: dict[str, int] = {}  # role to the day it was called for

    async def load(self) -> None:
        """Sign what is due and publish everything the database holds, whatever the files say."""
        await self._database.write(self._book.ensure_first)
        await self._database.write(self._book.renew_due)
        async with self._publishing:
            files = await self._database.read(self._book.all_files)
            await trio.to_thread.run_sync(self._book.publish, files)
        await self._look_around()

    async def keep_signed(self) -> None:
        """Sign what is due, publish what is in force, and call for what people must sign."""
        await self._database.write(self._book.renew_due)
        await self.publish()
        await self._look_around()

    async def publish(self) -> None:
        """Publish what is in force."""
        # Read inside the lock: whoever publishes last publishes the newest.
        async with self._publishing:
            files = await self._database.read(self._book.current_files)
            await trio.to_thread.run_sync(self._book.publish, files)

    async def follow(self) -> None:
        """Look what there is after another worker changed it."""
        await self._look_around()

    async def status(self) -> TrustStatus:
        """Roles, keys, expiry, what is approved, and what is staged."""
        return await self._database.read(self._book.status)

    async def expiring(self) -> tuple[RoleStatus, ...]:
        """The roles that people must sign for soon, or should have signed for."""
        return self._expiring(await self.status())

    def tell_time(self, request: TimeRequest) -> bytes:
        """What time it is, signed; an envelope.

        Raises:
            ConfigError: the nonce is not one.
        """
        if not _NONCE.fullmatch(request.nonce):
            raise ConfigError(f"nonce must be {TIME_NONCE_CHARS} lower-case hex digits")
        return self.sign(TIMESTAMP, TIME_KIND, SignedTime(request.nonce, self._clock.wall_ms()))

    def sign(self, role: str, kind: str, value: object) -> bytes:
        """Sign what is told to one device, without asking the database; the envelope.

        A key that was rotated by a command beside the server is used from the next ``keep_signed`` on.
        """
        return sign_envelope(kind, value, self._keys[role])

    async def _look_around(self) -> None:
        def look(db: Connection) -> tuple[TrustStatus, dict[str, list[SigningKey]]]:
            return self._book.status(db), {role: self._book.keys(db, role) for role in _TELLS}

        status, self._keys = await self._database.read(look)
        now_ms = self._clock.wall_ms()
        today = now_ms // (DAY_S * 1000)
        for role in self._expiring(status):
            if self._called_for.get(role.role) == today:
                continue
            self._called_for[role.role] = round(today)
            days = (role.expires_ms - now_ms) / (DAY_S * 1000)
            say = _log.error if days < 7 else _log.warning
            say(
                "trust_role_expiring",
                role=role.role,
                days_left=round(days, 1),
                cure=f"trust renew {role.role}",
            )
            await self._database.write(partial(_tell_of_expiry, role=role, now_ms=now_ms))

    def _expiring(self, status: TrustStatus) -> tuple[RoleStatus, ...]:
        soon_ms = self._clock.wall_ms() + self._warn_ms
        return tuple(role for role in status.roles if role.held == "away" and 0 < role.expires_ms < soon_ms)


def _tell_of_expiry(db: Connection, role: RoleStatus, now_ms: int) -> None:
    data = {"expires_ms": role.expires_ms, "cure": f"trust renew {role.role}"}
    # A little under a day, so that a call at the same hour is not taken for one too many.
    outbox.emit_seldom(db, now_ms, "trust.expire", "", role.role, data, every_s=0.9 * DAY_S)
