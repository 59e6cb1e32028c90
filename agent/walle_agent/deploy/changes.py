"""What each step of a deployment does to the device state: pure functions over ``state.machine``'s table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, cast

from walle_agent.deploy.planner import Install, Switch
from walle_agent.state.machine import ACTIVE, SlotEvent, SlotPhase, advance
from walle_agent.state.store import (
    EMPTY_SLOT,
    FOR_EVER_MS,
    SLOT_NAMES,
    DeviceState,
    Isolated,
    Quarantined,
    SlotContent,
    SlotName,
    SlotPhaseName,
    TaskRecord,
)
from walle_shared.errors import Conflict
from walle_shared.ids import ReleaseId, Sha256
from walle_shared.targeting.policy import TaskKey, Wanted

#: Quarantined releases remembered; the oldest are forgotten first.
QUARANTINE_MAX = 64

#: A quarantine doubles each time, up to this many times its first length.
_PENALTY_MAX: Final = 32


def begin(state: DeviceState, step: Install) -> DeviceState:
    """The slot is about to be filled.

    Raises:
        Conflict: it has become the active one since the plan was made.
    """
    record = state.record(step.key)
    slot = record.slot(step.slot)
    if slot.state in ACTIVE:
        raise Conflict(f"slot {step.slot} of {step.key[1]} has become active: plan again")
    advance(slot.state, SlotEvent.BEGIN)
    wanted = step.wanted
    filling = SlotContent(
        "filling",
        wanted.release_id,
        wanted.version,
        wanted.manifest.sha256,
        quarantine_s=wanted.quarantine_s,
    )
    return state.with_record(record.with_slot(step.slot, filling))


def complete(state: DeviceState, key: TaskKey, slot: SlotName) -> DeviceState:
    """Everything lies in the slot, checked and synced."""
    return _move(state, key, slot, SlotEvent.COMPLETE)


def abandon(state: DeviceState, key: TaskKey, slot: SlotName) -> DeviceState:
    """Filling failed."""
    if state.record(key).slot(slot).state is not SlotPhase.FILLING:
        return state
    return _move(state, key, slot, SlotEvent.ABANDON)


def switch(state: DeviceState, step: Switch) -> DeviceState:
    """Another slot runs from now on; the one that ran is kept to go back to.

    Raises:
        Conflict: the slot no longer holds what the plan thought.
    """
    record = state.record(step.key)
    if record.holding(step.wanted.manifest.sha256) != step.slot:
        raise Conflict(f"slot {step.slot} of {step.key[1]} has changed: plan again")
    if record.active is not None:
        record = record.with_slot(record.active, _moved(record.slot(record.active), SlotEvent.RETIRE))
    fresh = _activated(record.slot(step.slot))
    return state.with_record(record.with_slot(step.slot, replace(fresh, release_id=step.wanted.release_id)))


def rebind(state: DeviceState, key: TaskKey, slot: SlotName, wanted: Wanted) -> DeviceState:
    """The same files run under another release."""
    record = state.record(key)
    bound = replace(record.slot(slot), release_id=wanted.release_id, quarantine_s=wanted.quarantine_s)
    return state.with_record(record.with_slot(slot, bound))


def remove(state: DeviceState, key: TaskKey) -> DeviceState:
    """The task is not wanted any more."""
    record = state.record(key)
    for name in SLOT_NAMES:
        advance(record.slot(name).state, SlotEvent.REMOVE)
    return state.with_record(TaskRecord(*key))


def lose(state: DeviceState, key: TaskKey, slot: SlotName) -> DeviceState:
    """The slot's files are not what they were; if it ran, the other slot takes over."""
    return _take_over(_move(state, key, slot, SlotEvent.LOSE), key)


def count_run(
    state: DeviceState, key: TaskKey, manifest: Sha256, *, ok: bool, proven_after: int
) -> DeviceState:
    """Count a run of a version on trial; others are not counted, so that a steady device writes nothing."""
    record = state.record(key)
    name = record.active
    if name is None:
        return state
    slot = record.slot(name)
    if slot.manifest != manifest or slot.state is not SlotPhase.TRIAL:
        return state
    if not ok:
        return state.with_record(record.with_slot(name, replace(slot, failures=slot.failures + 1)))
    slot = replace(slot, successes=slot.successes + 1, failures=0)
    if slot.successes >= proven_after:
        slot = _moved(slot, SlotEvent.PROVE)
    return state.with_record(record.with_slot(name, slot))


def count_start(state: DeviceState, key: TaskKey, manifest: Sha256) -> DeviceState:
    """A version on trial is about to run for the first time in this life of the agent."""
    return _with_crashes(state, key, manifest, lambda crashes: crashes + 1)


def settle(state: DeviceState, key: TaskKey, manifest: Sha256) -> DeviceState:
    """The agent has lived on after starting a version: what became of lives before is forgiven."""
    return _with_crashes(state, key, manifest, lambda _: 0)


