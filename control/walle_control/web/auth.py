"""Who is asking: operators by bearer token, devices by credential; the route table shows who may what."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from walle_control.web.access import ALL_SCENARIOS, Permission, Principal
from walle_control.web.problems import Unauthenticated
from walle_shared.errors import NotAllowed
from walle_shared.ids import DeviceId
from walle_shared.observe import get_logger

_log = get_logger("control.access")

Endpoint = Callable[[Request], Awaitable[Response]]
DeviceEndpoint = Callable[[Request, DeviceId], Awaitable[Response]]

#: Turns a bearer token into whoever holds it, or raises ``Unauthenticated``.
Authenticate = Callable[[str], Awaitable[Principal]]
DeviceCheck = Callable[[str], DeviceId]

#: The scenario a request is about; ``ALL_SCENARIOS`` if it is about what belongs to none.
Place = Callable[[Request], Awaitable[str]]


async def by_path(request: Request) -> str:
    """The scenario in the path, else all of them."""
    return str(request.path_params.get("scenario", ALL_SCENARIOS))


async def anywhere(_request: Request) -> str:
    """The permission in any scenario opens the door; the endpoint looks closer (``require``)."""
    raise AssertionError("the door asks nobody where")


@dataclass(frozen=True, slots=True)
class Door:
    """What an operator's route asks for."""

    permission: Permission
    place: Place


def bearer(headers: Headers) -> str:
    """The bearer token of a request.

    Raises:
        Unauthenticated: there is none.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("this request needs 'Authorization: Bearer <token>'")
    return token.strip()


async def admit(request: Request, principal: Principal, door: Door) -> None:
    """Let somebody through a door; the endpoint then finds them in the request's state.

    Raises:
        NotAllowed: they lack the permission, or hold it elsewhere only.
    """
    try:
        principal.require_somewhere(door.permission)
        if door.place is not anywhere:
            principal.require(door.permission, await door.place(request))
    except NotAllowed:
        _log.warning(
            "access_refused", actor=principal.name, permission=door.permission, path=request.url.path
        )
        raise
    request.state.actor, request.state.principal = principal.name, principal
    request.state.permission = door.permission


class Doors:
    """Wraps endpoints so that only the right callers pass."""

    def __init__(self, authenticate: Authenticate, device: DeviceCheck) -> None:
        self._authenticate = authenticate
        self._device = device

    def admin(self, permission: Permission, endpoint: Endpoint, place: Place = by_path) -> Endpoint:
        """Let operators pass who have the permission; ``request.state.actor`` says who."""

        @functools.wraps(endpoint)
        async def checked(request: Request) -> Response:
            principal = await self._authenticate(bearer(request.headers))
            await admit(request, principal, Door(permission, place))
            return await endpoint(request)

        return set_door(checked, Door(permission, place))

    def device(self, endpoint: DeviceEndpoint) -> Endpoint:
        """Let devices pass; the endpoint is told which."""

        @functools.wraps(endpoint)
        async def checked(request: Request) -> Response:
            return await endpoint(request, self._device(bearer(request.headers)))

        return set_door(checked, DEVICES)


#: The door of a route for devices.
DEVICES = "a device"
_DOOR = "walle_door"


def set_door(endpoint: Endpoint, door: Door | str) -> Endpoint:
    """Write on an endpoint what it asks for; it must see to that itself."""
    setattr(endpoint, _DOOR, door)
    return endpoint


def door_of(endpoint: object) -> Door | str | None:
    """What a route asks for; ``None`` if it is open to all."""
    door: Door | str | None = getattr(endpoint, _DOOR, None)
    return door


def principal_of(request: Request) -> Principal:
    """Who passed the door."""
    principal: Principal = request.state.principal
    return principal


def require(request: Request, scenario: str) -> None:
    """Ask for the route's permission in the scenario that the body or the query names.

    Raises:
        NotAllowed: it is held elsewhere only.
    """
    principal_of(request).require(request.state.permission, scenario)


def may_see(request: Request, scenario: str) -> bool:
    """Whether the route's permission is held in a scenario: what a list may show."""
    return principal_of(request).may(request.state.permission, scenario)
