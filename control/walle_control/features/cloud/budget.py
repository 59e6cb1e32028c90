"""What releases may ask and compute in an hour, shared by all workers of the control plane.

The database says how much of an hour's budget has been given out; each worker takes shares of it in advance
and spends them from memory. So most questions cost no write, and together the workers never give out more
than there is. What is not spent of a device's share goes back when it leaves. Processor time is known only
afterwards: a release may pass its budget by the questions that are worked on when it ends.

Hours are those of the clock. One who has used all up hears so from memory until the next begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import trio

from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.cloud import store
from walle_shared.clock import Clock
from walle_shared.ids import DeviceId
from walle_shared.manifest import CloudSection

_HOUR_MS: Final = 3_600_000
#: Shares that workers take: of what a device may ask, and of a release's processor time.
_ASK_SHARES: Final = 8
_TIME_SHARES: Final = 20
_TIME_SHARE_MIN_MS: Final = 1_000


@dataclass(slots=True)
class _Share:
    """What this worker may give out still; ``gone``: the whole budget is."""

    left: int = 0
    gone: bool = False
    #: One asks the database at a time: the others would take what this worker does not need.
    asking: trio.Lock = field(default_factory=trio.Lock)


class Budgets:
    """Spends the budgets of releases.

    Args:
        database: knows what all workers have taken.
        clock: wall time.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._hour = -1
        self._asks: dict[tuple[str, DeviceId], _Share] = {}
        self._times: dict[str, _Share] = {}

    async def take_ask(self, release_id: str, device_id: DeviceId, section: CloudSection) -> bool:
        """Whether a device may ask once more in this hour; it then has."""
        limit = section.asks_per_device_hour
        if not limit:
            return True
        hour = self._turn()
        share = self._asks.setdefault((release_id, device_id), _Share())
        await self._refill(share, release_id, device_id, hour, max(1, limit // _ASK_SHARES), limit)
        if share.left < 1:
            return False
        share.left -= 1
        return True

    async def has_time(self, release_id: str, section: CloudSection) -> bool:
        """Whether there is processor time left for a release in this hour."""
        limit_ms = round(section.seconds_per_hour * 1_000)
        if not limit_ms:
            return True
        hour = self._turn()
        share = self._times.setdefault(release_id, _Share())
        wanted_ms = max(_TIME_SHARE_MIN_MS, limit_ms // _TIME_SHARES)
        await self._refill(share, release_id, DeviceId(""), hour, wanted_ms, limit_ms)
        return share.left > 0

    def spend_time(self, release_id: str, cpu_s: float) -> None:
        """So much was used; what is owed is taken first from the next share."""
        share = self._times.get(release_id)
        if share is not None:
            share.left -= max(1, round(cpu_s * 1_000))

    async def give_back(self, device_id: DeviceId) -> None:
        """A device has left: another worker may have it next.

        Raises:
            StorageError: what was left of its shares is lost for this hour.
        """
        hour = self._turn()
        unspent = {
            key: share.left for key, share in self._asks.items() if key[1] == device_id and share.left > 0
        }
        for key in [key for key in self._asks if key[1] == device_id]:
            del self._asks[key]

        def job(db: Connection) -> None:
            for (release_id, device), left in unspent.items():
                store.give_budget_back(db, release_id, device, hour, left)

        if unspent:
            await self._database.write(job)

    async def _refill(
        self, share: _Share, release_id: str, device_id: DeviceId, hour: int, size: int, limit: int
    ) -> None:
        """Take a share of ``size`` where nothing is left of the last, and what is owed with it."""
        if share.left >= 1:
            return
        async with share.asking:
            if share.left >= 1 or share.gone:
                return
            wanted = size - min(share.left, 0)
            given = await self._database.write(
                lambda db: store.take_budget(db, release_id, device_id, hour, wanted, limit)
            )
            share.left += given
            share.gone = given < wanted

    def _turn(self) -> int:
        """The hour; what was left of the last one is worth nothing."""
        hour = self._clock.wall_ms() // _HOUR_MS
        if hour != self._hour:
            self._hour = hour
            self._asks.clear()
            self._times.clear()
        return hour
