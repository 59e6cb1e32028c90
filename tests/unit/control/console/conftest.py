"""Somebody's browser at the console."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import pytest
from starlette.applications import Starlette

from walle_control.app import Control
from walle_control.features.people.types import RoleGrant, TokenRequest
from walle_control.web.access import ALL_SCENARIOS, Principal, Role, grants_of

SITE = "http://control"
_WORD = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


@dataclass
class Browser:
    """A client that keeps cookies and sends forms as a page would."""

    client: httpx.AsyncClient
    word: str = ""

    async def sign_in(self, token: str) -> httpx.Response:
        answer = await self.post("/signin", token=token, next="/")
        assert answer.status_code == 303, answer.text
        self.word = _WORD.findall((await self.get("/")).text)[0]
        return answer

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(f"/console{path}", headers=headers)

    async def post(self, path: str, **fields: str) -> httpx.Response:
        fields = {"csrf": self.word, **fields}
        return await self.client.post(f"/console{path}", data=fields, headers={"Origin": SITE})


@pytest.fixture
async def open_browser(app: Starlette, control: Control) -> AsyncIterator[Callable[[], Awaitable[Browser]]]:
    control.console.soon.wait_s = 30.0  # what a page shows is not to depend on how busy the machine is
    async with AsyncExitStack() as stack:

        async def opened() -> Browser:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url=SITE)
            return Browser(await stack.enter_async_context(client))

        yield opened


@pytest.fixture
async def visitor(open_browser: Callable[[], Awaitable[Browser]]) -> Browser:
    """Somebody who is not signed in."""
    return await open_browser()


@pytest.fixture
async def boss(open_browser: Callable[[], Awaitable[Browser]], admin_token: str) -> Browser:
    """An admin of all scenarios."""
    browser = await open_browser()
    await browser.sign_in(admin_token)
    return browser


@pytest.fixture
def signed_in(
    control: Control, open_browser: Callable[[], Awaitable[Browser]]
) -> Callable[..., Awaitable[Browser]]:
    """``await signed_in("eve", "viewer", "demo")``: the browser of somebody with that role."""

    async def sign_in(name: str, role: Role, scenario: str = ALL_SCENARIOS) -> Browser:
        await control.people.grant(name, RoleGrant(role, scenario), "admin")
        asker = Principal(name, grants_of([(scenario, role)]))
        token = await control.people.create_token(TokenRequest(), asker)
        browser = await open_browser()
        await browser.sign_in(token.secret)
        return browser

    return sign_in
