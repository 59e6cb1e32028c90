"""HTTP face of the exclusive feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from walle_control.features.exclusive.service import GIVE_MAX_BYTES, ExclusiveService
from walle_control.features.exclusive.types import GiveRequest, TakeRequest
from walle_control.web.requests import (
    PAGE_DEFAULT,
    PAGE_MAX,
    json_response,
    query_int,
    read_body,
    read_message,
)
from walle_shared.ids import DeviceId
from walle_shared.protocol.codec import decode


class ExclusiveRoutes:
    """Endpoints about files of single devices, for devices and operators.

    Args:
        service: knows them.
        accel_prefix: nginx's internal location of the sealed files; empty: they are sent from here.
    """

    def __init__(self, service: ExclusiveService, accel_prefix: str) -> None:
        self._service = service
        self._accel_prefix = accel_prefix.rstrip("/")

    async def offer(self, request: Request, device_id: DeviceId) -> Response:
        """``GET exclusive/{scenario}/{task}`` of the device API."""
        params = request.path_params
        return json_response(await self._service.offer(device_id, params["scenario"], params["task"]))

    async def sealed(self, request: Request) -> Response:
        """``GET sealed/{sha256}``: whoever has the URL may fetch it; only the device can open it."""
        query, sha256 = request.query_params, request.path_params["sha256"]
        path = await self._service.open(
            sha256, query.get("device", ""), query.get("expires", ""), query.get("mac", "")
        )
        headers = {"ETag": f'"{sha256}"', "Cache-Control": "private, no-store"}
        if self._accel_prefix:
            return Response(headers={**headers, "X-Accel-Redirect": f"{self._accel_prefix}/{path.name}"})
        return FileResponse(path, headers=headers, media_type="application/octet-stream")

    async def give(self, request: Request) -> Response:
        """``POST exclusive/{scenario}/{task}/give``."""
        body = await read_body(request, GIVE_MAX_BYTES)
        wish = decode(GiveRequest, body, limit_bytes=GIVE_MAX_BYTES)
        params = request.path_params
        result = await self._service.give(params["scenario"], params["task"], wish, request.state.actor)
        return json_response(result)

    async def take(self, request: Request) -> Response:
        """``POST exclusive/{scenario}/{task}/take``."""
        wish, params = await read_message(TakeRequest, request), request.path_params
        result = await self._service.take(params["scenario"], params["task"], wish, request.state.actor)
        return json_response(result)

    async def list(self, request: Request) -> Response:
        """``GET exclusive/{scenario}/{task}``."""
        limit = max(1, query_int(request, "limit", PAGE_DEFAULT, high=PAGE_MAX))
        params, after = request.path_params, request.query_params.get("after", "")
        return json_response(await self._service.page(params["scenario"], params["task"], after, limit))
