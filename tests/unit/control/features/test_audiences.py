from __future__ import annotations

import httpx
import pytest

from walle_control.features.audiences.types import HoldoutWish, SaidAttributes, SegmentWish
from walle_control.features.releases import told as told_module
from walle_control.features.releases.types import CreateRelease, ExplainRequest, Terms
from walle_control.features.rollouts.guard import GuardSettings
from walle_control.features.rollouts.trial import Trial, Vote
from walle_shared.clock import FixedClock
from walle_shared.errors import ConfigError, NotFound
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import EPOCH_KIND, TOLD_KIND, EpochInfo, Report, ReportBatch, Told
from walle_shared.signing import open_envelope
from walle_shared.targeting import Holdout, IdSet, Policy, PredicateError, Segment, Snapshot
from walle_shared.targeting.attributes import Attribute
from walle_shared.trust.roles import POLICY
from walle_support.trust import believe


def snapshot(store) -> Snapshot:
    """What a device would read from the static files."""
    check = believe(store.home.root, FixedClock()).signatures_of(POLICY)
    info = open_envelope(EpochInfo, EPOCH_KIND, store.files.epoch_path.read_bytes(), check)
    return decode(Snapshot, store.files.read("snapshot", info.snapshot))


def wish(version: str = "1.0.0", **changes) -> CreateRelease:
    return CreateRelease("demo", "greeter", version, **changes)


async def test_a_holdout_is_published_and_ends(control, store):
    await control.audiences.set_holdout(HoldoutWish("year", "2", "demo"), "anna")
    (first,) = snapshot(store).holdouts
    assert first == Holdout("year", 20_000_000, first.salt, "demo")
    (grown,) = (await control.audiences.set_holdout(HoldoutWish("year", 5), "anna")).holdouts
    assert (grown.salt, grown.share, grown.scenario) == (first.salt, 50_000_000, "")
    await control.audiences.end_holdout("year", "ben")
    assert snapshot(store).holdouts == ()
    with pytest.raises(NotFound, match="holdout list"):
        await control.audiences.end_holdout("year", "ben")
    actions = [entry.action for entry in (await control.audit.page(0, 10)).entries]
    assert actions == ["holdout.set", "holdout.set", "holdout.end"]


@pytest.mark.parametrize(
    "broken", [HoldoutWish("", 1), HoldoutWish("a", 0), HoldoutWish("a", 100), HoldoutWish("a", 1, "!")]
)
async def test_holdouts_that_make_no_sense_are_refused(control, broken):
    before = control.hub.epoch
    with pytest.raises(ConfigError):
        await control.audiences.set_holdout(broken, "anna")
    assert control.hub.epoch == before


async def test_a_holdout_votes_in_an_arm_of_its_own(control, store, imported, enrol):
    await imported("1.0.0")
    await imported("1.1.0")
    device = await enrol()
    base = await control.releases.create(wish(terms=Terms(everyone=True)), "anna")
    new = await control.releases.create(wish("1.1.0"), "anna")
    await control.audiences.set_holdout(HoldoutWish("most", "99.9999999"), "anna")
    wanted = Policy(snapshot(store)).decide(device.id, {})["demo", "greeter"]
    assert (wanted.release_id, wanted.control_of) == (base.release.id, new.release.id)
    report = Report(
        "a", base.release.id, "greeter", "1.0.0", "run", "success", 1, 1, 1.0, control_of=new.release.id
    )
    await control.telemetry.record_reports(device.id, ReportBatch((report,)))
    arms = (await control.releases.show(new.release.id)).verdict.evidence["arms"]
    assert {name: arm["heard"] for name, arm in arms.items()} == {"treatment": 0, "control": 0, "holdout": 1}
    explained = await control.releases.explain(ExplainRequest(device.id))
    assert "in holdout most" in explained.releases[0].reason


def test_no_rule_looks_at_the_holdout():
    def trial(*arms: str) -> Trial:
        made = Trial(GuardSettings())
        for number in range(2_000):
            for arm in arms:
                kind = "bad_run" if arm == "holdout" else "good_run"
                made.take(Vote(f"{arm}{number}", arm, kind, number, 1.0))
        made.advance(10**9)
        return made

    both, alone = trial("treatment", "holdout").judge(), trial("treatment").judge()
    assert (both.decision, both.reason) == (alone.decision, alone.reason)
    assert both.evidence["log10_e"] == alone.evidence["log10_e"]
    assert both.evidence["arms"]["holdout"]["failed"] == 2_000


async def test_http(admin: httpx.AsyncClient):
    made = await admin.post("/api/v1/holdouts", json={"name": "year", "percent": "2"})
    assert (made.status_code, made.json()["holdouts"][0]["share"]) == (200, 20_000_000)
    assert (await admin.get("/api/v1/holdouts")).json() == made.json()
    assert (await admin.post("/api/v1/holdouts/year/end")).json() == {"holdouts": []}
    assert (await admin.post("/api/v1/holdouts/year/end")).status_code == 404


