from __future__ import annotations

from dataclasses import fields

import pytest

from walle_control.features.releases.types import (
    ACTIONS,
    TRANSITIONS,
    CreateRelease,
    ExplainRequest,
    GuardWish,
    StageWish,
    Terms,
    next_state,
)
from walle_control.percent import percent_of, share_of
from walle_shared.clock import FixedClock
from walle_shared.errors import ConfigError, Conflict, NotFound
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import EPOCH_KIND, EpochInfo
from walle_shared.signing import open_envelope
from walle_shared.targeting import Policy, Snapshot
from walle_shared.trust.roles import POLICY
from walle_support.trust import believe


def published(store) -> tuple[EpochInfo, Snapshot]:
    """What a device would read from the static files."""
    envelope = store.files.epoch_path.read_bytes()
    info = open_envelope(
        EpochInfo, EPOCH_KIND, envelope, believe(store.home.root, FixedClock()).signatures_of(POLICY)
    )
    return info, decode(Snapshot, store.files.read("snapshot", info.snapshot))


def wish(version: str = "1.0.0", **changes) -> CreateRelease:
    return CreateRelease("demo", "greeter", version, **changes)


@pytest.mark.parametrize(
    ("percent", "share"),
    [("100", 10**9), (100, 10**9), ("0", 0), ("0.0000001", 1), (0.5, 5_000_000), ("12.3456789", 123_456_789)],
)
def test_percent_is_exact(percent, share):
    assert share_of(percent) == share
    assert share_of(percent_of(share)) == share


@pytest.mark.parametrize("percent", ["-1", "100.0000001", "0.00000001", "nan", "inf", "ten", ""])
def test_percentages_that_are_none_are_refused(percent):
    with pytest.raises(ConfigError, match="percent"):
        share_of(percent)


@pytest.mark.parametrize("state", ["live", "stopped", "rolled_back"])
@pytest.mark.parametrize("action", ACTIONS)
def test_only_the_table_moves_a_release(state, action):
    if (state, action) in TRANSITIONS:
        assert next_state("r1", state, action) == TRANSITIONS[state, action]
    else:
        with pytest.raises(Conflict, match=f"is {state}: cannot {action}"):
            next_state("r1", state, action)


async def test_epoch_one_is_empty_and_signed(control, store):
    info, snapshot = published(store)
    assert (info.epoch, snapshot) == (1, Snapshot(1, ()))


async def test_every_change_is_one_epoch_and_reaches_the_files_and_the_hub(control, store, imported):
    await imported("1.0.0")
    created = await control.releases.create(wish(predicate='group == "beta"', percent="50"), "anna")
    info, snapshot = published(store)
    assert info.epoch == snapshot.epoch == control.hub.epoch == 2
    (release,) = snapshot.releases
    assert (release.id, release.share, release.predicate) == (
        created.release.id,
        500_000_000,
        'group == "beta"',
    )
    await control.releases.act(created.release.id, "stop", "ben", "lunch")
    assert published(store)[1] == Snapshot(3, ())
    back = await control.releases.act(created.release.id, "resume", "ben")
    assert published(store)[1].releases == snapshot.releases
    assert [(e.event, e.actor, e.epoch) for e in back.history] == [
        ("create", "anna", 2),
        ("stop", "ben", 3),
        ("resume", "ben", 4),
    ]


async def test_rolling_back_the_newest_gives_devices_the_release_before_it(control, store, imported):
    await imported("1.0.0")
    await imported("1.1.0")
    await control.releases.create(wish("1.0.0"), "anna")
    newest = await control.releases.create(wish("1.1.0"), "anna")
    key = ("demo", "greeter")
    assert Policy(published(store)[1]).decide("d1", {})[key].version == "1.1.0"
    await control.releases.act(newest.release.id, "rollback", "guard", "broken")
    assert Policy(published(store)[1]).decide("d1", {})[key].version == "1.0.0"
    with pytest.raises(Conflict, match="nothing follows"):
        await control.releases.act(newest.release.id, "resume", "anna")


