"""Four eyes: a release goes on only when another person said so, whatever token the first one holds."""

from __future__ import annotations

import pytest

from walle_control.app import ADMIN_API
from walle_control.features.people.types import RoleGrant, TokenRequest
from walle_control.features.releases.types import ApprovalRule, CreateRelease, StageWish
from walle_control.web.access import ALL_SCENARIOS, Principal, grants_of
from walle_shared.errors import ConfigError, Conflict, NotAllowed

WISH = CreateRelease("demo", "greeter", "1.0.0")
STAGED = CreateRelease("demo", "greeter", "1.0.0", stages=(StageWish(1), StageWish(10), StageWish(100)))


@pytest.fixture
async def releases(control, imported):
    await imported("1.0.0")
    await control.releases.set_approval_rule("demo", ApprovalRule(("create", "full"), 3600.0), "root")
    return control.releases


async def on_devices(releases) -> list[str]:
    return [release["id"] for release in (await releases.epoch()).snapshot["releases"]]


async def test_no_device_gets_a_release_before_another_person_approves(releases):
    pending = await releases.create(WISH, "ben")
    assert pending.release.state == "pending"
    assert await on_devices(releases) == []
    (request,) = (await releases.waiting()).approvals
    assert (request.step, request.asked_by, request.state) == ("create", "ben", "open")
    for action in ("promote", "pause", "stop"):
        with pytest.raises(Conflict, match="pending"):
            await releases.act(pending.release.id, action, "ben")
    with pytest.raises(NotAllowed, match="another person") as raised:
        await releases.decide(pending.release.id, "approved", "ben", "")
    assert raised.value.code == "self_approval"
    live = await releases.decide(pending.release.id, "approved", "anna", "looks fine")
    assert live.release.state == "live"
    assert [(a.state, a.decided_by) for a in live.approvals] == [("approved", "anna")]
    assert await on_devices(releases) == [pending.release.id]
    assert [(e.event, e.actor) for e in live.history] == [("create", "ben"), ("approve", "anna")]
    with pytest.raises(Conflict, match="waits for no approval"):
        await releases.decide(pending.release.id, "approved", "anna", "")


async def test_a_rejected_release_is_over(releases):
    pending = await releases.create(WISH, "ben")
    rejected = await releases.decide(pending.release.id, "rejected", "anna", "not today")
    assert rejected.release.state == "rejected"
    for action in ("promote", "resume", "rollback"):
        with pytest.raises(Conflict):
            await releases.act(pending.release.id, action, "ben")
    assert await on_devices(releases) == []


async def test_a_request_lapses_and_is_asked_anew(releases, clock):
    pending = await releases.create(WISH, "ben")
    clock.advance(3600.0)
    with pytest.raises(Conflict, match="resume"):
        await releases.decide(pending.release.id, "approved", "anna", "")
    assert (await releases.waiting()).approvals == ()
    asked = await releases.act(pending.release.id, "resume", "ben")
    assert [a.state for a in asked.approvals] == ["lapsed", "open"]
    with pytest.raises(Conflict, match="already"):
        await releases.act(pending.release.id, "resume", "ben")
    assert (await releases.decide(pending.release.id, "approved", "anna", "")).release.state == "live"


async def test_the_last_stage_waits_and_the_guard_asks_once(releases):
    pending = await releases.create(STAGED, "ben")
    release = (await releases.decide(pending.release.id, "approved", "anna", "")).release.id
    assert (await releases.act(release, "promote", "guard")).release.stage == 1
    waiting = await releases.act(release, "promote", "guard")
    assert (waiting.release.stage, waiting.release.state) == (1, "live")
    with pytest.raises(Conflict, match="already"):
        await releases.act(release, "promote", "guard")
    with pytest.raises(NotAllowed):  # who created it does not approve it, though the guard asked
        await releases.decide(release, "approved", "ben", "")
    await releases.decide(release, "rejected", "anna", "hold it")
    with pytest.raises(Conflict, match="turned down"):
        await releases.act(release, "promote", "guard")
    await releases.act(release, "promote", "ben")  # a person may ask again
    full = await releases.decide(release, "approved", "carla", "")
    assert (full.release.stage, full.history[-1].reason) == (2, "to 100 %")


async def test_one_stage_to_everybody_is_full_at_once(control, imported):
    await imported("1.0.0")
    await control.releases.set_approval_rule("demo", ApprovalRule(("full",)), "root")
    assert (await control.releases.create(WISH, "ben")).release.state == "pending"
    assert (await control.releases.create(STAGED, "ben")).release.state == "live"


async def test_what_waits_can_be_withdrawn_and_what_lives_be_stopped(releases):
    pending = await releases.create(WISH, "ben")
    assert (await releases.act(pending.release.id, "rollback", "ben")).release.state == "rolled_back"
    with pytest.raises(Conflict, match="nothing to decide"):
        await releases.decide(pending.release.id, "approved", "anna", "")


async def test_the_glass_takes_a_reason_and_is_logged(control, releases):
    pending = await releases.create(WISH, "ben")
    with pytest.raises(ConfigError, match="reason"):
        await releases.decide(pending.release.id, "glass_broken", "ben", "urgent")
    why = "phones crash at start, nobody is awake"
    live = await releases.decide(pending.release.id, "glass_broken", "ben", why)
    assert live.release.state == "live"
    assert live.approvals[-1].state == "glass_broken"
    entry = (await control.audit.page(0, 1000)).entries[-1]
    assert (entry.actor, entry.action) == ("ben", "release.break_glass")
    assert "nobody is awake" in entry.detail["reason"]


async def test_another_token_of_the_same_person_is_the_same_person(control, releases, anyone):
    root = Principal("admin", grants_of([(ALL_SCENARIOS, "admin")]))
    tokens = []
    for name, roles in (("ben", ("operator", "approver")), ("anna", ("approver",)), ("olga", ("operator",))):
        for role in roles:
            await control.people.grant(name, RoleGrant(role, "demo"), "admin")
        tokens.append((await control.people.create_token(TokenRequest(person=name), root)).secret)
    ben, anna, olga = ({"Authorization": f"Bearer {token}"} for token in tokens)
    narrow = {"scopes": ["approver"], "scenario": "demo"}
    second = await anyone.post(f"{ADMIN_API}/tokens", json=narrow, headers=ben)
    bens_other = {"Authorization": f"Bearer {second.json()['secret']}"}
    wish = {"scenario": "demo", "task": "greeter", "version": "1.0.0"}
    release = (await anyone.post(f"{ADMIN_API}/releases", json=wish, headers=ben)).json()["release"]["id"]
    path = f"{ADMIN_API}/releases/{release}/approve"
    for headers, code in ((ben, "self_approval"), (bens_other, "self_approval"), (olga, "not_allowed")):
        refused = await anyone.post(path, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, code)
    glass, why = f"{ADMIN_API}/releases/{release}/break-glass", {"reason": "x" * 20}
    broken = await anyone.post(glass, headers=ben, json=why)
    assert broken.status_code == 403
    assert (await anyone.post(path, headers=anna)).json()["release"]["state"] == "live"


@pytest.mark.parametrize("valid_s", [0.0, 59.0, 1e12])
async def test_a_senseless_rule_is_refused(control, valid_s):
    with pytest.raises(ConfigError):
        await control.releases.set_approval_rule("demo", ApprovalRule((), valid_s), "root")
