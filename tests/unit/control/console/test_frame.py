"""Who gets into the console, and who does not."""

from __future__ import annotations

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.requests import Request

from walle_control.console.frame import COOKIE, REFRESH, check_same_site, local_path, read_form
from walle_control.console.routes import console_routes
from walle_control.db import dump
from walle_control.features.people.types import RoleGrant
from walle_control.web.auth import Door, door_of
from walle_control.web.problems import Unauthenticated
from walle_shared.errors import LimitExceeded, NotAllowed, RemoteProtocolError

MINUTE_S = 60

#: Pages that no permission is asked for.
OPEN = {"/signin", "/signin/begin", "/signin/back", "/signout", "/static/{name}", "/live", "/{path:path}"}


async def test_signing_in_leads_where_somebody_wanted_to_go(visitor, admin_token):
    answer = await visitor.get("/releases?state=live")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/signin?next=/releases%3Fstate%3Dlive"
    form = await visitor.get("/signin?next=/releases%3Fstate%3Dlive")
    assert 'name="next" value="/releases?state=live"' in form.text
    answer = await visitor.post("/signin", token=admin_token, next="/releases?state=live")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/releases?state=live")
    assert (await visitor.get("/")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "evil",
        "javascript:alert(1)",
        "/a\nb",
        "",
    ],
)
def test_nobody_is_sent_elsewhere(path):
    assert local_path(path) == "/"


async def test_a_wrong_token_gets_nobody_in(visitor):
    answer = await visitor.post("/signin", token="wtok_" + "0" * 64, next="/")
    assert answer.status_code == 401
    assert "not known here" in answer.text
    assert "set-cookie" not in answer.headers


async def test_the_cookie_is_for_this_site_alone(visitor, admin_token):
    cookie = (await visitor.post("/signin", token=admin_token, next="/")).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/console"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    headers = {"X-Forwarded-Proto": "https", "Origin": "http://control"}
    answer = await visitor.client.post("/console/signin", data={"token": admin_token}, headers=headers)
    assert "; Secure" in answer.headers["set-cookie"]


