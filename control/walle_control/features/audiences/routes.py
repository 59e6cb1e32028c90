"""HTTP face of the audiences feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.audiences.service import AudiencesService
from walle_control.features.audiences.types import (
    AttributeList,
    Estimate,
    EstimateRequest,
    HoldoutList,
    HoldoutWish,
    SaidAttributes,
    SegmentList,
    SegmentWish,
    SetList,
    Whom,
)
from walle_control.web.auth import Endpoint
from walle_control.web.describe import describe
from walle_control.web.requests import json_response, read_body, read_message
from walle_shared.errors import RemoteProtocolError
from walle_shared.limits import SET_UPLOAD_MAX_BYTES
from walle_shared.targeting.attributes import Attribute

_HOLDOUT = {"name": "all_year", "percent": 2, "scenario": "demo"}
_ESTIMATE = {"predicate": 'group == "beta"', "optional": True}
_SEGMENT = {"name": "testers", "predicate": 'group == "beta"'}
_ATTRIBUTE = {"name": "tier", "kind": "string", "side": "server"}
_DEVICE = {"values": {"tier": "gold"}}


class AudienceRoutes:
    """Endpoints about audiences."""

    def __init__(self, service: AudiencesService) -> None:
        self._service = service

    @describe(HoldoutList)
    async def holdouts(self, _request: Request) -> Response:
        """Devices that releases do not reach."""
        return json_response(await self._service.holdouts())

    @describe(HoldoutList, body=HoldoutWish, errors=(400,), example=_HOLDOUT)
    async def set_holdout(self, request: Request) -> Response:
        """Keep a part of all devices out of releases, or change how large it is."""
        wish = await read_message(HoldoutWish, request)
        return json_response(await self._service.set_holdout(wish, request.state.actor))

    @describe(HoldoutList, errors=(404,))
    async def end_holdout(self, request: Request) -> Response:
        """Let its devices have what the others have."""
        name: str = request.path_params["name"]
        return json_response(await self._service.end_holdout(name, request.state.actor))

    @describe(Estimate, body=EstimateRequest, errors=(400,), changes=False, example=_ESTIMATE)
    async def estimate(self, request: Request) -> Response:
        """How many devices a predicate matches, by a sample of them."""
        return json_response(await self._service.estimate(await read_message(EstimateRequest, request)))

    @describe(SegmentList)
    async def segments(self, _request: Request) -> Response:
        """Predicates with a name, all versions."""
        return json_response(await self._service.segments())

    @describe(SegmentList, body=SegmentWish, errors=(400, 404), example=_SEGMENT)
    async def set_segment(self, request: Request) -> Response:
        """Give a predicate a name; the next version, if there is one of that name."""
        wish = await read_message(SegmentWish, request)
        return json_response(await self._service.set_segment(wish, request.state.actor))

    @describe(SetList)
    async def sets(self, _request: Request) -> Response:
        """Sets of ids, all versions."""
        return json_response(await self._service.sets())

    @describe(SetList, errors=(400,))
    async def put_set(self, request: Request) -> Response:
        """Upload a set, or its next version: one id a line, UTF-8; empty lines do not count."""
        body = await read_body(request, SET_UPLOAD_MAX_BYTES)
        try:
            lines = (line.strip() for line in body.decode().splitlines())
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(f"the ids must be UTF-8 text: byte {error.start} is not") from None
        name: str = request.path_params["name"]
        members = [line for line in lines if line]
        return json_response(await self._service.put_set(name, members, request.state.actor))

    @describe(AttributeList)
    async def attributes(self, _request: Request) -> Response:
        """Attributes that were declared."""
        return json_response(await self._service.attributes())

    @describe(AttributeList, body=Attribute, errors=(400, 409), example=_ATTRIBUTE)
    async def declare(self, request: Request) -> Response:
        """Declare an attribute, or declare it anew."""
        attribute = await read_message(Attribute, request)
        return json_response(await self._service.declare(attribute, request.state.actor))

    def said_of(self, whom: Whom) -> Endpoint:
        """The endpoint that tells what operators say of a device or a user."""

        @describe(SaidAttributes, errors=(404,))
        async def endpoint(request: Request) -> Response:
            return json_response(await self._service.said_of(whom, request.path_params["subject"]))

        endpoint.__doc__ = f"What operators say of a {whom}."
        return endpoint

    def say_of(self, whom: Whom) -> Endpoint:
        """The endpoint that lets operators say something of a device or a user."""

        @describe(SaidAttributes, body=SaidAttributes, errors=(400, 404), example=_DEVICE)
        async def endpoint(request: Request) -> Response:
            wish = await read_message(SaidAttributes, request)
            subject: str = request.path_params["subject"]
            return json_response(await self._service.describe(whom, subject, wish, request.state.actor))

        endpoint.__doc__ = f"Say what only the server knows of a {whom}."
        return endpoint
