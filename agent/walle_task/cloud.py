"""The cloud half of the task: asked by the device's half, answered by ``cloud.py`` on the control plane.

::

    from walle_task import cloud

    def run():
        label, confidence = recognise()
        match cloud.gate(confidence, accept=0.9, reject=0.2):
            case "accept":
                publish(label)
            case "ask":
                try:
                    publish(cloud.ask({"label": label}, data=jpeg)["label"])
                except cloud.Unavailable:
                    pass  # offline, or the cloud has no time: do with what is known here

On the other side, in ``cloud.py``::

    def answer(request):
        return {"label": look_closer(request.data)}

Needs the capability ``cloud`` and a ``[cloud]`` table in task.toml.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from walle_shared.errors import LimitExceeded, TaskError
from walle_shared.limits import (
    CLOUD_ASK_MAX_S,
    CLOUD_ASKS_OPEN_MAX,
    CLOUD_DATA_MAX_BYTES,
    CLOUD_LATER_DATA_MAX_BYTES,
    CLOUD_PAYLOAD_MAX_BYTES,
)
from walle_task.context import current, encode_json

__all__ = ["Gate", "Reason", "Request", "Unavailable", "ask", "ask_each", "ask_later", "gate"]

#: Names of the host functions.
ASK: Final = "cloud.ask"
LATER: Final = "cloud.ask_later"

#: Why there is no answer.
Reason = Literal[
    "offline",  # there is no connection, or it broke
    "unsupported",  # the control plane answers nobody, or not this task
    "deadline",  # it did not come in time, or could not have
    "busy",  # too many questions are waiting, here or there
    "budget",  # what the task may ask, or compute, in this hour is used up
    "refused",  # the control plane does not take the question
    "failed",  # the cloud half failed
]

Gate = Literal["accept", "ask", "reject"]


class Unavailable(TaskError):
    """The cloud half gave no answer; the task goes on without it.

    Attributes:
        reason: why, in one word.
    """

    code = "cloud_unavailable"

    def __init__(self, reason: Reason, message: str = "") -> None:
        super().__init__(message or f"the cloud half gave no answer: {reason}")
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Request:
    """What the cloud half is asked.

    Attributes:
        payload: what the device's half gave.
        data: its bytes; empty if it gave none.
        device_id: which device asks.
        version: the task's version there, and here.
    """

    payload: Mapping[str, Any]
    data: bytes = b""
    device_id: str = ""
    version: str = ""


def ask(payload: dict[str, Any], *, data: Any = None, timeout_s: float = 2.0) -> dict[str, Any]:
    """Ask the cloud half and wait for its answer.

    Args:
        payload: anything JSON, by name; ``CLOUD_PAYLOAD_MAX_BYTES`` at most.
        data: bytes, or another buffer, of ``CLOUD_DATA_MAX_BYTES`` at most.
        timeout_s: when to give up; the run's own ``wall_s`` goes on meanwhile.

    Raises:
        Unavailable: there is no answer; ``reason`` says why. Nothing is asked again.
        NotAllowed: the task is not granted ``cloud``.
        TaskError: the payload is not JSON, or the time makes no sense.
        LimitExceeded: payload or data are too large.
    """
    (answer,) = ask_each([(payload, data)], timeout_s=timeout_s)
    if isinstance(answer, Unavailable):
        raise answer
    return answer


def ask_each(
    questions: Sequence[tuple[dict[str, Any], Any]], *, timeout_s: float = 2.0
) -> list[dict[str, Any] | Unavailable]:
    """Ask several questions at the same time and wait for all answers.

    Args:
        questions: payload and data (None: none) of each, as for :func:`ask`; ``CLOUD_ASKS_OPEN_MAX`` at most.
        timeout_s: when to give up on those that are not answered yet.

    Returns:
        By question, the answer or why there is none.

    Raises:
        NotAllowed, TaskError, LimitExceeded: as for :func:`ask`; then nothing was asked.
    """
    if not 0 < timeout_s <= CLOUD_ASK_MAX_S:
        raise TaskError(f"timeout_s is {timeout_s!r}: an answer may take up to {CLOUD_ASK_MAX_S:g} seconds")
    if len(questions) > CLOUD_ASKS_OPEN_MAX:
        raise LimitExceeded(f"{len(questions)} questions at once; the limit is {CLOUD_ASKS_OPEN_MAX}")
    asked = [_question(payload, data) for payload, data in questions]
    told = current().ask(ASK, {"questions": asked, "timeout_s": float(timeout_s)})
    return [
        Unavailable(each["reason"], each.get("message", "")) if "reason" in each else each["answer"]
        for each in told
    ]


def ask_later(payload: dict[str, Any], *, data: Any = None) -> None:
    """Ask once the run has ended well, however long it takes to come through.

    The answer comes back as an event ``cloud_answer``, whose ``args`` have ``scenario``, ``task`` and
    ``payload``: a trigger on ``event:cloud_answer`` runs the task with it.

    Args:
        payload: anything JSON, by name; counts against what the run may produce.
        data: bytes, or another buffer, of ``CLOUD_LATER_DATA_MAX_BYTES`` at most; it counts too.

    Raises:
        NotAllowed: the task is not granted ``cloud``.
        TaskError: the payload is not JSON.
        LimitExceeded: payload or data are too large, or the run has produced too much.
    """
    sent = b"" if data is None else bytes(_bytes_of(data, CLOUD_LATER_DATA_MAX_BYTES))
    current().add_later(_checked(payload), sent)


def gate(confidence: float, *, accept: float, reject: float) -> Gate:
    """Whether a result is good enough, hopeless, or worth a question.

    Args:
        confidence: of the result; not a number counts as worth a question.
        accept: from here on it is good enough.
        reject: below this it is hopeless.

    Raises:
        TaskError: ``reject`` is over ``accept``.
    """
    if not reject <= accept:
        raise TaskError(f"a gate rejects below {reject!r} and accepts from {accept!r}: the first is larger")
    if math.isnan(confidence):
        return "ask"
    if confidence >= accept:
        return "accept"
    return "reject" if confidence < reject else "ask"


def _question(payload: dict[str, Any], data: Any) -> dict[str, Any]:
    question: dict[str, Any] = {"payload": _checked(payload)}
    view = _bytes_of(b"" if data is None else data, CLOUD_DATA_MAX_BYTES)
    if view.nbytes:
        question["data"] = view
    return question


def _checked(payload: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(payload, dict):
        raise TaskError(f"a question's payload must be a dict, not {type(payload).__name__}")
    size_bytes = len(encode_json(payload, "the question's payload"))
    if size_bytes > CLOUD_PAYLOAD_MAX_BYTES:
        raise LimitExceeded(
            f"the question's payload has {size_bytes} bytes; the limit is {CLOUD_PAYLOAD_MAX_BYTES}: "
            "send what is large as data"
        )
    return payload


def _bytes_of(data: Any, limit_bytes: int) -> memoryview:
    try:
        view = memoryview(data).cast("B")
    except (TypeError, ValueError) as error:
        raise TaskError(f"data must be bytes or another unbroken buffer: {error}") from None
    if view.nbytes > limit_bytes:
        raise LimitExceeded(f"the question's data has {view.nbytes} bytes; the limit is {limit_bytes}")
    return view
