"""HTTP face of the tasks feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.tasks.service import TasksService
from walle_control.features.tasks.types import ImportRequest
from walle_control.web.requests import json_response, read_message


class TaskRoutes:
    """Endpoints about task versions."""

    def __init__(self, service: TasksService) -> None:
        self._service = service

    async def import_version(self, request: Request) -> Response:
        """``POST tasks``: 201 if it is new, 200 if it was here."""
        result = await self._service.import_version(
            await read_message(ImportRequest, request), request.state.actor
        )
        return json_response(result, 201 if result.created else 200)

    async def list(self, _request: Request) -> Response:
        """``GET tasks``."""
        return json_response(await self._service.list())

    async def simulation(self, request: Request) -> Response:
        """``GET tasks/{scenario}/{task}/{version}/simulation``."""
        params = request.path_params
        return json_response(
            await self._service.simulation(params["scenario"], params["task"], params["version"])
        )

    async def simulate(self, request: Request) -> Response:
        """``POST tasks/{scenario}/{task}/{version}/simulation``."""
        params = request.path_params
        simulation = await self._service.simulate(
            params["scenario"], params["task"], params["version"], request.state.actor
        )
        return json_response(simulation)

    async def show(self, request: Request) -> Response:
        """``GET tasks/{scenario}/{task}/{version}``."""
        params = request.path_params
        return json_response(await self._service.show(params["scenario"], params["task"], params["version"]))
