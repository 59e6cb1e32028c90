"""What downloads may take now: the network the device is on, and the bytes of a day.

A rule that says "not now" says nothing of the release: it is no failure, it is not reported, and the
installation goes on by itself once the rule no longer holds. The bytes of a day count over restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from walle_agent.deploy import changes
from walle_agent.state.keeper import StateKeeper
from walle_agent.streams.allowance import Conditions
from walle_shared.clock import Clock
from walle_shared.errors import StateError
from walle_shared.targeting.predicate import Scalar
from walle_shared.units import DAY_S

_DAY_MS = int(DAY_S * 1_000)


class NotNow(StateError):
    """The device's own rules keep a download waiting. ``over`` says whether they still do."""

    code = "not_now"

    def __init__(self, message: str, over: Callable[[], bool]) -> None:
        super().__init__(message)
        self.over = over


class Budget:
    """Lets downloads pass, or not.

    Args:
        keeper: remembers the bytes of the day.
        clock: says which day it is.
        bytes_per_day: of all downloads; 0 for no limit.
        metered_max_bytes: of one installation, on a metered network.
        conditions: the device's state now.
        profile: its ``network``, where set, wins over the conditions.
    """

    def __init__(
        self,
        keeper: StateKeeper,
        clock: Clock,
        *,
        bytes_per_day: int = 0,
        metered_max_bytes: int = 0,
        conditions: Callable[[], Conditions] = Conditions,
        profile: Mapping[str, Scalar] | None = None,
    ) -> None:
        self._keeper = keeper
        self._clock = clock
        self._bytes_per_day = bytes_per_day
        self._metered_max_bytes = metered_max_bytes
        self._conditions = conditions
        self._configured = str((profile or {}).get("network", ""))

    def network(self) -> str:
        """``metered``, ``unmetered`` or ``none``, for the profile and the rules here."""
        if self._configured:
            return self._configured
        conditions = self._conditions()
        if not conditions.online:
            return "none"
        return "metered" if conditions.metered else "unmetered"

    def check_install(self, cost_bytes: int, metered: Literal["small", "always", "never"], what: str) -> None:
        """Let an installation begin that will take ``cost_bytes`` of the network.

        Raises:
            NotNow: it waits for another network.
        """
        if not self._refuses(cost_bytes, metered):
            return
        why = {
            "none": "the device is not online",
            "metered": f"the network is metered, and it takes {cost_bytes} bytes",
        }
        raise NotNow(f"{what} waits: {why[self.network()]}", lambda: not self._refuses(cost_bytes, metered))

    def check_day(self, what: str) -> None:
        """Let one more file begin.

        Raises:
            NotNow: the day's bytes are used up.
        """
        if self._is_spent():
            raise NotNow(
                f"{what} waits: the {self._bytes_per_day} bytes a day of deploy.bytes_per_day are used up",
                lambda: not self._is_spent(),
            )

    async def spend(self, received_bytes: int) -> None:
        """So many bytes have travelled.

        Raises:
            StorageError: the state cannot be written.
        """
        if self._bytes_per_day and received_bytes:
            day = self._day()
            await self._keeper.update(lambda state: changes.spend(state, day, received_bytes))

    def _refuses(self, cost_bytes: int, metered: Literal["small", "always", "never"]) -> bool:
        if cost_bytes == 0:
            return False
        match self.network():
            case "none":
                return True
            case "metered" if metered != "always":
                return metered == "never" or cost_bytes > self._metered_max_bytes
            case _:
                return False

    def _is_spent(self) -> bool:
        state = self._keeper.state
        today = state.download_bytes if state.download_day == self._day() else 0
        return bool(self._bytes_per_day) and today >= self._bytes_per_day

    def _day(self) -> int:
        return self._clock.wall_ms() // _DAY_MS
