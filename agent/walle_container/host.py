"""The container's front: runs tasks on worker processes, by scenario and tier, and bounds their number."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trio

from walle_container import fences, messages
from walle_container.conversation import Conversation, failure
from walle_container.keeper import Counts, KeeperConfig, WorkerKeeper, WorkerStatistics
from walle_container.process import Enclosure, WorkerProcess
from walle_container.spec import HostFunction, TaskResult, TaskSpec
from walle_shared.errors import ConfigError, ConnectionLost, LimitExceeded, RemoteProtocolError
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES
from walle_shared.observe import get_logger

DEATH_NOTICE_S = 1.0

_log = get_logger("container")


@dataclass(frozen=True, slots=True)
class HostConfig:
    """How the container works.

    Attributes:
        slots: tasks that may run at the same time.
        workers_max: worker processes kept at the same time; the one idle longest gives way.
        idle_s: how long a worker is kept without a run.
        bundles_dir: the folder with one folder per scenario in which all bundles lie, so that a worker can be
            kept from reading anything else; None where they lie anywhere.
        grace_s: how long a stopped run may take to end before its worker is replaced.
        start_timeout_s: how long a worker may take to start.
        runs_per_worker: runs after which a worker is replaced, at a moment when nothing of it is lost.
        backoff_first_s: pause before the second start in a row after a death; doubles each time.
        backoff_max_s: longest such pause.
    """

    slots: int = 2
    workers_max: int = 8
    idle_s: float = 300.0
    bundles_dir: Path | None = None
    grace_s: float = 0.25
    start_timeout_s: float = 30.0
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
        fences: the kernel's fences that bind the tasks.
        workers: the workers kept now, the newest last.
    """

    runs: int
    running: int
    workers_started: int
    workers_lost: int
    poisoned: int
    fences: tuple[str, ...]
    workers: tuple[WorkerStatistics, ...]

    @property
    def worker_pid(self) -> int | None:
        """Process id of the newest worker; None where there is none."""
        return self.workers[-1].pid if self.workers else None


@dataclass(frozen=True, slots=True)
class _Place:
    """Whose runs share a worker.

    ``root_id`` is device and inode: the fences hold on to the very folder, so a new folder of the same name
    needs a new worker.
    """

    scenario: str
    enclosure: Enclosure
    root_id: tuple[int, int]