async def test_refused_wishes_leave_no_trace(control, store, imported):
    await imported("1.0.0")
    for bad, error in (
        (wish("9.9.9"), NotFound),
        (wish(predicate="group =="), ConfigError),
        (wish(percent="101"), ConfigError),
        (wish(guard=GuardWish(min_reports=-1)), ConfigError),
        (wish(guard=GuardWish(max_failure_rate=1.0)), ConfigError),
        (wish(stages=(StageWish("10"), StageWish("5"))), ConfigError),
        (wish(stages=(StageWish("10", hold_s=-1),)), ConfigError),
        (wish(stages=STAGES, control_percent="100"), ConfigError),
        (wish(control_percent="10"), ConfigError),
        (CreateRelease("Demo", "greeter", "1.0.0"), ConfigError),
    ):
        with pytest.raises(error):
            await control.releases.create(bad, "anna")
    assert (await control.releases.list()).releases == ()
    assert published(store)[0].epoch == 1


STAGES = (StageWish("10", hold_s=60, min_devices=1), StageWish("50"), StageWish("100"))


async def test_a_rollout_in_stages_grows_by_hand_holds_devices_back_and_ends_with_everybody(
    control, store, imported
):
    await imported("1.0.0")
    created = await control.releases.create(wish(stages=STAGES, voters_percent="20"), "anna")
    release = created.release.id
    seen = []
    for _ in STAGES[1:]:
        seen.append(published(store)[1].releases[0])
        await control.releases.act(release, "promote", "anna", "looks fine")
    seen.append(published(store)[1].releases[0])
    assert [each.share for each in seen] == [100_000_000, 500_000_000, 1_000_000_000]
    assert [each.control for each in seen] == [500_000_000, 500_000_000, 0]
    assert {each.voters for each in seen} == {200_000_000}
    with pytest.raises(Conflict, match="last stage"):
        await control.releases.act(release, "promote", "anna")
    detail = await control.releases.show(release)
    assert [event.reason for event in detail.history] == [
        "1.0.0 to 10, 50, 100 % of all devices",
        "to 50 %: looks fine",
        "to 100 %: looks fine",
    ]


async def test_a_paused_release_keeps_its_devices_and_grows_no_further(control, store, imported):
    await imported("1.0.0")
    created = await control.releases.create(wish(stages=STAGES), "anna")
    before = published(store)[1].releases
    await control.releases.act(created.release.id, "pause", "anna")
    assert published(store)[1].releases == before
    with pytest.raises(Conflict, match="is paused: cannot promote"):
        await control.releases.act(created.release.id, "promote", "anna")
    assert (await control.releases.act(created.release.id, "resume", "anna")).release.state == "live"


async def test_explain_says_why_for_the_enrolled_or_a_given_profile(control, imported, enrol):
    await imported("1.0.0")
    await control.releases.create(wish(predicate='group == "beta"'), "anna")
    device = await enrol(group="alpha")
    (enrolled,) = (await control.releases.explain(ExplainRequest(device.id))).releases
    (given,) = (await control.releases.explain(ExplainRequest(device.id, {"group": "beta"}))).releases
    assert (enrolled.chosen, enrolled.reason) == (
        False,
        "predicate does not match (group is 'alpha')",
    )
    assert (given.chosen, given.reason) == (True, "chosen")
    with pytest.raises(NotFound):
        await control.releases.explain(ExplainRequest("dnobody"))


async def test_epoch_is_signed_anew_at_half_its_life_and_keeps_its_number(control, store, clock):
    before, _ = published(store)
    await control.releases.keep_signed()
    assert published(store)[0] == before
    clock.advance(4 * 86_400)
    await control.releases.keep_signed()
    after, _ = published(store)
    assert (after.epoch, after.snapshot) == (before.epoch, before.snapshot)
    assert after.expires_ms == before.expires_ms + 4 * 86_400_000


