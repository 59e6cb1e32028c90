"""HTTP face of the trust feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.trust.service import TrustService
from walle_control.features.trust.types import TrustStatus
from walle_control.web.describe import Raw, describe
from walle_control.web.requests import json_response, read_message
from walle_shared.protocol.messages import TimeRequest


class TrustRoutes:
    """Endpoints about trust, for devices and operators."""

    def __init__(self, service: TrustService) -> None:
        self._service = service

    @describe(Raw("application/json", {"type": "object"}), body=TimeRequest, errors=(400,), changes=False)
    async def time(self, request: Request) -> Response:
        """What time it is, in a signed envelope that holds the device's nonce."""
        envelope = self._service.tell_time(await read_message(TimeRequest, request))
        return Response(envelope, media_type="application/json", headers={"Cache-Control": "no-store"})

    @describe(TrustStatus)
    async def show(self, _request: Request) -> Response:
        """What devices trust: roles, keys, expiry, what is approved, and what waits for signatures."""
        return json_response(await self._service.status())
