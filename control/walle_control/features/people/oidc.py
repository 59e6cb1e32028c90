"""People who prove themselves by an OpenID Connect provider: its tokens as bearer, its claims as roles.

``code_flow`` gets tokens for a browser.

1. Only RS256 and ES256, only by keys of the provider's own set, named by ``kid``: neither ``none`` nor a
   public key taken for a shared secret.
2. Issuer, audience and lifetime must be right. A token for several audiences counts only if it was given to
   our own client (``azp``, of an access token ``client_id``). An e-mail address names a person only if the
   provider says that it was verified.
3. Keys are fetched when first needed, every ``_KEYS_S``, and when a token names one that is not known, at
   most every ``_REFETCH_S``: a provider may rotate them, and strangers with made-up names cannot make us
   hammer it. While the provider is away, the keys that are known go on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson
import trio
from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import KeySet

from walle_control.config import OidcConfig
from walle_control.features.people.names import check_person
from walle_control.features.people.types import LoginWays
from walle_control.web.access import ALL_SCENARIOS, ROLE_NAMES, Role
from walle_control.web.problems import Unauthenticated
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError, ConnectionLost, TransportError
from walle_shared.ids import check_name
from walle_shared.observe import get_logger
from walle_shared.units import HOUR_S

_log = get_logger("control.oidc")

_ALGORITHMS: Final = ("RS256", "ES256")
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_TOKEN_MAX_CHARS = 16_384
_LEEWAY_S = 30
_EXPIRY_MAX_S = 1e12
_KEYS_S = HOUR_S
_REFETCH_S = 60.0
_TIMEOUT_S = 10.0
_ANSWER_MAX_BYTES = 1 << 20

_DISCOVERY = "/.well-known/openid-configuration"

#: What a reader of hostile JSON and tokens may raise.
_MALFORMED: Final = (JoseError, ValueError, TypeError, KeyError, AttributeError)

#: An answer that is read at all: what was asked for, or why it is refused (RFC 6749, section 5.2).
_ANSWERED: Final = frozenset({200, 400, 401})

#: Gets a URL's body; raises ``TransportError``.
Fetch = Callable[[str], Awaitable[bytes]]

#: A claim's value, and the (scenario, role) that it stands for.
RoleMap = Mapping[str, tuple[tuple[str, Role], ...]]


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a provider's token stands for, the (scenario, role) pairs that its claims give, and until when."""

    name: str
    roles: tuple[tuple[str, Role], ...]
    expires_ms: int
    nonce: str = ""


def parse_roles(lines: tuple[str, ...]) -> RoleMap:
    """Read lines such as ``walle-admins: admin`` and ``shop team: operator of shop``.

    Raises:
        ConfigError: names the line.
    """
    found: dict[str, tuple[tuple[str, Role], ...]] = {}
    for line in lines:
        value, colon, right = (part.strip() for part in line.rpartition(":"))
        word, _, scenario = (part.strip() for part in right.partition(" of "))
        role: Role | None = next((known for known in ROLE_NAMES if known == word), None)
        if not colon or not value or role is None:
            raise ConfigError(
                f"oidc.roles: {line[:80]!r} must be like 'claim value: operator of shop' or 'value: admin'"
            )
        place = check_name(scenario, "oidc.roles: scenario") if scenario else ALL_SCENARIOS
        pair: tuple[str, Role] = (place, role)
        found[value] = (*found.get(value, ()), pair)
    return found


async def fetch(url: str) -> bytes:
    """Get a URL, without following redirects."""
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            answer = await client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConnectionLost(f"{url}: {error or type(error).__name__}") from None
    if answer.status_code != 200 or len(answer.content) > _ANSWER_MAX_BYTES:
        raise ConnectionLost(f"{url} answered {answer.status_code} with {len(answer.content)} bytes")
    return answer.content


