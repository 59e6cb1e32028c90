"""The conversation's rules without its sockets: HTTP problems, ranges, and the epoch gate.

The gate's rules, in order:

1. The envelope is signed by the policy role (``deploy.trust`` has opened it).
2. An epoch below the floor is a rollback, whoever signed it. The floor holds while the role's keys are the
   same.
3. The same epoch must name the same snapshot as before.
4. An expired epoch is a freeze. Time is the server's own (``signed_clock``), so that a clock set back does
   not revive what has expired, and one set forward ends nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from walle_shared.errors import (
    Conflict,
    ConnectionLost,
    ExpiredError,
    LengthOrHashError,
    LimitExceeded,
    LocalProtocolError,
    NotAllowed,
    NotFound,
    PeerTimeout,
    RemoteProtocolError,
    RollbackError,
    TransportError,
    WalleError,
)
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import EpochInfo, Problem
from walle_shared.units import KIB

PROBLEM_MAX_BYTES = 64 * KIB


class CredentialRefused(NotAllowed):
    """The credential is unknown, revoked or expired: renew it by proof of possession."""

    code = "credential_refused"


class ServerBusy(TransportError):
    """The server asks to come back later. ``retry_after_s`` is None where it does not say when."""

    code = "busy"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class EpochFloor:
    """The highest epoch seen, and its snapshot's digest."""

    epoch: int
    snapshot: str


def check_epoch(info: EpochInfo, floor: EpochFloor, now_ms: int) -> EpochInfo:
    """Let a signed epoch pass the gate.

    Raises:
        RollbackError: older than one seen, or the same number with other content.
        ExpiredError: no longer valid.
    """
    if info.epoch < floor.epoch:
        raise RollbackError(f"epoch {info.epoch} was offered, but epoch {floor.epoch} has been seen: ignored")
    if info.epoch == floor.epoch and floor.snapshot and info.snapshot.sha256 != floor.snapshot:
        raise RollbackError(f"epoch {info.epoch} was offered again with another snapshot: ignored")
    if now_ms >= info.expires_ms:
        raise ExpiredError(f"epoch {info.epoch} has expired: ignored until the control plane signs it anew")
    return info


_BY_STATUS: Final[dict[int, type[WalleError]]] = {
    400: LocalProtocolError,
    403: NotAllowed,
    404: NotFound,
    405: LocalProtocolError,
    409: Conflict,
    410: NotFound,
    413: LimitExceeded,
    415: LocalProtocolError,
    416: LengthOrHashError,  # the file there is shorter than the part here
    422: LocalProtocolError,
}
_BUSY: Final = frozenset({429, 502, 503, 504})


def problem_error(what: str, status: int, body: bytes, retry_after: str | None = None) -> WalleError:
    """The typed error for an HTTP answer that is not a success.

    Args:
        what: names the request, for the message.
        status: the HTTP status.
        body: the answer, a ``Problem`` if the server is well.
        retry_after: the header of that name.
    """
    try:
        detail = decode(Problem, body, limit_bytes=PROBLEM_MAX_BYTES).detail
    except (RemoteProtocolError, LimitExceeded):
        detail = "without a readable problem body"
    message = f"{what} was answered {status}: {detail[:500]}"
    if status == 401:
        return CredentialRefused(message)
    if status in _BUSY:
        return ServerBusy(message, retry_after_s=parse_retry_after(retry_after))
    if status == 408:
        return PeerTimeout(message)
    if status >= 500:
        return ConnectionLost(message)
    return _BY_STATUS.get(status, RemoteProtocolError)(message)


def parse_retry_after(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header; dates and nonsense count as absent."""
    if value is None or not re.fullmatch(r"[0-9]{1,6}", value.strip()):
        return None
    return float(value)


def retry_after_s(error: BaseException) -> float | None:
    """What the peer asked for, if it did."""
    return error.retry_after_s if isinstance(error, ServerBusy) else None


_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


def range_start(status: int, content_range: str | None, asked: int) -> int:
    """Where the body of a ranged answer begins: ``asked``, or 0 if the server sends the whole file.

    Raises:
        RemoteProtocolError: it begins anywhere else.
    """
    if status == 200:
        return 0
    match = _CONTENT_RANGE.fullmatch(content_range or "")
    if status != 206 or match is None or int(match[1]) != asked:
        raise RemoteProtocolError(
            f"bytes from {asked} were asked for; the answer is {status} {content_range!r}"
        )
    return asked
