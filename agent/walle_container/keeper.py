"""Keeps one worker process alive for the tasks that share it, whatever they do to it."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from walle_container.conversation import Conversation
from walle_container.process import Enclosure, Slot, WorkerProcess
from walle_shared.errors import InternalError
from walle_shared.manifest import Tier
from walle_shared.observe import get_logger

_log = get_logger("container")


@dataclass(frozen=True, slots=True)
class KeeperConfig:
    """How workers are kept; the fields are those of ``HostConfig``."""

    slots: int
    start_timeout_s: float
    runs_per_worker: int
    backoff_first_s: float
    backoff_max_s: float


@dataclass(slots=True)
class Counts:
    """What has happened to all workers of a host."""

    started: int = 0
    lost: int = 0
    poisoned: int = 0


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """One kept worker.

    Attributes:
        scenario: whose tasks run there; None where none has yet.
        tier: how it is fenced.
        pid: process id of the worker that takes new runs; None while there is none.
        runs: runs begun on that worker.
        running: runs going on.
    """

    scenario: str | None
    tier: Tier
    pid: int | None
    runs: int
    running: int


class WorkerKeeper:
    """Always one worker that takes new runs, or one on its way.

    It is replaced when it dies, when a run on it cannot be stopped, and after ``runs_per_worker`` runs. A
    worker being replaced lends no more slots and ends when the runs it still has are over, so they are never
    cut short; new runs go to its successor at once.

    Invariant: whoever wants a slot counts as a user from before it asks until after it has given the slot
        back; a keeper with users is not ended.

    Args:
        enclosure: what its workers may read, and how they are fenced.
        config: how to keep them.
        counts: where to count what happens to them.
        nursery: where they are supervised.
    """

    def __init__(
        self, enclosure: Enclosure, config: KeeperConfig, counts: Counts, nursery: trio.Nursery
    ) -> None:
        self.enclosure = enclosure
        self.users = 0
        self.idle_since_s = trio.current_time()
        self._config = config
        self._counts = counts
        self._nursery = nursery
        self._worker: WorkerProcess | None = None
        self._starting = trio.Lock()
        self._ended = False
        self._deaths_in_a_row = 0

    def statistics(self, scenario: str | None) -> WorkerStatistics:
        """Figures of the worker that takes new runs."""
        worker = self._worker if self._worker is not None and self._worker.is_open else None
        return WorkerStatistics(
            scenario=scenario,
            tier=self.enclosure.tier,
            pid=worker.pid if worker is not None else None,
            runs=worker.runs_started if worker is not None else 0,
            running=worker.lent if worker is not None else 0,
        )

    async def acquire(self) -> tuple[WorkerProcess, Slot]:
        """Lend a slot, waiting for one.

        Raises:
            InternalError: no worker can be started.
        """
        while True:
            worker = await self.current_worker()
            slot = await worker.acquire()
            if slot is not None:
                return worker, slot

    def give_back(
        self, worker: WorkerProcess, slot: Slot, conversation: Conversation | None, task: str
    ) -> None:
        """Take a slot back, and have a new worker made where the run has spoilt this one.

        Args:
            worker: whose slot it is.
            slot: the slot.
            conversation: the run it was lent for; None where that never began.
            task: the task's name.
        """
        worker.release(slot, reusable=conversation is None or conversation.finished)
        if conversation is None:
            return
        if conversation.finished:
            self._deaths_in_a_row = 0
            if worker.runs_started >= self._config.runs_per_worker:
                worker.retire()
            return
        if not worker.died.is_set():
            self._counts.poisoned += 1
            _log.warning("slot_poisoned", task=task, pid=worker.pid)
        if not self._ended:
            self._nursery.start_soon(self._replace)

    async def current_worker(self) -> WorkerProcess:
        """The worker that takes new runs; starts one where there is none.

        Raises:
            InternalError: it does not start.
        """
        if self._worker is not None and self._worker.is_open:
            return self._worker
        async with self._starting:
            if self._worker is not None and self._worker.is_open:  # another has started it meanwhile
                return self._worker
            await trio.sleep(self.backoff_s())
            worker = WorkerProcess(
                slots=self._config.slots,
                start_timeout_s=self._config.start_timeout_s,
                enclosure=self.enclosure,
            )
            try:
                await self._nursery.start(self._supervise, worker)
            except InternalError:
                self._deaths_in_a_row += 1
                raise
            self._counts.started += 1
            self._worker = worker
            return worker

    async def end(self) -> None:
        """End the worker of a keeper that has no users, and wait until its process is gone."""
        self._ended = True
        async with self._starting:  # one on its way first arrives
            if self._worker is not None:
                self._worker.retire()
                await self._worker.died.wait()

    def backoff_s(self) -> float:
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
            self._counts.lost += 1
            self._deaths_in_a_row += 1
            _log.warning("worker_lost", pid=worker.pid, reason=worker.describe_end())

    async def _replace(self) -> None:
        """Have the next worker ready before the next run asks for it."""
        try:
            if not self._ended:
                await self.current_worker()
        except InternalError as error:
            _log.error("worker_not_started", reason=error.message)  # its message says all there is
