"""HTTP face of the releases feature."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.releases.approvals import Decision
from walle_control.features.releases.service import ReleasesService
from walle_control.features.releases.types import (
    ACTION_WORDS,
    ActionRequest,
    ApprovalList,
    ApprovalRule,
    CreateRelease,
    EpochView,
    ExplainRequest,
    ExplainResponse,
    ReleaseAction,
    ReleaseDetail,
    ReleaseList,
)
from walle_control.features.releases.verdicts import API_WAIT_S, Verdicts
from walle_control.web.auth import Endpoint, may_see, require
from walle_control.web.describe import Raw, describe
from walle_control.web.requests import json_response, read_body, read_message
from walle_shared.ids import DeviceId, ReleaseId
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import DecideRequest

_RELEASE = {
    "scenario": "demo",
    "task": "greeter",
    "version": "1.0.0",
    "predicate": 'group == "beta"',
    "stages": [{"percent": 1}, {"percent": 10, "hold_s": 3600}, {"percent": 100}],
}
_REASON = {"reason": "complaints from the field"}
_RULE = {"steps": ["create", "full"], "valid_s": 86_400}
#: What each decision does, for whoever looks for it.
DECISION_WORDS: Mapping[Decision, str] = {
    "approved": "Approve what a release waits for; not one's own.",
    "rejected": "Turn down what a release waits for; not one's own.",
    "glass_broken": "Let a release go on without approval, for a reason that is kept.",
}
_EXPLAIN = {"device_id": "d0123456789abcdef0123", "profile": {"group": "beta", "memory_mb": 4000}}


class ReleaseRoutes:
    """Endpoints about releases and epochs."""

    def __init__(self, service: ReleasesService, verdicts: Verdicts) -> None:
        self._service = service
        self._verdicts = verdicts

    async def scenario(self, request: Request) -> str:
        """The scenario of the release in the path."""
        return await self._service.scenario_of(ReleaseId(request.path_params["release_id"]))

    @describe(ReleaseDetail, body=CreateRelease, status=(201,), errors=(400, 404), example=_RELEASE)
    async def create(self, request: Request) -> Response:
        """Release a version to a part of the devices, at once or in stages."""
        wish = await read_message(CreateRelease, request)
        require(request, wish.scenario or "(none)")
        return await self._answer(await self._service.create(wish, request.state.actor), 201)

    @describe(ReleaseList)
    async def list(self, request: Request) -> Response:
        """The releases of the scenarios one may see, newest first."""
        found = (await self._service.list(judged=False)).releases
        judged = await self._verdicts.on_all(found, API_WAIT_S, "all")
        return json_response(ReleaseList(tuple(r for r in judged if may_see(request, r.release.scenario))))

    @describe(ReleaseDetail, errors=(404,))
    async def show(self, request: Request) -> Response:
        """All about one release: counts, verdict, history.

        After the server has started, the verdict may say for some seconds that votes are being counted.
        """
        release_id = ReleaseId(request.path_params["release_id"])
        return await self._answer(await self._service.show(release_id, judged=False))

    def act(self, action: ReleaseAction) -> Endpoint:
        """The endpoint of an action; its body may give a reason."""

        @describe(
            ReleaseDetail, body=ActionRequest, body_optional=True, errors=(400, 404, 409), example=_REASON
        )
        async def endpoint(request: Request) -> Response:
            body = await read_body(request)
            wish = decode(ActionRequest, body) if body else ActionRequest()
            release_id = ReleaseId(request.path_params["release_id"])
            actor: str = request.state.actor
            return await self._answer(await self._service.act(release_id, action, actor, wish.reason[:500]))

        endpoint.__doc__ = ACTION_WORDS[action]
        return endpoint

    def decide(self, decision: Decision) -> Endpoint:
        """The endpoint of a decision about what a release waits for."""

        @describe(
            ReleaseDetail, body=ActionRequest, body_optional=True, errors=(400, 404, 409), example=_REASON
        )
        async def endpoint(request: Request) -> Response:
            body = await read_body(request)
            wish = decode(ActionRequest, body) if body else ActionRequest()
            release_id = ReleaseId(request.path_params["release_id"])
            actor: str = request.state.actor
            detail = await self._service.decide(release_id, decision, actor, wish.reason[:500])
            return await self._answer(detail)

        endpoint.__doc__ = DECISION_WORDS[decision]
        return endpoint

    async def _answer(self, detail: ReleaseDetail, status: int = 200) -> Response:
        return json_response(await self._verdicts.on(detail, API_WAIT_S), status)

    @describe(ApprovalList)
    async def waiting(self, request: Request) -> Response:
        """Requests that wait for approval, in the scenarios one may see."""
        found = (await self._service.waiting()).approvals
        return json_response(ApprovalList(tuple(a for a in found if may_see(request, a.scenario))))

    @describe(ApprovalRule)
    async def approval_rule(self, request: Request) -> Response:
        """Which steps of a scenario's releases another person must approve."""
        return json_response(await self._service.approval_rule(request.path_params["scenario"]))

    @describe(ApprovalRule, body=ApprovalRule, errors=(400,), example=_RULE)
    async def set_approval_rule(self, request: Request) -> Response:
        """Say which steps of a scenario's releases another person must approve."""
        rule = await read_message(ApprovalRule, request)
        scenario, actor = request.path_params["scenario"], request.state.actor
        return json_response(await self._service.set_approval_rule(scenario, rule, actor))

    @describe(ExplainResponse, body=ExplainRequest, errors=(400, 404), changes=False, example=_EXPLAIN)
    async def explain(self, request: Request) -> Response:
        """Why a device gets what it gets: every live release and what speaks for or against it."""
        return json_response(await self._service.explain(await read_message(ExplainRequest, request)))

    @describe(Raw("application/json", {"type": "object"}), body=DecideRequest, errors=(400, 404, 409))
    async def tell(self, request: Request, device_id: DeviceId) -> Response:
        """For a device, what only the server can decide: a signed envelope."""
        wish = await read_message(DecideRequest, request)
        return Response(await self._service.tell(wish, device_id), media_type="application/json")

    @describe(EpochView, errors=(404,))
    async def epoch(self, _request: Request) -> Response:
        """The newest policy as devices see it, opened."""
        return json_response(await self._service.epoch())
