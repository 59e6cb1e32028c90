"""Hands out the places of capped releases, never more than there are.

A place is held first, for as long as an installation may take, and claimed by the device just before it
activates the release. What is held and not claimed in time goes to others: a device that dies half-way costs
no place. What is claimed stays so, for the device may run the release whatever becomes of its answers. So at
no time do more devices run a release than its cap says; every answer may be lost and asked for again.
"""

from __future__ import annotations

from typing import Final

from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.permits import store
from walle_control.features.permits.store import Permit
from walle_control.features.releases import read_model as releases
from walle_shared.clock import Clock
from walle_shared.errors import NotFound
from walle_shared.ids import DeviceId
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import PermitAnswer, PermitRequest
from walle_shared.units import HOUR_S

_log = get_logger("control.permits")

#: A device may take so long from its permit to the activation.
LEASE_S: Final = HOUR_S

#: Refused devices come back after so long: unclaimed places may have run out by then.
RETRY_S: Final = 600.0

#: A claim outlasts every clock.
_FOR_GOOD_MS: Final = 10**14


class PermitsService:
    """Knows which devices have a place in which capped release."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def ask(self, request: PermitRequest, device_id: DeviceId) -> PermitAnswer:
        """Hold or claim a place for a device, if there is one.

        Raises:
            NotFound: no such capped release is in the policy.
        """
        answer = await self._database.write(lambda db: self._ask(db, request, device_id))
        _log.debug(
            "permit_asked",
            release=request.release_id,
            device=device_id,
            claim=request.claim,
            granted=answer.granted,
        )
        return answer

    def _ask(self, db: Connection, request: PermitRequest, device_id: DeviceId) -> PermitAnswer:
        release_id, now_ms = request.release_id, self._clock.wall_ms()
        store.lock(db, release_id)
        cap, grows = releases.cap_of(db, release_id)
        if not cap:
            raise NotFound(
                f"no capped release {release_id!r} is in the policy: ask again with the newest epoch"
            )
        permit = store.find(db, release_id, device_id)
        has_place = permit is not None and permit.holds(now_ms)
        if not has_place and not (grows and store.taken(db, release_id, now_ms) < cap):
            return PermitAnswer(False, retry_s=RETRY_S)
        if permit is not None and permit.claimed:
            return PermitAnswer(True, _FOR_GOOD_MS)
        expires_ms = _FOR_GOOD_MS if request.claim else now_ms + round(LEASE_S * 1000)
        store.put(db, release_id, device_id, Permit(request.claim, expires_ms))
        return PermitAnswer(True, expires_ms)
