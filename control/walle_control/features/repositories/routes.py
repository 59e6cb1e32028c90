"""HTTP face of the repositories feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.repositories.service import RepositoriesService
from walle_control.features.repositories.types import (
    Repository,
    RepositoryList,
    RepositoryRow,
    SyncResult,
)
from walle_control.web.describe import describe
from walle_control.web.requests import json_response, read_message

_REPOSITORY = {"name": "tasks", "url": "https://git.example.org/tasks.git", "scenario": "demo"}


class RepositoryRoutes:
    """Endpoints about repositories."""

    def __init__(self, service: RepositoriesService) -> None:
        self._service = service

    @describe(RepositoryRow, body=Repository, status=(201,), errors=(400, 409), example=_REPOSITORY)
    async def add(self, request: Request) -> Response:
        """Keep a mirror of a git repository."""
        wish = await read_message(Repository, request)
        return json_response(await self._service.add(wish, request.state.actor), 201)

    @describe(RepositoryList)
    async def list(self, _request: Request) -> Response:
        """All repositories, and how they fare."""
        return json_response(await self._service.list())

    @describe(SyncResult, errors=(404,), changes=False)
    async def sync(self, request: Request) -> Response:
        """Fetch now: what a forge calls when something was pushed."""
        return json_response(await self._service.sync(request.path_params["name"]))

    @describe(RepositoryList, errors=(404,))
    async def remove(self, request: Request) -> Response:
        """Forget a repository and its mirror."""
        return json_response(await self._service.remove(request.path_params["name"], request.state.actor))
