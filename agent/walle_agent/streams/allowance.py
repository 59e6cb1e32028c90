"""What the tunnel may send now: bytes a day, and the state of the device's network and battery.

Records of class BATCH can wait, so they do: while the network is metered, while the battery is low, and when
the day's bytes are used up. REALTIME records always go, and what they use is missing to the others. The bytes
of a day trickle in; an hour's share may gather. Pure but for reading the conditions file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import trio

from walle_shared.errors import ConfigError
from walle_shared.observe import get_logger
from walle_shared.protocol.tunnel import TunnelClass
from walle_shared.records import RecordError, from_plain
from walle_shared.units import DAY_S, HOUR_S

_log = get_logger("agent.streams")


@dataclass(frozen=True, slots=True)
class Conditions:
    """The device's state, as whoever embeds the agent writes it.

    ``battery`` is 0 to 1, None without one; ``idle`` is whether nobody uses the device, None where nobody
    knows; ``consent`` whether its owner lets it learn together with others, None: what the settings say.
    """

    metered: bool = False
    online: bool = True
    battery: float | None = None
    charging: bool = False
    idle: bool | None = None
    consent: bool | None = None


@dataclass(frozen=True, slots=True)
class AllowanceStatistics:
    """Bytes that may be sent at once now (None: any number), and what BATCH records wait for, if they do."""

    bytes_left: int | None = None
    waiting_for: str = ""


class ConditionsFile:
    """Reads the conditions from a JSON file; one that cannot be understood counts as a metered network.

    Args:
        path: the file; nobody need have written it yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._complained = False

    def __call__(self) -> Conditions:
        """The conditions now."""
        try:
            conditions = from_plain(Conditions, orjson.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return Conditions()
        except (OSError, orjson.JSONDecodeError, RecordError) as error:
            if not self._complained:
                _log.warning("conditions_unreadable", path=str(self._path), error=str(error))
            self._complained = True
            return Conditions(metered=True)
        self._complained = False
        return conditions


class Allowance:
    """Says which classes may be sent, and counts what was.

    Args:
        bytes_per_day: what all records may take; 0 for no limit.
        battery_min: below this share, and not charging, BATCH records wait.
        conditions: the device's state now.
        now_s: a clock that never runs back; Trio's by default.
    """

    def __init__(
        self,
        *,
        bytes_per_day: int = 0,
        battery_min: float = 0.0,
        conditions: Callable[[], Conditions] = Conditions,
        now_s: Callable[[], float] = trio.current_time,
    ) -> None:
        if bytes_per_day < 0 or not 0 <= battery_min <= 1:
            raise ConfigError("tunnel: bytes_per_day must not be negative, and battery_min 0 to 1")
        self._rate = bytes_per_day / DAY_S
        self._most = self._rate * HOUR_S
        self._left = self._most
        self._battery_min = battery_min
        self._conditions = conditions
        self._now_s = now_s
        self._counted_s: float | None = None

    def allowed(self) -> frozenset[TunnelClass]:
        """The classes whose records may be sent now."""
        if self._reason():
            return frozenset({TunnelClass.REALTIME})
        return frozenset(TunnelClass)

    def spend(self, size_bytes: int) -> None:
        """So many bytes were sent."""
        self._refill()
        self._left -= size_bytes

    def statistics(self) -> AllowanceStatistics:
        """What is left, and what keeps BATCH records."""
        self._refill()
        return AllowanceStatistics(int(self._left) if self._rate else None, self._reason())

    def _reason(self) -> str:
        self._refill()
        conditions = self._conditions()
        if conditions.metered:
            return "a network that is not metered"
        low = conditions.battery is not None and conditions.battery < self._battery_min
        if low and not conditions.charging:
            return "a fuller battery"
        if self._rate and self._left <= 0:
            return "the bytes of another hour"
        return ""

    def _refill(self) -> None:
        now_s = self._now_s()
        if self._counted_s is not None:
            self._left = min(self._most, self._left + (now_s - self._counted_s) * self._rate)
        self._counted_s = now_s
