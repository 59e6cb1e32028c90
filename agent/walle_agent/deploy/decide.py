"""Decide what the device should run: for every new policy, and again whenever time alone changes the answer.

A decision needs more than the policy: the time, what has begun here already, the device's places in capped
releases, and what ``answers`` finds out. What cannot be asked for now is asked again later; until then, what
was decided stands.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, NoReturn

import trio

from walle_agent.deploy.answers import Answers
from walle_agent.deploy.deployer import Deployer, Target
from walle_agent.link.exchange import retry_after_s
from walle_agent.link.session import Session
from walle_shared.backoff import Backoff
from walle_shared.errors import WalleError
from walle_shared.ids import DeviceId, ReleaseId
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import PermitAnswer, PermitRequest
from walle_shared.targeting import Moment, Policy, Profile, Wanted
from walle_shared.targeting.policy import TaskKey
from walle_shared.tracing import enter_trace, new_trace

_log = get_logger("agent.deploy")

#: Time is looked at this often at least, so that a clock that was set is noticed.
_LOOK_S: Final = 3_600.0


class Decider:
    """The service that turns policy and time into what the deployer is to do.

    Args:
        session: whose device it is, and the way to ask for permits.
        profile: the device's attributes as they are now.
        answers: completes the profile.
        deployer: told what is wanted.
        confirm_epoch: re-reads the epoch; whether the policy in force is still the newest.
        now_ms: the time that policies count by.
        rng: jitter.
    """

    def __init__(
        self,
        session: Session,
        profile: Callable[[], Profile],
        answers: Answers,
        deployer: Deployer,
        confirm_epoch: Callable[[], Awaitable[bool]],
        now_ms: Callable[[], Awaitable[int]],
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._session = session
        self._profile = profile
        self._answers = answers
        self._deployer = deployer
        self._confirm_epoch = confirm_epoch
        self._now_ms = now_ms
        self._rng = rng or random.Random()
        self._policy: Policy | None = None
        self._epoch = 0
        self._permits: Mapping[ReleaseId, PermitAnswer] = {}
        self._poked = trio.Event()

    def take(self, policy: Policy, epoch: int) -> None:
        """There is a new policy."""
        self._policy, self._epoch = policy, epoch
        self._poked.set()

    async def run(self) -> NoReturn:
        """Decide for ever."""
        backoff = Backoff()
        while True:
            enter_trace(new_trace())
            self._poked = trio.Event()
            try:
                wait_s = await self.decide()
                backoff.reset()
            except WalleError as error:
                wait_s = backoff.next_delay_s(retry_after_s(error))
                _log.warning("decision_delayed", code=error.code, error=str(error), retry_s=round(wait_s, 2))
            with trio.move_on_after(min(wait_s, _LOOK_S)):
                await self._poked.wait()

    async def decide(self) -> float:
        """Tell the deployer what is wanted now; seconds until it may be something else.

        Raises:
            StorageError: the device's state cannot be read.
            WalleError: what it takes cannot be found out now; what was wanted before stands.
        """
        policy, epoch, device_id = self._policy, self._epoch, self._session.device_id
        if policy is None or device_id is None:
            return _LOOK_S
        profile = await self._answers.complete(self._profile(), policy, epoch, device_id)
        moment = await self._moment()
        permits_s = _LOOK_S
        asked = policy.permits_wanted(device_id, profile, moment)
        if asked:
            permits_s = await self._ask_permits(asked)
            moment = replace(moment, permits=self._permitted(moment.now_ms))
        self._decide_at(policy, epoch, device_id, profile, moment)
        changes_ms = (policy.next_start_ms(device_id, profile, moment), self._answers.expires_ms(policy))
        changes_s = [(at_ms - moment.now_ms) / 1000 for at_ms in changes_ms if at_ms is not None]
        return max(0.0, min(permits_s, *changes_s, _LOOK_S))

    async def confirm(self, wanted: Wanted) -> bool:
        """Immediately before something is activated: whether the newest policy wants it here and now.

        A capped release is claimed by this; from then on its place is this device's.

        Raises:
            TrustError: the control plane's answer cannot be trusted.
            TransportError: it is away; nothing may be activated on a guess.
        """
        if not await self._confirm_epoch():
            return False
        policy, device_id = self._policy, self._session.device_id
        if policy is None or device_id is None:
            return False
        profile = await self._answers.complete(self._profile(), policy, self._epoch, device_id)
        moment = await self._moment()
        if wanted.capped and wanted.release_id not in moment.has:
            permitted = replace(moment, permits=moment.permits | {wanted.release_id})
            if wanted not in policy.decide(device_id, profile, permitted).values():
                self._decide_at(policy, self._epoch, device_id, profile, moment)
                return False  # a place that would not be used must not be claimed
            await self._ask_permit(PermitRequest(wanted.release_id, claim=True))
            moment = replace(moment, permits=self._permitted(moment.now_ms))
        decided = self._decide_at(policy, self._epoch, device_id, profile, moment)
        return any(each.release_id == wanted.release_id for each in decided.values())

    def _decide_at(
        self, policy: Policy, epoch: int, device_id: DeviceId, profile: Profile, moment: Moment
    ) -> Mapping[TaskKey, Wanted]:
        target = Target(epoch, policy.decide(device_id, profile, moment))
        if target != self._deployer.target:
            wanted = sorted(each.release_id for each in target.wanted.values())
            _log.info("policy_decided", epoch=epoch, wanted=wanted)
            self._deployer.want(target)
        return target.wanted

    async def _moment(self) -> Moment:
        now_ms = await self._now_ms()
        return Moment(
            now_ms,
            has=self._deployer.active_releases(),
            compared=await self._deployer.compared_releases(),
            permits=self._permitted(now_ms),
        )

    def _permitted(self, now_ms: int) -> frozenset[ReleaseId]:
        return frozenset(
            release_id
            for release_id, answer in self._permits.items()
            if answer.granted and now_ms < answer.expires_ms
        )

    async def _ask_permits(self, release_ids: list[ReleaseId]) -> float:
        """Ask for each; seconds after which the refused may be asked for again."""
        waits_s = []
        for release_id in release_ids:
            try:
                answer = await self._ask_permit(PermitRequest(release_id))
            except WalleError as error:  # the rest of the policy does not wait for it
                wait_s = retry_after_s(error) or _LOOK_S / 60
                _log.warning("permit_delayed", release_id=release_id, code=error.code, error=str(error))
            else:
                wait_s = _LOOK_S if answer.granted else answer.retry_s
            waits_s.append(wait_s * self._rng.uniform(0.8, 1.2))
        return min(waits_s)

    async def _ask_permit(self, request: PermitRequest) -> PermitAnswer:
        answer = await self._session.post("permits", request, PermitAnswer)
        _log.info("permit_answered", release_id=request.release_id, granted=answer.granted)
        self._permits = {**self._permits, request.release_id: answer}
        return answer
