"""Who this device is to the control plane: enrol once, then renew by proof of possession."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from walle_agent.link.exchange import CredentialRefused
from walle_agent.link.signed_clock import SignedClock
from walle_agent.link.transport import Transport, WebSocketChannel
from walle_agent.state.store import Identity, StateStore
from walle_shared.errors import NotAllowed
from walle_shared.ids import DeviceId
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import EnrolRequest, EnrolResponse, RenewRequest, renewal_bytes
from walle_shared.signing import SigningKey
from walle_shared.targeting.predicate import Scalar

_log = get_logger("agent.link")

#: A credential with less than this left, in milliseconds, is renewed before use.
RENEW_BEFORE_MS = 60_000


class NotEnrolled(NotAllowed):
    """This device has no identity and no token to get one."""

    code = "not_enrolled"


class Session:
    """The device's credential, kept fresh. One renewal at a time, however many ask.

    Args:
        transport: the way to the control plane.
        store: where the identity lives.
        clock: the server's time.
        profile: sent along when enrolling.
        enrol_token: used if there is no identity yet.
    """

    def __init__(
        self,
        transport: Transport,
        store: StateStore,
        clock: SignedClock,
        *,
        profile: Mapping[str, Scalar],
        enrol_token: str = "",
    ) -> None:
        self._transport = transport
        self._store = store
        self._clock = clock
        self._profile = profile
        self._enrol_token = enrol_token
        self._lock = trio.Lock()

    @property
    def device_id(self) -> DeviceId | None:
        """The device's name, once enrolled."""
        identity = self._store.identity
        return identity.device_id if identity is not None and identity.enrolled else None

    async def credential(self, *, refused: str = "") -> str:
        """A credential that should be good; enrols or renews if there is none.

        Args:
            refused: the one that was just refused, so that it is not handed out again.

        Raises:
            NotEnrolled: no identity and no token.
            WalleError: the control plane refused or is away.
        """
        async with self._lock:
            identity = self._store.identity
            if identity is None or not identity.enrolled:
                return (await self._enrol()).credential
            # Unless the time is sure, a credential is good until it is refused: clocks may be years off.
            expiring = self._clock.sure and self._clock.wall_ms() + RENEW_BEFORE_MS >= identity.expires_ms
            if identity.credential in ("", refused) or expiring:
                return (await self._renew(identity)).credential
            return identity.credential

    async def post[T](self, path: str, message: object, cls: type[T]) -> T:
        """Send a message with the credential, renewing it once if it is refused.

        Raises:
            WalleError: as :meth:`Transport.post`.
        """
        credential = await self.credential()
        try:
            return await self._transport.post(path, message, cls, credential=credential)
        except CredentialRefused:
            fresh = await self.credential(refused=credential)
            return await self._transport.post(path, message, cls, credential=fresh)

    async def get[T](self, path: str, cls: type[T], *, limit_bytes: int) -> T:
        """Ask with the credential, renewing it once if it is refused.

        Raises:
            WalleError: as :meth:`Transport.get`.
        """
        credential = await self.credential()
        try:
            return await self._transport.get(path, cls, credential=credential, limit_bytes=limit_bytes)
        except CredentialRefused:
            fresh = await self.credential(refused=credential)
            return await self._transport.get(path, cls, credential=fresh, limit_bytes=limit_bytes)

    @asynccontextmanager
    async def connect_tunnel(self) -> AsyncIterator[WebSocketChannel]:
        """Open the tunnel with the credential; a refused one is renewed by the next attempt.

        Raises:
            WalleError: as :meth:`Transport.connect_tunnel`.
        """
        credential = await self.credential()
        try:
            async with self._transport.connect_tunnel(credential) as channel:
                yield channel
        except CredentialRefused:
            await self.credential(refused=credential)
            raise

    async def _enrol(self) -> Identity:
        if not self._enrol_token:
            raise NotEnrolled(
                "this device is not enrolled: run `walle-agent enrol --token TOKEN` "
                "with a token from `walle-control enrol-token create`"
            )
        identity = self._store.identity
        if identity is None:
            # Durable before the request: if the answer is lost, the same key asks again.
            identity = Identity(SigningKey.generate().to_hex())
            await trio.to_thread.run_sync(self._store.save_identity, identity)
        key = SigningKey.from_hex(identity.key_hex)
        answer = await self._transport.post(
            "enrol", EnrolRequest(self._enrol_token, key.public.raw_hex, dict(self._profile)), EnrolResponse
        )
        _log.info("device_enrolled", device_id=answer.device_id)
        return await self._keep(replace(identity, device_id=answer.device_id), answer)

    async def _renew(self, identity: Identity) -> Identity:
        at_ms = max(self._clock.wall_ms(), identity.renewal_ms + 1)
        identity = replace(identity, renewal_ms=at_ms)
        await trio.to_thread.run_sync(
            self._store.save_identity, identity
        )  # a nonce is used once, answer or not
        key = SigningKey.from_hex(identity.key_hex)
        signature = key.sign(renewal_bytes(identity.device_id, at_ms))
        answer = await self._transport.post(
            "renew", RenewRequest(identity.device_id, at_ms, signature), EnrolResponse
        )
        _log.info("credential_renewed", device_id=identity.device_id)
        return await self._keep(identity, answer)

    async def _keep(self, identity: Identity, answer: EnrolResponse) -> Identity:
        kept = replace(identity, credential=answer.credential, expires_ms=answer.expires_ms)
        await trio.to_thread.run_sync(self._store.save_identity, kept)
        return kept
