"""Logging in from a terminal, by device code (RFC 8628) or a pasted token; kept for the next commands."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from typing import Any

import httpx
import orjson

from walle_control.cli import show
from walle_control.cli.client import AdminClient, forget_login, keep_login
from walle_control.config import ENV_PREFIX
from walle_shared.errors import ConfigError, ConnectionLost, NotAllowed, PeerTimeout

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_TIMEOUT_S = 30.0


def login(arguments: argparse.Namespace) -> int:
    """``login``."""
    url = arguments.url or os.environ.get(f"{ENV_PREFIX}_URL", "")
    if not url:
        raise ConfigError(f"which server? give --url, or set {ENV_PREFIX}_URL")
    if arguments.paste:
        token = sys.stdin.readline().strip() if not sys.stdin.isatty() else getpass.getpass("token: ").strip()
    else:
        with AdminClient(url, "") as client:
            token = by_device_code(client.get("login"))
    with AdminClient(url, token) as client:
        me = client.get("myself")
    keep_login(url, token)
    if arguments.json:
        show.print_json(me)
    else:
        print(f"logged in to {url} as {me['name']}")
    return 0


def logout(arguments: argparse.Namespace) -> int:
    """``logout``."""
    url = arguments.url or os.environ.get(f"{ENV_PREFIX}_URL", "")
    if not url:
        raise ConfigError(f"which server? give --url, or set {ENV_PREFIX}_URL")
    found = forget_login(url)
    print(f"logged out of {url}" if found else f"there was no login to {url}")
    return 0


def by_device_code(ways: Any) -> str:
    """Let somebody log in with a browser, on whichever machine; the token.

    Raises:
        ConfigError: the provider knows no such way.
        NotAllowed: it was refused there.
        PeerTimeout: nobody did in time.
        ConnectionLost: the provider does not answer.
    """
    if not ways["device_authorization_endpoint"]:
        raise ConfigError(
            f"{ways['issuer']} offers no login by device code: 'walle-control login --paste' takes a token"
        )
    with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as http:
        begun = _ask(
            http, ways["device_authorization_endpoint"], client_id=ways["client_id"], scope=ways["scope"]
        )
        where = begun.get("verification_uri_complete") or begun.get("verification_uri", "")
        print(f"open {where}\nand enter the code {begun.get('user_code', '')}", file=sys.stderr, flush=True)
        every_s = float(begun.get("interval", 5))
        deadline = time.monotonic() + float(begun.get("expires_in", 600))
        while time.monotonic() < deadline:
            time.sleep(every_s)
            answer = _ask(
                http, ways["token_endpoint"], grant_type=_GRANT, client_id=ways["client_id"],
                device_code=begun.get("device_code", ""),
            )  # fmt: skip
            match answer.get("error"):
                case None:
                    return str(answer.get("id_token") or answer.get("access_token") or "")
                case "authorization_pending":
                    continue
                case "slow_down":
                    every_s += 5.0
                case refusal:
                    raise NotAllowed(f"{ways['issuer']}: {answer.get('error_description') or refusal}")
    raise PeerTimeout("nobody logged in before the code lapsed")


def _ask(http: httpx.Client, url: str, **form: str) -> dict[str, Any]:
    try:
        answer: Any = orjson.loads(http.post(url, data=form).content)
    except (httpx.HTTPError, httpx.InvalidURL, orjson.JSONDecodeError) as error:
        raise ConnectionLost(f"{url}: {error}") from None
    if not isinstance(answer, dict):
        raise ConnectionLost(f"{url} answers no JSON object")
    return answer
