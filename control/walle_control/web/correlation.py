"""Says of which trace a request or a tunnel is: its log lines carry the trace that the client's do."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from walle_shared.tracing import TRACEPARENT, TraceContext, enter_trace, new_trace, parse_traceparent

_HEADER: Final = TRACEPARENT.encode()


class Correlated:
    """Runs an application within the trace that the client names, or within a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run it for one request."""
        if scope["type"] in ("http", "websocket"):
            sent = sent_trace(scope)
            enter_trace(sent.child() if sent is not None else new_trace(share=0.0))
        await self._app(scope, receive, send)


def sent_trace(scope: Scope) -> TraceContext | None:
    """The trace that a client names, if it does so rightly."""
    sent: bytes = next((value for name, value in scope["headers"] if name == _HEADER), b"")
    return parse_traceparent(sent.decode("latin-1")) if sent else None
