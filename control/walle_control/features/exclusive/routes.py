"""HTTP face of the exclusive feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from walle_control.features.exclusive.service import GIVE_MAX_BYTES, ExclusiveService
from walle_control.features.exclusive.types import (
    GiveRequest,
    GiveResult,
    OwnFileList,
    OwnFilesAsked,
    TakeRequest,
)
from walle_control.web.describe import Raw, describe
from walle_control.web.requests import json_response, read_body, read_message, read_query
from walle_shared.ids import DeviceId
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import ExclusiveOffer

_GIVE = {"path": "profile.json", "content": "e30=", "devices": ["d0123456789abcdef0123"]}
_TAKE = {"path": "profile.json", "devices": ["d0123456789abcdef0123"]}


class ExclusiveRoutes:
    """Endpoints about files of single devices, for devices and operators.

    Args:
        service: knows them.
        accel_prefix: nginx's internal location of the sealed files; empty: they are sent from here.
    """

    def __init__(self, service: ExclusiveService, accel_prefix: str) -> None:
        self._service = service
        self._accel_prefix = accel_prefix.rstrip("/")

    @describe(ExclusiveOffer, errors=(400, 404))
    async def offer(self, request: Request, device_id: DeviceId) -> Response:
        """The files that this device alone has for a task, and where they lie."""
        params = request.path_params
        return json_response(await self._service.offer(device_id, params["scenario"], params["task"]))

    @describe(Raw("application/octet-stream", {"type": "string"}), status=(200, 206), errors=(403, 404))
    async def sealed(self, request: Request) -> Response:
        """A sealed file: whoever has the URL may fetch it; only the device can open it."""
        query, sha256 = request.query_params, request.path_params["sha256"]
        path = await self._service.open(
            sha256, query.get("device", ""), query.get("expires", ""), query.get("mac", "")
        )
        headers = {"ETag": f'"{sha256}"', "Cache-Control": "private, no-store"}
        if self._accel_prefix:
            return Response(headers={**headers, "X-Accel-Redirect": f"{self._accel_prefix}/{path.name}"})
        return FileResponse(path, headers=headers, media_type="application/octet-stream")

    @describe(GiveResult, body=GiveRequest, errors=(400, 404), example=_GIVE)
    async def give(self, request: Request) -> Response:
        """Give devices a file of their own; one of that name goes."""
        body = await read_body(request, GIVE_MAX_BYTES)
        wish = decode(GiveRequest, body, limit_bytes=GIVE_MAX_BYTES)
        params = request.path_params
        result = await self._service.give(params["scenario"], params["task"], wish, request.state.actor)
        return json_response(result)

    @describe(GiveResult, body=TakeRequest, errors=(400, 404), example=_TAKE)
    async def take(self, request: Request) -> Response:
        """Take a file away from devices."""
        wish, params = await read_message(TakeRequest, request), request.path_params
        result = await self._service.take(params["scenario"], params["task"], wish, request.state.actor)
        return json_response(result)

    @describe(OwnFileList, query=OwnFilesAsked, errors=(400,))
    async def list(self, request: Request) -> Response:
        """Which devices have which files."""
        params, asked = request.path_params, read_query(OwnFilesAsked, request)
        page = await self._service.page(params["scenario"], params["task"], asked.after, asked.limit)
        return json_response(page)
