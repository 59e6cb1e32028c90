from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from walle_agent.deploy import changes
from walle_agent.deploy.planner import Install, Rebind, Remove, Step, Switch
from walle_agent.deploy.planner import plan as plan_at
from walle_agent.state.machine import ACTIVE, COMPLETE
from walle_agent.state.store import (
    EMPTY_SLOT,
    SLOT_NAMES,
    DeviceState,
    Quarantined,
    SlotContent,
    SlotPhaseName,
    TaskRecord,
)
from walle_shared.ids import ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting.policy import TaskKey, Wanted

KEY = (ScenarioName("demo"), TaskName("reader"))


def wanted(number: int, release: str | None = None) -> Wanted:
    version = TaskVersion(f"{number}.0")
    ref = FileRef(Sha256(f"{number:064x}"), 10)
    return Wanted(ReleaseId(release or f"r{number}"), *KEY, version, ref)


def plan(before: DeviceState, wanted: Mapping[TaskKey, Wanted]) -> tuple[Step, ...]:
    return plan_at(before, wanted, now_ms=0)


def slot(phase: SlotPhaseName, number: int) -> SlotContent:
    target = wanted(number)
    return SlotContent(phase, target.release_id, target.version, target.manifest.sha256)


def state(a: SlotContent, b: SlotContent = EMPTY_SLOT) -> DeviceState:
    return DeviceState(tasks=(TaskRecord(*KEY, a, b),))


def test_nothing_to_do() -> None:
    assert plan(state(slot("proven", 1)), {KEY: wanted(1)}) == ()
    assert plan(DeviceState(), {}) == ()


def test_a_new_task_goes_into_the_first_slot() -> None:
    target = wanted(1)
    assert plan(DeviceState(), {KEY: target}) == (Install(KEY, target, "a"), Switch(KEY, target, "a"))


def test_an_update_never_touches_the_active_slot() -> None:
    target = wanted(3)
    steps = plan(state(slot("ready", 1), slot("proven", 2)), {KEY: target})
    assert steps == (Install(KEY, target, "a"), Switch(KEY, target, "a"))


def test_going_back_is_a_switch() -> None:
    assert plan(state(slot("ready", 1), slot("trial", 2)), {KEY: wanted(1)}) == (Switch(KEY, wanted(1), "a"),)


def test_the_same_files_under_another_release_are_rebound() -> None:
    target = wanted(1, "r9")
    assert plan(state(slot("proven", 1)), {KEY: target}) == (Rebind(KEY, target, "a"),)


def test_quarantine_leaves_what_runs_alone_but_not_for_another_release() -> None:
    quarantine = (Quarantined(ReleaseId("r2"), wanted(2).manifest.sha256, "bad", 0),)
    before = DeviceState(tasks=(TaskRecord(*KEY, slot("proven", 1), slot("bad", 2)),), quarantine=quarantine)
    assert plan(before, {KEY: wanted(2)}) == ()
    assert plan(before, {KEY: wanted(2, "r3")})[0] == Install(KEY, wanted(2, "r3"), "b")


def test_a_quarantine_ends_and_the_next_one_is_twice_as_long() -> None:
    digest = wanted(2).manifest.sha256
    barred = changes.quarantine(state(slot("proven", 1)), ReleaseId("r2"), digest, "bad", 1_000, 60.0)
    assert plan_at(barred, {KEY: wanted(2)}, 60_999) == ()
    assert plan_at(barred, {KEY: wanted(2)}, 61_000)[0] == Install(KEY, wanted(2), "b")
    again = changes.quarantine(barred, ReleaseId("r2"), digest, "still bad", 61_000, 60.0)
    assert [(q.until_ms, q.times, q.reason) for q in again.quarantine] == [(181_000, 2, "still bad")]
    for _ in range(12):
        entry = again.quarantine[0]
        again = changes.quarantine(again, ReleaseId("r2"), digest, "bad", entry.until_ms, 60.0)
    assert again.quarantine[0].until_ms - again.quarantine[0].at_ms == 32 * 60_000


def test_a_quarantine_that_runs_is_not_made_longer() -> None:
    digest = wanted(2).manifest.sha256
    barred = changes.quarantine(DeviceState(), ReleaseId("r2"), digest, "bad", 1_000, 60.0)
    assert changes.quarantine(barred, ReleaseId("r2"), digest, "again", 2_000, 60.0) == barred
    forever = changes.quarantine(DeviceState(), ReleaseId("r2"), digest, "bad", 1_000, 0.0)
    assert plan_at(forever, {KEY: wanted(2)}, 10**15) == ()


def test_what_is_not_wanted_is_removed_first() -> None:
    other = (ScenarioName("demo"), TaskName("zebra"))
    target = Wanted(ReleaseId("r5"), *other, TaskVersion("1.0"), FileRef(Sha256("5" * 64), 1))
    steps = plan(state(slot("proven", 1)), {other: target})
    assert [type(step) for step in steps] == [Remove, Install, Switch]


phases = st.sampled_from(get_args(SlotPhaseName))
records = st.tuples(phases, phases).filter(
    lambda pair: sum(phase in ACTIVE for phase in pair) <= 1  # the state file's invariant
)


@given(records, st.integers(1, 3), st.sampled_from(["r1", "r2", "r3", "r4"]))
def test_a_plan_carried_out_reaches_what_is_wanted(
    before: tuple[SlotPhaseName, SlotPhaseName], number: int, release: str
) -> None:
    current = state(slot(before[0], 1), slot(before[1], 2))
    target = wanted(number, release)
    for step in plan(current, {KEY: target}):
        match step:
            case Install():
                current = changes.complete(changes.begin(current, step), step.key, step.slot)
            case Switch():
                current = changes.switch(current, step)
            case Rebind():
                current = changes.rebind(current, step.key, step.slot, step.wanted)
            case Remove():
                current = changes.remove(current, step.key)
        record = current.record(KEY)
        assert sum(record.slot(name).state in ACTIVE for name in SLOT_NAMES) <= 1
    active = current.record(KEY).active
    assert active is not None
    assert current.record(KEY).slot(active).manifest == target.manifest.sha256
    assert current.record(KEY).slot(active).release_id == release
    assert plan(current, {KEY: target}) == ()


@given(records)
def test_recovering_forgets_exactly_what_was_half_done(before: tuple[SlotPhaseName, SlotPhaseName]) -> None:
    current = state(slot(before[0], 1), slot(before[1], 2))
    after = changes.recover(current)
    for name, phase in zip(SLOT_NAMES, before, strict=True):
        expected = "empty" if phase in ("filling", "empty") else phase
        kept = after.record(KEY).slot(name)
        assert kept.phase == expected
        assert (kept.state in COMPLETE) == (phase in COMPLETE)
