"""Hands each epoch to nginx's nchan module, which holds the push streams of all devices and sends it on.

nchan keeps the newest message for devices that come later, in memory: after a restart of nginx it has none.
So the relay asks now and then, and says it again.
"""

from __future__ import annotations

from typing import NoReturn

import httpx
import trio

from walle_control.config import StreamConfig
from walle_control.gateway.hub import EpochHub
from walle_shared.observe import get_logger
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import EpochNotice

_log = get_logger("control.nchan")

_CHECK_S = 2.0
_TIMEOUT_S = 5.0


class NchanRelay:
    """Publishes to one location of one nginx; there is one relay for each.

    Args:
        url: where nginx takes messages, such as ``http://127.0.0.1:8702/push/epoch``.
        hub: knows the newest epoch.
        spread_s: over how long the devices that hear of it ask for it.
        wire: what carries the requests; tests put their own here.
    """

    def __init__(
        self, url: str, hub: EpochHub, spread_s: float, wire: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._url = url
        self._hub = hub
        self._spread_s = spread_s
        self._wire = wire
        self._sent = 0
        self._error = ""

    async def run(self) -> NoReturn:
        """Relay for ever."""
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, transport=self._wire) as client:
            while True:
                try:
                    await self._keep_current(client)
                except httpx.HTTPError as error:
                    self._fail(f"{type(error).__name__}: {error}")
                else:
                    self._recover()
                with trio.move_on_after(_CHECK_S):
                    await self._hub.wait_news(self._sent)
                if self._error or self._hub.stopping:
                    await trio.sleep(_CHECK_S / 10)

    async def _keep_current(self, client: httpx.AsyncClient) -> None:
        epoch = self._hub.epoch
        if epoch <= self._sent and await self._is_kept(client):
            return
        headers = {"X-EventSource-Event": "epoch", "Content-Type": "application/json"}
        notice = encode(EpochNotice(epoch, self._spread_s))
        answer = await client.post(self._url, content=notice, headers=headers)
        answer.raise_for_status()
        self._sent = epoch

    async def _is_kept(self, client: httpx.AsyncClient) -> bool:
        answer = await client.get(self._url, headers={"Accept": "application/json"})
        if answer.status_code == 404:
            return False  # nginx started anew
        answer.raise_for_status()
        try:
            messages: object = answer.json()["messages"]
        except (ValueError, KeyError, TypeError):
            return False
        return isinstance(messages, int) and messages > 0

    def _fail(self, error: str) -> None:
        if error != self._error:
            _log.error("push_relay_failed", url=self._url, error=error)
        self._error = error

    def _recover(self) -> None:
        if self._error:
            _log.info("push_relay_recovered", url=self._url)
        self._error = ""


def relays(config: StreamConfig, hub: EpochHub) -> list[NchanRelay]:
    """A relay for each nginx."""
    return [NchanRelay(url, hub, config.spread_s) for url in config.nchan_urls]
