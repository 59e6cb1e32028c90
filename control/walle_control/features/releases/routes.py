"""HTTP face of the releases feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.releases.service import ReleasesService
from walle_control.features.releases.types import (
    ActionRequest,
    CreateRelease,
    ExplainRequest,
    ReleaseAction,
)
from walle_control.web.auth import Endpoint
from walle_control.web.requests import json_response, read_body, read_message
from walle_shared.ids import DeviceId, ReleaseId
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import DecideRequest


class ReleaseRoutes:
    """Endpoints about releases and epochs."""

    def __init__(self, service: ReleasesService) -> None:
        self._service = service

    async def create(self, request: Request) -> Response:
        """``POST releases``."""
        wish = await read_message(CreateRelease, request)
        return json_response(await self._service.create(wish, request.state.actor), 201)

    async def list(self, _request: Request) -> Response:
        """``GET releases``."""
        return json_response(await self._service.list())

    async def show(self, request: Request) -> Response:
        """``GET releases/{release_id}``."""
        return json_response(await self._service.show(ReleaseId(request.path_params["release_id"])))

    def act(self, action: ReleaseAction) -> Endpoint:
        """``POST releases/{release_id}/<action>``; the body may give a reason."""

        async def endpoint(request: Request) -> Response:
            body = await read_body(request)
            wish = decode(ActionRequest, body) if body else ActionRequest()
            release_id = ReleaseId(request.path_params["release_id"])
            actor: str = request.state.actor
            return json_response(await self._service.act(release_id, action, actor, wish.reason[:500]))

        return endpoint

    async def explain(self, request: Request) -> Response:
        """``POST explain``."""
        return json_response(await self._service.explain(await read_message(ExplainRequest, request)))

    async def tell(self, request: Request, device_id: DeviceId) -> Response:
        """``POST decide``: for a device, what only the server can decide."""
        wish = await read_message(DecideRequest, request)
        return Response(await self._service.tell(wish, device_id), media_type="application/json")

    async def epoch(self, _request: Request) -> Response:
        """``GET epoch``: the newest one, opened."""
        return json_response(await self._service.epoch())
