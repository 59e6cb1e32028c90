"""Logins at a provider of identities: its honest tokens alone open anything, and only what claims give."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from joserfc.jwk import ECKey, RSAKey

from walle_control.app import ADMIN_API
from walle_control.cli import login, logins
from walle_control.cli.logins import Login, Renewal, forget_login, keep_login, login_file, token_for
from walle_control.config import ControlConfig, OidcConfig
from walle_control.features.people.oidc import Provider, parse_roles
from walle_control.features.people.types import RoleGrant
from walle_control.features.releases.types import ApprovalRule, CreateRelease
from walle_control.web.problems import Unauthenticated
from walle_shared.errors import ConfigError, ConnectionLost, NotAllowed
from walle_support.issuer import AUDIENCE, Issuer

ROLES = ("walle-admins: admin", "https://x/shop: team: operator of shop", "viewers: viewer")


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture
def oidc(issuer) -> OidcConfig:
    return OidcConfig(issuer=issuer.url, audience=AUDIENCE, roles=ROLES)


@pytest.fixture
def config(oidc) -> ControlConfig:
    return replace(ControlConfig(), oidc=oidc)


@pytest.fixture
def provider(oidc, clock) -> Provider:
    return Provider(oidc, clock)


@pytest.fixture
def now_s(clock) -> int:
    return clock.wall_ms() // 1000


async def test_claims_become_a_person_with_roles(control, issuer, anyone, now_s):
    await control.people.grant("anna@example.org", RoleGrant("author", "demo"), "admin")
    token = issuer.sign(issuer.claims(now_s, groups=["https://x/shop: team", "viewers", "others"]))
    anyone.headers["Authorization"] = f"Bearer {token}"
    me = (await anyone.get(f"{ADMIN_API}/myself")).json()
    assert (me["name"], me["credential"]) == ("anna@example.org", "oidc")
    held = {allowed["scenario"]: set(allowed["permissions"]) for allowed in me["allowed"]}
    assert "releases:write" in held["shop"]
    assert "tasks:write" in held["demo"]
    assert "releases:write" not in held[""] | held["demo"]
    assert (await anyone.get(f"{ADMIN_API}/releases")).status_code == 200
    assert (await anyone.get(f"{ADMIN_API}/people")).status_code == 403
    audience = issuer.sign(
        issuer.claims(now_s, aud=["other", AUDIENCE], client_id=AUDIENCE, groups="walle-admins"), typ="at+jwt"
    )
    assert (await control.people.authenticate(audience)).may("people:write", "")


@pytest.mark.parametrize(
    "said",
    [
        {"aud": [AUDIENCE]},
        {"aud": [AUDIENCE], "azp": "other"},
        {"aud": ["other", AUDIENCE], "azp": AUDIENCE},
        {"aud": ["other", AUDIENCE], "azp": "console"},
    ],
)
async def test_a_token_for_us_alone_or_asked_for_by_us_counts(oidc, issuer, clock, now_s, said):
    provider = Provider(replace(oidc, client_id="console"), clock)
    assert (await provider.identify(issuer.sign(issuer.claims(now_s, **said)))).name == "anna@example.org"


async def test_who_logs_in_is_the_person_of_their_tokens(control, issuer, imported, now_s):
    """Four eyes see through it: the same address by token and by login is one person."""
    await imported("1.0.0")
    await control.releases.set_approval_rule("demo", ApprovalRule(("create",)), "admin")
    anna = await control.people.authenticate(issuer.sign(issuer.claims(now_s, groups=["walle-admins"])))
    pending = await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "anna@example.org")
    with pytest.raises(NotAllowed):
        await control.releases.decide(pending.release.id, "approved", anna.name, "")


@pytest.mark.parametrize("kind", ["RSA", "EC"])
async def test_keys_may_rotate(provider, issuer, clock, now_s, kind):
    old = issuer.sign(issuer.claims(now_s))
    await provider.identify(old)
    await provider.identify(old)
    assert issuer.requests.count("/keys") == 1
    issuer.add_key("second", kind)
    fresh = issuer.sign(issuer.claims(now_s, exp=now_s + 9000))
    clock.advance(61.0)
    assert (await provider.identify(fresh)).name == "anna@example.org"
    assert issuer.requests.count("/keys") == 2
    del issuer.keys[1]
    clock.advance(3601.0)
    await provider.identify(fresh)
    with pytest.raises(Unauthenticated, match="none of the provider's"):
        await provider.identify(old)


async def test_made_up_key_names_do_not_hammer_the_provider(provider, issuer, now_s):
    stranger = RSAKey.generate_key(2048, {"kid": "k"})
    for n in range(20):
        with pytest.raises(Unauthenticated):
            await provider.identify(issuer.sign(issuer.claims(now_s), stranger, kid=f"k{n}"))
    assert issuer.requests.count("/keys") == 1


async def test_a_provider_that_is_away_keeps_nobody_out_whose_key_is_known(provider, issuer, clock, now_s):
    token = issuer.sign(issuer.claims(now_s, exp=now_s + 9000))
    await provider.identify(token)
    issuer.away = True
    clock.advance(4000.0)
    assert (await provider.identify(token)).name == "anna@example.org"


async def test_a_provider_that_was_never_there_is_named(provider, issuer, now_s):
    issuer.away = True
    with pytest.raises(ConnectionLost, match="cannot be fetched"):
        await provider.identify(issuer.sign(issuer.claims(now_s)))


WRONG = [
    ({"iss": "https://evil.example"}, "iss"),
    ({"aud": "other"}, "aud"),
    ({"aud": ["other"]}, "aud"),
    ({"aud": None}, "aud"),
    ({"aud": ["other", AUDIENCE]}, "azp"),
    ({"aud": ["other", AUDIENCE], "azp": "other"}, "azp"),
    ({"aud": ["other", AUDIENCE], "azp": ["walle"]}, "azp"),
    ({"aud": ["other", AUDIENCE], "azp": "other", "client_id": AUDIENCE}, "azp"),
    ({"exp": None}, "exp"),
    ({"exp": "soon"}, "exp"),
    ({"nbf": 2_000_000_000}, "not yet valid"),
    ({"iat": 2_000_000_000}, "future"),
    ({"email": None}, "email"),
    ({"email": 7}, "email"),
    ({"email": "guard"}, "name"),
    ({"email": "admin"}, "name"),
    ({"email_verified": False}, "verified"),
    ({"email_verified": "true"}, "verified"),
    ({"email_verified": None}, "verified"),
]


@pytest.mark.parametrize(("claims", "why"), WRONG)
async def test_a_token_that_says_something_wrong_is_refused(provider, issuer, now_s, claims, why):
    said = {name: value for name, value in issuer.claims(now_s, **claims).items() if value is not None}
    with pytest.raises(Unauthenticated, match=why):
        await provider.identify(issuer.sign(said))


async def test_a_login_ends(provider, issuer, clock, now_s):
    token = issuer.sign(issuer.claims(now_s))
    clock.advance(331.0)
    with pytest.raises(Unauthenticated) as raised:
        await provider.identify(token)
    assert raised.value.code == "token_expired"


async def test_forgeries_are_refused(provider, issuer, now_s):
    claims, honest = issuer.claims(now_s, groups=["walle-admins"]), issuer.keys[0]
    head, body, mac = issuer.sign(claims).split(".")

    def encoded(value) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    def with_public_key_as_secret() -> str:
        signed = f"{encoded({'alg': 'HS256', 'kid': 'rsa-1'})}.{body}"
        digest = hmac.digest(honest.as_pem(private=False), signed.encode(), "sha256")
        return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    forged = [
        f"{encoded({'alg': 'none', 'kid': 'rsa-1'})}.{body}.",
        f"{encoded({'alg': 'none', 'kid': 'rsa-1'})}.{body}.{mac}",
        f"{head}.{encoded({**claims, 'email': 'root@example.org'})}.{mac}",
        f"{head}.{body}.{mac[:-4]}AAAA",
        f"{head}.{body}.",
        with_public_key_as_secret(),
        issuer.sign(claims, RSAKey.generate_key(2048, {"kid": "rsa-1"})),
        issuer.sign(claims, ECKey.generate_key("P-256", {"kid": "rsa-1"})),
        issuer.sign(claims, typ="logout+jwt"),
        issuer.sign(claims, kid=""),
        "a.b.c", "..", "\x00.\x00.\x00", "e30.e30.e30", "x" * 20_000 + ".b.c",
    ]  # fmt: skip
    for token in forged:
        with pytest.raises(Unauthenticated):
            await provider.identify(token)


@pytest.mark.parametrize("line", ["", "admin", "x: king", ": admin", "x: operator of No Such", "x:"])
def test_a_senseless_role_line_is_refused(line):
    with pytest.raises(ConfigError):
        parse_roles((line,))


@pytest.mark.parametrize("settings", [{"issuer": "http://login.example.org"}, {"audience": ""}])
def test_senseless_settings_are_refused(oidc, clock, settings):
    with pytest.raises(ConfigError, match=r"oidc\."):
        Provider(replace(oidc, **settings), clock)


# Logging in from a terminal


async def test_the_server_says_how_to_log_in(anyone, issuer):
    ways = (await anyone.get(f"{ADMIN_API}/login")).json()
    assert ways["device_authorization_endpoint"] == f"{issuer.url}/device"
    assert (ways["client_id"], ways["scope"]) == (AUDIENCE, "openid email")


@pytest.fixture
def ways(issuer) -> dict[str, str]:
    return {**issuer.discovery(), "client_id": AUDIENCE, "scope": "openid"}


def test_a_login_by_device_code_waits_for_the_person(issuer, ways, now_s, capsys):
    issuer.approved = issuer.claims(now_s)
    found = login.by_device_code(ways)
    assert found.token.count(".") == 2
    assert found.renewal is None
    assert issuer.requests.count("/token") == 3
    said = capsys.readouterr().err
    assert "/enter" in said
    assert "ABCD" in said


def test_a_refused_login_says_so(issuer, ways):
    issuer.denied = True
    with pytest.raises(NotAllowed, match="no, said Anna"):
        login.by_device_code(ways)
    with pytest.raises(ConfigError, match="--paste"):
        login.by_device_code({**ways, "device_authorization_endpoint": ""})


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "walle"


def test_logins_are_kept_for_their_owner(home):
    keep_login("https://a.example/", Login("one"))
    keep_login("https://b.example", Login("two", Renewal("https://login.example/token", "c", "r", 1e12)))
    keep_login("https://a.example", Login("three"))
    assert (token_for("https://a.example/"), token_for("https://b.example")) == ("three", "two")
    assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o600}
    assert forget_login("https://a.example/") == Login("three")
    assert forget_login("https://a.example/") is None
    assert token_for("https://a.example") is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"https://a.example": 7}', '{"https://a.example": {"x": 1}}']
)
def test_a_file_of_logins_that_makes_no_sense_holds_none(home, text):
    home.mkdir()
    login_file().write_text(text)
    assert token_for("https://a.example") is None
    keep_login("https://a.example", Login("one"))
    assert token_for("https://a.example") == "one"


def test_logins_of_earlier_programs_count(home):
    home.mkdir()
    login_file().write_text('{"https://a.example": "one"}')
    assert token_for("https://a.example") == "one"


def test_a_token_is_renewed_before_it_lapses_and_not_earlier(issuer, ways, home, monkeypatch):
    issuer.refresh, now_s = "r", int(time.time())
    issuer.approved = issuer.claims(now_s, exp=now_s + 300)
    keep_login("https://a.example", login.by_device_code(ways))
    first = token_for("https://a.example")
    asked = issuer.requests.count("/token")
    assert token_for("https://a.example") == first
    assert issuer.requests.count("/token") == asked
    for lapse_s in (290, 590):  # each use of the refresh token gives the one for the next
        later = SimpleNamespace(time=lambda lapse_s=lapse_s: now_s + lapse_s)
        monkeypatch.setattr(logins, "time", later)
        issuer.approved = issuer.claims(now_s, exp=now_s + lapse_s + 300)
        renewed = token_for("https://a.example")
        assert renewed != first
        assert token_for("https://a.example") == renewed
        asked += 1
        assert issuer.requests.count("/token") == asked


def test_a_login_that_is_over_says_so(issuer, ways, home):
    issuer.refresh, now_s = "r", int(time.time())
    issuer.approved = issuer.claims(now_s, exp=now_s)
    keep_login("https://a.example", login.by_device_code(ways))
    issuer.refresh = "another"  # somebody withdrew it
    with pytest.raises(NotAllowed, match=r"login to https://a\.example is over \(who is that\?\)"):
        token_for("https://a.example")
    keep_login("https://a.example", Login("t", Renewal("http://127.0.0.1:9/token", "c", "r", 1.0)))
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:9"):
        token_for("https://a.example")


def log_out(url: str) -> int:
    return login.logout(SimpleNamespace(url=url))


def test_who_logs_out_does_so_at_the_provider(issuer, ways, home, capsys):
    issuer.refresh, now_s = "r", int(time.time())
    issuer.approved = issuer.claims(now_s, exp=now_s + 300)
    keep_login("https://a.example", login.by_device_code(ways))
    assert log_out("https://a.example") == 0
    assert issuer.revoked == ["r+"]
    assert "logged out of https://a.example, and at the provider" in capsys.readouterr().out
    assert log_out("https://a.example") == 0
    assert "there was no login" in capsys.readouterr().out


def test_who_logs_out_is_out_whatever_the_provider_says(issuer, ways, home, capsys):
    kept = Renewal("http://127.0.0.1:9/token", "stranger", "r", 1e12)
    for where, why in (
        ("http://127.0.0.1:9/revoke", "127.0.0.1:9"),
        (f"{issuer.url}/revoke", "answered 401"),
    ):
        keep_login("https://a.example", Login("t", replace(kept, revocation_endpoint=where)))
        assert log_out("https://a.example") == 0
        said = capsys.readouterr()
        assert "may still honour this login" in said.err
        assert why in said.err
        assert said.out == "logged out of https://a.example\n"
        assert token_for("https://a.example") is None
    keep_login("https://a.example", Login("t", kept))  # it offers no such thing
    assert log_out("https://a.example") == 0
    assert not capsys.readouterr().err


def test_commands_at_once_use_a_refresh_token_once(issuer, ways, home):
    issuer.refresh, now_s = "r", int(time.time())
    issuer.approved = issuer.claims(now_s, exp=now_s)
    keep_login("https://a.example", login.by_device_code(ways))
    issuer.approved = issuer.claims(now_s, exp=now_s + 300)
    asked = issuer.requests.count("/token")
    with ThreadPoolExecutor(4) as pool:
        tokens = set(pool.map(lambda _: token_for("https://a.example"), range(4)))
    assert len(tokens) == 1
    assert issuer.requests.count("/token") == asked + 1