async def test_segments_have_versions_and_are_followed_or_pinned(control, store, imported):
    await imported("1.0.0")
    await control.audiences.set_segment(SegmentWish("testers", 'group == "beta"'), "anna")
    await control.releases.create(wish(predicate='segment("testers")'), "anna")
    await control.releases.create(wish(predicate='segment("testers@1")'), "anna")
    await control.audiences.set_segment(SegmentWish("testers", 'group == "gamma"'), "anna")
    seen = snapshot(store)
    assert seen.segments == (
        Segment("testers", 2, 'group == "gamma"'),
        Segment("testers", 1, 'group == "beta"'),
    )
    pinned, followed = (
        [each.matches for each in Policy(seen).explain("d1", {"group": group})] for group in ("beta", "gamma")
    )
    assert (pinned, followed) == ([True, False], [False, True])


async def test_a_segment_that_a_release_could_not_follow_is_refused(control, imported):
    await imported("1.0.0")
    await control.audiences.set_segment(SegmentWish("a", "true"), "anna")
    await control.audiences.set_segment(SegmentWish("b", 'segment("a")'), "anna")
    await control.releases.create(wish(predicate='segment("b")'), "anna")
    before = control.hub.epoch
    for predicate, problem in (
        ("group ==", "expected a value"),
        ('segment("b")', "contains itself"),
        ('segment("c")', "no segment 'c'"),
        ('device in set("c")', "no set 'c'"),
    ):
        with pytest.raises(PredicateError, match=problem):
            await control.audiences.set_segment(SegmentWish("a", predicate), "anna")
    assert control.hub.epoch == before
    assert len((await control.audiences.segments()).segments) == 2


async def test_a_set_of_ids_is_published_and_explained(control, store, imported, enrol, admin):
    await imported("1.0.0")
    friend, stranger = await enrol(), await enrol()
    answer = await admin.post("/api/v1/sets/friends", content=f"{friend.id}\n\n d-other \n{friend.id}\n")
    assert (answer.status_code, answer.json()["sets"][0]["count"]) == (200, 2)
    await control.releases.create(wish(predicate='device in set("friends")'), "anna")
    (published,) = snapshot(store).sets
    assert published == IdSet("friends", 1, 2, published.salt, published.index)
    assert store.files.read("ids", published.index)
    for device, chosen in ((friend, True), (stranger, False)):
        (explained,) = (await control.releases.explain(ExplainRequest(device.id))).releases
        assert (explained.chosen, explained.decided_by) == (chosen, "device")
    assert (await admin.post("/api/v1/sets/friends", content=b"\xff")).status_code == 400
    assert (await admin.get("/api/v1/sets")).json() == answer.json()


async def test_declared_attributes_are_checked_where_a_predicate_is_written(control, imported):
    await imported("1.0.0")
    await control.releases.create(wish(predicate='grp == "beta"'), "anna")  # as long as none is declared
    await control.audiences.declare(Attribute("group", "string"), "anna")
    for predicate, problem in (
        (
            'os == "linux" and grp == "beta"',
            r"(?s)no attribute 'grp' is declared; did you mean 'group'.*\n {20}\^",
        ),
        ("group == 3", "'group' is a string, not a number"),
        ('memory_mb == "3"', "'memory_mb' is a number, not a string"),
    ):
        with pytest.raises(PredicateError, match=problem):
            await control.releases.create(wish(predicate=predicate), "anna")
        with pytest.raises(PredicateError, match=problem):
            await control.audiences.set_segment(SegmentWish("s", predicate), "anna")
    await control.releases.create(wish(predicate='grp == "beta"', optional=True), "anna")
    await control.releases.create(
        wish(predicate='group startswith "b" and agent_version startswith "1."'), "anna"
    )


@pytest.mark.parametrize(
    "broken",
    [
        Attribute("os", "string"),
        Attribute("device", "string"),
        Attribute("app_version", "string"),
        Attribute("age", "version"),
        Attribute("born", "time"),
        Attribute("seen_at", "number"),
        Attribute("x y", "string"),
    ],
)
async def test_declarations_that_make_no_sense_are_refused(control, broken):
    with pytest.raises(ConfigError):
        await control.audiences.declare(broken, "anna")


async def test_what_only_the_server_knows_is_decided_there(control, store, imported, enrol, anyone):
    await imported("1.0.0")
    gold, other = await enrol(), await enrol()
    await control.audiences.declare(Attribute("tier", "string", "server"), "anna")
    await control.audiences.put_set("tiers", ["gold", "platinum"], "anna")
    made = await control.releases.create(wish(predicate='tier in set("tiers") and os not in ("x")'), "anna")
    (release,) = snapshot(store).releases
    assert release.predicate == f'told("{made.release.id}")'
    assert snapshot(store).sets == ()  # devices need not know of it
    await control.audiences.describe("device", gold.id, SaidAttributes({"tier": "gold"}), "anna")
    epoch = control.hub.epoch
    for device, expected in ((gold, ()), (other, ())):
        assert (await told_by(store, anyone, device, epoch)).releases == expected  # the profile has no os
    for device in (gold, other):
        explained = await control.releases.explain(ExplainRequest(device.id, {"os": "linux"}))
        assert explained.releases[0].chosen == (device is gold)
        assert 'decided by the server: tier in set("tiers")' in explained.releases[0].reason
        assert explained.releases[0].decided_by == "server"
    assert (await anyone.post("/d/v1/decide", json={"epoch": epoch}, headers=gold.headers)).status_code == 200
    assert (await anyone.post("/d/v1/decide", json={"epoch": 1}, headers=gold.headers)).status_code == 409
    assert (await anyone.post("/d/v1/decide", json={"epoch": epoch})).status_code == 401


