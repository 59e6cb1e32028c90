"""Logging in from a terminal, by device code (RFC 8628) or a pasted token; kept for the next commands."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from typing import Any

from walle_control.cli import show
from walle_control.cli.client import AdminClient
from walle_control.cli.logins import Login, ask, forget_login, keep_login, login_of, provider, revoke
from walle_control.config import ENV_PREFIX
from walle_shared.errors import ConfigError, NotAllowed, PeerTimeout, WalleError

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def login(arguments: argparse.Namespace) -> int:
    """``login``."""
    url = arguments.url or os.environ.get(f"{ENV_PREFIX}_URL", "")
    if not url:
        raise ConfigError(f"which server? give --url, or set {ENV_PREFIX}_URL")
    if arguments.paste:
        typed = sys.stdin.readline() if not sys.stdin.isatty() else getpass.getpass("token: ")
        found = Login(typed.strip())
    else:
        with AdminClient(url, "") as client:
            found = by_device_code(client.get("login"))
    with AdminClient(url, found.token) as client:
        me = client.get("myself")
    keep_login(url, found)
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
    if found is None:
        print(f"there was no login to {url}")
        return 0
    try:
        told = revoke(found)
    except WalleError as error:  # it is forgotten here all the same
        print(f"walle-control: the provider may still honour this login: {error.message}", file=sys.stderr)
        told = False
    print(f"logged out of {url}" + (", and at the provider" if told else ""))
    return 0


def by_device_code(ways: Any) -> Login:
    """Let somebody log in with a browser, on whichever machine.

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
    with provider() as http:
        begun = ask(
            http, ways["device_authorization_endpoint"], client_id=ways["client_id"], scope=ways["scope"]
        )
        where = begun.get("verification_uri_complete") or begun.get("verification_uri", "")
        print(f"open {where}\nand enter the code {begun.get('user_code', '')}", file=sys.stderr, flush=True)
        every_s = float(begun.get("interval", 5))
        deadline = time.monotonic() + float(begun.get("expires_in", 600))
        while time.monotonic() < deadline:
            time.sleep(every_s)
            answer = ask(
                http, ways["token_endpoint"], grant_type=_GRANT, client_id=ways["client_id"],
                device_code=begun.get("device_code", ""),
            )  # fmt: skip
            match answer.get("error"):
                case None:
                    return login_of(
                        answer, ways["token_endpoint"], ways["client_id"],
                        revocation_endpoint=ways.get("revocation_endpoint", ""),
                    )  # fmt: skip
                case "authorization_pending":
                    continue
                case "slow_down":
                    every_s += 5.0
                case refusal:
                    raise NotAllowed(f"{ways['issuer']}: {answer.get('error_description') or refusal}")
    raise PeerTimeout("nobody logged in before the code lapsed: run 'walle-control login' again")
