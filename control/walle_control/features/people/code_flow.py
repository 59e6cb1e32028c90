"""Logging a browser in at the provider of identities: authorisation code with PKCE (OpenID Connect Core 3.1).

1. Everything that a login is known by comes of one secret that only the browser holds, in a cookie that
   lasts for minutes: ``state`` ties the provider's answer to that browser, ``nonce`` the token to the login,
   and the code is worth nothing without the verifier (RFC 7636).
2. The token is asked for by this server, at the provider's own endpoint; it is then checked as any token.
3. An answer of another provider is refused where they say who they are (RFC 9207).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from walle_control.config import OidcConfig
from walle_control.features.people.oidc import Identity, Provider, submit
from walle_control.web.problems import Unauthenticated
from walle_shared.errors import ConfigError, NotAllowed

_TEXT_MAX = 200


@dataclass(frozen=True, slots=True)
class Login:
    """Who logged in, and what renews that; empty: nothing does."""

    identity: Identity
    refresh_token: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login under way, as the browser's secret and the address to come back to determine it."""

    secret: str
    redirect_uri: str

    @classmethod
    def new(cls, redirect_uri: str) -> Attempt:
        """A login that begins."""
        return cls(secrets.token_hex(32), redirect_uri)

    @property
    def state(self) -> str:
        """What the provider sends back with its answer."""
        return self._derived("state")

    @property
    def nonce(self) -> str:
        """What the token must carry."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """What the code is redeemed with."""
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        """What the provider is told of the verifier before (S256)."""
        return _base64url(hashlib.sha256(self.verifier.encode()).digest())

    def _derived(self, use: str) -> str:
        return _base64url(hmac.digest(self.secret.encode(), use.encode(), "sha256"))


class CodeFlow:
    """Logs browsers in at one provider.

    Raises:
        ConfigError: on construction, if the client's secret cannot be read.
    """

    def __init__(self, config: OidcConfig, provider: Provider) -> None:
        self._config = config
        self._provider = provider
        self._client = {"client_id": config.client}
        if config.client_secret_file:
            self._client["client_secret"] = _read_secret(config.client_secret_file)

    @property
    def issuer(self) -> str:
        """The provider."""
        return self._config.issuer

    async def begin(self, attempt: Attempt) -> str:
        """Where the browser is to go.

        Raises:
            ConfigError: the provider knows no such way.
            TransportError: it is away.
        """
        where = await self._provider.endpoint("authorization_endpoint")
        if not where:
            raise ConfigError(f"{self.issuer} offers no login by browser: use a token")
        asked = {
            "response_type": "code", "client_id": self._config.client, "redirect_uri": attempt.redirect_uri,
            "scope": self._config.scope, "state": attempt.state, "nonce": attempt.nonce,
            "code_challenge": attempt.challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        return f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}"

    async def finish(self, attempt: Attempt, answer: Mapping[str, str]) -> Login:
        """Who logged in, by the parameters that the provider sent the browser back with.

        Raises:
            NotAllowed: somebody refused there.
            Unauthenticated: it is no answer to this attempt, or its code or token is not good.
            TransportError: the provider is away.
        """
        if not hmac.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise Unauthenticated(
                "this login was not begun in this browser, or another was begun since: begin again"
            )
        if answer.get("iss", self.issuer) != self.issuer:
            raise Unauthenticated("this login was answered by another provider than was asked: begin again")
        if "error" in answer:
            raise NotAllowed(_refusal(self.issuer, answer))
        login = await self._redeem(
            {
                "grant_type": "authorization_code",
                "code": answer.get("code", ""),
                "redirect_uri": attempt.redirect_uri,
                "code_verifier": attempt.verifier,
            },
            ("id_token",),  # an access token says nothing of the attempt
        )
        if not hmac.compare_digest(login.identity.nonce.encode(), attempt.nonce.encode()):
            raise Unauthenticated("the provider's token is of another login: begin again")
        return login

    async def renew(self, refresh_token: str) -> Login:
        """The login that goes on (RFC 6749, section 6).

        Raises:
            NotAllowed: the provider lets it end.
            TransportError: it is away.
        """
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        login = await self._redeem(form, ("id_token", "access_token"))
        return login if login.refresh_token else Login(login.identity, refresh_token)

    async def revoke(self, refresh_token: str) -> bool:
        """Tell the provider that a refresh token shall count no more (RFC 7009); false: it cannot be told.

        Raises:
            Unauthenticated: it refuses.
            TransportError: it is away.
        """
        where = await self._provider.endpoint("revocation_endpoint")
        if not where:
            return False
        form = {"token": refresh_token, "token_type_hint": "refresh_token", **self._client}
        answer = await submit(where, form)
        if "error" in answer:
            raise Unauthenticated(f"{self.issuer} did not revoke the login: {_why(answer)}")
        return True

    async def _redeem(self, form: Mapping[str, str], kinds: tuple[str, ...]) -> Login:
        answer = await submit(await self._provider.endpoint("token_endpoint"), {**form, **self._client})
        if "error" in answer:
            raise Unauthenticated(_refusal(self.issuer, answer))
        token = next((found for kind in kinds if isinstance(found := answer.get(kind), str)), "")
        if not token:
            raise Unauthenticated(f"{self.issuer} gave no token: oidc.scope must hold 'openid'")
        refresh_token = answer.get("refresh_token")
        return Login(
            await self._provider.identify(token), refresh_token if isinstance(refresh_token, str) else ""
        )


def _refusal(issuer: str, answer: Mapping[str, Any]) -> str:
    return f"{issuer} refused the login: {_why(answer)}"


def _why(answer: Mapping[str, Any]) -> str:
    return str(answer.get("error_description") or answer.get("error"))[:_TEXT_MAX]


def _read_secret(path: str) -> str:
    try:
        secret = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"oidc.client_secret_file {path}: cannot be read: {error}") from None
    if not secret:
        raise ConfigError(f"oidc.client_secret_file {path} is empty: write the client's secret into it")
    return secret


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
