from __future__ import annotations

import httpx
import pytest

from walle_control.features.audiences.types import HoldoutWish
from walle_control.features.releases.types import CreateRelease, ExplainRequest, Terms
from walle_control.features.rollouts.guard import GuardSettings
from walle_control.features.rollouts.trial import Trial, Vote
from walle_shared.errors import ConfigError, NotFound
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import EpochInfo, Report, ReportBatch
from walle_shared.signing import open_envelope
from walle_shared.targeting import Holdout, Policy, Snapshot


def snapshot(store) -> Snapshot:
    """What a device would read from the static files."""
    info = open_envelope(EpochInfo, "epoch", store.files.epoch_path.read_bytes(), [store.signing_key.public])
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
