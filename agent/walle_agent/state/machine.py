"""The life of a slot, as a table.

Each task has two slots. One write of the state file moves several slots at once, so a switch is atomic: at
most one slot of a task is *active* (TRIAL or PROVEN), and whatever is READY, TRIAL or PROVEN lies complete on
disk.

::

    EMPTY ──begin──► FILLING ──complete──► READY ──activate──► TRIAL ──prove──► PROVEN
      ▲                │ abandon             ▲ ▲                 │ │               │
      └────────────────┘                     │ └────retire───────┘ └──condemn──► BAD
                                             └──────────────────retire─────────────┘
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from walle_shared.errors import InternalError


class SlotPhase(StrEnum):
    """What a slot holds."""

    EMPTY = "empty"
    FILLING = "filling"
    READY = "ready"
    TRIAL = "trial"
    PROVEN = "proven"
    BAD = "bad"


class SlotEvent(StrEnum):
    """What happens to a slot."""

    BEGIN = "begin"  # something new is to be unpacked into it
    ABANDON = "abandon"  # unpacking failed, or the agent died during it
    COMPLETE = "complete"  # every file lies in it, checked and synced
    ACTIVATE = "activate"  # it is the one that runs from now on
    PROVE = "prove"  # enough good runs
    RETIRE = "retire"  # another slot is active now; kept to go back to
    CONDEMN = "condemn"  # it failed too often; never to run again
    LOSE = "lose"  # its files are not what they were
    REMOVE = "remove"  # the task is no longer wanted


_P, _E = SlotPhase, SlotEvent

TRANSITIONS: Final[dict[tuple[SlotPhase, SlotEvent], SlotPhase]] = {
    (_P.EMPTY, _E.BEGIN): _P.FILLING,
    (_P.READY, _E.BEGIN): _P.FILLING,
    (_P.BAD, _E.BEGIN): _P.FILLING,
    (_P.FILLING, _E.BEGIN): _P.FILLING,
    (_P.FILLING, _E.ABANDON): _P.EMPTY,
    (_P.FILLING, _E.COMPLETE): _P.READY,
    (_P.READY, _E.ACTIVATE): _P.TRIAL,
    (_P.TRIAL, _E.PROVE): _P.PROVEN,
    (_P.TRIAL, _E.RETIRE): _P.READY,
    (_P.PROVEN, _E.RETIRE): _P.READY,
    (_P.TRIAL, _E.CONDEMN): _P.BAD,
    (_P.READY, _E.LOSE): _P.EMPTY,
    (_P.TRIAL, _E.LOSE): _P.EMPTY,
    (_P.PROVEN, _E.LOSE): _P.EMPTY,
    **{(phase, _E.REMOVE): _P.EMPTY for phase in SlotPhase},
}

ACTIVE: Final = frozenset({SlotPhase.TRIAL, SlotPhase.PROVEN})
COMPLETE: Final = frozenset({SlotPhase.READY, SlotPhase.TRIAL, SlotPhase.PROVEN})


def advance(phase: SlotPhase, event: SlotEvent) -> SlotPhase:
    """The phase after ``event``.

    Raises:
        InternalError: the table has no such transition.
    """
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise InternalError(f"a slot that is {phase} cannot {event}") from None