async def test_a_device_is_told_for_itself_and_for_a_while(control, store, imported, enrol, anyone, clock):
    await imported("1.0.0")
    device = await enrol()
    await control.audiences.declare(Attribute("tier", "string", "server"), "anna")
    made = await control.releases.create(wish(predicate='tier == "gold"'), "anna")
    await control.audiences.describe("device", device.id, SaidAttributes({"tier": "gold"}), "anna")
    told = await told_by(store, anyone, device, control.hub.epoch)
    assert (told.device_id, told.releases) == (device.id, (made.release.id,))
    assert told.issued_ms == clock.wall_ms() < told.expires_ms
    assert (await control.audiences.said_of("device", device.id)).values == {"tier": "gold"}


async def test_what_is_told_follows_the_epoch_and_the_device_and_reads_the_policy_once(
    control, store, imported, enrol, anyone, monkeypatch
):
    await imported("1.0.0")
    device = await enrol()
    await control.audiences.declare(Attribute("tier", "string", "server"), "anna")
    await control.audiences.describe("device", device.id, SaidAttributes({"tier": "gold"}), "anna")
    reads = []
    read = told_module._read
    monkeypatch.setattr(told_module, "_read", lambda db, epoch: reads.append(epoch) or read(db, epoch))
    made = []
    for _ in range(2):
        made.append((await control.releases.create(wish(predicate='tier == "gold"'), "anna")).release.id)
        for _ in range(3):
            told = await told_by(store, anyone, device, control.hub.epoch)
            assert set(told.releases) == set(made)
    await control.audiences.describe("device", device.id, SaidAttributes({"tier": "tin"}), "anna")
    assert (await told_by(store, anyone, device, control.hub.epoch)).releases == ()
    assert len(reads) == 2


async def told_by(store, anyone, device, epoch: int) -> Told:
    answer = await anyone.post("/d/v1/decide", json={"epoch": epoch}, headers=device.headers)
    return open_envelope(
        Told, TOLD_KIND, answer.content, believe(store.home.root, FixedClock()).signatures_of(POLICY)
    )


async def test_only_declared_server_attributes_can_be_said_of_a_device(control, enrol, admin):
    device = await enrol()
    await control.audiences.declare(Attribute("age", "number", "server"), "anna")
    for values in ({"age": "old"}, {"agee": 3}, {"os": "x"}):
        with pytest.raises(ConfigError):
            await control.audiences.describe("device", device.id, SaidAttributes(values), "anna")
    with pytest.raises(NotFound):
        await control.audiences.describe("device", "d-nobody", SaidAttributes({"age": 3}), "anna")
    path = f"/api/v1/devices/{device.id}/attributes"
    assert (await admin.post(path, json={"values": {"age": 3}})).json() == {"values": {"age": 3}}
    assert (await admin.get(path)).json() == {"values": {"age": 3}}
    assert (await admin.post("/api/v1/attributes", json={"name": "b", "kind": "boolean"})).status_code == 200
    assert [a["name"] for a in (await admin.get("/api/v1/attributes")).json()["attributes"]] == ["age", "b"]
    assert (
        await admin.post("/api/v1/segments", json={"name": "s", "predicate": "b == true"})
    ).status_code == 200
    assert (await admin.get("/api/v1/segments")).json()["segments"][0]["version"] == 1


async def test_what_is_said_of_a_user_holds_for_the_users_devices(
    control, store, imported, enrol, admin, anyone
):
    await imported("1.0.0")
    mine, other, said = await enrol(user="u1"), await enrol(user="u2"), await enrol()
    for attribute in (Attribute("tier", "string", "server"), Attribute("user", "string", "server")):
        await control.audiences.declare(attribute, "anna")
    made = await control.releases.create(wish(predicate='tier == "gold"'), "anna")
    values = {"values": {"tier": "gold"}}
    assert (await admin.post("/api/v1/users/u1/attributes", json=values)).json() == values
    assert (await admin.get("/api/v1/users/u1/attributes")).json() == values
    await control.audiences.describe("device", said.id, SaidAttributes({"user": "u1"}), "anna")
    for device, told in ((mine, (made.release.id,)), (other, ()), (said, (made.release.id,))):
        assert (await told_by(store, anyone, device, control.hub.epoch)).releases == told
    await control.audiences.describe("device", mine.id, SaidAttributes({"tier": "free"}), "anna")
    assert (await told_by(store, anyone, mine, control.hub.epoch)).releases == ()  # its own matter most
