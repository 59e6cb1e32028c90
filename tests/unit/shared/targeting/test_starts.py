"""When a release begins for a device: ramps, start spread, windows, caps, holdouts."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_shared.errors import RemoteProtocolError
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting import (
    SHARE_ONE,
    Holdout,
    IdSet,
    Moment,
    Policy,
    Ramp,
    Release,
    Snapshot,
    holdouts_of,
    in_share,
    position,
)

KEY = ScenarioName("s"), TaskName("t")
T0 = round(datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000
DEVICE = DeviceId("d1")
FILES = FileRef(Sha256("0" * 64), 1)
OLD, NEW = (
    Release(ReleaseId(f"r{n}"), *KEY, TaskVersion(f"{n}.0"), FILES, "", SHARE_ONE, f"s{n}", n)
    for n in (1, 2)
)  # fmt: skip


def devices(count: int) -> list[DeviceId]:
    return [DeviceId(f"d{i}") for i in range(count)]


def policy(new: Release, *holdouts: Holdout, old: Release = OLD) -> Policy:
    return Policy(Snapshot(1, (old, new), holdouts))


def given_to(policy: Policy, now_ms: int, device: DeviceId = DEVICE, **profile: str) -> str:
    return policy.decide(device, profile, Moment(now_ms))[KEY].release_id


def reason(policy: Policy, now_ms: int, **profile: str) -> str:
    return policy.explain(DEVICE, profile, Moment(now_ms))[0].reason


shares = st.integers(0, SHARE_ONE)


@given(shares, shares, st.integers(1, 10**10), st.integers(0, 2**64 - 1), st.integers(-(10**9), 2 * 10**10))
def test_a_ramp_reaches_a_position_exactly_when_it_says(
    a: int, b: int, lasts_ms: int, place: int, later_ms: int
) -> None:
    low, high = sorted((a, b))
    ramp = Ramp(low, T0, T0 + lasts_ms)
    now = ramp.share_at(T0 + later_ms, high)
    assert low <= now <= high
    assert now <= ramp.share_at(T0 + later_ms + 1, high)
    if place * SHARE_ONE < high * 2**64:
        enters_ms = ramp.enters_ms(place, high)
        assert T0 <= enters_ms <= T0 + lasts_ms
        if later_ms >= 0:
            assert (place * SHARE_ONE < now * 2**64) == (T0 + later_ms >= enters_ms)


def test_sets_that_are_missing_or_make_no_sense_are_refused() -> None:
    asking = replace(NEW, predicate='device in set("friends")')
    with pytest.raises(RemoteProtocolError, match="refers to a set 'friends' that is not in it"):
        policy(asking)
    for salt in ("", "s" * 65):
        with pytest.raises(RemoteProtocolError, match="set friends: salt"):
            Policy(Snapshot(1, (asking,), sets=(IdSet("friends", 1, 0, salt, FILES),)))


def test_what_a_predicate_saw_is_told() -> None:
    asked = policy(replace(NEW, predicate='group == "beta" and region == "eu"'))
    saw = "predicate does not match (group is 'stable', profile has no region)"
    assert reason(asked, T0, group="stable") == saw


def test_a_ramp_lets_devices_in_one_after_the_other() -> None:
    ramped = policy(replace(NEW, share=SHARE_ONE // 2, ramp=Ramp(SHARE_ONE // 10, T0, T0 + HOUR_MS)))
    fleet = devices(2_000)
    before: set[DeviceId] = set()
    for minutes, share in ((-5, 0.1), (0, 0.1), (30, 0.3), (45, 0.4), (60, 0.5), (600, 0.5)):
        inside = {d for d in fleet if given_to(ramped, T0 + minutes * 60_000, d) == NEW.id}
        if minutes >= 0:
            assert abs(len(inside) - 2_000 * share) <= 3 * math.sqrt(2_000 * share * (1 - share))
        assert before <= inside or minutes < 0
        before = inside


def test_before_a_ramp_starts_nobody_begins_and_next_start_says_when() -> None:
    ramped = policy(replace(NEW, ramp=Ramp(0, T0, T0 + HOUR_MS)))
    at_ms = ramped.next_start_ms(DEVICE, {}, Moment(T0 - 1))
    assert at_ms is not None
    assert T0 <= at_ms <= T0 + HOUR_MS
    assert given_to(ramped, at_ms - 1) == OLD.id
    assert given_to(ramped, at_ms) == NEW.id
    assert ramped.next_start_ms(DEVICE, {}, Moment(at_ms)) is None
    assert "its ramp is at 0.0000%" in reason(ramped, T0)


def test_starts_are_spread_evenly_and_each_device_keeps_its_turn() -> None:
    spread = policy(replace(NEW, starts_ms=T0, spread_s=600.0))
    turns = [spread.next_start_ms(d, {}, Moment(T0 - 1)) for d in devices(1_000)]
    assert turns == [spread.next_start_ms(d, {}, Moment(T0 - 999)) for d in devices(1_000)]
    quarters = [0] * 4
    for turn in turns:
        assert turn is not None
        quarters[(turn - T0) // 150_000] += 1
    assert min(quarters) > 250 - 4 * math.sqrt(1_000 * 0.25 * 0.75)
    assert "this device's turn is at 2026-07-01 12:0" in reason(spread, T0)


def test_a_window_counts_by_the_clock_of_the_device() -> None:
    nightly = policy(replace(NEW, windows="02:00-04:00"))
    midnight_utc = T0 - 12 * HOUR_MS
    assert given_to(nightly, midnight_utc, timezone="Europe/Berlin") == NEW.id  # two o'clock there
    assert given_to(nightly, midnight_utc) == OLD.id
    assert nightly.next_start_ms(DEVICE, {}, Moment(midnight_utc)) == midnight_utc + 2 * HOUR_MS
    words = reason(nightly, midnight_utc, timezone="America/New_York")
    assert (
        words
        == "outside its window '02:00-04:00' (America/New_York time), which opens at 2026-07-01 06:00:00 UTC"
    )
    assert "UTC: no known timezone" in reason(nightly, T0, timezone="Mars")


def test_what_has_begun_stays_when_the_window_closes() -> None:
    nightly = policy(replace(NEW, windows="02:00-04:00"))
    has = Moment(T0, has={NEW.id})
    assert nightly.decide(DEVICE, {}, has)[KEY].release_id == NEW.id
    assert nightly.next_start_ms(DEVICE, {}, has) is None
    assert "the device has it already (outside its window" in nightly.explain(DEVICE, {}, has)[0].reason


def test_without_a_moment_everything_has_begun() -> None:
    waiting = replace(NEW, ramp=Ramp(0, T0, T0 + 1), windows="02:00-04:00", spread_s=9.0, cap=1)
    assert policy(waiting).decide(DEVICE, {})[KEY].release_id == NEW.id


def test_a_capped_release_needs_a_permit() -> None:
    capped = policy(replace(NEW, cap=10))
    assert given_to(capped, T0) == OLD.id
    assert capped.permits_wanted(DEVICE, {}, Moment(T0)) == [NEW.id]
    permitted = Moment(T0, permits={NEW.id})
    assert capped.permits_wanted(DEVICE, {}, permitted) == []
    wanted = capped.decide(DEVICE, {}, permitted)[KEY]
    assert (wanted.release_id, wanted.capped) == (NEW.id, True)
    assert reason(capped, T0) == "for at most 10 devices, and this one has no permit"


def test_no_permit_is_asked_for_what_would_not_be_chosen() -> None:
    capped = replace(NEW, cap=10, rank=0)
    assert policy(capped).permits_wanted(DEVICE, {}, Moment(T0)) == []  # a newer one applies
    closed = replace(NEW, cap=10, windows="02:00-04:00")
    assert policy(closed).permits_wanted(DEVICE, {}, Moment(T0)) == []


def test_a_holdout_gets_only_what_is_for_everyone_and_is_compared() -> None:
    tenth = Holdout("tenth", SHARE_ONE // 10, "h")
    held = policy(NEW, tenth, old=replace(OLD, everyone=True))
    fleet = devices(3_000)
    decided = {d: held.decide(d, {}, Moment(T0))[KEY] for d in fleet}
    outside = {d for d in fleet if decided[d].release_id == OLD.id}
    assert outside == {d for d in fleet if in_share("h", d, SHARE_ONE // 10)}
    assert abs(len(outside) - 300) <= 3 * math.sqrt(270)
    assert {decided[d].control_of for d in outside} == {NEW.id}
    assert all(not decided[d].control_of for d in fleet if d not in outside)


def test_a_holdout_of_a_scenario_is_no_other_scenarios() -> None:
    own = Holdout("own", SHARE_ONE, "h", scenario="s")
    other = Holdout("other", SHARE_ONE, "h", scenario="elsewhere")
    assert policy(NEW, own).decide(DEVICE, {}) == {}
    assert policy(NEW, other).decide(DEVICE, {})[KEY].release_id == NEW.id
    assert holdouts_of(DEVICE, KEY[0], [own, other]) == [own]
    assert policy(NEW, own).explain(DEVICE, {})[0].reason.startswith("in holdout own: gets no release")


def test_a_waiting_device_is_not_compared_before_it_would_have_begun() -> None:
    both = replace(NEW, control=SHARE_ONE - 1, windows="02:00-04:00")
    assert policy(both).decide(DEVICE, {}, Moment(T0))[KEY].control_of == ""
    assert policy(both).decide(DEVICE, {}, Moment(T0 - 10 * HOUR_MS))[KEY].control_of == NEW.id
    compared = Moment(T0, compared={NEW.id})
    assert policy(both).decide(DEVICE, {}, compared)[KEY].control_of == NEW.id
    for_all = policy(replace(both, control=0))  # in the last stage the control arm begins like everybody
    assert for_all.decide(DEVICE, {}, compared)[KEY].release_id == OLD.id
    assert for_all.next_start_ms(DEVICE, {}, compared) == T0 + 14 * HOUR_MS


@pytest.mark.parametrize(
    "broken",
    [
        {"ramp": Ramp(SHARE_ONE, T0, T0 + 1), "share": 1},
        {"ramp": Ramp(0, T0, T0)},
        {"ramp": Ramp(-1, T0, T0 + 1)},
        {"ramp": Ramp(0, T0, 10**15)},
        {"spread_s": -1.0},
        {"spread_s": math.nan},
        {"starts_ms": 10**15},
        {"windows": "at night"},
    ],
)
def test_starts_that_make_no_sense_are_refused(broken: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError, match="release r2: "):
        policy(replace(NEW, **broken))  # type: ignore[arg-type]  # one of several fields


@pytest.mark.parametrize("broken", [{"share": -1}, {"salt": ""}, {"salt": "s" * 65}])
def test_holdouts_that_make_no_sense_are_refused(broken: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError, match="holdout h: "):
        policy(NEW, replace(Holdout("h", 1, "salt"), **broken))  # type: ignore[arg-type]  # as above


@given(
    st.text(min_size=1, max_size=20), st.booleans(), st.sampled_from(["", "02:00-04:00"]), st.integers(0, 90)
)
def test_a_release_has_begun_or_the_policy_knows_when_it_will(
    unit: str, ramped: bool, windows: str, later: int
) -> None:
    ramp = Ramp(SHARE_ONE // 3, T0, T0 + HOUR_MS) if ramped else None
    waiting = replace(NEW, ramp=ramp, starts_ms=T0, spread_s=1_800.0, windows=windows)
    compiled, now_ms, device = policy(waiting), T0 + later * HOUR_MS // 2, DeviceId(unit)
    begins_ms = compiled.next_start_ms(device, {}, Moment(now_ms))
    assert (given_to(compiled, now_ms, device) == NEW.id) == (begins_ms is None)
    if begins_ms is not None:
        assert begins_ms > now_ms
        assert given_to(compiled, begins_ms, device) == NEW.id
        assert given_to(compiled, begins_ms - 1, device) == OLD.id


@given(st.text(min_size=1, max_size=20), st.integers(0, 10**7), st.integers(0, 3 * HOUR_MS))
def test_begun_is_monotone_in_time(unit: str, spread_s: int, later_ms: int) -> None:
    waiting = replace(NEW, ramp=Ramp(0, T0, T0 + HOUR_MS), starts_ms=T0, spread_s=float(spread_s % 7_200))
    compiled = policy(waiting)
    now = given_to(compiled, T0 + later_ms, DeviceId(unit))
    later = given_to(compiled, T0 + later_ms + 60_000, DeviceId(unit))
    assert (now, later) != (NEW.id, OLD.id)
    assert position(NEW.salt, unit) < 2**64
