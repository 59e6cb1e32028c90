"""Signing in at a provider of identities: only who began it, in the browser that began it, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trio

from walle_control.config import ControlConfig, OidcConfig, ServerConfig, load_config
from walle_control.console.frame import COOKIE, REFRESH
from walle_control.console.signin import LOGIN_COOKIE
from walle_control.features.people import sessions
from walle_control.features.people.code_flow import CodeFlow
from walle_control.features.people.oidc import Provider
from walle_control.features.people.sessions import _seal, _unseal
from walle_control.features.people.types import RoleGrant
from walle_shared.errors import ConfigError
from walle_support.issuer import AUDIENCE, Issuer

SITE = "https://walle.example"
BACK = f"{SITE}/console/signin/back"
#: What a browser says by way of the proxy before the server.
PROXIED = {"X-Forwarded-Proto": "https"}


@pytest.fixture
def issuer(clock) -> Iterator[Issuer]:
    with Issuer() as issuer:
        issuer.redirect_uris = {BACK}
        issuer.approved = issuer.claims(clock.wall_ms() // 1000, groups=["admins"])
        yield issuer


@pytest.fixture
def config(issuer) -> ControlConfig:
    oidc = OidcConfig(issuer=issuer.url, audience=AUDIENCE, roles=("admins: admin",))
    return replace(ControlConfig(), oidc=oidc, server=ServerConfig(public_url=SITE))


@pytest.fixture
def open_site(app, control) -> Callable[[], httpx.AsyncClient]:
    """A browser at the public address."""

    def opened() -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=SITE, headers=PROXIED)

    return opened


@pytest.fixture
def browser(open_site) -> httpx.AsyncClient:
    return open_site()


@pytest.fixture
def begin(browser) -> Callable[..., Awaitable[str]]:
    """``await begin(next="/x")``: begin a login; the address that the provider sends one back to."""

    async def asked(**query: str) -> str:
        answer = await browser.get("/console/signin/begin", params=query)
        assert answer.status_code == 303, answer.text
        async with httpx.AsyncClient(trust_env=False) as elsewhere:
            back = await elsewhere.get(answer.headers["location"])
        assert back.status_code == 302
        return back.headers["location"]

    return asked


@pytest.fixture
async def signed_in(browser, begin) -> httpx.AsyncClient:
    answer = await browser.get(await begin())
    assert answer.status_code == 200, answer.text
    return browser


async def test_a_login_leads_where_somebody_wanted_to_go(browser, begin):
    answer = await browser.get("/console/audit?limit=5")
    form = await browser.get(answer.headers["location"])
    assert f'href="{SITE}/console/signin/begin?next=/audit%3Flimit%3D5"' in form.text
    assert 'name="token"' in form.text
    answer = await browser.get(await begin(next="/audit?limit=5"))
    # Not a redirect: the browser comes from another site, and would not bring the session's cookie along.
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=/console/audit?limit=5">' in answer.text
    page = await browser.get("/console/audit?limit=5")
    assert page.status_code == 200
    assert "anna@example.org" in page.text


async def test_the_provider_is_asked_with_pkce_state_and_nonce(browser):
    seen: list[dict[str, list[str]]] = []
    for _ in range(2):
        answer = await browser.get("/console/signin/begin")
        seen.append(parse_qs(urlsplit(answer.headers["location"]).query))
    for name in ("state", "nonce", "code_challenge"):
        assert len({asked[name][0] for asked in seen}) == 2, name
        assert all(len(asked[name][0]) == 43 for asked in seen)
    assert seen[0]["redirect_uri"] == [BACK]
    assert (seen[0]["code_challenge_method"], seen[0]["response_type"]) == (["S256"], ["code"])
    cookie = set(answer.headers["set-cookie"].split("; "))
    assert {"HttpOnly", "SameSite=lax", "Secure", "Max-Age=600", "Path=/console/signin/back"} <= cookie
    secret = browser.cookies[LOGIN_COOKIE].partition(".")[0]
    assert secret not in answer.headers["location"]


async def test_without_a_public_address_the_one_in_use_counts(issuer, clock, store, config):
    from walle_control.app import create_app

    app = create_app(replace(config, server=ServerConfig()), clock=clock, store=store)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8700")
    answer = await client.get("/console/signin/begin")
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    assert asked["redirect_uri"] == ["http://127.0.0.1:8700/console/signin/back"]


async def test_wrong_state_does_nothing(browser, begin, issuer):
    back = await begin()
    state = parse_qs(urlsplit(back).query)["state"][0]
    for wrong in ("", "x", state[:-1], "\xe9"):
        await begin()  # what counts is the newest, and that one once
        answer = await browser.get(back.replace(state, wrong))
        assert answer.status_code == 401
        assert "not begun in this browser" in answer.text
        assert COOKIE not in browser.cookies
    assert issuer.requests.count("/token") == 0


async def test_a_stolen_redirect_opens_nothing_elsewhere(begin, open_site, issuer):
    back = await begin()
    thief = open_site()
    assert (await thief.get(back)).status_code == 401
    await thief.get("/console/signin/begin")  # with a login of their own under way
    assert (await thief.get(back)).status_code == 401
    assert COOKIE not in thief.cookies
    assert issuer.requests.count("/token") == 0


async def test_a_code_without_its_verifier_is_worth_nothing(browser, begin, open_site):
    """Somebody puts a stolen code into the answer to their own login."""
    code = parse_qs(urlsplit(await begin()).query)["code"][0]
    thief = open_site()
    asked = (await thief.get("/console/signin/begin")).headers["location"]
    state = parse_qs(urlsplit(asked).query)["state"][0]
    answer = await thief.get("/console/signin/back", params={"code": code, "state": state})
    assert answer.status_code == 401
    assert "who is that?" in answer.text


async def test_a_replayed_code_does_nothing(browser, begin, control):
    back = await begin()
    kept = browser.cookies[LOGIN_COOKIE]
    assert (await browser.get(back)).status_code == 200
    assert (await browser.get(back)).status_code == 401  # the login's cookie is gone
    headers = {"Cookie": f"{LOGIN_COOKIE}={kept}"}
    answer = await browser.get(back, headers=headers)
    assert answer.status_code == 401
    assert "who is that?" in answer.text  # the provider redeems a code once
    assert (await browser.get("/console/")).status_code == 200


async def test_a_token_of_another_login_is_refused(browser, begin, issuer):
    back = await begin()
    (asked,) = issuer.codes.values()
    asked["nonce"] = "another"
    answer = await browser.get(back)
    assert answer.status_code == 401
    assert "of another login" in answer.text


async def test_an_answer_of_another_provider_is_refused(browser, begin, issuer):
    back = await begin()
    mixed = httpx.URL(back).copy_set_param("iss", "https://evil.example")
    answer = await browser.get(mixed)
    assert (answer.status_code, issuer.requests.count("/token")) == (401, 0)
    assert "another provider" in answer.text


async def test_a_refusal_says_so(browser, begin, issuer):
    issuer.denied = True
    answer = await browser.get(await begin())
    assert answer.status_code == 403
    assert "no, said Anna" in answer.text
    assert COOKIE not in browser.cookies


async def test_a_provider_that_is_away_is_named(browser, begin, issuer):
    back = await begin()
    issuer.away = True
    answer = await browser.get("/console/signin/begin")
    assert (answer.status_code, LOGIN_COOKIE in browser.cookies) == (503, True)
    assert issuer.url in answer.text
    assert 'name="token"' in answer.text
    assert (await browser.get(back)).status_code == 503
    assert COOKIE not in browser.cookies


@pytest.mark.parametrize(
    ("claims", "status", "said"),
    [
        ({"groups": ["others"]}, 403, "holds no role here"),
        ({"email": "admin"}, 401, "name"),
        ({"email_verified": False}, 401, "verified"),
        ({"aud": "other"}, 401, "aud"),
    ],
)
async def test_claims_that_give_nothing_get_nobody_in(browser, begin, issuer, claims, status, said):
    issuer.approved |= claims
    answer = await browser.get(await begin())
    assert answer.status_code == status
    assert said in answer.text
    assert COOKIE not in browser.cookies


async def test_what_was_granted_here_counts_besides_the_claims(browser, begin, issuer, control):
    issuer.approved["groups"] = []
    await control.people.grant("anna@example.org", RoleGrant("viewer", "demo"), "admin")
    assert (await browser.get(await begin())).status_code == 200
    assert (await browser.get("/console/releases")).status_code == 200
    assert (await browser.get("/console/audit")).status_code == 403
    await control.people.withdraw("anna@example.org", RoleGrant("viewer", "demo"), "admin")
    assert (await browser.get("/console/releases")).status_code == 403  # at once
    (opened,) = [e for e in (await control.audit.page(0, 99)).entries if e.action == "session.open"]
    assert opened.actor == "anna@example.org"


async def test_a_session_is_who_the_command_line_would_be(signed_in, control, issuer, browser):
    session = await control.console.sessions.find(browser.cookies[COOKIE])
    assert session.principal == await control.people.authenticate(issuer.sign(issuer.approved))


async def test_a_session_ends_with_its_login(signed_in, clock):
    clock.advance(299)
    assert (await signed_in.get("/console/")).status_code == 200
    clock.advance(2)
    assert (await signed_in.get("/console/")).status_code == 303


@pytest.fixture
def renewable(issuer) -> None:
    """The provider gives refresh tokens."""
    issuer.refresh = "r"


@pytest.mark.usefixtures("renewable")
async def test_a_login_is_renewed_shortly_before_it_lapses(signed_in, issuer, clock):
    def tokens() -> int:
        return issuer.requests.count("/token")

    clock.advance(200)
    await signed_in.get("/console/")
    assert tokens() == 1
    for lapse_s in (80, 290, 290):  # each use of a refresh token gives the one for the next
        clock.advance(lapse_s)
        issuer.approved = issuer.claims(clock.wall_ms() // 1000, groups=["admins"])
        before = tokens()
        for _ in range(2):
            assert (await signed_in.get("/console/", headers={REFRESH: "1"})).status_code == 200
        assert tokens() == before + 1
    issuer.approved["groups"] = []  # claims that are taken away count from the next renewal
    clock.advance(290)
    issuer.approved |= {"exp": clock.wall_ms() // 1000 + 300}
    assert (await signed_in.get("/console/audit")).status_code == 403


@pytest.mark.usefixtures("renewable")
async def test_requests_at_once_use_a_refresh_token_once(signed_in, issuer, clock):
    clock.advance(301)
    issuer.approved = issuer.claims(clock.wall_ms() // 1000, groups=["admins"])
    statuses = []

    async def look() -> None:
        statuses.append((await signed_in.get("/console/")).status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(look)
    assert statuses == [200] * 4
    assert issuer.requests.count("/token") == 2


@pytest.mark.usefixtures("renewable")
async def test_a_provider_that_is_away_ends_nothing_that_holds(signed_in, issuer, clock):
    issuer.away = True
    clock.advance(290)
    assert (await signed_in.get("/console/")).status_code == 200
    clock.advance(20)
    assert (await signed_in.get("/console/")).status_code == 503
    issuer.away = False
    issuer.approved = issuer.claims(clock.wall_ms() // 1000, groups=["admins"])
    assert (await signed_in.get("/console/")).status_code == 200


@pytest.mark.usefixtures("renewable")
@pytest.mark.parametrize("why", ["withdrawn", "somebody else"])
async def test_a_login_that_is_not_renewed_ends(signed_in, issuer, clock, why):
    clock.advance(290)
    issuer.approved = issuer.claims(clock.wall_ms() // 1000, groups=["admins"])
    if why == "withdrawn":
        issuer.refresh = "another"
    else:
        issuer.approved["email"] = "eve@example.org"
    assert (await signed_in.get("/console/")).status_code == 303
    issuer.refresh = "r+"
    assert (await signed_in.get("/console/")).status_code == 303


@pytest.mark.usefixtures("renewable")
async def test_a_new_cookie_renews_too_and_an_idle_session_ends(signed_in, issuer, clock):
    first = signed_in.cookies[COOKIE]
    for _ in range(5):
        clock.advance(290)
        issuer.approved = issuer.claims(clock.wall_ms() // 1000, groups=["admins"])
        assert (await signed_in.get("/console/")).status_code == 200
    assert signed_in.cookies[COOKIE] != first
    clock.advance(3601)
    issuer.approved = issuer.claims(clock.wall_ms() // 1000, groups=["admins"])
    assert (await signed_in.get("/console/")).status_code == 303


@pytest.mark.usefixtures("renewable")
@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        ("none", "revoked"),
        ("away", "failed"),
        ("refuses", "failed"),
        ("not offered", "not offered by the provider"),
    ],
)
async def test_who_signs_out_does_so_at_the_provider_too(signed_in, issuer, control, trouble, outcome):
    text = (await signed_in.get("/console/")).text
    issuer.away, issuer.offers_revocation = trouble == "away", trouble != "not offered"
    issuer.secret = "changed since" if trouble == "refuses" else ""
    word = text.partition('name="csrf" value="')[2][:64]
    answer = await signed_in.post("/console/signout", data={"csrf": word}, headers={"Origin": SITE})
    assert answer.status_code == 303
    assert issuer.revoked == (["r+"] if trouble == "none" else [])
    told, closed, *_ = (await control.audit.newest(0, 2)).entries
    assert (closed.action, told.action, told.actor) == ("session.close", "login.revoke", "anna@example.org")
    assert told.detail["outcome"] == outcome
    assert "r+" not in str(told.detail)
    assert (await signed_in.get("/console/")).status_code == 303


@pytest.mark.usefixtures("renewable")
async def test_nobody_waits_long_for_the_provider_to_sign_out(signed_in, control, monkeypatch):
    async def never(*_) -> bool:
        await trio.sleep_forever()

    monkeypatch.setattr(control.console.flow, "revoke", never)
    monkeypatch.setattr(sessions, "_REVOCATION_MAX_S", 0.01)
    await control.console.sessions.close(signed_in.cookies[COOKIE])
    (told,) = (await control.audit.newest(0, 1)).entries
    assert told.detail == {"outcome": "no answer in time"}


@pytest.mark.usefixtures("renewable")
async def test_the_database_holds_no_token(signed_in, issuer, store):
    issuer_token = issuer.refresh
    cookie = signed_in.cookies[COOKIE]
    assert len(cookie) == 128
    for path in store.home.root.rglob("control.db*"):
        data = path.read_bytes()
        for secret in (issuer_token, cookie, cookie[:64], cookie[64:]):
            assert len(secret) < 10 or secret.encode() not in data
    row = await store.database.read(lambda db: db.execute("SELECT * FROM console_session").fetchone())
    assert _unseal(row["sealed"], cookie[64:]) == issuer_token
    assert issuer_token not in row["sealed"]


def test_what_is_sealed_opens_by_its_key_alone():
    key = "ab" * 32
    sealed = _seal("refresh", key)
    assert sealed != _seal("refresh", key)
    assert _unseal(sealed, key) == "refresh"
    for wrong in ("", "zz", "ab", "cd" * 32, "é" * 64):
        assert _unseal(sealed, wrong) == ""
    assert (_seal("", key), _unseal("", key)) == ("", "")


async def test_a_cookie_with_another_key_goes_on_until_its_login_lapses(signed_in, issuer, clock, control):
    issuer.refresh = "r"
    cookie = signed_in.cookies[COOKIE]
    for key in ("", "0" * 64, "é" * 64):
        assert (await control.console.sessions.find(cookie[:64] + key)).principal.name == "anna@example.org"


async def test_signing_out_ends_it(signed_in, control):
    text = (await signed_in.get("/console/")).text
    word = text.partition('name="csrf" value="')[2][:64]
    await signed_in.post("/console/signout", data={"csrf": word}, headers={"Origin": SITE})
    assert (await signed_in.get("/console/")).status_code == 303
    assert (await control.audit.page(0, 99)).entries[-1].action == "session.close"


async def test_a_client_with_a_secret_shows_it(issuer, config, clock, store, tmp_path):
    from walle_control.app import create_app

    issuer.secret = "s3cret of the client"
    (tmp_path / "control.toml").write_text(
        f'[server]\npublic_url = "{SITE}"\n[oidc]\nissuer = "{issuer.url}"\naudience = "{AUDIENCE}"\n'
        'client_secret_file = "secret"\nroles = ["admins: admin"]\n'
    )
    (tmp_path / "secret").write_text(issuer.secret + "\n")
    app = create_app(load_config(tmp_path / "control.toml"), clock=clock, store=store)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=SITE, headers=PROXIED) as client:
        asked = (await client.get("/console/signin/begin")).headers["location"]
        assert "s3cret" not in asked
        back = issuer.authorize({k: v[0] for k, v in parse_qs(urlsplit(asked).query).items()})
        assert (await client.get(back)).status_code == 200


@pytest.mark.parametrize("content", [None, b"", b"\xff"])
def test_a_secret_that_cannot_be_read_is_said(issuer, clock, tmp_path: Path, content):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    oidc = OidcConfig(issuer=issuer.url, audience=AUDIENCE, client_secret_file=str(path))
    with pytest.raises(ConfigError, match="client_secret_file"):
        CodeFlow(oidc, Provider(oidc, clock))


async def test_without_a_provider_there_is_no_such_way(clock, store):
    from walle_control.app import create_app

    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(ControlConfig(), clock=clock, store=store)), base_url=SITE
    )
    assert "signin/begin" not in (await client.get("/console/signin")).text
    assert (await client.get("/console/signin/begin")).status_code == 404
    assert (await client.get("/console/signin/back?code=1&state=2")).status_code == 401
