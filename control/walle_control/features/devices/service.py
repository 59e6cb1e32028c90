"""Enrolment by limited token, short-lived credentials, renewal by proof of possession, revocation.

A device is named after its key: ``d`` and the first 20 hex digits of the key's SHA-256. A device that lost
the answer to its enrolment may therefore ask again with the same token and key and uses nothing up.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

from walle_control.config import DevicesConfig
from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.audit import log as audit
from walle_control.features.devices import credentials, store
from walle_control.features.devices.types import (
    Device,
    DeviceList,
    EnrolTokenRequest,
    EnrolTokenResponse,
)
from walle_control.features.webhooks import outbox
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError, Conflict, LimitExceeded, NotAllowed, NotFound, RollbackError
from walle_shared.ids import DeviceId
from walle_shared.limits import PROFILE_MAX_BYTES
from walle_shared.protocol.codec import canonical
from walle_shared.protocol.messages import EnrolRequest, EnrolResponse, RenewRequest, renewal_bytes
from walle_shared.signing import VerifyKey
from walle_shared.units import DAY_S

_TOKEN_PREFIX = "wenrol_"
_ENROL_USES_MAX = 1_000_000
_ENROL_VALID_MAX_S = 366 * DAY_S
_AT_MS_MAX = 2**62


def device_id_of(key: VerifyKey) -> DeviceId:
    """The name of the device that holds this key."""
    return DeviceId("d" + key.keyid[:20])


class DevicesService:
    """Knows the devices. ``load`` before use."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        config: DevicesConfig,
        credential_key: bytes,
        trusted_root: Callable[[Connection], str],
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._credential_key = credential_key
        self._trusted_root = trusted_root
        self._revoked: set[DeviceId] = set()
        self._seen_ms: dict[DeviceId, int] = {}

    async def load(self) -> None:
        """Read who is revoked; from then on it is known without asking the database."""
        self._revoked = await self._database.read(store.revoked_ids)

    async def create_enrol_token(self, request: EnrolTokenRequest, actor: str) -> EnrolTokenResponse:
        """Make an enrolment token.

        Raises:
            ConfigError: uses or validity out of range.
        """
        if not 1 <= request.uses <= _ENROL_USES_MAX:
            raise ConfigError(f"uses must be within 1..{_ENROL_USES_MAX}")
        if not 0 < request.valid_s <= _ENROL_VALID_MAX_S:
            raise ConfigError(f"valid_s must be over 0 and at most {_ENROL_VALID_MAX_S:.0f}")
        token = _TOKEN_PREFIX + secrets.token_hex(24)
        now_ms = self._clock.wall_ms()
        expires_ms = now_ms + round(request.valid_s * 1000)
        note = request.note[:200]

        def job(db: Connection) -> str:
            number = store.insert_enrol_token(db, _hash(token), note, request.uses, now_ms, expires_ms)
            detail = {"uses": request.uses, "expires_ms": expires_ms, "note": note}
            audit.record(db, now_ms, actor, "enrol_token.create", f"enrolment token {number}", detail)
            return self._trusted_root(db)

        return EnrolTokenResponse(token, request.uses, expires_ms, await self._database.write(job))

    async def enrol(self, request: EnrolRequest) -> EnrolResponse:
        """Admit a device.

        Raises:
            ConfigError: the public key is malformed.
            LimitExceeded: the profile is too large.
            NotAllowed: the token is unknown, used up or expired, or the device was revoked.
        """
        key = VerifyKey.from_hex(request.public_key)
        if len(canonical(request.profile)) > PROFILE_MAX_BYTES:
            raise LimitExceeded(f"the profile is over the limit of {PROFILE_MAX_BYTES} bytes")
        now_ms = self._clock.wall_ms()
        device_id = await self._database.write(lambda db: _enrol(db, request, key, now_ms))
        return self._issue(device_id, now_ms)

    async def renew(self, request: RenewRequest) -> EnrolResponse:
        """Give a device that proves to hold its key a new credential, however long it was away.

        Raises:
            SignatureError: it does not hold the key, or there is no such device.
            RollbackError: the nonce did not rise: a replay.
            NotAllowed: it was revoked.
        """
        now_ms = self._clock.wall_ms()
        await self._database.write(lambda db: _renew(db, request, now_ms))
        return self._issue(request.device_id, now_ms)

    def check_credential(self, credential: str) -> DeviceId:
        """The device that presents this credential.

        Raises:
            Unauthenticated: forged or expired.
            NotAllowed: the device was revoked.
        """
        device_id = credentials.check(self._credential_key, credential, self._clock.wall_ms())
        if device_id in self._revoked:
            raise NotAllowed(
                f"device {device_id} was revoked by an operator: enrol it anew if it may come back",
                code="revoked",
            )
        return device_id

    def is_revoked(self, device_id: DeviceId) -> bool:
        """Whether the device was revoked; long conversations ask now and then."""
        return device_id in self._revoked

    async def seen(self, device_id: DeviceId) -> None:
        """Note that a device was heard of; written at most every ``seen_every_s``."""
        now_ms = self._clock.wall_ms()
        if now_ms - self._seen_ms.get(device_id, 0) < self._config.seen_every_s * 1000:
            return
        self._seen_ms[device_id] = now_ms
        await self._database.write(lambda db: store.touch(db, device_id, now_ms))

    async def revoke(self, device_id: DeviceId, actor: str) -> Device:
        """End a device's rights for good; its credential stops working at once.

        Raises:
            NotFound: no such device.
        """

        def job(db: Connection) -> None:
            if not store.set_state(db, device_id, "revoked"):
                raise NotFound(f"no device {device_id!r} is enrolled; see 'walle-control device list'")
            now_ms = self._clock.wall_ms()
            audit.record(db, now_ms, actor, "device.revoke", device_id)
            outbox.emit(db, now_ms, "device.revoke", "", device_id, {"by": actor})

        await self._database.write(job)
        self._revoked.add(device_id)
        return await self.show(device_id)

    async def show(self, device_id: DeviceId) -> Device:
        """One device.

        Raises:
            NotFound: no such device.
        """
        now_ms = self._clock.wall_ms()
        device = await self._database.read(lambda db: store.find_device(db, device_id, now_ms))
        if device is None:
            raise NotFound(f"no device {device_id!r} is enrolled; see 'walle-control device list'")
        return device

    async def list(self, after: str, limit: int) -> DeviceList:
        """A page of devices by id, from the one after ``after``."""
        now_ms = self._clock.wall_ms()
        devices = await self._database.read(lambda db: store.list_devices(db, after, limit + 1, now_ms))
        more = len(devices) > limit
        return DeviceList(tuple(devices[:limit]), devices[limit - 1].id if more else None)

    def _issue(self, device_id: DeviceId, now_ms: int) -> EnrolResponse:
        expires_ms = now_ms + round(self._config.credential_s * 1000)
        return EnrolResponse(
            device_id, credentials.issue(self._credential_key, device_id, expires_ms), expires_ms
        )


