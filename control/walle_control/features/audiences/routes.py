"""HTTP face of the audiences feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.audiences.service import AudiencesService
from walle_control.features.audiences.types import HoldoutWish
from walle_control.web.requests import json_response, read_message


class AudienceRoutes:
    """Endpoints about audiences."""

    def __init__(self, service: AudiencesService) -> None:
        self._service = service

    async def holdouts(self, _request: Request) -> Response:
        """``GET holdouts``."""
        return json_response(await self._service.holdouts())

    async def set_holdout(self, request: Request) -> Response:
        """``POST holdouts``: add one, or change its size."""
        wish = await read_message(HoldoutWish, request)
        return json_response(await self._service.set_holdout(wish, request.state.actor))

    async def end_holdout(self, request: Request) -> Response:
        """``POST holdouts/{name}/end``."""
        name: str = request.path_params["name"]
        return json_response(await self._service.end_holdout(name, request.state.actor))
