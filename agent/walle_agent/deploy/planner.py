"""From what is and what is wanted to the steps between, as a pure function.

Rules, for each task:

1. Wanted and active already: nothing to do, or only the release's name changes (``Rebind``).
2. Wanted and complete in the other slot: ``Switch``, without a download. Going back is this rule.
3. Wanted and nowhere: ``Install`` into the slot that does not run, then ``Switch``.
4. Wanted but quarantined for now: leave what runs alone.
5. Not wanted: ``Remove``.

Removals come first (they free space), switches before installations (they are instant).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from walle_agent.state.store import DeviceState, SlotName, TaskRecord
from walle_shared.targeting.policy import TaskKey, Wanted


@dataclass(frozen=True, slots=True)
class Remove:
    """Stop the task and empty its slots."""

    key: TaskKey


@dataclass(frozen=True, slots=True)
class Rebind:
    """The same files under another release."""

    key: TaskKey
    wanted: Wanted
    slot: SlotName


@dataclass(frozen=True, slots=True)
class Switch:
    """Make a complete slot the active one."""

    key: TaskKey
    wanted: Wanted
    slot: SlotName


@dataclass(frozen=True, slots=True)
class Install:
    """Fetch and unpack into a slot that does not run."""

    key: TaskKey
    wanted: Wanted
    slot: SlotName


Step = Remove | Rebind | Switch | Install


def plan(state: DeviceState, wanted: Mapping[TaskKey, Wanted], now_ms: int) -> tuple[Step, ...]:
    """The steps that lead from ``state`` to ``wanted``, in order, as of ``now_ms``."""
    removals: list[Step] = [Remove(record.key) for record in state.tasks if record.key not in wanted]
    quick: list[Step] = []
    slow: list[Step] = []
    for key, target in sorted(wanted.items()):
        if state.is_quarantined(target.release_id, target.manifest.sha256, now_ms):
            continue
        record = state.record(key)
        held = record.holding(target.manifest.sha256)
        if held is None:
            slot = free_slot(record)
            slow += [Install(key, target, slot), Switch(key, target, slot)]
        elif held != record.active:
            quick.append(Switch(key, target, held))
        elif record.slot(held).release_id != target.release_id:
            quick.append(Rebind(key, target, held))
    return (*removals, *quick, *slow)


def free_slot(record: TaskRecord) -> SlotName:
    """The slot to unpack into: never the active one."""
    return "b" if record.active == "a" else "a"
