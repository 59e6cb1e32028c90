"""Talks to a running server's admin API."""

from __future__ import annotations

import argparse
import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import orjson

from walle_control.cli.logins import token_for
from walle_control.config import ENV_PREFIX
from walle_control.db.store import Home
from walle_shared.errors import ConfigError, ConnectionLost, WalleError

_TIMEOUT_S = 30.0
_IMPORT_TIMEOUT_S = 600.0


class RequestFailed(WalleError):
    """The server refused; ``code`` and message are its own."""


class AdminClient:
    """A synchronous client of ``/api/v1``, without a token where none is needed; a context manager."""

    def __init__(self, url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v1",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=_TIMEOUT_S,
            transport=transport,
            trust_env=False,
        )

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """Ask; the decoded answer.

        Raises:
            RequestFailed: the server's own error.
            ConnectionLost: it cannot be reached.
        """
        return self._send("GET", path, params={name: value for name, value in query.items() if value != ""})

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Tell; the decoded answer.

        Raises:
            RequestFailed: the server's own error.
            ConnectionLost: it cannot be reached.
        """
        return self._send("POST", path, json=body or {}, timeout=_IMPORT_TIMEOUT_S)

    def upload(self, path: str, data: bytes) -> Any:
        """Send bytes; the decoded answer.

        Raises:
            RequestFailed: the server's own error.
            ConnectionLost: it cannot be reached.
        """
        return self._send("POST", path, content=data, timeout=_IMPORT_TIMEOUT_S)

    def download(self, path: str) -> bytes:
        """Ask for a file.

        Raises:
            RequestFailed: the server's own error.
            ConnectionLost: it cannot be reached.
        """
        response = self._request("GET", path)
        if response.is_error:
            _answer_of(response)
        return response.content

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **arguments)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ConnectionLost(
                f"{self._http.base_url} does not answer: {error}; is the server running?"
            ) from None

    def _send(self, method: str, path: str, **arguments: Any) -> Any:
        return _answer_of(self._request(method, path, **arguments))


def _answer_of(response: httpx.Response) -> Any:
    try:
        answer = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        raise RequestFailed(
            f"{response.url} answered {response.status_code} without JSON: not our server?"
        ) from None
    if response.is_error:
        raise RequestFailed(str(answer.get("detail", answer)), code=str(answer.get("code", "error")))
    return answer


def quoted(text: str) -> str:
    """A text as one part of a path."""
    return urllib.parse.quote(text, safe="")


def connect(arguments: argparse.Namespace) -> AdminClient:
    """Find the server: by the flags, the environment, or the data folder of a server on this machine.

    Raises:
        ConfigError: URL or token are nowhere to be found; says where they may be.
        NotAllowed: a kept login is over.
        ConnectionLost: who should renew it does not answer.
    """
    url = arguments.url or os.environ.get(f"{ENV_PREFIX}_URL")
    token = arguments.token or os.environ.get(f"{ENV_PREFIX}_TOKEN")
    data = data_folder(arguments)
    home = Home(data) if data is not None else None
    if home is not None:
        url = url or _running_url(home)
        token = token or _read(home.admin_token)
    elif url:
        token = token or token_for(url)
    if not url or not token:
        missing = "the server's address" if not url else "a token ('walle-control login' gets one)"
        raise ConfigError(
            f"{missing} is not known: give --url and --token, or --data with the server's data folder"
            f" (or set {ENV_PREFIX}_URL, {ENV_PREFIX}_TOKEN, {ENV_PREFIX}_DATA)"
        )
    return AdminClient(url, token)


def data_folder(arguments: argparse.Namespace) -> Path | None:
    """The data folder of a server on this machine, where the flags or the environment name one."""
    data = arguments.data or os.environ.get(f"{ENV_PREFIX}_DATA")
    return Path(data) if data else None


def _running_url(home: Home) -> str:
    if not home.address.exists():
        raise ConfigError(
            f"no server runs on {home.root}: start it with 'walle-control serve --data {home.root}'"
        )
    return str(orjson.loads(_read(home.address))["url"])


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