async def test_every_answer_forbids_what_is_not_ours(boss, visitor):
    for answer in (
        await boss.get("/"),
        await boss.get("/nothing"),
        await visitor.get("/"),
        await visitor.get("/signin"),
        await visitor.get("/static/console.js"),
        await boss.post("/signout", csrf="wrong"),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"


async def test_static_files_are_open_and_revalidated(visitor):
    answer = await visitor.get("/static/console.css")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/css; charset=utf-8")
    again = await visitor.get("/static/console.css", **{"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert (await visitor.get("/static/frame.py")).status_code == 404


async def test_signing_out_ends_the_session_everywhere(boss, open_browser):
    copy = await open_browser()
    copy.client.headers["Cookie"] = f"{COOKIE}={boss.client.cookies[COOKIE]}"
    assert (await copy.get("/")).status_code == 200
    answer = await boss.post("/signout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/signin")
    assert (await copy.get("/")).status_code == 303


async def test_a_session_ends_when_its_token_does(control, signed_in):
    eve = await signed_in("eve", "viewer")
    assert (await eve.get("/")).status_code == 200
    principal = (await control.console.sessions.find(eve.client.cookies[COOKIE])).principal
    await control.people.revoke_token(principal.credential, principal)
    assert (await eve.get("/")).status_code == 303


async def test_a_session_loses_what_its_person_loses(control, signed_in):
    eve = await signed_in("eve", "viewer")
    await control.people.withdraw("eve", RoleGrant("viewer"), "admin")
    answer = await eve.get("/")
    assert answer.status_code == 403
    assert "status:read" in answer.text


async def test_a_session_ends_by_the_clock_and_by_idling(boss, clock, open_browser, admin_token):
    for _ in range(20):
        clock.advance(30 * MINUTE_S)
        assert (await boss.get("/")).status_code == 200
    clock.advance(61 * MINUTE_S)
    assert (await boss.get("/")).status_code == 303  # idle
    again = await open_browser()
    await again.sign_in(admin_token)
    for _ in range(23):
        clock.advance(30 * MINUTE_S)
        assert (await again.get("/")).status_code == 200
    clock.advance(30 * MINUTE_S)
    assert (await again.get("/")).status_code == 303  # 12 hours


async def test_a_page_that_looks_by_itself_keeps_nobody_signed_in(boss, clock):
    for _ in range(3):
        clock.advance(25 * MINUTE_S)
        answer = await boss.get("/", **{REFRESH: "1"})
    assert answer.status_code == 303


async def test_a_copied_cookie_ends_the_session_once_it_is_old(boss, clock, open_browser):
    thief = await open_browser()
    thief.client.headers["Cookie"] = f"{COOKIE}={boss.client.cookies[COOKIE]}"
    clock.advance(16 * MINUTE_S)
    answer = await boss.get("/")
    assert COOKIE in answer.headers["set-cookie"]
    assert (await thief.get("/")).status_code == 200  # within the grace for requests under way
    clock.advance(2 * MINUTE_S)
    assert (await thief.get("/", **{REFRESH: "1"})).status_code == 303
    assert (await boss.get("/")).status_code == 200  # a stream with an old cookie ends nothing
    assert (await thief.get("/")).status_code == 303
    assert (await boss.get("/")).status_code == 303  # ended for both


async def test_a_form_without_the_word_does_nothing(boss):
    for word in ("", "0" * 64, "é"):
        answer = await boss.post("/signout", csrf=word)
        assert answer.status_code == 403
    assert (await boss.get("/")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://control", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_post_from_another_site_does_nothing(boss, headers):
    answer = await boss.client.post("/console/signout", data={"csrf": boss.word}, headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.text
    assert (await boss.get("/")).status_code == 200


def test_a_proxy_may_rewrite_the_host_where_the_browser_says_the_site():
    def asked(**headers: str) -> Request:
        raw = Headers({name.replace("_", "-"): value for name, value in headers.items()}).raw
        return Request({"type": "http", "headers": raw})

    check_same_site(asked(host="10.0.0.1:8700", origin="https://walle.example", sec_fetch_site="same-origin"))
    check_same_site(asked(host="walle.example", origin="https://walle.example"))
    check_same_site(asked(host="walle.example"))
    with pytest.raises(NotAllowed):
        check_same_site(asked(host="10.0.0.1:8700", origin="https://walle.example"))


@pytest.mark.parametrize(
    ("content", "kind", "error"),
    [
        (b"{}", "application/json", RemoteProtocolError),
        (b"a=1", "", RemoteProtocolError),
        (b"a=%ff", "application/x-www-form-urlencoded", RemoteProtocolError),
        (b"\xff=1", "application/x-www-form-urlencoded", RemoteProtocolError),
        (b"&".join([b"a=1"] * 65), "application/x-www-form-urlencoded", RemoteProtocolError),
        (b"a=" + b"1" * 70_000, "application/x-www-form-urlencoded", LimitExceeded),
    ],
)
async def test_a_form_that_cannot_be_read_is_refused(app, content, kind, error):
    async def receive():
        return {"type": "http.request", "body": content, "more_body": False}

    scope = {"type": "http", "app": app, "headers": [(b"content-type", kind.encode())]}
    with pytest.raises(error):
        await read_form(Request(scope, receive))


async def test_every_page_asks_for_a_permission(control):
    doors = {route.path: door_of(route.endpoint) for route in console_routes(control)}
    without = {path for path, door in doors.items() if not isinstance(door, Door)}
    assert without == OPEN


async def test_links_are_shown_to_those_who_may_follow_them(boss, signed_in):
    assert 'href="/console/audit"' in (await boss.get("/")).text
    eve = await signed_in("eve", "viewer", "demo")
    text = (await eve.get("/")).text
    assert 'href="/console/releases"' in text
    assert 'href="/console/audit"' not in text
    assert 'href="/console/devices"' not in text


async def test_the_console_can_be_switched_off(store, clock):
    from walle_control.app import create_app
    from walle_control.config import ConsoleConfig, ControlConfig

    app = create_app(ControlConfig(console=ConsoleConfig(enabled=False)), clock=clock, store=store)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://control") as client:
        assert (await client.get("/console/signin")).status_code == 404


async def test_sessions_are_in_the_audit_log(control, boss):
    await boss.post("/signout")
    entries = (await control.audit.page(0, 100)).entries
    assert [entry.action for entry in entries][-2:] == ["session.open", "session.close"]
    assert {entry.actor for entry in entries[-2:]} == {"admin"}


async def test_signing_in_is_a_use_of_the_token(control, boss, clock):
    asker = (await control.console.sessions.find(boss.client.cookies[COOKIE])).principal
    (token,) = (await control.people.tokens(asker)).tokens
    assert token.used_ms == clock.wall_ms()


async def test_what_is_no_session_is_refused(control):
    for secret in ("", "x", "\0", "é" * 500):
        with pytest.raises(Unauthenticated):
            await control.console.sessions.find(secret)


async def test_backups_leave_sessions_out(control, boss):
    def tables(db):
        return dump.tables(control.store.database.backend, db)

    names = await control.store.database.read(tables)
    assert "access_token" in names
    assert "console_session" not in names


async def test_the_cookie_is_stored_as_a_hash_and_logged_nowhere(control, boss, store, capsys):
    secret = boss.client.cookies[COOKIE]
    await boss.get("/audit")
    for path in store.home.root.rglob("control.db*"):
        assert secret.encode() not in path.read_bytes()
    assert secret not in capsys.readouterr().out
    assert secret not in str(await control.audit.page(0, 1000))
