"""HTTP face of the people feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.people.service import PeopleService
from walle_control.features.people.types import (
    LoginWays,
    Myself,
    NewToken,
    Person,
    PersonList,
    RoleGrant,
    Token,
    TokenList,
    TokenRequest,
)
from walle_control.web.auth import principal_of
from walle_control.web.describe import describe
from walle_control.web.requests import json_response, read_message

_GRANT = {"role": "operator", "scenario": "demo"}
_TOKEN = {"note": "CI", "scopes": ["tasks:write", "releases:read"], "valid_s": 2_592_000}


class PeopleRoutes:
    """Endpoints about people, their roles and their tokens."""

    def __init__(self, service: PeopleService) -> None:
        self._service = service

    @describe(LoginWays, errors=(404, 503))
    async def login_ways(self, _request: Request) -> Response:
        """How to log in at the provider of identities."""
        return json_response(await self._service.login_ways())

    @describe(Myself)
    async def myself(self, request: Request) -> Response:
        """Who the presented credential stands for, and what it may do."""
        return json_response(self._service.myself(principal_of(request)))

    @describe(PersonList)
    async def people(self, _request: Request) -> Response:
        """Everybody with their roles."""
        return json_response(await self._service.people())

    @describe(Person, body=RoleGrant, errors=(400,), example=_GRANT)
    async def grant(self, request: Request) -> Response:
        """Give a person a role, in one scenario or in all."""
        grant = await read_message(RoleGrant, request)
        name = request.path_params["person"]
        return json_response(await self._service.grant(name, grant, request.state.actor))

    @describe(Person, body=RoleGrant, errors=(400, 404, 409), example=_GRANT)
    async def withdraw(self, request: Request) -> Response:
        """Take a role from a person, and with it from all their tokens."""
        grant = await read_message(RoleGrant, request)
        name = request.path_params["person"]
        return json_response(await self._service.withdraw(name, grant, request.state.actor))

    @describe(TokenList)
    async def tokens(self, request: Request) -> Response:
        """One's own tokens; everybody's for who may see people."""
        return json_response(await self._service.tokens(principal_of(request)))

    @describe(NewToken, body=TokenRequest, status=(201,), errors=(400, 404), example=_TOKEN)
    async def create_token(self, request: Request) -> Response:
        """Make a token; it is shown this once."""
        wish = await read_message(TokenRequest, request)
        return json_response(await self._service.create_token(wish, principal_of(request)), 201)

    @describe(Token, errors=(404,))
    async def revoke_token(self, request: Request) -> Response:
        """End a token at once."""
        token_id = request.path_params["token_id"]
        return json_response(await self._service.revoke_token(token_id, principal_of(request)))