def _enrol(db: Connection, request: EnrolRequest, key: VerifyKey, now_ms: int) -> DeviceId:
    token = store.find_enrol_token(db, _hash(request.token))
    if token is None or token.expires_ms <= now_ms:
        raise NotAllowed("the enrolment token is unknown or has expired: ask an operator for a new one")
    device_id = device_id_of(key)
    known = store.find_key(db, device_id)
    if known is not None:
        return _enrol_again(
            db,
            known.public_key == key.raw_hex and known.enrol_token == token.id,
            known.state,
            device_id,
            request,
        )
    if token.uses_left < 1:
        raise NotAllowed("the enrolment token is used up: ask an operator for a new one")
    store.use_enrol_token(db, token.id)
    store.insert_device(db, device_id, key.raw_hex, request.profile, token.id, now_ms)
    return device_id


def _enrol_again(
    db: Connection, same: bool, state: str, device_id: DeviceId, request: EnrolRequest
) -> DeviceId:
    if state == "revoked":
        raise NotAllowed(
            f"device {device_id} was revoked by an operator: enrol it anew if it may come back",
            code="revoked",
        )
    if not same:
        raise Conflict(f"device {device_id} enrolled before with another token: it must renew instead")
    store.update_profile(db, device_id, request.profile)
    return device_id


def _renew(db: Connection, request: RenewRequest, now_ms: int) -> None:
    known = store.find_key(db, request.device_id)
    if known is None:
        raise NotAllowed("no such device is enrolled here: enrol again", code="unknown_device")
    key = VerifyKey.from_hex(known.public_key)
    key.verify(request.signature, renewal_bytes(request.device_id, request.at_ms), "the renewal")
    if known.state == "revoked":
        raise NotAllowed(
            f"device {request.device_id} was revoked by an operator: enrol it anew if it may come back",
            code="revoked",
        )
    if not known.renewed_at_ms < request.at_ms <= _AT_MS_MAX:
        raise RollbackError(f"at_ms must rise with every renewal; the last was {known.renewed_at_ms}")
    store.set_renewed(db, request.device_id, request.at_ms, now_ms)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
