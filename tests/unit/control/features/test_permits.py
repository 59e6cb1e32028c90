from __future__ import annotations

from random import Random

import httpx
import pytest
import trio

from walle_control.features.permits import store as permits_store
from walle_control.features.permits.service import LEASE_S
from walle_control.features.releases.types import CreateRelease, ExplainRequest, StageWish, Terms
from walle_shared.errors import ConfigError, NotFound
from walle_shared.protocol.messages import PermitAnswer, PermitRequest


async def capped(control, imported, cap: int) -> str:
    await imported("1.0.0")
    made = await control.releases.create(
        CreateRelease("demo", "greeter", "1.0.0", terms=Terms(cap=cap)), "anna"
    )
    return made.release.id


async def ask(control, release: str, device: str, *, claim: bool = False) -> PermitAnswer:
    return await control.permits.ask(PermitRequest(release, claim), device)


async def test_places_are_held_claimed_and_never_more_than_there_are(control, imported, clock):
    release = await capped(control, imported, 2)
    first = await ask(control, release, "d1")
    assert (first.granted, first.expires_ms) == (True, clock.wall_ms() + LEASE_S * 1000)
    assert (await ask(control, release, "d1")).granted  # a lost answer is asked for again
    assert (await ask(control, release, "d2", claim=True)).granted
    refused = await ask(control, release, "d3", claim=True)
    assert not refused.granted
    assert refused.retry_s > 0


async def test_a_place_that_is_not_claimed_in_time_goes_to_others_for_good(control, imported, clock):
    release = await capped(control, imported, 1)
    await ask(control, release, "d1")
    clock.advance(LEASE_S)
    assert (await ask(control, release, "d2")).granted
    assert not (await ask(control, release, "d1", claim=True)).granted
    assert (await ask(control, release, "d2", claim=True)).granted
    clock.advance(1_000 * LEASE_S)
    assert not (await ask(control, release, "d1")).granted
    assert (await ask(control, release, "d2")).granted  # claimed: asking for it never gives it up


async def test_a_paused_release_keeps_its_devices_and_takes_no_more(control, imported):
    release = await capped(control, imported, 9)
    await ask(control, release, "d1")
    await control.releases.act(release, "pause", "anna")
    assert (await ask(control, release, "d1", claim=True)).granted
    assert not (await ask(control, release, "d2")).granted
    await control.releases.act(release, "rollback", "anna")
    with pytest.raises(NotFound, match="capped release"):
        await ask(control, release, "d1", claim=True)


async def test_only_a_capped_release_has_places(control, imported):
    await imported("1.0.0")
    made = await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "anna")
    for release in (made.release.id, "r99"):
        with pytest.raises(NotFound):
            await ask(control, release, "d1")


async def test_a_cap_excludes_a_control_arm(control, imported):
    await imported("1.0.0")
    stages = (StageWish(1), StageWish(100))
    with pytest.raises(ConfigError, match="control_percent"):
        await control.releases.create(
            CreateRelease("demo", "greeter", "1.0.0", stages=stages, terms=Terms(cap=5)), "anna"
        )


@pytest.mark.parametrize("seed", range(3))
async def test_many_devices_at_once_share_exactly_the_places(control, imported, store, clock, seed):
    release, cap, chance = await capped(control, imported, 17), 17, Random(seed)
    active: set[str] = set()

    async def device(name: str) -> None:
        for _ in range(4):
            await trio.lowlevel.checkpoint()
            if (await ask(control, release, name)).granted and chance.random() < 0.5:
                continue  # it died on the way
            if (await ask(control, release, name, claim=True)).granted:
                active.add(name)
            assert len(active) <= cap
            clock.advance(chance.random() * LEASE_S)

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(device, f"d{number}")
    assert len(active) == cap
    assert await store.database.read(lambda db: permits_store.claimed(db, release)) == cap


async def test_explain_tells_of_the_permit(control, imported, enrol):
    release, device = await capped(control, imported, 1), await enrol()
    explained = (await control.releases.explain(ExplainRequest(device.id))).releases[0]
    assert explained.reason == "for at most 1 devices, and this one has no permit"
    await ask(control, release, device.id)
    assert (await control.releases.explain(ExplainRequest(device.id))).releases[0].chosen


async def test_http(control, imported, enrol, anyone: httpx.AsyncClient):
    release, device = await capped(control, imported, 1), await enrol()
    body = {"release_id": release}
    assert (await anyone.post("/d/v1/permits", json=body)).status_code == 401
    answer = await anyone.post("/d/v1/permits", json=body, headers=device.headers)
    assert (answer.status_code, answer.json()["granted"]) == (200, True)
