"""HTTP face of the devices feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.devices.service import DevicesService
from walle_control.features.devices.types import (
    Device,
    DeviceList,
    DevicesAsked,
    EnrolTokenRequest,
    EnrolTokenResponse,
)
from walle_control.web.describe import describe
from walle_control.web.requests import json_response, read_message, read_query
from walle_shared.ids import DeviceId
from walle_shared.protocol.messages import EnrolRequest, EnrolResponse, RenewRequest

_ENROL_TOKEN = {"uses": 10, "valid_s": 3600, "note": "the lab"}


class DeviceRoutes:
    """Endpoints about devices, for devices and operators."""

    def __init__(self, service: DevicesService) -> None:
        self._service = service

    @describe(EnrolResponse, body=EnrolRequest, errors=(400, 403, 409))
    async def enrol(self, request: Request) -> Response:
        """Admit a device that has an enrolment token; the credential it speaks with from now on."""
        return json_response(await self._service.enrol(await read_message(EnrolRequest, request)))

    @describe(EnrolResponse, body=RenewRequest, errors=(400, 403))
    async def renew(self, request: Request) -> Response:
        """A new credential for a device that proves to hold its key, however long it was away."""
        return json_response(await self._service.renew(await read_message(RenewRequest, request)))

    @describe(EnrolTokenResponse, body=EnrolTokenRequest, status=(201,), errors=(400,), example=_ENROL_TOKEN)
    async def create_enrol_token(self, request: Request) -> Response:
        """Make a token that lets devices enrol; it is shown this once."""
        wanted = await read_message(EnrolTokenRequest, request)
        return json_response(await self._service.create_enrol_token(wanted, request.state.actor), 201)

    @describe(DeviceList, query=DevicesAsked, errors=(400,))
    async def list(self, request: Request) -> Response:
        """Devices by id, with what each last said about its tasks."""
        query = read_query(DevicesAsked, request)
        return json_response(await self._service.list(query.after, query.limit))

    @describe(Device, errors=(404,))
    async def show(self, request: Request) -> Response:
        """One device."""
        return json_response(await self._service.show(DeviceId(request.path_params["device_id"])))

    @describe(Device, errors=(404,))
    async def revoke(self, request: Request) -> Response:
        """End a device's rights for good; its credential stops working at once."""
        device_id = DeviceId(request.path_params["device_id"])
        return json_response(await self._service.revoke(device_id, request.state.actor))
