"""One run on one slot: start it, answer its calls, stop it when it must stop, judge what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import orjson
import trio

from walle_container import messages, tensors
from walle_container.channel import FrameChannel
from walle_container.messages import CallRequest, Frame, RunDone
from walle_container.spec import ErrorKind, HostFunction, TaskResult, TaskSpec
from walle_shared.errors import (
    ConnectionLost,
    InternalError,
    LimitExceeded,
    LocalProtocolError,
    NotAllowed,
    NotFound,
    RemoteProtocolError,
    WalleError,
)
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES
from walle_task.context import is_granted


class Interrupter(Protocol):
    """Asks the worker to stop the run; returns before it has stopped."""

    async def __call__(self) -> None:
        """Send the request; raises ConnectionLost where the worker is gone."""


class Conversation:
    """One run over one slot's channel.

    Afterwards ``finished`` tells whether the slot is free again; otherwise its worker must be replaced.

    Args:
        channel: the slot's channel.
        run: the run's number, unique on this worker.
        spec: the task.
        functions: host functions by name.
        interrupt: how to ask for a stop.
        grace_s: how long a stopped run may take to end.
    """

    def __init__(
        self,
        *,
        channel: FrameChannel,
        run: int,
        spec: TaskSpec,
        functions: Mapping[str, HostFunction],
        interrupt: Interrupter,
        grace_s: float,
    ) -> None:
        self.finished = False
        self._channel = channel
        self._run = run
        self._spec = spec
        self._functions = functions
        self._interrupt = interrupt
        self._grace_s = grace_s
        self._owes_answer = False

    async def hold(self, order: Frame) -> TaskResult:
        """Run the task to whatever end.

        Cancelling stops the task first: when this has returned or raised, it runs no more, or ``finished`` is
        False.

        Raises:
            ConnectionLost: the worker died.
            RemoteProtocolError: it broke the protocol.
        """
        started_s = trio.current_time()
        done: RunDone | None = None
        try:
            with trio.move_on_after(self._spec.limits.wall_s):
                await self._channel.send(order.payload, order.views)
                return judge(await self._answer_until_done(), self._spec)
        except (ConnectionLost, RemoteProtocolError):
            raise
        except (
            BaseException
        ):  # cancelled from outside, or a host function has a bug: the task must stop in any case
            with trio.CancelScope(shield=True):
                await self._stop_quietly()
            raise
        with trio.CancelScope(shield=True):
            done = await self._stop()
        wall_s = trio.current_time() - started_s
        if done is None:
            return failure(
                "poisoned", f"the run could not be stopped within {self._grace_s:g} s", wall_s=wall_s
            )
        return as_timeout(done, self._spec, wall_s)

    async def _answer_until_done(self) -> RunDone:
        while True:
            message = await self._receive()
            if isinstance(message, RunDone):
                return message
            self._owes_answer = True
            answer = await self._call(message)
            await self._channel.send(answer.payload, answer.views)
            self._owes_answer = False

    async def _receive(self) -> CallRequest | RunDone:
        frame = await self._channel.receive()
        message = messages.parse_guest_frame(frame, self._channel.take_attached())
        if isinstance(message, RunDone):
            if message.run != self._run:
                raise RemoteProtocolError(
                    f"a worker ended run {message.run} while run {self._run} was going on"
                )
            self.finished = True
        elif not isinstance(message, CallRequest):
            raise RemoteProtocolError("a worker said ready in the middle of a run")
        return message

    async def _call(self, request: CallRequest) -> Frame:
        """The answer to a host call. Whatever the task may be told is told; a bug of ours is raised."""
        try:
            if not is_granted(request.name, self._spec.capabilities):
                raise NotAllowed(f"the task {self._spec.task!r} is not granted {request.name!r}")
            function = self._functions.get(request.name)
            if function is None:
                raise NotFound(f"this host has no function {request.name!r}")
            return _within_limit(messages.encode_answer(await function(request.args)), request.name)
        except (InternalError, LocalProtocolError):
            raise
        except WalleError as error:
            return messages.encode_refusal(error)

    async def _stop(self) -> RunDone | None:
        """Stop the run; None where it has not ended within the grace."""
        await self._interrupt()
        refusal = messages.encode_refusal(LimitExceeded("the run is being stopped"))
        if self._owes_answer:
            await self._channel.send(refusal.payload)
            self._owes_answer = False
        with trio.move_on_after(self._grace_s):
            while True:
                message = await self._receive()
                if isinstance(message, RunDone):
                    return message
                await self._channel.send(refusal.payload)
        return None

    async def _stop_quietly(self) -> None:
        """Stop the run while another error is on its way; a worker that is gone has stopped, too."""
        try:
            await self._stop()
        except (ConnectionLost, RemoteProtocolError):
            self.finished = False


def _within_limit(answer: Frame, name: str) -> Frame:
    if len(answer.payload) > CONTAINER_FRAME_MAX_BYTES:
        raise LimitExceeded(f"the answer to {name} has {len(answer.payload)} bytes; ask for less at once")
    return answer


def judge(done: RunDone, spec: TaskSpec) -> TaskResult:
    """Turn what the worker says into a result, checking what the agent must not take its word for."""
    kind, error = done.error_kind, done.error
    if kind is None:
        kind, error = _find_breach(done, spec)
    ok = kind is None
    return TaskResult(
        ok=ok,
        value=done.value if ok else None,
        rows=done.rows if ok else (),
        values=done.values if ok else {},
        uploads=done.uploads if ok else (),
        later=done.later if ok else (),
        logs=done.logs,
        logs_dropped=done.logs_dropped,
        error_kind=kind,
        error=error,
        traceback=done.traceback,
        wall_s=done.wall_s,
        cpu_s=done.cpu_s,
        peak_bytes=done.peak_bytes,
        stdout_tail=done.stdout_tail,
        profile=done.profile,
    )


def as_timeout(done: RunDone, spec: TaskSpec, wall_s: float) -> TaskResult:
    """The result of a run that was stopped, whatever its last words were."""
    message = f"stopped: the run passed its limit of {spec.limits.wall_s:g} s"
    return failure("timeout", message, wall_s=wall_s, done=done)


def failure(kind: ErrorKind, error: str, *, wall_s: float, done: RunDone | None = None) -> TaskResult:
    """The result of a run that failed for a reason the agent knows; ``done`` adds what is known of it."""
    if done is None:
        return TaskResult(ok=False, error_kind=kind, error=error, wall_s=wall_s)
    return TaskResult(
        ok=False,
        error_kind=kind,
        error=error,
        wall_s=wall_s,
        logs=done.logs,
        logs_dropped=done.logs_dropped,
        traceback=done.traceback,
        cpu_s=done.cpu_s,
        peak_bytes=done.peak_bytes,
        stdout_tail=done.stdout_tail,
        profile=done.profile,
    )


def _find_breach(done: RunDone, spec: TaskSpec) -> tuple[ErrorKind | None, str | None]:
    """The worker checks these as well, for the author's sake; the agent cannot rely on it."""
    if (done.rows or done.values) and not is_granted("store.put", spec.capabilities):
        return "denied", f"the task {spec.task!r} is not granted 'store', but writes to it"
    if done.uploads and not is_granted("tunnel.send", spec.capabilities):
        return "denied", f"the task {spec.task!r} is not granted 'tunnel', but has uploads"
    if done.later and not is_granted("cloud.ask_later", spec.capabilities):
        return "denied", f"the task {spec.task!r} is not granted 'cloud', but has questions"
    produced = [
        [write.row for write in done.rows],
        [sent.fields for sent in done.uploads],
        [[asked.payload, asked.data] for asked in done.later],
        done.values,
        done.value,
    ]
    parcel = tensors.Parcel()
    size_bytes = sum(len(orjson.dumps(part, default=parcel.leaf)) for part in produced)
    if 0 < spec.limits.memory_bytes < parcel.total_bytes():
        return "output", f"the run returned tensors of {parcel.total_bytes()} bytes, more than its memory"
    # Brackets and commas round the parts are not counted where the task is charged: hence the allowance.
    allowance = 16 + len(done.rows) + len(done.uploads) + 6 * len(done.later)
    if size_bytes > spec.limits.output_bytes + allowance:
        return "output", f"the run produced {size_bytes} bytes; its limit is {spec.limits.output_bytes}"
    return None, None
