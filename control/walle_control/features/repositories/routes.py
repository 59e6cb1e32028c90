"""HTTP face of the repositories feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.repositories.service import RepositoriesService
from walle_control.features.repositories.types import Repository
from walle_control.web.requests import json_response, read_message


class RepositoryRoutes:
    """Endpoints about repositories."""

    def __init__(self, service: RepositoriesService) -> None:
        self._service = service

    async def add(self, request: Request) -> Response:
        """``POST repositories``."""
        wish = await read_message(Repository, request)
        return json_response(await self._service.add(wish, request.state.actor), 201)

    async def list(self, _request: Request) -> Response:
        """``GET repositories``."""
        return json_response(await self._service.list())

    async def sync(self, request: Request) -> Response:
        """``POST repositories/{name}/sync``: what a forge calls when something was pushed."""
        return json_response(await self._service.sync(request.path_params["name"]))

    async def remove(self, request: Request) -> Response:
        """``POST repositories/{name}/remove``."""
        return json_response(await self._service.remove(request.path_params["name"], request.state.actor))
