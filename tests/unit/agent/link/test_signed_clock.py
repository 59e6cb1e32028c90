from __future__ import annotations

import pytest

from walle_agent.link.signed_clock import SURE_FOR_S, TOLERANCE_S, SignedClock
from walle_shared.clock import FixedClock
from walle_shared.errors import RollbackError
from walle_shared.units import DAY_S

NOW_MS = 1_700_000_000_000
YEAR_S = 365 * DAY_S


class Machine(FixedClock):
    """A machine whose wall clock somebody sets, and which sleeps."""

    def set_wall(self, wall_ms: int) -> None:
        self._wall_ms = wall_ms

    def sleep(self, seconds: float) -> None:
        """Wall time passes, the monotonic clock stands."""
        self._wall_ms += round(seconds * 1_000)


@pytest.mark.parametrize("wrong_by_s", [-10 * YEAR_S, -3_600.0, 0.0, 10 * YEAR_S])
def test_the_servers_word_counts_however_wrong_the_clock(wrong_by_s: float) -> None:
    machine = Machine(NOW_MS + round(wrong_by_s * 1_000))
    clock = SignedClock(machine)
    assert not clock.sure
    clock.hear(NOW_MS)
    assert clock.sure
    assert clock.wall_ms() == NOW_MS
    machine.advance(100)
    assert clock.wall_ms() == NOW_MS + 100_000
    assert clock.mono_ns() == machine.mono_ns()


@pytest.mark.parametrize("jump_s", [-5 * YEAR_S, 5 * YEAR_S, TOLERANCE_S * 2])
def test_a_clock_that_is_set_changes_nothing_but_how_sure_it_is(jump_s: float) -> None:
    machine = Machine(NOW_MS)
    clock = SignedClock(machine)
    clock.hear(NOW_MS)
    machine.set_wall(NOW_MS + round(jump_s * 1_000))
    assert not clock.sure
    assert clock.wall_ms() == NOW_MS
    clock.hear(NOW_MS + 5)
    assert clock.sure


def test_after_sleep_and_after_a_day_the_word_is_old() -> None:
    machine = Machine(NOW_MS)
    clock = SignedClock(machine)
    clock.hear(NOW_MS)
    machine.sleep(8 * 3_600)
    assert not clock.sure
    clock.hear(machine.wall_ms())
    machine.advance(SURE_FOR_S)
    assert not clock.sure


def test_time_does_not_go_back_over_restarts() -> None:
    clock = SignedClock(Machine(0), floor_ms=NOW_MS)
    assert clock.wall_ms() == NOW_MS
    with pytest.raises(RollbackError):
        clock.hear(NOW_MS - round(TOLERANCE_S * 1_000) - 1)
    assert not clock.sure
    clock.hear(NOW_MS - 1_000)  # a server's clock is set back a little now and then
    assert clock.wall_ms() == NOW_MS
    clock.forget_floor()
    clock.hear(5)
    assert clock.wall_ms() == 5
