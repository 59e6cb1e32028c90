"""HTTP face of the learning feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.learning.service import LearningService
from walle_control.features.learning.types import PlanList, PlanView, PlanWish, RoundList, RoundsAsked
from walle_control.web.auth import may_see
from walle_control.web.describe import Raw, describe
from walle_control.web.requests import json_response, read_body, read_query
from walle_shared.limits import LEARNING_HOLDOUT_MAX_BYTES
from walle_shared.protocol.codec import decode

_WISH = {"version": "1.0.0", "noise": 1.0, "rounds": 5, "goal": 100}


class LearningRoutes:
    """Endpoints about learning plans."""

    def __init__(self, service: LearningService) -> None:
        self._service = service

    async def scenario(self, request: Request) -> str:
        """The scenario of the plan in the path."""
        return (await self._service.show(request.path_params["plan"])).scenario

    @describe(PlanList)
    async def list(self, request: Request) -> Response:
        """Learning plans, newest first."""
        found = (await self._service.list()).plans
        return json_response(PlanList(tuple(plan for plan in found if may_see(request, plan.scenario))))

    @describe(PlanView, body=PlanWish, status=(201,), errors=(400, 404, 409), example=_WISH)
    async def start(self, request: Request) -> Response:
        """Begin to train a task's model on the devices that have it."""
        body = await read_body(request, 2 * LEARNING_HOLDOUT_MAX_BYTES)
        wish = decode(PlanWish, body, limit_bytes=2 * LEARNING_HOLDOUT_MAX_BYTES)
        params = request.path_params
        plan = await self._service.start(params["scenario"], params["task"], wish, request.state.actor)
        return json_response(plan, 201)

    @describe(PlanView, errors=(404,))
    async def show(self, request: Request) -> Response:
        """A plan: how far it is, and what its noise is worth."""
        return json_response(await self._service.show(request.path_params["plan"]))

    @describe(PlanView, errors=(404, 409))
    async def stop(self, request: Request) -> Response:
        """End a plan; the updates of its open round are thrown away."""
        return json_response(await self._service.stop(request.path_params["plan"], request.state.actor))

    @describe(RoundList, query=RoundsAsked, errors=(400, 404))
    async def rounds(self, request: Request) -> Response:
        """The rounds of a plan, newest first."""
        asked = read_query(RoundsAsked, request)
        return json_response(await self._service.rounds(request.path_params["plan"], asked.limit))

    @describe(Raw("application/octet-stream", {"type": "string", "format": "binary"}), errors=(404,))
    async def model(self, request: Request) -> Response:
        """The model that a plan has come to, as a ``.wmodel`` file: for the author to commit and tag."""
        data = await self._service.model(request.path_params["plan"])
        return Response(data, media_type="application/octet-stream")
