from __future__ import annotations

import pytest

from walle_agent.state.machine import ACTIVE, COMPLETE, TRANSITIONS, SlotEvent, SlotPhase, advance
from walle_shared.errors import InternalError


def test_every_phase_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(SlotPhase)
    assert {before for before, _ in TRANSITIONS} == set(SlotPhase)


def test_only_what_is_complete_can_become_active() -> None:
    for (before, _), after in TRANSITIONS.items():
        if after in ACTIVE:
            assert before in COMPLETE
        if after in COMPLETE:
            assert before in COMPLETE or before is SlotPhase.FILLING


def test_what_is_active_is_never_overwritten() -> None:
    for phase in ACTIVE:
        with pytest.raises(InternalError, match="cannot begin"):
            advance(phase, SlotEvent.BEGIN)


def test_a_bad_slot_never_runs_again() -> None:
    with pytest.raises(InternalError, match="bad cannot activate"):
        advance(SlotPhase.BAD, SlotEvent.ACTIVATE)
