"""Ask what a decision needs and no profile says: who is in a set, and what only the server can decide."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from walle_agent.link.session import Session
from walle_agent.link.transport import Transport
from walle_shared.errors import SignatureError
from walle_shared.ids import DeviceId
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import DecideRequest, Told
from walle_shared.signing import Envelope
from walle_shared.targeting import IdSet, Policy, Profile, idset
from walle_shared.targeting.predicate import Scalar, set_answer, told_answer


class Answers:
    """Answers what a policy asks, and remembers it for as long as it holds.

    Membership is found out here: the device reads the index of a set and the one shard that it could be in.

    Args:
        transport: the way to the published files.
        session: the way to the device API.
        open_told: verifies what the server tells.
        now_ms: the time that answers expire by.
    """

    def __init__(
        self,
        transport: Transport,
        session: Session,
        open_told: Callable[[bytes], Awaitable[Told]],
        now_ms: Callable[[], Awaitable[int]],
    ) -> None:
        self._transport = transport
        self._session = session
        self._open_told = open_told
        self._now_ms = now_ms
        self._members: dict[tuple[str, str], bool] = {}
        self._told: Told | None = None

    async def complete(self, profile: Profile, policy: Policy, epoch: int, device_id: DeviceId) -> Profile:
        """The profile with all answers in it.

        Raises:
            TrustError: an answer is not signed, or not for this device.
            WalleError: transport, protocol or state, by type; without answers there is no decision.
        """
        answers: dict[str, Scalar] = {}
        members: dict[tuple[str, str], bool] = {}
        for question, asked in policy.set_questions.items():
            member = idset.member_of(question, device_id, profile)
            if member is not None:
                key = (asked.index.sha256, member)
                members[key] = await self._is_in(asked, member)
                answers[set_answer(question)] = members[key]
        self._members = members
        if policy.told_releases:
            told = await self._be_told(epoch, device_id)
            answers |= {told_answer(name): name in told.releases for name in policy.told_releases}
        return {**profile, **answers} if answers else profile

    def expires_ms(self, policy: Policy) -> int | None:
        """When the device should be told anew; ``None`` if the policy does not need it."""
        return self._told.expires_ms if policy.told_releases and self._told is not None else None

    async def _is_in(self, asked: IdSet, member: str) -> bool:
        known = self._members.get((asked.index.sha256, member))
        if known is not None:
            return known
        digest = idset.member_digest(asked.salt, member)
        index = await self._transport.get_file("ids", asked.index, limit_bytes=idset.INDEX_MAX_BYTES)
        shard = idset.shard_of(index, digest)
        if shard is None:
            return False
        rows = await self._transport.get_file("ids", shard, limit_bytes=idset.SHARD_MAX_BYTES)
        return idset.contains(rows, digest)

    async def _be_told(self, epoch: int, device_id: DeviceId) -> Told:
        told = self._told
        if told is not None and told.epoch == epoch and await self._now_ms() < told.expires_ms:
            return told
        envelope = await self._session.post("decide", DecideRequest(epoch), Envelope)
        told = await self._open_told(encode(envelope))
        if (told.device_id, told.epoch) != (device_id, epoch):
            raise SignatureError(
                f"asked about epoch {epoch} and was told about {told.epoch}, of device {told.device_id}"
            )
        self._told = told
        return told
