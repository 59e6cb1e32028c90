"""HTTP face of the tasks feature."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.repositories.types import TaskHistory
from walle_control.features.tasks.changes import Comparison
from walle_control.features.tasks.service import TasksService
from walle_control.features.tasks.types import (
    CompareAsked,
    ImportRequest,
    ImportResult,
    Simulation,
    VersionDetail,
    VersionList,
)
from walle_control.features.trust.types import VersionApproval
from walle_control.web.auth import may_see, require
from walle_control.web.describe import describe
from walle_control.web.requests import json_response, read_message, read_query

#: How a version came about, from the version that is named last.
TellHistory = Callable[[str, str, str, str], Awaitable[TaskHistory]]

_IMPORT = {"repository": "/srv/tasks.git", "task": "greeter", "version": "1.0.0"}


class TaskRoutes:
    """Endpoints about task versions."""

    def __init__(self, service: TasksService, history: TellHistory) -> None:
        self._service = service
        self._history = history

    @describe(
        ImportResult, body=ImportRequest, status=(200, 201), errors=(400, 404, 409, 422), example=_IMPORT
    )
    async def import_version(self, request: Request) -> Response:
        """Import a task version from a git tag: 201 if it is new, 200 if it was here."""
        wish = await read_message(ImportRequest, request)
        result = await self._service.import_version(
            wish, request.state.actor, lambda scenario: require(request, scenario)
        )
        return json_response(result, 201 if result.created else 200)

    @describe(VersionList)
    async def list(self, request: Request) -> Response:
        """The imported versions of the scenarios one may see, newest import first."""
        found = (await self._service.list()).versions
        return json_response(VersionList(tuple(v for v in found if may_see(request, v.scenario))))

    @describe(Simulation, errors=(404,))
    async def simulation(self, request: Request) -> Response:
        """What came of a version's simulations."""
        params = request.path_params
        return json_response(
            await self._service.simulation(params["scenario"], params["task"], params["version"])
        )

    @describe(Simulation, errors=(404,))
    async def simulate(self, request: Request) -> Response:
        """Play a version's simulations again, as they were at its tag."""
        params = request.path_params
        simulation = await self._service.simulate(
            params["scenario"], params["task"], params["version"], request.state.actor
        )
        return json_response(simulation)

    @describe(Comparison, query=CompareAsked, errors=(400, 404))
    async def compare(self, request: Request) -> Response:
        """What differs between the files of a version and those of another, by default the one before it."""
        params = request.path_params
        base = read_query(CompareAsked, request).base
        names = params["scenario"], params["task"], params["version"]
        return json_response(await self._service.compare(*names, base))

    @describe(VersionApproval, errors=(404,))
    async def approval(self, request: Request) -> Response:
        """Whether and how a version is approved: by whose keys, and until when."""
        params = request.path_params
        return json_response(
            await self._service.approval(params["scenario"], params["task"], params["version"])
        )

    @describe(TaskHistory, query=CompareAsked, errors=(400, 404))
    async def history(self, request: Request) -> Response:
        """The commits that led to a version from another, by default the one before it."""
        params = request.path_params
        base = read_query(CompareAsked, request).base
        names = params["scenario"], params["task"], params["version"]
        return json_response(await self._history(*names, base))

    @describe(VersionDetail, errors=(404,))
    async def show(self, request: Request) -> Response:
        """One version with its definition and files."""
        params = request.path_params
        return json_response(await self._service.show(params["scenario"], params["task"], params["version"]))