class TaskHost:
    """Runs tasks; an async context manager.

    Tasks of the ``interp`` tier share one worker per scenario; each of the ``process`` tier has its own. The
    worker that opening the host starts belongs to nobody yet: the first scenario that needs one takes it.

    Args:
        config: how to work.

    Raises:
        ConfigError: a figure of ``config`` cannot be right.
    """

    def __init__(self, config: HostConfig | None = None) -> None:
        self._config = config or HostConfig()
        if self._config.slots < 1 or self._config.workers_max < 1:
            raise ConfigError("a container needs at least one slot and one worker")
        self._opened: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nursery: trio.Nursery | None = None
        self._keepers: dict[_Place, WorkerKeeper] = {}
        self._spare: WorkerKeeper | None = None
        self._making_room = trio.Lock()
        self._idle = trio.lowlevel.ParkingLot()
        self._slots = trio.Semaphore(self._config.slots)
        self._fences = fences.find_fences()
        self._run_numbers = count(1)
        self._counts = Counts()
        self._runs = self._running = 0

    async def __aenter__(self) -> Self:
        """Start the first worker.

        Raises:
            InternalError: it does not start.
        """
        if missing := {fences.LANDLOCK, fences.SECCOMP} - set(self._fences):
            _log.warning("fences_missing", fences=sorted(missing))
        self._opened = trio.open_nursery()
        self._nursery = await self._opened.__aenter__()
        try:
            self._spare = self._make_keeper(self._shared_enclosure())
            await self._spare.current_worker()
        except BaseException:
            self._nursery.cancel_scope.cancel()
            await self._opened.__aexit__(None, None, None)
            raise
        self._nursery.start_soon(self._end_idle_keepers)
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
        workers = [keeper.statistics(place.scenario) for place, keeper in self._keepers.items()]
        if self._spare is not None:
            workers.insert(0, self._spare.statistics(None))
        return HostStatistics(
            runs=self._runs,
            running=self._running,
            workers_started=self._counts.started,
            workers_lost=self._counts.lost,
            poisoned=self._counts.poisoned,
            fences=self._fences,
            workers=tuple(workers),
        )

    async def measure_rss_bytes(self) -> int:
        """Resident memory of all workers that take new runs.

        Raises:
            ConnectionLost: one has just died.
        """
        keepers = [*self._keepers.values(), *([self._spare] if self._spare is not None else [])]
        return sum([await (await keeper.current_worker()).measure_rss_bytes() for keeper in keepers])

    async def run(
        self, spec: TaskSpec, inputs: dict[str, Any], functions: Mapping[str, HostFunction] | None = None
    ) -> TaskResult:
        """Run a task once and say how it ended. What the task does wrong is in the result, never raised.

        Cancelling stops the task before ``Cancelled`` goes on.

        Args:
            spec: the task.
            inputs: ``{"events": [...], "visit": {...} | None, "trigger": {...}}``; buffers of numbers may
                stand anywhere in them, and arrive as views of memory shared with the worker.
            functions: host functions by name; those the spec's capabilities do not grant are refused.

        Raises:
            ConfigError: the bundle does not lie in its scenario's folder.
            LocalProtocolError: the inputs are not JSON.
            LimitExceeded: they are too large.
            InternalError: no worker can be started.

        Blocks:
            Until a slot is free and the run has ended.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # what follows may wait for nothing but the run
        place = self._place_of(spec)
        run = next(self._run_numbers)
        order = messages.encode_run(run, spec, inputs, place.enclosure.root)
        if len(order.payload) > CONTAINER_FRAME_MAX_BYTES:
            raise LimitExceeded(
                f"the inputs of task {spec.task!r} have {len(order.payload)} bytes; "
                f"the limit is {CONTAINER_FRAME_MAX_BYTES}: match fewer events"
            )
        keeper = await self._lend(place)
        try:
            return await self._run_on(keeper, run, spec, order, functions or {})
        finally:
            keeper.users -= 1
            keeper.idle_since_s = trio.current_time()
            if keeper.users == 0:
                self._idle.unpark()

    async def _run_on(
        self,
        keeper: WorkerKeeper,
        run: int,
        spec: TaskSpec,
        order: messages.Frame,
        functions: Mapping[str, HostFunction],
    ) -> TaskResult:
        while True:
            worker, slot = await keeper.acquire()
            conversation = Conversation(
                channel=slot.channel,
                run=run,
                spec=spec,
                functions=functions,
                interrupt=partial(worker.interrupt, slot, run),
                grace_s=self._config.grace_s,
            )
            held: Conversation | None = None
            try:
                await self._wait_turn()
                try:
                    if not worker.died.is_set():  # of another run, while this one waited for its turn
                        held = conversation
                        return await self._hold(conversation, worker, order, spec.limits.wall_s)
                finally:
                    self._slots.release()
            finally:
                keeper.give_back(worker, slot, held, spec.task)

    async def _wait_turn(self) -> None:
        """Become one of the tasks that run at the same time; goes through the event loop only to wait."""
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._slots.acquire()

    async def _hold(
        self, conversation: Conversation, worker: WorkerProcess, order: messages.Frame, wall_s: float
    ) -> TaskResult:
        started_s = trio.current_time()
        self._runs += 1
        self._running += 1
        try:
            worker.allow_cpu(wall_s + self._config.grace_s)
            return await conversation.hold(order)
        except ConnectionLost:
            with trio.move_on_after(
                DEATH_NOTICE_S
            ):  # a channel is seen to close a moment before the process is gone
                await worker.died.wait()
            reason = worker.describe_end()
        except RemoteProtocolError as error:
            reason = f"the worker broke the protocol and was ended: {error.message}"
        finally:
            self._running -= 1
        conversation.finished = False
        worker.kill()
        await worker.died.wait()
        return failure("crashed", reason, wall_s=trio.current_time() - started_s)

    # Whose worker

    def _shared_enclosure(self, scenario: str = "") -> Enclosure:
        return _enclose(self._config.bundles_dir, self._fences, scenario)

    def _place_of(self, spec: TaskSpec) -> _Place:
        enclosure = self._shared_enclosure(spec.scenario)
        bundle_dir = _check_below(enclosure.root, spec.bundle_dir, spec.task)
        if spec.tier == "process":
            enclosure = Enclosure("process", bundle_dir, self._fences, spec.limits.memory_bytes)
        return _Place(spec.scenario, enclosure, _identify(enclosure.root))

    def _make_keeper(self, enclosure: Enclosure) -> WorkerKeeper:
        config = self._config
        assert self._nursery is not None
        keeper_config = KeeperConfig(
            slots=config.slots if enclosure.tier == "interp" else 1,
            start_timeout_s=config.start_timeout_s,
            runs_per_worker=config.runs_per_worker,
            backoff_first_s=config.backoff_first_s,
            backoff_max_s=config.backoff_max_s,
        )
        return WorkerKeeper(enclosure, keeper_config, self._counts, self._nursery)

    async def _lend(self, place: _Place) -> WorkerKeeper:
        """The keeper for ``place``, with one more user."""
        keeper = self._keepers.get(place)
        if keeper is None:
            async with self._making_room:
                keeper = self._keepers.get(place) or await self._new_keeper(place)
        keeper.users += 1
        return keeper

    async def _new_keeper(self, place: _Place) -> WorkerKeeper:
        if self._spare is not None and place.enclosure.tier == "interp":
            keeper, self._spare = self._spare, None
            keeper.enclosure = place.enclosure
        else:
            while len(self._keepers) + (self._spare is not None) >= self._config.workers_max:
                await self._end_one_keeper()
            keeper = self._make_keeper(place.enclosure)
        self._keepers[place] = keeper
        return keeper

    async def _end_one_keeper(self) -> None:
        """End the keeper that has been idle longest, waiting for one to be idle."""
        if self._spare is not None:
            keeper, self._spare = self._spare, None
            await keeper.end()
            return
        idle = [place for place, keeper in self._keepers.items() if keeper.users == 0]
        if idle:
            await self._keepers.pop(min(idle, key=lambda place: self._keepers[place].idle_since_s)).end()
        else:
            await self._idle.park()

    async def _end_idle_keepers(self) -> None:
        """End every keeper that has had no run for a while, for ever."""
        while True:
            now_s = trio.current_time()
            due_s = now_s - self._config.idle_s
            async with self._making_room:  # one that is being ended still counts
                for place, keeper in list(self._keepers.items()):
                    if keeper.users == 0 and keeper.idle_since_s <= due_s:
                        del self._keepers[place]
                        await keeper.end()
            idle_since_s = [k.idle_since_s for k in self._keepers.values() if k.users == 0]
            await trio.sleep(max(min(idle_since_s, default=now_s) - due_s, self._config.idle_s / 16))


# Every run asks these two, with the few values that the installed tasks have; paths are slow.


@lru_cache
def _enclose(bundles_dir: Path | None, fence_names: tuple[str, ...], scenario: str) -> Enclosure:
    """What the tasks of a scenario share."""
    root = Path("/") if bundles_dir is None else bundles_dir.absolute() / scenario
    return Enclosure("interp", root, fence_names)


@lru_cache
def _check_below(root: Path, bundle_dir: Path, task: str) -> Path:
    """The bundle's folder in full, which must lie below ``root``."""
    bundle_dir = bundle_dir.absolute()
    if not bundle_dir.is_relative_to(root):
        raise ConfigError(f"the bundle {bundle_dir} of {task!r} must lie below {root}")
    return bundle_dir


def _identify(path: Path) -> tuple[int, int]:
    """Device and inode of a folder; zeros where there is none, which the run will say."""
    try:
        status = os.stat(path)  # noqa: PTH116  # once per run: pathlib would double it
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


__all__ = ["HostConfig", "HostStatistics", "TaskHost"]