def crash_looping(state: DeviceState, limit: int) -> tuple[tuple[TaskKey, SlotContent], ...]:
    """Versions on trial that were started in each of the last ``limit`` lives, none of which ended well."""
    return tuple(
        (record.key, slot)
        for record in state.tasks
        if record.active is not None
        and (slot := record.slot(record.active)).state is SlotPhase.TRIAL
        and slot.crashes >= limit
    )


def failing(state: DeviceState, key: TaskKey, limit: int) -> SlotContent | None:
    """The version on trial that has failed ``limit`` times in a row, if any."""
    record = state.record(key)
    slot = record.slot(record.active) if record.active else EMPTY_SLOT
    return slot if slot.state is SlotPhase.TRIAL and slot.failures >= limit else None


def condemn(state: DeviceState, key: TaskKey, reason: str, at_ms: int, first_s: float) -> DeviceState:
    """Quarantine the version on trial; what lies complete in the other slot runs again."""
    record = state.record(key)
    name = record.active
    if name is None or record.slot(name).state is not SlotPhase.TRIAL:
        return state
    bad = record.slot(name)
    condemned = state.with_record(record.with_slot(name, _moved(bad, SlotEvent.CONDEMN)))
    return _take_over(quarantine(condemned, bad.release_id, bad.manifest, reason, at_ms, first_s), key)


def quarantine(
    state: DeviceState, release_id: ReleaseId, manifest: Sha256, reason: str, at_ms: int, first_s: float
) -> DeviceState:
    """Do not try this release on this device for ``first_s`` (0: for ever), twice as long each time after."""
    before = state.quarantined(release_id, manifest)
    if before is not None and at_ms < before.until_ms:
        return state
    times = before.times + 1 if before is not None else 1
    length_s = first_s * min(2 ** (times - 1), _PENALTY_MAX)
    until_ms = at_ms + round(length_s * 1_000) if first_s else FOR_EVER_MS
    entry = Quarantined(release_id, manifest, reason[:500], at_ms, until_ms, times)
    others = tuple(kept for kept in state.quarantine if kept != before)
    return replace(state, quarantine=(*others, entry)[-QUARANTINE_MAX:])


def isolate(state: DeviceState, manifest: Sha256, reason: str, at_ms: int) -> DeviceState:
    """Run these files in a process of their own from now on; forget those that no slot holds any more."""
    if state.isolation(manifest) is not None:
        return state
    held = {record.slot(name).manifest for record in state.tasks for name in SLOT_NAMES}
    entries = (*state.isolated, Isolated(manifest, reason[:500], at_ms))
    return replace(state, isolated=tuple(entry for entry in entries if entry.manifest in held))


def count_install_failure(state: DeviceState, release_id: ReleaseId) -> DeviceState:
    """One more installation of this release failed."""
    failures = dict(state.install_failures)
    failures[release_id] = failures.get(release_id, 0) + 1
    return replace(state, install_failures=failures)


def forget_failures(state: DeviceState, release_ids: frozenset[ReleaseId]) -> DeviceState:
    """Keep failure counts only of releases that are still wanted."""
    kept = {name: count for name, count in state.install_failures.items() if name in release_ids}
    return replace(state, install_failures=kept)


def recover(state: DeviceState) -> DeviceState:
    """What a crash left half done counts as not begun."""
    for record in state.tasks:
        for name in SLOT_NAMES:
            state = abandon(state, record.key, name)
    return state


def spend(state: DeviceState, day: int, received_bytes: int) -> DeviceState:
    """So many bytes have travelled on this day; those of another day are forgotten."""
    before = state.download_bytes if state.download_day == day else 0
    return replace(state, download_day=day, download_bytes=before + received_bytes)


def _with_crashes(
    state: DeviceState, key: TaskKey, manifest: Sha256, change: Callable[[int], int]
) -> DeviceState:
    record = state.record(key)
    name = record.active
    if name is None:
        return state
    slot = record.slot(name)
    if slot.manifest != manifest or slot.state is not SlotPhase.TRIAL:
        return state
    return state.with_record(record.with_slot(name, replace(slot, crashes=change(slot.crashes))))


def _activated(slot: SlotContent) -> SlotContent:
    return replace(_moved(slot, SlotEvent.ACTIVATE), successes=0, failures=0, crashes=0)


def _take_over(state: DeviceState, key: TaskKey) -> DeviceState:
    record = state.record(key)
    if record.active is not None:
        return state
    ready: SlotName | None = next(
        (name for name in SLOT_NAMES if record.slot(name).state is SlotPhase.READY), None
    )
    if ready is None:
        return state
    slot = _activated(record.slot(ready))
    return state.with_record(record.with_slot(ready, slot))


def _move(state: DeviceState, key: TaskKey, slot: SlotName, event: SlotEvent) -> DeviceState:
    record = state.record(key)
    return state.with_record(record.with_slot(slot, _moved(record.slot(slot), event)))


def _moved(slot: SlotContent, event: SlotEvent) -> SlotContent:
    phase = advance(slot.state, event)
    return EMPTY_SLOT if phase is SlotPhase.EMPTY else replace(slot, phase=cast(SlotPhaseName, phase.value))
