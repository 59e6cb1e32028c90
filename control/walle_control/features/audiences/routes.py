"""HTTP face of the audiences feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.audiences.service import AudiencesService
from walle_control.features.audiences.types import HoldoutWish, SaidAttributes, SegmentWish, Whom
from walle_control.web.auth import Endpoint
from walle_control.web.requests import json_response, read_body, read_message
from walle_shared.errors import RemoteProtocolError
from walle_shared.limits import SET_UPLOAD_MAX_BYTES
from walle_shared.targeting.attributes import Attribute


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

    async def segments(self, _request: Request) -> Response:
        """``GET segments``."""
        return json_response(await self._service.segments())

    async def set_segment(self, request: Request) -> Response:
        """``POST segments``: add one, or its next version."""
        wish = await read_message(SegmentWish, request)
        return json_response(await self._service.set_segment(wish, request.state.actor))

    async def sets(self, _request: Request) -> Response:
        """``GET sets``."""
        return json_response(await self._service.sets())

    async def put_set(self, request: Request) -> Response:
        """``POST sets/{name}``: the body holds one id a line, UTF-8; empty lines do not count."""
        body = await read_body(request, SET_UPLOAD_MAX_BYTES)
        try:
            lines = (line.strip() for line in body.decode().splitlines())
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(f"the ids must be UTF-8 text: byte {error.start} is not") from None
        name: str = request.path_params["name"]
        members = [line for line in lines if line]
        return json_response(await self._service.put_set(name, members, request.state.actor))

    async def attributes(self, _request: Request) -> Response:
        """``GET attributes``."""
        return json_response(await self._service.attributes())

    async def declare(self, request: Request) -> Response:
        """``POST attributes``: declare one, or declare it anew."""
        attribute = await read_message(Attribute, request)
        return json_response(await self._service.declare(attribute, request.state.actor))

    def said_of(self, whom: Whom) -> Endpoint:
        """``GET devices/{subject}/attributes`` and ``GET users/{subject}/attributes``."""

        async def endpoint(request: Request) -> Response:
            return json_response(await self._service.said_of(whom, request.path_params["subject"]))

        return endpoint

    def describe(self, whom: Whom) -> Endpoint:
        """``POST devices/{subject}/attributes`` and ``POST users/{subject}/attributes``."""

        async def endpoint(request: Request) -> Response:
            wish = await read_message(SaidAttributes, request)
            subject: str = request.path_params["subject"]
            return json_response(await self._service.describe(whom, subject, wish, request.state.actor))

        return endpoint
