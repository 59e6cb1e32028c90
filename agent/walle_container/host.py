"""The container's front: runs tasks on the slots of a worker process, and keeps a worker alive."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, Self

import trio

from walle_container import messages
from walle_container.conversation import Conversation, failure
from walle_container.process import Slot, WorkerProcess
from walle_container.spec import HostFunction, TaskResult, TaskSpec
from walle_shared.errors import (
    ConfigError,
    ConnectionLost,
    InternalError,
    LimitExceeded,
    RemoteProtocolError,
)
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES
from walle_shared.observe import get_logger

DEATH_NOTICE_S = 1.0

_log = get_logger("container")


@dataclass(frozen=True, slots=True)
class HostConfig:
    """How the container works.

    Attributes:
        slots: tasks that may run at the same time.
        grace_s: how long a stopped run may take to end before its worker is replaced.
        start_timeout_s: how long a worker may take to start.
        runs_per_worker: runs after which a worker is replaced, at a moment when nothing of it is lost.
        backoff_first_s: pause before the second start in a row after a death; doubles each time.
        backoff_max_s: longest such pause.
    """

    slots: int = 2
    grace_s: float = 0.25
    start_timeout_s: float = 15.0
    runs_per_worker: int = 10_000
    backoff_first_s: float = 0.1
    backoff_max_s: float = 5.0


@dataclass(frozen=True, slots=True)
class HostStatistics:
    """Figures since the host was opened.

    Attributes:
        runs: runs begun.
        running: runs going on now.
        workers_started: worker processes started.
        workers_lost: worker processes that died by themselves.
        poisoned: runs that could not be stopped.
        worker_pid: process id of the worker that takes new runs; None where there is none.
    """

    runs: int
    running: int
    workers_started: int
    workers_lost: int
    poisoned: int
    worker_pid: int | None


class TaskHost:
    """Runs tasks; an async context manager.

    One worker takes new runs. It is replaced when it dies, when a run on it cannot be stopped, and after
    ``runs_per_worker`` runs. A worker being replaced lends no more slots and ends when the runs it still has
    are over, so they are never cut short; new runs go to its successor at once.

    Args:
        config: how to work.
    """

    def __init__(self, config: HostConfig | None = None) -> None:
        self._config = config or HostConfig()
        self._opened: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nursery: trio.Nursery | None = None
        self._worker: WorkerProcess | None = None
        self._starting = trio.Lock()
        self._run_numbers = count(1)
        self._runs = self._running = self._started = self._lost = self._poisoned = 0
        self._deaths_in_a_row = 0

    async def __aenter__(self) -> Self:
        """Start the first worker.

        Raises:
            InternalError: it does not start.
        """
        self._opened = trio.open_nursery()
        self._nursery = await self._opened.__aenter__()
        try:
            await self._current_worker()
        except BaseException:
            self._nursery.cancel_scope.cancel()
            await self._opened.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Stop every worker; runs still going on are lost with them."""
        assert self._nursery is not None
        assert self._opened is not None
        crashed = self._nursery.cancel_scope.cancel_called
        self._nursery.cancel_scope.cancel()
        if crashed:  # a bug of ours in a background task: let the nursery tell it
            return await self._opened.__aexit__(kind, error, traceback)
        await self._opened.__aexit__(None, None, None)  # errors of the caller's block pass as they are
        return None

    def statistics(self) -> HostStatistics:
        """Figures since the host was opened."""
        worker = self._worker
        return HostStatistics(
            runs=self._runs,
            running=self._running,
            workers_started=self._started,
            workers_lost=self._lost,
            poisoned=self._poisoned,
            worker_pid=worker.pid if worker is not None and worker.is_open else None,
        )

    async def measure_rss_bytes(self) -> int:
        """Resident memory of the worker that takes new runs.

        Raises:
            ConnectionLost: it has just died.
        """
        return await (await self._current_worker()).measure_rss_bytes()

    async def run(
        self, spec: TaskSpec, inputs: dict[str, Any], functions: Mapping[str, HostFunction] | None = None
    ) -> TaskResult:
        """Run a task once and say how it ended. What the task does wrong is in the result, never raised.

        Cancelling stops the task before ``Cancelled`` goes on.

        Args:
            spec: the task.
            inputs: ``{"events": [...], "visit": {...} | None, "trigger": {...}}``.
            functions: host functions by name; those the spec's capabilities do not grant are refused.

        Raises:
            ConfigError: the spec asks for a tier that is not offered.
            LocalProtocolError: the inputs are not JSON.
            LimitExceeded: they are too large.
            InternalError: no worker can be started.

        Blocks:
            Until a slot is free and the run has ended.
        """
        if spec.tier != "interp":
            raise ConfigError(
                f"task {spec.task!r} asks for tier {spec.tier!r}; this container offers 'interp' only"
            )
        run = next(self._run_numbers)
        order = messages.encode_run(run, spec, inputs)
        if len(order) > CONTAINER_FRAME_MAX_BYTES:
            raise LimitExceeded(
                f"the inputs of task {spec.task!r} have {len(order)} bytes; "
                f"the limit is {CONTAINER_FRAME_MAX_BYTES}: match fewer events"
            )
        worker, slot = await self._acquire()
        self._runs += 1
        self._running += 1
        conversation = Conversation(
            channel=slot.channel,
            run=run,
            spec=spec,
            functions=functions or {},
            interrupt=partial(worker.interrupt, slot, run),
            grace_s=self._config.grace_s,
        )
        try:
            result = await self._hold(conversation, worker, order)
        finally:
            self._running -= 1
            self._give_back(worker, slot, conversation, spec)
        self._deaths_in_a_row = 0 if conversation.finished else self._deaths_in_a_row
        return result

    async def _hold(self, conversation: Conversation, worker: WorkerProcess, order: bytes) -> TaskResult:
        started_s = trio.current_time()
        try:
            return await conversation.hold(order)
        except ConnectionLost:
            with trio.move_on_after(
                DEATH_NOTICE_S
            ):  # a channel is seen to close a moment before the process is gone
                await worker.died.wait()
            reason = worker.describe_end()
        except RemoteProtocolError as error:
            reason = f"the worker broke the protocol and was ended: {error.message}"
        conversation.finished = False
        worker.kill()
        await worker.died.wait()
        return failure("crashed", reason, wall_s=trio.current_time() - started_s)

    def _give_back(
        self, worker: WorkerProcess, slot: Slot, conversation: Conversation, spec: TaskSpec
    ) -> None:
        worker.release(slot, reusable=conversation.finished)
        if conversation.finished:
            if worker.runs_started >= self._config.runs_per_worker:
                worker.retire()
            return
        if not worker.died.is_set():
            self._poisoned += 1
            _log.warning("slot_poisoned", task=spec.task, version=spec.version, pid=worker.pid)
        assert self._nursery is not None
        self._nursery.start_soon(self._replace)

    async def _acquire(self) -> tuple[WorkerProcess, Slot]:
        while True:
            worker = await self._current_worker()
            slot = await worker.acquire()
            if slot is not None:
                return worker, slot

    async def _current_worker(self) -> WorkerProcess:
        """The worker that takes new runs; starts one where there is none."""
        async with self._starting:
            if self._worker is not None and self._worker.is_open:
                return self._worker
            await trio.sleep(self._backoff_s())
            worker = WorkerProcess(slots=self._config.slots, start_timeout_s=self._config.start_timeout_s)
            assert self._nursery is not None
            try:
                await self._nursery.start(self._supervise, worker)
            except InternalError:
                self._deaths_in_a_row += 1
                raise
            self._started += 1
            self._worker = worker
            return worker

    def _backoff_s(self) -> float:
        """No pause after the first death, since a task can cause one; then longer each time."""
        if self._deaths_in_a_row < 2:
            return 0.0
        pause_s = self._config.backoff_first_s * 2.0 ** min(self._deaths_in_a_row - 2, 30)
        return min(pause_s, self._config.backoff_max_s)

    async def _supervise(
        self, worker: WorkerProcess, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Live with a worker until its end; count it if nobody wanted it."""
        await worker.supervise(task_status)
        if worker.was_lost:
            self._lost += 1
            self._deaths_in_a_row += 1
            _log.warning("worker_lost", pid=worker.pid, reason=worker.describe_end())

    async def _replace(self) -> None:
        """Have the next worker ready before the next run asks for it."""
        try:
            await self._current_worker()
        except InternalError as error:
            _log.error("worker_not_started", reason=error.message)  # its message says all there is


__all__ = ["HostConfig", "HostStatistics", "TaskHost"]
