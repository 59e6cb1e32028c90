"""One worker process, as the agent sees it: start, slots, interrupts, death."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import trio

from walle_container import locate, messages
from walle_container.channel import FrameChannel
from walle_shared.errors import ConnectionLost, InternalError, ProtocolError
from walle_shared.manifest import Tier
from walle_shared.observe import get_logger

STDERR_TAIL_BYTES = 4_000
STDERR_GRACE_S = 1.0
STATS_TIMEOUT_S = 5.0

#: All a worker inherits of the agent's environment: no secret is ever among these.
INHERITED_VARIABLES = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ", "WALLE_ENGINE_DISABLE", "WALLE_ENGINE_ISA")

_log = get_logger("container")


@dataclass(frozen=True, slots=True)
class Enclosure:
    """What a worker's tasks are kept in.

    Attributes:
        tier: ``interp``: each slot's thread is fenced at its first run; ``process``: the whole process is,
            before it is ready.
        root: the folder they may read, beside the libraries.
        fences: the kernel's fences to put up.
        memory_bytes: in the ``process`` tier, what the limit of the address space is made from.
    """

    tier: Tier
    root: Path
    fences: tuple[str, ...]
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of a worker: its number there, and its channel."""

    number: int
    channel: FrameChannel


class WorkerProcess:
    """A worker process and its slots.

    Invariant: a slot is in ``_idle`` or lent to exactly one run; a retiring worker lends no more, and ends
        when the last run has given its slot back.

    Args:
        slots: how many slots it has.
        start_timeout_s: how long it may take until all slots are ready.
        enclosure: what its tasks are kept in.
    """

    def __init__(self, *, slots: int, start_timeout_s: float, enclosure: Enclosure) -> None:
        self.runs_started = 0
        self.died = trio.Event()
        self.was_lost = False  # it ended although nobody wanted it to
        self._slots = slots
        self._start_timeout_s = start_timeout_s
        self._enclosure = enclosure
        self._process: trio.Process | None = None
        self._control: FrameChannel | None = None
        self._control_lock = trio.Lock()
        self._channels: list[FrameChannel] = []
        self._idle: list[Slot] = []
        self._lent = 0
        self._waiting = trio.lowlevel.ParkingLot()
        self._retiring = False
        self._stderr = bytearray()

    @property
    def is_open(self) -> bool:
        """Whether it lends slots, now or later."""
        return not self._retiring and not self.died.is_set()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def lent(self) -> int:
        """How many runs it has now."""
        return self._lent

    def describe_end(self) -> str:
        """How the process ended, for an error message."""
        code = self._process.returncode if self._process is not None else None
        tail = self._stderr.decode("utf-8", "replace").strip()
        if code is None:
            how = "is gone"
        elif code < 0:
            how = f"died of {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        return f"the worker process {how}" + (f": {tail[-500:]}" if tail else "")

    async def supervise(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the process, report when its slots are ready, and stay until it has ended.

        Raises:
            InternalError: before it was ready, it ended or took too long.
        """
        try:
            await self._open()
            await self._wait_ready()
            if self._enclosure.tier == "process":
                self._limit(resource.RLIMIT_NPROC, 0)  # it has the threads it needs
            _log.debug("worker_started", pid=self.pid, slots=self._slots)
            task_status.started()
            await self._drain_stderr()
            self.was_lost = not self._retiring
        finally:
            with trio.CancelScope(shield=True):
                await self._end()

    async def acquire(self) -> Slot | None:
        """Lend a slot, waiting for one; None once the worker is no longer open."""
        while self.is_open:
            if self._idle:
                self._lent += 1
                self.runs_started += 1
                return self._idle.pop()  # the one used last: its interpreter is still in the caches
            await self._waiting.park()
        return None

    def release(self, slot: Slot, *, reusable: bool) -> None:
        """Give a slot back; one that is not reusable retires the whole worker."""
        self._lent -= 1
        if reusable:
            self._idle.append(slot)
            self._waiting.unpark()
        else:
            self.retire()
        if self._retiring and self._lent == 0:
            self.kill()

    def retire(self) -> None:
        """Lend no more; runs that are going on finish first, then the process ends."""
        self._retiring = True
        self._waiting.unpark_all()
        if self._lent == 0:
            self.kill()

    def kill(self) -> None:
        """End the process now, whatever it does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def allow_cpu(self, wall_s: float) -> None:
        """Let a worker of the ``process`` tier use the processor for a run of at most ``wall_s``; past it, it
        dies, even where nobody is left to stop the run.
        """
        if self._enclosure.tier == "process":
            used_s = cpu_seconds(self.pid)
            limit_s = math.ceil(used_s + wall_s * (os.cpu_count() or 1)) + 1
            self._limit(resource.RLIMIT_CPU, limit_s)

    def _limit(self, limit: int, soft: int) -> None:
        """Lower a limit of the running process: what its own fences no longer let it do."""
        try:
            _, hard = resource.prlimit(self.pid, limit)
            resource.prlimit(self.pid, limit, (soft, hard))
        except ProcessLookupError:
            pass  # it has died: whoever talks to it learns it there

    async def interrupt(self, slot: Slot, run: int) -> None:
        """Ask for ``run`` to be stopped; returns before it is.

        Raises:
            ConnectionLost: the worker is gone.
        """
        assert self._control is not None
        async with self._control_lock:
            await self._control.send(messages.encode_interrupt(slot.number, run).payload)

    async def measure_rss_bytes(self) -> int:
        """The worker's resident memory.

        Raises:
            ConnectionLost: it is gone.
            RemoteProtocolError: it answers nonsense.
        """
        assert self._control is not None
        async with self._control_lock:
            await self._control.send(messages.encode_stats_request().payload)
            # Shielded, since an answer left in the channel would be taken for the next one.
            with trio.move_on_after(STATS_TIMEOUT_S, shield=True):
                return messages.parse_stats_frame(await self._control.receive())
        self.kill()
        raise ConnectionLost(f"the worker has not answered for {STATS_TIMEOUT_S:g} s and was ended")

    async def _open(self) -> None:
        pairs = [socket.socketpair() for _ in range(1 + self._slots)]
        self._control, *self._channels = [FrameChannel(pair[0]) for pair in pairs]
        theirs = [pair[1] for pair in pairs]
        try:
            self._process = await self._spawn([end.fileno() for end in theirs])
        finally:
            for end in theirs:
                end.close()

    async def _spawn(self, fds: list[int]) -> trio.Process:
        enclosure = self._enclosure
        own = {"root": str(enclosure.root), "memory_bytes": enclosure.memory_bytes}
        settings = json.dumps(
            {
                "control_fd": fds[0],
                "slot_fds": fds[1:],
                "fences": enclosure.fences,
                "own": own if enclosure.tier == "process" else None,
            }
        )
        # -S: no site, so the worker sees no installed package but ours; -P -s: no folder of the user either.
        command = [sys.executable, "-SPs", locate.__file__, locate.find_locations(), settings]
        environment = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        return await trio.lowlevel.open_process(
            command,
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment | {"PYTHONMALLOC": "pymalloc"},  # the quota counts pymalloc's arenas
            cwd="/",
        )

    async def _wait_ready(self) -> None:
        failure = "took too long to start"
        with trio.move_on_after(self._start_timeout_s) as scope:
            try:
                for number, channel in enumerate(self._channels):
                    if not isinstance(
                        messages.parse_guest_frame(await channel.receive()), messages.SlotReady
                    ):
                        failure = "said something else than ready"
                        break
                    self._idle.append(Slot(number, channel))
                else:
                    return
            except (ConnectionLost, ProtocolError) as error:
                failure = f"did not start: {error.message}"
        if scope.cancelled_caught:
            failure = f"was not ready within {self._start_timeout_s:g} s"
        with trio.CancelScope(shield=True):
            await self._end()
        raise InternalError(f"a task worker {failure}; {self.describe_end()}")

    async def _drain_stderr(self) -> None:
        """Keep the end of what the process says, until it has said all."""
        assert self._process is not None
        assert self._process.stderr is not None
        while data := await self._process.stderr.receive_some(STDERR_TAIL_BYTES):
            self._stderr = (self._stderr + data)[-STDERR_TAIL_BYTES:]

    async def _end(self) -> None:
        """Make sure that the process is gone and everyone knows."""
        if self.died.is_set():
            return
        self.kill()
        if self._process is not None:
            await self._process.wait()
            with trio.move_on_after(STDERR_GRACE_S):  # something a task started may hold it open
                await self._drain_stderr()
            assert self._process.stderr is not None
            await self._process.stderr.aclose()
        for channel in (*self._channels, self._control):
            if channel is not None:
                channel.close()
        self.died.set()
        self._waiting.unpark_all()


_CLOCK_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used; 0 where there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _CLOCK_TICK_S
