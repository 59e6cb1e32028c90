"""Logins that are kept for the next commands, by server: tokens, and what renews them.

The file is for its owner's eyes only. A refresh token goes to the provider that gave it and to nobody else:
where that is was kept with it.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

from walle_shared.errors import ConnectionLost, NotAllowed, StorageError
from walle_shared.records import RecordError, from_plain, to_plain

_TIMEOUT_S = 30.0

#: A token is renewed so long before it lapses, so that it lasts for the command.
_EARLY_S = 30.0


@dataclass(frozen=True, slots=True)
class Renewal:
    """How to get the next token (RFC 6749, section 6), and when the present one lapses."""

    token_endpoint: str
    client_id: str
    refresh_token: str
    expires_s: float
    revocation_endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """A token for a server; without ``renewal`` it is used for as long as it lasts."""

    token: str
    renewal: Renewal | None = None


def login_file() -> Path:
    """Where logins are kept, by the server's URL."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "walle" / "logins.json"


def keep_login(url: str, login: Login) -> None:
    """Remember a login for later commands.

    Raises:
        StorageError: it cannot be written.
    """
    with _alone():
        _write({**_read(), url.rstrip("/"): login})


def forget_login(url: str) -> Login | None:
    """Forget a login; the one there was.

    Raises:
        StorageError: it cannot be written.
    """
    with _alone():
        logins = _read()
        known = logins.pop(url.rstrip("/"), None)
        if known is not None:
            _write(logins)
    return known


def revoke(login: Login) -> bool:
    """Tell the provider that a login is over (RFC 7009); false: there is nothing to tell, or no way.

    Raises:
        ConnectionLost: it does not answer.
        NotAllowed: it refuses.
    """
    how = login.renewal
    if how is None or not how.revocation_endpoint:
        return False
    form = {"token": how.refresh_token, "token_type_hint": "refresh_token", "client_id": how.client_id}
    try:
        with provider() as http:
            answer = http.post(how.revocation_endpoint, data=form)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConnectionLost(f"{how.revocation_endpoint}: {error or type(error).__name__}") from None
    if answer.status_code != 200:
        raise NotAllowed(f"{how.revocation_endpoint} answered {answer.status_code}: end the login there")
    return True


def token_for(url: str) -> str | None:
    """The token of the login at a server, renewed if it is about to lapse; None if there is no login.

    Raises:
        NotAllowed: the provider gives no other token: somebody has to log in again.
        ConnectionLost: the provider does not answer.
        StorageError: the new token cannot be kept.
    """
    url = url.rstrip("/")
    login = _read().get(url)
    if login is None or not _is_due(login):
        return login.token if login is not None else None
    with _alone():  # most providers take a refresh token once, so one command at a time
        logins = _read()
        login = logins.get(url, login)
        if _is_due(login):
            login = _renew(url, login)
            _write({**logins, url: login})
    return login.token


def login_of(
    answer: Mapping[str, Any],
    token_endpoint: str,
    client_id: str,
    refresh_token: str = "",
    revocation_endpoint: str = "",
) -> Login:
    """What a token endpoint's answer gives; ``refresh_token`` is the one before, which may go on counting."""
    token = str(answer.get("id_token") or answer.get("access_token") or "")
    refresh_token = str(answer.get("refresh_token") or refresh_token)
    expires_s = _expiry(token, answer)
    if not refresh_token or not expires_s:
        return Login(token)
    return Login(token, Renewal(token_endpoint, client_id, refresh_token, expires_s, revocation_endpoint))


def ask(http: httpx.Client, url: str, **form: str) -> dict[str, Any]:
    """Ask a provider; its answer, which may be a refusal.

    Raises:
        ConnectionLost: it does not answer, or not with a JSON object.
    """
    try:
        answer: Any = orjson.loads(http.post(url, data=form).content)
    except (httpx.HTTPError, httpx.InvalidURL, orjson.JSONDecodeError) as error:
        raise ConnectionLost(f"{url}: {error}") from None
    if not isinstance(answer, dict):
        raise ConnectionLost(f"{url} answers no JSON object")
    return answer


def provider() -> httpx.Client:
    """What talks to a provider."""
    return httpx.Client(timeout=_TIMEOUT_S, trust_env=False)


def _is_due(login: Login) -> bool:
    return login.renewal is not None and time.time() > login.renewal.expires_s - _EARLY_S


def _renew(url: str, login: Login) -> Login:
    how = login.renewal
    assert how is not None
    with provider() as http:
        answer = ask(
            http, how.token_endpoint, grant_type="refresh_token", refresh_token=how.refresh_token,
            client_id=how.client_id,
        )  # fmt: skip
    renewed = login_of(answer, how.token_endpoint, how.client_id, how.refresh_token, how.revocation_endpoint)
    if "error" in answer or not renewed.token:
        why = answer.get("error_description") or answer.get("error") or "the provider gave no token"
        raise NotAllowed(f"the login to {url} is over ({why}): 'walle-control login' begins another")
    return renewed


def _expiry(token: str, answer: Mapping[str, Any]) -> float:
    """When a token lapses: as it says itself, or the answer with it; 0: neither does."""
    try:
        body = token.split(".")[1]
        said = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["exp"]
        return float(said)
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        lasts_s = answer.get("expires_in")
        return time.time() + lasts_s if isinstance(lasts_s, int | float) else 0.0


def _read() -> dict[str, Login]:
    try:
        found = orjson.loads(login_file().read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    logins: dict[str, Login] = {}
    for url, entry in found.items() if isinstance(found, dict) else ():
        try:
            logins[url] = Login(entry) if isinstance(entry, str) else from_plain(Login, entry)
        except RecordError:
            continue  # of another program's version: as if there were none
    return logins


def _write(logins: Mapping[str, Login]) -> None:
    path = login_file()
    try:
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps({url: to_plain(login) for url, login in logins.items()}))
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error}") from None


@contextmanager
def _alone() -> Iterator[None]:
    """While no other command changes the file."""
    path = login_file().with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
