"""Tell the agent of new epochs that the app's own server mentions, at no cost of a request.

::

    import httpx
    from walle_agent.client.epochs import EpochHook

    hook = EpochHook("/run/walle/events.sock")
    client = httpx.Client(event_hooks=hook.hooks())
    other = httpx.AsyncClient(event_hooks=hook.async_hooks())

The app's server carries the middleware of ``walle_control.push``, which puts ``Walle-Epoch: n`` on an answer
when the request did not say that it knows n. The hook sends what it knows with every request, and tells the
agent of what is new: over its socket, or by any function, if the agent runs in the same process
(``EpochHook(agent.follower.hint)``). It never raises and never waits for longer than ``TIMEOUT_S``; if the
agent is not there, it hears of the epoch by itself.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from walle_shared.protocol.version import EPOCH_HEADER, parse_epoch

#: The local agent answers at once or not at all.
TIMEOUT_S: Final = 0.2

Tell = Callable[[int], None]


class _Request(Protocol):
    """What is used of ``httpx.Request``."""

    @property
    def headers(self) -> _Headers: ...


class _Response(Protocol):
    """What is used of ``httpx.Response``."""

    @property
    def headers(self) -> _Headers: ...


class _Headers(Protocol):
    def get(self, key: str, default: str = ..., /) -> str: ...

    def __setitem__(self, key: str, value: str, /) -> None: ...


class EpochHook:
    """The hook; one for all clients of an app.

    Args:
        tell: the agent's events socket, or what to call with a new epoch.
    """

    def __init__(self, tell: str | Path | Tell) -> None:
        self._tell: Tell = tell if callable(tell) else _SocketTeller(str(tell))
        self.epoch = 0

    def hooks(self) -> Mapping[str, list[Callable[..., object]]]:
        """``event_hooks`` of an ``httpx.Client``."""
        return {"request": [self.on_request], "response": [self.on_response]}

    def async_hooks(self) -> Mapping[str, list[Callable[..., Awaitable[None]]]]:
        """``event_hooks`` of an ``httpx.AsyncClient``."""

        async def on_request(request: _Request) -> None:
            self.on_request(request)

        async def on_response(response: _Response) -> None:
            self.on_response(response)

        return {"request": [on_request], "response": [on_response]}

    def on_request(self, request: _Request) -> None:
        """Say which epoch is known."""
        if self.epoch:
            request.headers[EPOCH_HEADER] = str(self.epoch)

    def on_response(self, response: _Response) -> None:
        """Hear of a newer one."""
        epoch = parse_epoch(response.headers.get(EPOCH_HEADER, ""))
        if epoch <= self.epoch:
            return
        try:
            self._tell(epoch)
        except OSError:
            return  # no agent now: the next answer says it again
        self.epoch = epoch


class _SocketTeller:
    """One line to the agent's socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, epoch: int) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(self._path)
            connection.sendall(b'{"walle_epoch":%d}\n' % epoch)
