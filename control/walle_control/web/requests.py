"""Reading requests within their limits, and writing JSON answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, TypeVar, cast

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from walle_control.web.describe import SCHEMA, within
from walle_shared.errors import ConnectionLost, LimitExceeded, PeerTimeout, RemoteProtocolError
from walle_shared.limits import REQUEST_MAX_BYTES
from walle_shared.protocol.codec import decode, encode

T = TypeVar("T")

PAGE_DEFAULT = 1_000
PAGE_MAX = 10_000


async def read_body(request: Request, limit_bytes: int = REQUEST_MAX_BYTES) -> bytes:
    """Read a request's body.

    Raises:
        LimitExceeded: it is longer than ``limit_bytes``; the rest is not read.
        PeerTimeout: it did not arrive in the time the server grants.
        ConnectionLost: the client left before all of it came.
    """
    timeout_s: float = request.app.state.body_timeout_s
    chunks: list[bytes] = []
    size_bytes = 0
    try:
        with trio.fail_after(timeout_s):
            async with aclosing(request.stream()) as stream:
                async for chunk in stream:
                    size_bytes += len(chunk)
                    if size_bytes > limit_bytes:
                        raise LimitExceeded(f"the body is over the limit of {limit_bytes} bytes")
                    chunks.append(chunk)
    except trio.TooSlowError:
        raise PeerTimeout(f"the body did not arrive within {timeout_s:g} s") from None
    except ClientDisconnect:
        raise ConnectionLost("the client left before all of the body came") from None
    return b"".join(chunks)


async def read_message[T](cls: type[T], request: Request) -> T:
    """Read and decode a request's body.

    Raises:
        LimitExceeded: too long.
        RemoteProtocolError: malformed; names the member.
    """
    return decode(cls, await read_body(request))


def page_after() -> Any:
    """The field of a query that says behind which id a page begins."""
    return within(0, 0, 2**62)


def page_limit() -> Any:
    """The field of a query that says how long a page may be."""
    return within(PAGE_DEFAULT, 1, PAGE_MAX)


def read_query[T](cls: type[T], request: Request) -> T:
    """Read the query string as a record of texts and integers.

    Raises:
        RemoteProtocolError: a parameter is not known, or no integer within its range; names it.
    """
    known = {f.name: f for f in dataclasses.fields(cast(Any, cls))}
    if unknown := request.query_params.keys() - known.keys():
        raise RemoteProtocolError(
            f"query {', '.join(sorted(unknown))[:80]} is not known; known here: {', '.join(sorted(known))}"
        )
    return cls(**{name: _query_value(known[name], text) for name, text in request.query_params.items()})


def _query_value(field: dataclasses.Field[Any], text: str) -> str | int:
    bounds = field.metadata.get(SCHEMA)
    if bounds is None or "maximum" not in bounds:
        return text
    low, high = bounds["minimum"], bounds["maximum"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and low <= int(text) <= high):
        raise RemoteProtocolError(f"query {field.name}={text[:40]!r} must be an integer from {low} to {high}")
    return int(text)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a record (or a mapping of records) as JSON."""
    return Response(encode(value), status, headers, media_type="application/json")
