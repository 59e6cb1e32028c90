"""Learn of new epochs, in three ways that meet in one place.

- The app's own server puts the epoch on its answers (``client.epochs``); costs nothing.
- A push stream says "epoch n".
- A jittered, conditional GET of the epoch file never stops.

The first two are hints (``EpochFollower.hint``) and prove nothing: they only bring the next GET forward.
However many there are, it is asked every ``gap_s`` on average at most; and if an epoch that was hinted at
cannot be found, because a cache is behind or somebody lies, it is looked for with growing waits, and then no
more.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final, NoReturn

import trio

from walle_agent.deploy.trust import TrustKeeper
from walle_agent.deploy.verify import open_snapshot
from walle_agent.link.exchange import CredentialRefused, EpochFloor, check_epoch, retry_after_s
from walle_agent.link.session import Session
from walle_agent.link.transport import Transport
from walle_agent.state.keeper import StateKeeper
from walle_shared.backoff import Backoff
from walle_shared.errors import ConnectionLost, TrustError, WalleError
from walle_shared.limits import SNAPSHOT_MAX_BYTES
from walle_shared.observe import get_logger
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import EpochInfo, EpochNotice, GoodbyeNotice
from walle_shared.protocol.sse import SseEvent
from walle_shared.targeting.policy import Policy
from walle_shared.tracing import enter_trace, new_trace

_log = get_logger("agent.deploy")


#: An epoch that was hinted at is looked for so often before the hint is forgotten.
_SEARCHES_MAX: Final = 6

#: Asks that may follow each other at once; several releases are often made one after another.
_BURST: Final = 4


class EpochFollower:
    """Keeps the newest verified policy.

    Args:
        transport: the way to the control plane.
        session: the device's credential, for the push stream.
        keeper: holds the epoch floor.
        trust: whose signatures count, and what time it is.
        on_policy: told of every new policy.
        poll_s: mean time between two asks when nothing is pushed.
        gap_s: least time between two asks, on average.
        backoff: makes the waits after failures; called once per loop.
        rng: jitter.
    """

    def __init__(
        self,
        transport: Transport,
        session: Session,
        keeper: StateKeeper,
        trust: TrustKeeper,
        *,
        on_policy: Callable[[Policy, int], None],
        poll_s: float,
        gap_s: float = 1.0,
        backoff: Callable[[], Backoff] = Backoff,
        rng: random.Random | None = None,
    ) -> None:
        self._transport = transport
        self._session = session
        self._keeper = keeper
        self._trust = trust
        self._on_policy = on_policy
        self._poll_s = poll_s
        self._gap_s = gap_s
        self._backoff = backoff
        self._rng = rng or random.Random()
        self._lock = trio.Lock()
        self._hinted = 0
        self._hint_due_s = math.inf
        self._asked_s: deque[float] = deque(maxlen=_BURST)
        self._poked = trio.Event()
        self._etag = ""
        self._info: EpochInfo | None = None

    @property
    def epoch(self) -> int:
        """The newest epoch whose policy is in force; 0 before the first."""
        return self._info.epoch if self._info is not None else 0

    async def run_poll(self) -> NoReturn:
        """Ask for ever: soon after a hint, otherwise about every ``poll_s``."""
        backoff, searching = self._backoff(), self._backoff()
        while True:
            enter_trace(new_trace())
            self._asked_s.append(trio.current_time())
            self._hint_due_s = math.inf
            try:
                if self._session.device_id is None:
                    await self._session.credential()
                await self.refresh()
                backoff.reset()
                wait_s = self._poll_s * self._rng.uniform(0.8, 1.2)
                if self.epoch < self._hinted and searching.failures < _SEARCHES_MAX:
                    wait_s = min(wait_s, max(self._gap_s, searching.next_delay_s()))
                else:
                    searching.reset()
                    self._hinted = 0
            except TrustError as error:
                _log.warning("epoch_refused", code=error.code, error=str(error))
                wait_s = backoff.next_delay_s()
            except WalleError as error:
                wait_s = backoff.next_delay_s(retry_after_s(error))
                _log.warning("poll_failed", code=error.code, error=str(error), retry_s=round(wait_s, 2))
            await self._wait_hint(trio.current_time() + wait_s)

    def hint(self, epoch: int, spread_s: float = 0.0) -> None:
        """Somebody says that there is an epoch; ask for it within ``spread_s`` seconds if it is news."""
        if epoch <= self.epoch or epoch == self._hinted:
            return
        self._hinted = epoch
        _log.info("epoch_hinted", epoch=epoch)
        within_s = min(max(spread_s, 0.0), self._poll_s) * self._rng.random()
        self._hint_due_s = min(self._hint_due_s, trio.current_time() + within_s)
        self._poked.set()

    async def _wait_hint(self, until_s: float) -> None:
        """Wait until it is time to ask again: then, or when a hint is due, but never too soon."""
        in_burst = len(self._asked_s) < _BURST
        allowed_s = -math.inf if in_burst else self._asked_s[0] + _BURST * self._gap_s
        while True:
            self._poked = trio.Event()
            due_s = max(min(until_s, self._hint_due_s), allowed_s)
            with trio.move_on_at(due_s) as waited:
                await self._poked.wait()
            if waited.cancelled_caught:
                return

    async def run_stream(self) -> NoReturn:
        """Listen for ever; whatever ends a stream, another is opened after a wait."""
        backoff = self._backoff()
        while True:
            enter_trace(new_trace())
            credential = ""
            try:
                credential = await self._session.credential()
                wait_s = await self._listen(credential, backoff)
            except CredentialRefused as error:
                wait_s = backoff.next_delay_s()
                _log.warning("credential_refused", error=str(error))
                await self._renew(credential)
            except WalleError as error:
                wait_s = backoff.next_delay_s(retry_after_s(error))
                _log.warning("stream_broken", code=error.code, error=str(error), retry_s=round(wait_s, 2))
            await trio.sleep(wait_s)

    async def refresh(self) -> None:
        """Ask for the epoch file; verify and take over what is new.

        Raises:
            TrustError: rolled back, expired, unsigned or not what was promised.
            WalleError: transport or protocol, by type.
        """
        async with self._lock:
            answer = await self._transport.get_epoch(self._etag)
            if answer is None:
                if self._info is not None:
                    await self._check(self._info)
                return
            info = await self._check(await self._trust.open_epoch(answer.envelope))
            if self._info is None or info.snapshot != self._info.snapshot:
                await self._take_over(info)
            else:
                await self._raise_floor(info)
            self._info = info
            self._etag = answer.etag

    async def confirm(self) -> bool:
        """Re-read the epoch before something is activated; whether the policy in force is still the newest.

        Raises:
            TrustError: the control plane's answer cannot be trusted.
            TransportError: it is away; nothing may be activated on a guess.
        """
        before = self.epoch
        await self.refresh()
        return self.epoch == before

    async def _take_over(self, info: EpochInfo) -> None:
        data = await self._transport.get_file("snapshot", info.snapshot, limit_bytes=SNAPSHOT_MAX_BYTES)
        policy = open_snapshot(data, info)
        await self._raise_floor(info)
        _log.info("epoch_verified", epoch=info.epoch, releases=len(policy.snapshot.releases))
        self._on_policy(policy, info.epoch)

    async def _raise_floor(self, info: EpochInfo) -> None:
        keys = await self._trust.policy_keys()
        await self._keeper.update(
            lambda state: replace(state, epoch=info.epoch, snapshot=info.snapshot.sha256, policy_keys=keys)
        )

    async def _check(self, info: EpochInfo) -> EpochInfo:
        state, keys = self._keeper.state, await self._trust.policy_keys()
        floor = EpochFloor(state.epoch, state.snapshot) if state.policy_keys == keys else EpochFloor(0, "")
        return check_epoch(info, floor, await self._trust.now_ms())

    async def _listen(self, credential: str, backoff: Backoff) -> float:
        """Follow one stream to its end; seconds to wait before the next."""
        last_id = str(self.epoch) if self.epoch else ""
        async with aclosing(self._transport.events(credential, last_id)) as events:
            async for event in events:
                backoff.reset()
                goodbye = self._take(event)
                if goodbye is not None:
                    _log.info("stream_ended", retry_s=goodbye.retry_s)
                    return max(0.0, min(goodbye.retry_s, self._poll_s)) + backoff.next_delay_s()
        raise ConnectionLost("the push stream ended without a goodbye")

    def _take(self, event: SseEvent) -> GoodbyeNotice | None:
        if event.name == "goodbye":
            return decode(GoodbyeNotice, event.data.encode())
        if event.name == "epoch":
            notice = decode(EpochNotice, event.data.encode())
            self.hint(notice.epoch, notice.spread_s)
        return None

    async def _renew(self, refused: str) -> None:
        try:
            await self._session.credential(refused=refused)
        except WalleError as error:
            _log.warning("renewal_failed", code=error.code, error=str(error))
