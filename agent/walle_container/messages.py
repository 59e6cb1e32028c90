"""The frames between agent and worker, and the one place where a worker's words are checked.

A worker runs code we did not write, so each of its frames is treated as hostile: JSON of known shape or
``RemoteProtocolError``, on which the caller ends the worker.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast, get_args

import orjson

from walle_container import tensors
from walle_container.spec import (
    ErrorKind,
    LaterAsk,
    LogEntry,
    ProfileKind,
    ProfileNode,
    StoreWrite,
    TaskSpec,
    TunnelSend,
)
from walle_shared.errors import LocalProtocolError, RemoteProtocolError, WalleError

LOG_LEVELS = frozenset({"debug", "info", "warning", "error"})

#: Kinds a worker may report; the others are the agent's own to say.
_PROFILE_KINDS = frozenset(get_args(ProfileKind))
REPORTABLE_KINDS = frozenset(get_args(ErrorKind)) - {"poisoned", "crashed"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame on its way to a worker, and the numbers that go as shared memory beside it."""

    payload: bytes
    views: tuple[memoryview, ...] = ()


@dataclass(frozen=True, slots=True)
class SlotReady:
    """A slot's interpreter is up."""


@dataclass(frozen=True, slots=True)
class CallRequest:
    """The task asks for a host function and waits."""

    name: str
    args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunDone:
    """The run ended and the slot is free. Fields as in ``TaskResult``."""

    run: int
    value: Any
    error_kind: ErrorKind | None
    error: str | None
    traceback: str
    wall_s: float
    cpu_s: float
    peak_bytes: int
    stdout_tail: str
    logs: tuple[LogEntry, ...]
    logs_dropped: int
    rows: tuple[StoreWrite, ...]
    values: dict[str, Any]
    uploads: tuple[TunnelSend, ...]
    later: tuple[LaterAsk, ...]
    profile: tuple[ProfileNode, ...]


type GuestMessage = SlotReady | CallRequest | RunDone


def encode_run(run: int, spec: TaskSpec, inputs: dict[str, Any], root: Path) -> Frame:
    """The frame that starts a run.

    Args:
        run: its number.
        spec: the task.
        inputs: what it is given.
        root: the folder that a slot may read from its first run on; the same for all runs of a worker.

    Raises:
        LocalProtocolError: inputs or parameters are not JSON.
    """
    return _encode(
        {
            "run": run,
            "entry": spec.entry,
            "bundle_dir": _absolute(spec.bundle_dir),
            "root": str(root),
            "params": dict(spec.params),
            "inputs": inputs,
            "capabilities": sorted(spec.capabilities),
            "memory_bytes": spec.limits.memory_bytes,
            "output_bytes": spec.limits.output_bytes,
            "profile": spec.profile,
        },
        f"the run of {spec.task}",
    )


@lru_cache(256)
def _absolute(path: Path) -> str:
    return str(path.absolute())


def encode_answer(value: Any) -> Frame:
    """The frame that answers a host call.

    Raises:
        LocalProtocolError: the host function's value is not JSON.
    """
    return _encode({"value": value}, "a host function's answer")


def encode_refusal(error: WalleError) -> Frame:
    """The frame that answers a host call with an error; the task gets the same class and message."""
    return _encode({"error": type(error).__name__, "message": error.message}, "a refusal")


def encode_interrupt(slot: int, run: int) -> Frame:
    """The control frame that asks for a run to be stopped."""
    return _encode({"op": "interrupt", "slot": slot, "run": run}, "an interrupt")


def encode_stats_request() -> Frame:
    """The control frame that asks for the worker's figures."""
    return _encode({"op": "stats"}, "a request")


def _encode(message: dict[str, Any], what: str) -> Frame:
    parcel = tensors.Parcel()
    try:
        payload = orjson.dumps(message, default=parcel.leaf)
        if parcel.views:
            payload = orjson.dumps({tensors.TABLE: parcel.table(), **message}, default=tensors.Parcel().leaf)
    except (TypeError, ValueError) as error:
        raise LocalProtocolError(f"{what} cannot be written as JSON: {error}") from error
    return Frame(payload, tuple(parcel.views))


def parse_guest_frame(frame: bytes, attached: int = -1) -> GuestMessage:
    """Check a slot's frame.

    Args:
        frame: its JSON.
        attached: the descriptor that came with it, which is taken over; -1 for none.

    Raises:
        RemoteProtocolError: it is not JSON, or not one of the three messages, exactly.
    """
    message = _restore(_parse_object(frame, attached), attached)
    op = message.pop("op", None)
    if op == "ready" and not message:
        return SlotReady()
    if op == "call":
        return _parse_call(message)
    if op == "done":
        return _parse_done(message)
    raise RemoteProtocolError(f"a worker sent an unknown or overfull message, op {str(op)[:40]!r}")


