"""Pages do not wait for what takes long, and hear of it once it is there."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from walle_control.features.releases import routes
from walle_control.features.releases.service import UNJUDGED
from walle_control.features.releases.types import CreateRelease
from walle_control.web.soon import Soon
from walle_shared.errors import StorageError


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0.05)


@pytest.fixture
def rung() -> list[float]:
    return []


@pytest.fixture
async def soon(nursery, autojump_clock, rung) -> Soon:
    soon = Soon(lambda: rung.append(trio.current_time()))
    nursery.start_soon(soon.run)
    await trio.sleep(0.001)
    return soon


class Slow:
    """Takes its time; ``calls`` says how often it began."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s
        self.calls = 0

    async def __call__(self) -> Any:
        self.calls += 1
        number = self.calls
        await trio.sleep(self.takes_s)
        return number


async def test_what_is_there_in_time_is_always_fresh(soon, rung, autojump_clock):
    work = Slow(0.01)
    for number in (1, 2, 3):
        assert await soon.of({"a": work}) == {"a": number}
    assert rung == []


async def test_a_page_waits_for_nothing_long_and_all_works_run_at_once(soon, rung, autojump_clock):
    slow, other, quick = Slow(1.0), Slow(2.0), Slow(0.01)
    began = trio.current_time()
    assert await soon.of({"slow": slow, "other": other, "quick": quick}) == {"quick": 1}
    assert trio.current_time() - began == pytest.approx(0.05)
    await trio.sleep(3)
    assert len(rung) == 2
    slow.takes_s = 0.01
    assert await soon.of({"slow": slow}) == {"slow": 2}
    slow.takes_s = 1.0
    assert await soon.of({"slow": slow}) == {"slow": 2}  # what was known before, until there is more


async def test_who_asks_meanwhile_gets_the_same_answer(soon, autojump_clock):
    slow, found = Slow(0.02), []

    async def ask() -> None:
        found.append(await soon.of({"slow": slow}))

    async with trio.open_nursery() as askers:
        for _ in range(5):
            askers.start_soon(ask)
    assert found == [{"slow": 1}] * 5
    assert slow.calls == 1


async def test_what_fails_is_left_out_and_tried_again(soon, rung):
    async def fail() -> Any:
        raise StorageError("the disk is full")

    work = Slow(0.01)
    assert await soon.of({"a": work}) == {"a": 1}
    assert await soon.of({"a": fail}) == {}
    assert await soon.of({"a": work}) == {"a": 2}
    assert rung == []


async def test_so_many_works_at_once_and_no_more(soon, autojump_clock):
    works = [Slow(1.0) for _ in range(100)]
    await soon.of(dict(enumerate(works)))
    assert sum(work.calls for work in works) == 64
    await trio.sleep(2)
    assert await soon.of({99: Slow(0.01)}) == {99: 1}


async def test_without_its_loop_everybody_waits():
    assert await Soon(lambda: None).of({"a": Slow(1.0)}) == {"a": 1}


async def test_who_says_so_waits_longer(soon):
    work = Slow(0.5)
    assert await soon.of({"a": work}) == {}
    assert await soon.of({"a": work}, wait_s=1.0) == {"a": 1}


async def test_the_api_says_so_too_and_tells_what_was_last_known(
    app, admin_token, control, imported, monkeypatch
):
    await imported("1.0.0")
    headers = {"Authorization": f"Bearer {admin_token}"}
    wire = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=wire, base_url="http://x", headers=headers) as client:
        path = "/api/v1/releases"
        made = (
            await client.post(path, json={"scenario": "demo", "task": "greeter", "version": "1.0.0"})
        ).json()
        soon, name = control.console.soon, f"{path}/{made['release']['id']}"
        monkeypatch.setattr(routes, "API_WAIT_S", 0.0)
        soon._known = OrderedDict()
        assert (await client.get(name)).json()["verdict"]["reason"] == UNJUDGED.reason
        monkeypatch.setattr(routes, "API_WAIT_S", 30.0)
        for ask in (client.get(name), client.get(path), client.post(f"{name}/pause")):
            answer = (await ask).json()
            for each in answer.get("releases", [answer]):
                assert each["verdict"]["reason"].endswith("0 of 100 devices have run it")
        monkeypatch.setattr(routes, "API_WAIT_S", 0.0)
        assert (await client.get(name)).json()["verdict"]["reason"] != UNJUDGED.reason


async def test_a_page_says_that_votes_are_being_counted(boss, control, imported):
    await imported("1.0.0")
    made = await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "admin")
    soon = control.console.soon
    for path in (f"/releases/{made.release.id}", "/releases", "/"):
        soon.wait_s, soon._known = 0.0, OrderedDict()
        assert UNJUDGED.reason in (await boss.get(path)).text
        soon.wait_s = 30.0
        judged = (await boss.get(path)).text
        assert UNJUDGED.reason not in judged
        assert "0 of 100 devices have run it" in judged
