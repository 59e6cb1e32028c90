"""HTTP face of the permits feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.permits.service import PermitsService
from walle_control.web.describe import describe
from walle_control.web.requests import json_response, read_message
from walle_shared.ids import DeviceId
from walle_shared.protocol.messages import PermitAnswer, PermitRequest


class PermitRoutes:
    """Endpoints about permits."""

    def __init__(self, service: PermitsService) -> None:
        self._service = service

    @describe(PermitAnswer, body=PermitRequest, errors=(400, 404))
    async def ask(self, request: Request, device_id: DeviceId) -> Response:
        """Ask for a place in a capped release, or claim it."""
        return json_response(await self._service.ask(await read_message(PermitRequest, request), device_id))
