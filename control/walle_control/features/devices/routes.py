"""HTTP face of the devices feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.devices.service import DevicesService
from walle_control.features.devices.types import EnrolTokenRequest
from walle_control.web.requests import PAGE_DEFAULT, PAGE_MAX, json_response, query_int, read_message
from walle_shared.ids import DeviceId
from walle_shared.protocol.messages import EnrolRequest, RenewRequest


class DeviceRoutes:
    """Endpoints about devices, for devices and operators."""

    def __init__(self, service: DevicesService) -> None:
        self._service = service

    async def enrol(self, request: Request) -> Response:
        """``POST enrol``."""
        return json_response(await self._service.enrol(await read_message(EnrolRequest, request)))

    async def renew(self, request: Request) -> Response:
        """``POST renew``."""
        return json_response(await self._service.renew(await read_message(RenewRequest, request)))

    async def create_enrol_token(self, request: Request) -> Response:
        """``POST enrol-tokens``."""
        wanted = await read_message(EnrolTokenRequest, request)
        return json_response(await self._service.create_enrol_token(wanted, request.state.actor), 201)

    async def list(self, request: Request) -> Response:
        """``GET devices``."""
        limit = max(1, query_int(request, "limit", PAGE_DEFAULT, high=PAGE_MAX))
        return json_response(await self._service.list(request.query_params.get("after", ""), limit))

    async def show(self, request: Request) -> Response:
        """``GET devices/{device_id}``."""
        return json_response(await self._service.show(DeviceId(request.path_params["device_id"])))

    async def revoke(self, request: Request) -> Response:
        """``POST devices/{device_id}/revoke``."""
        device_id = DeviceId(request.path_params["device_id"])
        return json_response(await self._service.revoke(device_id, request.state.actor))
