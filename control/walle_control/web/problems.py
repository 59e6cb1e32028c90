"""The one map from error family to HTTP status, and the body that every HTTP error has (``Problem``)."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from walle_shared.errors import (
    ConfigError,
    Conflict,
    EngineError,
    LimitExceeded,
    NotAllowed,
    NotFound,
    PeerTimeout,
    ProtocolError,
    StateError,
    StorageError,
    TaskError,
    TransportError,
    TrustError,
    WalleError,
)
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import Problem


class Unauthenticated(NotAllowed):
    """The request carries no credential, or one that is unknown or expired: get a new one."""

    code = "unauthenticated"


class Busy(TransportError):
    """The server holds as many conversations as it may; come back later."""

    code = "busy"


#: Most special first wins, by the error's own order of inheritance.
STATUS: dict[type[WalleError], int] = {
    Unauthenticated: 401,
    NotAllowed: 403,
    NotFound: 404,
    Conflict: 409,
    LimitExceeded: 413,
    StateError: 409,
    ConfigError: 400,
    ProtocolError: 400,
    TrustError: 403,
    TaskError: 422,
    EngineError: 422,
    PeerTimeout: 408,
    TransportError: 503,
    StorageError: 507,
    WalleError: 500,
}


def status_of(error: WalleError) -> int:
    """HTTP status of an error."""
    return status_of_kind(type(error))


def status_of_kind(kind: type[WalleError]) -> int:
    """HTTP status of a family of errors."""
    return next(STATUS[family] for family in kind.__mro__ if family in STATUS)


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The HTTP answer that carries ``problem``."""
    headers = dict(headers or {})
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status == 503:
        headers["Retry-After"] = "2"
    return Response(encode(problem), problem.status, headers, media_type="application/problem+json")


async def on_walle_error(_request: Request, error: Exception) -> Response:
    """Answer an error raised on purpose."""
    assert isinstance(error, WalleError)
    return problem_response(Problem(error.code, error.message, status_of(error), error.retryable))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what the router found wrong (no such path or method)."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http")
    detail = f"{request.method} {request.url.path}: {error.detail}"
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_allowed(request)))
    return problem_response(Problem(code, detail, error.status_code), headers)


def _allowed(request: Request) -> set[str]:
    """Every method that some route of the path takes: the router itself names the first route's only."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    fitting = [route for route in routes if route.path_regex.match(request.scope["path"])]
    return {method for route in fitting for method in route.methods or ()}


async def on_crash(_request: Request, _error: Exception) -> Response:
    """Answer an error nobody foresaw; the server logs it with its traceback."""
    return problem_response(Problem("internal", "the server failed; its log says why", 500, retryable=True))
