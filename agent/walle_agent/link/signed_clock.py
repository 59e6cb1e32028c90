"""What time it is by the server's signed word, carried on by this machine's monotonic clock.

Rules:

1. Once the server has said what time it is, the wall clock does not count any more: it may be wrong by years,
   and anyone may set it. Time goes on by the monotonic clock from there.
2. The word grows old: after a day, or once wall and monotonic clock have parted (the machine slept, or the
   wall clock was set), the time is no longer *sure* and is to be asked for anew.
3. Before the first word, it is the later of the wall clock and the newest word ever heard (the floor, kept
   over restarts). Good enough for a guess; nothing is judged by it that could do harm.
4. Time never goes below the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

from walle_shared.clock import Clock
from walle_shared.errors import RollbackError
from walle_shared.units import DAY_S, MINUTE_S

#: How old the server's word may grow.
SURE_FOR_S = DAY_S

#: So far may wall and monotonic clock part, and so far may a server's clock be set back.
TOLERANCE_S = 2 * MINUTE_S


@dataclass(frozen=True, slots=True)
class _Word:
    said_ms: int
    wall_ms: int
    mono_ns: int


class SignedClock:
    """A ``Clock`` whose wall time is the server's.

    Args:
        clock: this machine's clocks.
        floor_ms: the newest word heard in an earlier life.
    """

    def __init__(self, clock: Clock, floor_ms: int = 0) -> None:
        self._clock = clock
        self._floor_ms = floor_ms
        self._word: _Word | None = None

    @property
    def sure(self) -> bool:
        """Whether the time is the server's, and lately so."""
        word = self._word
        if word is None:
            return False
        passed_s = (self._clock.mono_ns() - word.mono_ns) / 1e9
        wall_passed_s = (self._clock.wall_ms() - word.wall_ms) / 1e3
        return 0 <= passed_s < SURE_FOR_S and abs(wall_passed_s - passed_s) < TOLERANCE_S

    def wall_ms(self) -> int:
        """The server's time, as well as it is known."""
        word = self._word
        if word is None:
            return max(self._clock.wall_ms(), self._floor_ms)
        return max(word.said_ms + (self._clock.mono_ns() - word.mono_ns) // 1_000_000, self._floor_ms)

    def mono_ns(self) -> int:
        """This machine's monotonic clock."""
        return self._clock.mono_ns()

    def hear(self, said_ms: int) -> None:
        """Take the server's word, just now signed for us.

        Raises:
            RollbackError: it says a time well before one it said already.
        """
        if said_ms < self._floor_ms - TOLERANCE_S * 1000:
            raise RollbackError(
                f"the control plane says it is {said_ms} ms since 1970, but has said {self._floor_ms} before"
            )
        self._floor_ms = max(self._floor_ms, said_ms)
        self._word = _Word(said_ms, self._clock.wall_ms(), self._clock.mono_ns())

    def forget_floor(self) -> None:
        """Begin anew: those who said the time until now are trusted no more."""
        self._floor_ms, self._word = 0, None