def parse_stats_frame(frame: bytes) -> int:
    """Check the worker's figures; return its resident memory in bytes.

    Raises:
        RemoteProtocolError: they are something else.
    """
    message = _parse_object(frame)
    if message.pop("op", None) != "stats":
        raise RemoteProtocolError("a worker sent something other than its stats on the control channel")
    return cast(int, _take_fields(message, {"rss_bytes": _is_count}, "stats")["rss_bytes"])


def _parse_object(frame: bytes, attached: int = -1) -> dict[str, Any]:
    """A frame's JSON; closes ``attached`` where there is nothing to use it for."""
    try:
        message = orjson.loads(frame)
    except orjson.JSONDecodeError as error:
        close_attached(attached)
        raise RemoteProtocolError(f"a worker sent a frame that is not JSON: {error}") from error
    if not isinstance(message, dict):
        close_attached(attached)
        raise RemoteProtocolError("a worker sent a frame that is not a JSON object")
    if tensors.TABLE not in message:
        close_attached(attached)
    return message


def close_attached(attached: int) -> None:
    """Close a descriptor that came with a frame, if one did."""
    if attached >= 0:
        os.close(attached)


def _restore(message: dict[str, Any], attached: int) -> dict[str, Any]:
    """Put the tensors where numbers may be: into a returned value and into the arguments of a call."""
    table = message.pop(tensors.TABLE, None)
    if table is None:
        return message
    try:
        views = tensors.unpack(table, attached)
    except ValueError as error:
        raise RemoteProtocolError(f"a worker sent tensors that are none: {error}") from error
    return {
        name: tensors.restore(part, views) if name in ("value", "args") else part
        for name, part in message.items()
    }


def _parse_call(message: dict[str, Any]) -> CallRequest:
    fields = _take_fields(message, {"call": _is_text, "args": _is_object}, "call")
    return CallRequest(fields["call"], fields["args"])


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_optional_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _is_level(value: Any) -> bool:
    return isinstance(value, str) and value in LOG_LEVELS


def _is_list_of(fields: dict[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return isinstance(value, list) and all(
            isinstance(item, dict)
            and item.keys() == fields.keys()
            and all(fields[name](item[name]) for name in fields)
            for item in value
        )

    return check


_PROFILE_CHECKS: tuple[Callable[[Any], bool], ...] = (
    lambda value: type(value) is int and value >= -1,
    lambda value: isinstance(value, str) and value in _PROFILE_KINDS,
    _is_text,
    _is_text,
    _is_count,
    _is_count,
)


def _is_profile(value: Any) -> bool:
    """Rows of :class:`ProfileNode`, each below an earlier one."""
    return isinstance(value, list) and all(
        isinstance(row, list)
        and len(row) == len(_PROFILE_CHECKS)
        and all(check(field) for check, field in zip(_PROFILE_CHECKS, row, strict=True))
        and row[0] < number
        and (row[0] >= 0) == (number > 0)
        for number, row in enumerate(value)
    )


_DONE_FIELDS: dict[str, Callable[[Any], bool]] = {
    "run": _is_count,
    "value": lambda _value: True,
    "error_kind": lambda value: value is None or (isinstance(value, str) and value in REPORTABLE_KINDS),
    "error": _is_optional_text,
    "traceback": _is_text,
    "wall_s": _is_seconds,
    "cpu_s": _is_seconds,
    "peak_bytes": _is_count,
    "stdout_tail": _is_text,
    "logs": _is_list_of({"level": _is_level, "message": _is_text, "fields": _is_object}),
    "logs_dropped": _is_count,
    "rows": _is_list_of({"table": _is_text, "row": _is_object}),
    "values": _is_object,
    "uploads": _is_list_of({"name": _is_text, "fields": _is_object}),
    "later": _is_list_of({"payload": _is_object, "data": _is_text}),
    "profile": _is_profile,
}


def _parse_done(message: dict[str, Any]) -> RunDone:
    fields = _take_fields(message, _DONE_FIELDS, "done")
    fields["logs"] = tuple(LogEntry(**entry) for entry in fields["logs"])
    fields["rows"] = tuple(StoreWrite(**write) for write in fields["rows"])
    fields["uploads"] = tuple(TunnelSend(**sent) for sent in fields["uploads"])
    fields["later"] = tuple(LaterAsk(**asked) for asked in fields["later"])
    fields["profile"] = tuple(ProfileNode(*row) for row in fields["profile"])
    return RunDone(**fields)


def _take_fields(
    message: dict[str, Any], checks: dict[str, Callable[[Any], bool]], what: str
) -> dict[str, Any]:
    if message.keys() != checks.keys():
        wrong = sorted(message.keys() ^ checks.keys())
        raise RemoteProtocolError(f"a worker's {what!r} message lacks or adds fields: {str(wrong)[:200]}")
    for name, check in checks.items():
        if not check(message[name]):
            raise RemoteProtocolError(f"a worker's {what!r} message has a wrong {name!r}")
    return message