async def test_a_ramp_rests_while_a_release_is_paused_and_goes_on_from_there(control, store, imported, clock):
    await imported("1.0.0")
    ramped = wish(stages=(StageWish(10, ramp_s=100.0), StageWish(50, ramp_s=100.0)), control_percent=0)
    release = (await control.releases.create(ramped, "anna")).release.id
    clock.advance(50)
    assert (await control.releases.show(release)).percent == "5"
    paused = await control.releases.act(release, "pause", "anna")
    clock.advance(1_000)
    assert (await control.releases.show(release)).percent == paused.percent == "5"
    (resting,) = published(store)[1].releases
    assert (resting.share, resting.ramp) == (50_000_000, None)
    await control.releases.act(release, "resume", "anna")
    clock.advance(25)
    assert (await control.releases.show(release)).percent == "7.5"
    (growing,) = published(store)[1].releases
    assert growing.ramp is not None
    assert growing.ramp.share_at(clock.wall_ms(), growing.share) == 75_000_000
    promoted = await control.releases.act(release, "promote", "anna")
    assert promoted.percent == "10"
    assert promoted.release.ramp is not None
    assert promoted.release.ramp.from_share == 100_000_000


async def test_a_stage_lasts_from_the_end_of_its_ramp(control, imported, clock):
    await imported("1.0.0")
    stages = (StageWish(10, hold_s=60.0, ramp_s=100.0), StageWish(50))
    row = (await control.releases.create(wish(stages=stages), "anna")).release
    assert not row.may_grow(clock.wall_ms() + 159_000)
    assert row.may_grow(clock.wall_ms() + 160_000)


async def test_usual_terms_are_nothing_that_workers_of_an_earlier_program_must_know(control, store, imported):
    await imported("1.0.0")
    await control.releases.create(wish(terms=Terms(cap=5)), "anna")
    row = store.database.read_sync(lambda db: db.execute("SELECT terms FROM release").fetchone())
    assert row["terms"] == '{"cap":5}'


async def test_the_terms_reach_devices(control, store, imported):
    await imported("1.0.0")
    terms = Terms("mon-fri 02:00-05:00", 600.0, 5, True, "user", 2, 7_200.0)
    made = await control.releases.create(wish(terms=terms), "anna")
    (release,) = published(store)[1].releases
    assert Terms(**{each.name: getattr(release, each.name) for each in fields(Terms)}) == terms
    assert release.starts_ms == made.release.staged_ms


@pytest.mark.parametrize(
    "terms",
    [
        Terms("at night"), Terms(spread_s=-1.0), Terms(spread_s=1e9), Terms(cap=-1), Terms(cap=10**10),
        Terms(attempts=-1), Terms(attempts=101), Terms(quarantine_s=-1.0), Terms(quarantine_s=1e9),
    ],
)  # fmt: skip
async def test_terms_that_make_no_sense_are_refused(control, imported, terms):
    await imported("1.0.0")
    with pytest.raises(ConfigError, match=r"window|spread_s|cap|attempts|quarantine_s"):
        await control.releases.create(wish(terms=terms), "anna")


async def test_explain_as_of_another_time(control, imported, enrol, clock):
    await imported("1.0.0")
    device = await enrol(timezone="Europe/Berlin")
    await control.releases.create(wish(terms=Terms("03:00-04:00")), "anna")
    now_ms = clock.wall_ms()  # 2023-11-14 22:13 UTC
    (closed,) = (await control.releases.explain(ExplainRequest(device.id))).releases
    assert "Europe/Berlin time), which opens at 2023-11-15 02:00:00 UTC" in closed.reason
    (open_,) = (
        await control.releases.explain(ExplainRequest(device.id, at_ms=now_ms + 4 * 3_600_000))
    ).releases
    assert open_.chosen
