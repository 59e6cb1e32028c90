"""Bytes to message and back: strict JSON over frozen dataclasses."""

from __future__ import annotations

from typing import TypeVar

import orjson

from walle_shared.errors import LimitExceeded, RemoteProtocolError
from walle_shared.records import RecordError, from_plain, to_plain

T = TypeVar("T")


def encode(message: object) -> bytes:
    """Encode a message as compact JSON."""
    return orjson.dumps(to_plain(message))


def decode[T](cls: type[T], data: bytes, *, limit_bytes: int | None = None) -> T:
    """Decode bytes from a peer.

    Raises:
        LimitExceeded: longer than ``limit_bytes``.
        RemoteProtocolError: not JSON, or not a ``cls``; the message names the member.
    """
    if limit_bytes is not None and len(data) > limit_bytes:
        raise LimitExceeded(f"{cls.__name__} of {len(data)} bytes is over the limit of {limit_bytes}")
    try:
        return from_plain(cls, orjson.loads(data))
    except orjson.JSONDecodeError as error:
        raise RemoteProtocolError(f"{cls.__name__} is not JSON: {error}") from None
    except RecordError as error:
        raise RemoteProtocolError(f"{cls.__name__} is malformed: {error}") from None


def canonical(value: object) -> bytes:
    """Encode for signing: sorted keys, no spaces, UTF-8; equal values give equal bytes."""
    return orjson.dumps(to_plain(value), option=orjson.OPT_SORT_KEYS)
