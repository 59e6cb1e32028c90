"""People, roles and tokens: nobody may more than was granted, whichever credential they hold up."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from walle_control.app import ADMIN_API
from walle_control.features.learning import store as learning_store
from walle_control.features.learning.averaging import ServerState
from walle_control.features.learning.types import PlanRow, PlanWish
from walle_control.features.people.types import RoleGrant, TokenRequest
from walle_control.features.releases.types import CreateRelease
from walle_control.features.webhooks.types import WebhookRequest
from walle_control.web.access import (
    ALL_SCENARIOS,
    PERMISSIONS,
    ROLE_NAMES,
    ROLES,
    Principal,
    grants_of,
    permissions_of,
)
from walle_control.web.auth import Door, anywhere, door_of
from walle_control.web.problems import Unauthenticated
from walle_shared.errors import ConfigError, Conflict, NotAllowed, NotFound

ROOT = Principal("admin", grants_of([(ALL_SCENARIOS, "admin")]), "first")
SCENARIOS = st.sampled_from(["", "demo", "shop"])
#: Routes that read though they are POSTs (or, tokens, read what is the asker's own).
POSTS_THAT_READ = ("/estimate", "/explain", "/tokens")


@pytest.fixture
async def hold(control):
    """``await hold("anna", ("operator", "demo"))``: a token of somebody with these roles."""

    async def make(name: str, *roles: tuple[str, str], **wish) -> str:
        for role, scenario in roles:
            await control.people.grant(name, RoleGrant(role, scenario), "admin")
        return (await control.people.create_token(TokenRequest(person=name, **wish), ROOT)).secret

    return make


async def test_a_token_is_shown_once_and_stands_for_its_person(control, store, hold):
    secret = await hold("anna@example.org", ("viewer", "demo"))
    principal = await control.people.authenticate(secret)
    assert principal.name == "anna@example.org"
    assert principal.may("releases:read", "demo")
    assert not principal.may("releases:read", "shop")
    assert secret not in str(await control.people.tokens(ROOT))
    for path in store.home.root.glob("control.db*"):
        assert secret.encode() not in path.read_bytes()
    assert secret not in str(await control.audit.page(0, 1000))


async def test_a_token_ends_when_revoked_or_expired(control, clock, hold):
    kept, revoked = await hold("anna", ("viewer", ""), valid_s=60.0), await hold("anna", note="lost")
    listed = (await control.people.tokens(ROOT)).tokens
    await control.people.revoke_token(next(token.id for token in listed if token.note == "lost"), ROOT)
    with pytest.raises(Unauthenticated, match="revoked"):
        await control.people.authenticate(revoked)
    assert (await control.people.authenticate(kept)).name == "anna"
    clock.advance(60.0)
    with pytest.raises(Unauthenticated, match="expired") as raised:
        await control.people.authenticate(kept)
    assert raised.value.code == "token_expired"
    with pytest.raises(Unauthenticated, match="not known"):
        await control.people.authenticate("wtok_" + "0" * 64)


async def test_a_role_taken_away_is_gone_from_every_token(control, hold):
    secret = await hold("anna", ("operator", "demo"), ("viewer", ""))
    await control.people.withdraw("anna", RoleGrant("operator", "demo"), "admin")
    principal = await control.people.authenticate(secret)
    assert not principal.may("releases:write", "demo")
    assert principal.may("releases:read", "demo")
    with pytest.raises(NotFound, match="no role operator"):
        await control.people.withdraw("anna", RoleGrant("operator", "demo"), "admin")


async def test_the_last_admin_stays(control):
    with pytest.raises(Conflict, match="last admin"):
        await control.people.withdraw("admin", RoleGrant("admin"), "admin")
    await control.people.grant("anna", RoleGrant("admin"), "admin")
    await control.people.withdraw("admin", RoleGrant("admin"), "anna")


async def test_a_narrow_token_cannot_make_a_wider_one(control, hold):
    narrow = await control.people.authenticate(
        await hold("anna", ("admin", ""), scopes=("releases:read", "tokens:write"), scenario="demo")
    )
    for wish in (
        TokenRequest(),
        TokenRequest(scopes=("releases:write",), scenario="demo"),
        TokenRequest(scopes=("releases:read",)),
        TokenRequest(scopes=("releases:read",), scenario="shop"),
    ):
        with pytest.raises(NotAllowed, match="narrower"):
            await control.people.create_token(wish, narrow)
    with pytest.raises(NotAllowed, match="people:write"):
        await control.people.create_token(TokenRequest(person="admin"), narrow)
    made = await control.people.create_token(
        TokenRequest(scopes=("releases:read",), scenario="demo", valid_s=5.0), narrow
    )
    assert made.token.person == "anna"


async def test_others_tokens_are_no_ones_business(control, hold):
    anna = await control.people.authenticate(await hold("anna", ("viewer", "")))
    await hold("ben", ("viewer", ""))
    tokens = (await control.people.tokens(ROOT)).tokens
    assert {token.person for token in (await control.people.tokens(anna)).tokens} == {"anna"}
    bens = next(token.id for token in tokens if token.person == "ben")
    with pytest.raises(NotFound):
        await control.people.revoke_token(bens, anna)


async def test_when_a_token_was_used_is_known(control, clock, hold, store):
    secret = await hold("anna", ("viewer", ""))
    clock.advance(120.0)
    await control.people.authenticate(secret)
    store.database.write_sync(lambda db: None)  # behind the note, which nobody waited for
    used = {token.person: token.used_ms for token in (await control.people.tokens(ROOT)).tokens}
    assert used["anna"] == clock.wall_ms()


SENSELESS = [
    {"scopes": ("fly",)},
    {"scenario": "No Such"},
    {"valid_s": -1.0},
    {"valid_s": 1e12},
    {"scopes": ("viewer",) * 33},
]


@pytest.mark.parametrize("wish", SENSELESS)
async def test_a_senseless_wish_is_refused(control, wish):
    with pytest.raises(ConfigError):
        await control.people.create_token(TokenRequest(**wish), ROOT)


@pytest.mark.parametrize("name", ["", "guard", "system", "a b", "x" * 129, "anna\n", "ä"])
async def test_a_senseless_name_is_refused(control, name):
    with pytest.raises(ConfigError, match="person's name"):
        await control.people.grant(name, RoleGrant("viewer"), "admin")


# Properties of the pure part


ROLE_LISTS = st.lists(st.tuples(SCENARIOS, st.sampled_from(ROLE_NAMES)), max_size=4)
SCOPES = st.lists(st.sampled_from([*PERMISSIONS, *ROLE_NAMES]), max_size=3)


@given(ROLE_LISTS, SCOPES, SCENARIOS, st.sampled_from(PERMISSIONS), SCENARIOS)
def test_a_token_holds_what_person_and_scopes_both_hold(roles, scopes, scenario, permission, asked):
    person = Principal("p", grants_of(roles))
    token = Principal("p", grants_of(roles, scopes, scenario))
    expected = (
        person.may(permission, asked) and permission in permissions_of(scopes) and (scenario in ("", asked))
    )
    assert token.may(permission, asked) == expected


def test_what_only_an_admin_may():
    lesser = frozenset().union(*(ROLES[role] for role in ROLE_NAMES if role != "admin"))
    only_admin = {"people:read", "people:write", "scenarios:write", "releases:break_glass"}
    assert set(PERMISSIONS) - lesser == only_admin
    assert ROLES["admin"] == set(PERMISSIONS)
    assert all(ROLES["viewer"] <= ROLES[role] for role in ROLE_NAMES)
    assert "releases:approve" not in ROLES["operator"]


# The routes


def admin_routes(app) -> list[Route]:
    """Those of operators: all but the one that says how to become one."""
    routes = [route for route in app.routes if isinstance(route, Route)]
    return [r for r in routes if r.path.startswith(ADMIN_API) and not r.path.endswith("/login")]


def test_every_operators_route_names_its_permission(app):
    found = admin_routes(app)
    assert len(found) >= 25
    for route in found:
        door = door_of(route.endpoint)
        assert isinstance(door, Door), route.path
        assert door.permission in PERMISSIONS
        reads = door.permission.endswith(":read")
        assert ("GET" in (route.methods or ())) == reads or route.path.endswith(POSTS_THAT_READ)


WISH = {"scenario": "demo", "task": "greeter", "version": "1.0.0"}

PLAN = PlanRow(
    "p0", "demo", "greeter", "1.0.0", "digits", "0" * 64, "cross_entropy", (), PlanWish("1.0.0", noise=0.0),
    "stopped", "", 1, "anna", 2,
)  # fmt: skip
NO_WEIGHTS = np.zeros(0, np.float32)

#: Routes that tell everybody something, or about themselves.
OPEN_TO_ALL = ("/status", "/epoch", "/myself", "/sinks", "/tokens")


#: What a route's path parameters stand for in the tests.
def filled(path: str, release: str, webhook: str = "w0") -> str:
    for name, value in {
        "release_id": release, "scenario": "demo", "task": "greeter", "version": "1.0.0", "device_id": "d0",
        "person": "anna", "token_id": "first", "webhook_id": webhook, "plan": "p0",
    }.items():  # fmt: skip
        path = path.replace("{" + name + "}", value)
    return path


async def test_roles_of_another_scenario_open_nothing_here(app, control, anyone, imported, hold):
    """Everything that belongs to scenario demo, or to none, is closed to an admin of scenario shop."""
    await imported("1.0.0")
    release = (await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "ben")).release.id
    wish = WebhookRequest("https://example.org/", (), "demo")
    webhook = (await control.webhooks.create(wish, "ben")).webhook.id
    await control.store.database.write(
        lambda db: learning_store.insert_plan(db, PLAN, ServerState(NO_WEIGHTS), b"")
    )
    secret = await hold("eve", ("admin", "shop"))
    anyone.headers["Authorization"] = f"Bearer {secret}"
    before = await control.audit.page(0, 1000)
    for route in admin_routes(app):
        if route.path == f"{ADMIN_API}/stream":  # says the number of the newest epoch, and does not end
            continue
        (method,) = (route.methods or set()) - {"HEAD"}
        door = door_of(route.endpoint)
        assert isinstance(door, Door)
        body = WISH if route.path.endswith("releases") else {}
        answer: httpx.Response = await anyone.request(
            method, filled(route.path, release, webhook), json=body if method == "POST" else None
        )
        if door.place is not anywhere:
            assert answer.status_code == 403, (route.path, answer.text)
            assert "eve may not do this" in answer.json()["detail"]
        elif answer.is_success and not route.path.endswith(OPEN_TO_ALL):
            assert all(rows == [] for rows in answer.json().values() if isinstance(rows, list)), answer.text
        assert answer.status_code < 500
    assert [e.action for e in (await control.audit.page(before.next, 1000)).entries] == ["token.create"]
    for query in ("", "?scenario=demo"):
        assert (await anyone.get(f"{ADMIN_API}/features{query}")).status_code == 403
    assert (await anyone.get(f"{ADMIN_API}/features?scenario=shop")).status_code == 200
    assert (await anyone.get(f"{ADMIN_API}/reports?release={release}")).status_code == 403


async def test_a_viewer_changes_nothing(app, control, anyone, imported, hold):
    await imported("1.0.0")
    release = (await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "ben")).release.id
    anyone.headers["Authorization"] = f"Bearer {await hold('vera', ('viewer', ''))}"
    for route in admin_routes(app):
        if "POST" in (route.methods or ()) and not route.path.endswith((*POSTS_THAT_READ, "/revoke")):
            answer = await anyone.post(filled(route.path, release), json={})
            assert answer.status_code == 403, (route.path, answer.text)
    assert (await anyone.get(f"{ADMIN_API}/releases")).status_code == 200


async def test_an_import_checks_the_scenario_that_the_tag_names(control, repo, good_files, anyone, hold):
    repo.tag("greeter/1.0.0", "greeter", good_files)
    wish = {"repository": str(repo.path), "task": "greeter", "version": "1.0.0"}
    for scenario, status in (("shop", 403), ("demo", 201)):
        secret = await hold(f"author_of_{scenario}", ("author", scenario))
        anyone.headers["Authorization"] = f"Bearer {secret}"
        assert (await anyone.post(f"{ADMIN_API}/tasks", json=wish)).status_code == status


async def test_whoami(admin):
    answer = (await admin.get(f"{ADMIN_API}/myself")).json()
    assert (answer["name"], answer["credential"]) == ("admin", "first")
    assert answer["allowed"] == [{"scenario": "", "permissions": sorted(PERMISSIONS)}]
