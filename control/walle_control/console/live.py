"""Tells a page that is being watched when to look again: server-sent events, at most one a second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from walle_control.console.frame import Frame
from walle_control.console.state import ConsoleState
from walle_control.features.telemetry.arrivals import Arrivals
from walle_control.gateway.stream import EventStream

#: After so much silence a comment keeps proxies from hanging up, and the session is looked at again.
_HEARTBEAT_S: Final = 15.0
_RETRY_MS: Final = 3_000
#: What a page says it shows besides, to be told of it.
FEATURES: Final = "features"


class LiveRoute:
    """The endpoint of the events."""

    def __init__(self, state: ConsoleState, frame: Frame, arrivals: Arrivals) -> None:
        self._state = state
        self._frame = frame
        self._arrivals = arrivals

    async def watch(self, request: Request) -> Response:
        """Events ``news`` for as long as the session lasts. Whatever is new, the page asks for itself."""
        if not await self._frame.may_watch(request):
            return Response(status_code=401)

        async def converse(send: Callable[[bytes], Awaitable[None]]) -> None:
            await send(b"retry: %d\n\n" % _RETRY_MS)
            arrivals = self._arrivals if request.query_params.get("of") == FEATURES else None
            async with aclosing(self._state.news.watch(_HEARTBEAT_S, arrivals)) as news:
                async for is_new in news:
                    if not await self._frame.may_watch(request):
                        return  # the page asks again with its newest cookie: it may be signed out
                    await send(b"event: news\ndata: {}\n\n" if is_new else b":\n\n")

        return EventStream(self._state.watched, converse)
