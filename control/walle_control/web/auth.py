"""Who is asking: operators by bearer token, devices by credential; the route table shows who may what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from walle_control.web.problems import Unauthenticated
from walle_shared.ids import DeviceId

Endpoint = Callable[[Request], Awaitable[Response]]
DeviceEndpoint = Callable[[Request, DeviceId], Awaitable[Response]]

#: Turns a bearer token into the name of who holds it, or raises ``Unauthenticated`` or ``NotAllowed``.
AdminCheck = Callable[[str], Awaitable[str]]
DeviceCheck = Callable[[str], DeviceId]


def bearer(headers: Headers) -> str:
    """The bearer token of a request.

    Raises:
        Unauthenticated: there is none.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("this request needs 'Authorization: Bearer <token>'")
    return token.strip()


class Doors:
    """Wraps endpoints so that only the right callers pass."""

    def __init__(self, admin: AdminCheck, device: DeviceCheck) -> None:
        self._admin = admin
        self._device = device

    def admin(self, endpoint: Endpoint) -> Endpoint:
        """Let operators pass; ``request.state.actor`` says who."""

        async def checked(request: Request) -> Response:
            request.state.actor = await self._admin(bearer(request.headers))
            return await endpoint(request)

        return checked

    def device(self, endpoint: DeviceEndpoint) -> Endpoint:
        """Let devices pass; the endpoint is told which."""

        async def checked(request: Request) -> Response:
            return await endpoint(request, self._device(bearer(request.headers)))

        return checked