async def submit(url: str, form: Mapping[str, str]) -> Mapping[str, Any]:
    """Send a form, without following redirects; the JSON object that answers it, which may be a refusal.

    Nothing, where all is well, counts as an object without members (RFC 7009, section 2.2).

    Raises:
        ConnectionLost: it is not answered, or by something else.
    """
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            answer = await client.post(url, data=form, headers={"Accept": "application/json"})
        if answer.status_code not in _ANSWERED or len(answer.content) > _ANSWER_MAX_BYTES:
            raise ConnectionLost(f"{url} answered {answer.status_code} with {len(answer.content)} bytes")
        if answer.status_code == 200 and not answer.content:
            return {}
        found: Any = orjson.loads(answer.content)
    except (httpx.HTTPError, httpx.InvalidURL, orjson.JSONDecodeError) as error:
        raise ConnectionLost(f"{url}: {error or type(error).__name__}") from None
    if not isinstance(found, dict):
        raise ConnectionLost(f"{url} answers no JSON object")
    return found


class Provider:
    """Checks the tokens of one OpenID Connect provider.

    Raises:
        ConfigError: on construction, if the settings make no sense.
    """

    def __init__(self, config: OidcConfig, clock: Clock, fetch: Fetch = fetch) -> None:
        self._config = config
        self._clock = clock
        self._fetch = fetch
        self._roles = parse_roles(config.roles)
        self._keys: KeySet | None = None
        self._fetched_s = self._tried_s = float("-inf")
        self._fetching = trio.Lock()
        _check_https(config.issuer, "oidc.issuer")
        if not config.audience:
            raise ConfigError("oidc.audience must say whom the tokens are for: the id of your client")

    async def identify(self, token: str) -> Identity:
        """Whom a token stands for.

        Raises:
            Unauthenticated: it is not the provider's, not for us, expired, or names nobody.
            TransportError: the provider's keys are not known and cannot be fetched.
        """
        if len(token) > _TOKEN_MAX_CHARS:
            raise Unauthenticated(f"the token is over the limit of {_TOKEN_MAX_CHARS} characters")
        try:
            header = jws.extract_compact(token.encode()).headers()
            if header.get("alg") not in _ALGORITHMS or str(header.get("typ", "")).lower() not in _TYPES:
                raise _stranger(
                    f"its algorithm must be one of {', '.join(_ALGORITHMS)}, and it an ID or access token"
                )
            keys = await self._keys_with(str(header.get("kid", "")))
            claims = jwt.decode(token, keys, algorithms=list(_ALGORITHMS)).claims
            self._registry().validate(claims)
            self._check_party(claims)
            expires_ms = round(min(float(claims["exp"]), _EXPIRY_MAX_S) * 1000)
        except ExpiredTokenError:
            raise Unauthenticated("this login has expired: log in again", code="token_expired") from None
        except _MALFORMED as error:
            raise _stranger(str(error) or type(error).__name__) from None
        return Identity(self._name(claims), self._roles_of(claims), expires_ms, str(claims.get("nonce", "")))

    async def endpoint(self, name: str) -> str:
        """The address of one of the provider's endpoints; empty: it has none.

        Raises:
            TransportError: the provider is away, or names one that is not encrypted.
        """
        url = str((await self._discover()).get(name, ""))
        try:
            if url:
                _check_https(url, name)
        except ConfigError as error:
            raise ConnectionLost(error.message) from None
        return url

    async def login_ways(self) -> LoginWays:
        """What a program needs to log somebody in.

        Raises:
            TransportError: the provider is away.
        """
        found = await self._discover()
        return LoginWays(
            self._config.issuer,
            self._config.client,
            str(found.get("device_authorization_endpoint", "")),
            str(found.get("token_endpoint", "")),
            self._config.scope,
            str(found.get("revocation_endpoint", "")),
        )

    def _check_party(self, claims: Mapping[str, Any]) -> None:
        """Of several audiences, any could show the token here: only one that we asked for counts.

        Source: OpenID Connect Core 1.0, section 3.1.3.7, rules 4 and 5; RFC 9068, section 2.2.
        """
        audiences = claims["aud"]
        if isinstance(audiences, str) or len(audiences) < 2:
            return
        party = claims.get("azp", claims.get("client_id"))
        if party not in (self._config.client, self._config.audience):
            raise _stranger(
                f"it is for several audiences, and was given to {str(party)[:80]!r} (azp) and not to"
                f" {self._config.client!r}"
            )

    def _registry(self) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            now=self._clock.wall_ms() // 1000,
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": self._config.issuer},
            aud={"essential": True, "value": self._config.audience},
            exp={"essential": True},
        )

    def _name(self, claims: Mapping[str, Any]) -> str:
        claim = self._config.person_claim
        name = claims.get(claim)
        if not isinstance(name, str):
            raise _stranger(f"it has no claim {claim!r} to name a person by (oidc.person_claim)")
        if claim == "email" and claims.get("email_verified") is not True:
            raise _stranger("the provider has not verified its e-mail address")
        try:
            return check_person(name, local=False)
        except ConfigError as error:
            raise _stranger(error.message) from None

    def _roles_of(self, claims: Mapping[str, Any]) -> tuple[tuple[str, Role], ...]:
        values = claims.get(self._config.roles_claim, ())
        values = [values] if isinstance(values, str) else values
        if not isinstance(values, list | tuple):
            return ()
        return tuple(
            pair for value in values if isinstance(value, str) for pair in self._roles.get(value, ())
        )

    async def _keys_with(self, kid: str) -> KeySet:
        async with self._fetching:
            now_s = self._clock.mono_ns() / 1e9
            known = self._keys is not None and kid in {key.kid for key in self._keys.keys}
            if not known or now_s - self._fetched_s > _KEYS_S:
                await self._fetch_keys(now_s)
            keys = self._keys
        if keys is None:
            raise ConnectionLost(f"the keys of {self._config.issuer} cannot be fetched: try again later")
        if kid not in {key.kid for key in keys.keys}:
            raise _stranger("its key is none of the provider's")
        return keys

    async def _fetch_keys(self, now_s: float) -> None:
        if now_s - self._tried_s < _REFETCH_S:
            return
        self._tried_s = now_s
        try:
            found = await self._discover()
            url = str(found.get("jwks_uri", ""))
            _check_https(url, "jwks_uri")
            self._keys = _signing_keys(orjson.loads(await self._fetch(url)))
        except (TransportError, ConfigError, *_MALFORMED) as error:
            _log.warning("oidc_keys_not_fetched", issuer=self._config.issuer, error=str(error))
            return
        self._fetched_s = now_s
        _log.info("oidc_keys_fetched", issuer=self._config.issuer, keys=len(self._keys.keys))

    async def _discover(self) -> Mapping[str, Any]:
        url = self._config.issuer.rstrip("/") + _DISCOVERY
        try:
            found = orjson.loads(await self._fetch(url))
        except orjson.JSONDecodeError as error:
            raise ConnectionLost(f"{url}: not JSON: {error}") from None
        if not isinstance(found, dict) or found.get("issuer") != self._config.issuer:
            raise ConnectionLost(f"{url} speaks for another issuer than oidc.issuer")
        return found


def _signing_keys(found: Any) -> KeySet:
    """The keys of a set that tokens may be signed with; what else a provider lists is its own business."""
    fitting = [
        key
        for key in found["keys"]
        if key.get("kty") in ("RSA", "EC") and key.get("use", "sig") == "sig" and key.get("kid")
    ]
    return KeySet.import_key_set({"keys": fitting})


def _check_https(url: str, what: str) -> None:
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ConfigError(f"{what} {url[:80]!r} must begin with https://")


def _stranger(why: str) -> Unauthenticated:
    return Unauthenticated(f"this token cannot be accepted: {why}; 'walle-control login' gets another")
