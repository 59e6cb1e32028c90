"""HTTP face of the repositories feature."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.repositories.service import RepositoriesService
from walle_control.features.repositories.types import (
    Repository,
    RepositoryList,
    RepositoryRow,
    SyncResult,
)
from walle_control.web.auth import may_see, require
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
        row = await self._service.add(wish, request.state.actor, partial(require, request))
        return json_response(row, 201)

    @describe(RepositoryList)
    async def list(self, request: Request) -> Response:
        """The repositories of the scenarios one may see, and how they fare."""
        found = (await self._service.list()).repositories
        return json_response(
            RepositoryList(tuple(row for row in found if may_see(request, row.repository.scenario)))
        )

    @describe(SyncResult, errors=(400, 404, 413, 503), changes=False)
    async def sync(self, request: Request) -> Response:
        """Fetch now: what a forge calls when something was pushed."""
        name = request.path_params["name"]
        return json_response(await self._service.sync(name, partial(require, request)))

    @describe(RepositoryRow, errors=(404,))
    async def remove(self, request: Request) -> Response:
        """Forget a repository and its mirror; what was kept of it is answered."""
        name = request.path_params["name"]
        row = await self._service.remove(name, request.state.actor, partial(require, request))
        return json_response(row)
