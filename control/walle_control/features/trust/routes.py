"""HTTP face of the trust feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.trust.service import TrustService
from walle_control.web.requests import json_response, read_message
from walle_shared.protocol.messages import TimeRequest


class TrustRoutes:
    """Endpoints about trust, for devices and operators."""

    def __init__(self, service: TrustService) -> None:
        self._service = service

    async def time(self, request: Request) -> Response:
        """``POST time``."""
        envelope = self._service.tell_time(await read_message(TimeRequest, request))
        return Response(envelope, media_type="application/json", headers={"Cache-Control": "no-store"})

    async def show(self, _request: Request) -> Response:
        """``GET trust``."""
        return json_response(await self._service.status())
