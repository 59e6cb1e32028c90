"""Several server processes on one socket, and their replacement one after the other.

The parent holds the listening socket and serves nothing: connections that arrive while a worker is replaced
wait in the socket's queue, or go to another worker. ``SIGHUP`` replaces all workers, each by one that has
read settings and code anew and says that it is ready before the old one is asked to stop. A worker that dies
is started again; one that cannot start ends everything, so that whoever started the parent learns of it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from walle_shared.errors import ConfigError
from walle_shared.observe import get_logger

_log = get_logger("control.supervisor")

_READY_S = 60.0
_AGAIN_S = 1.0
_DATAGRAM_BYTES = 4096


class Supervisor:
    """The parent of the workers.

    Args:
        command: starts one worker on the descriptor of its socket, which is appended.
        listener: the socket, listening.
        count: how many workers.
        stop_s: how long a worker may take to stop before it is killed.
    """

    def __init__(self, command: Sequence[str], listener: socket.socket, count: int, stop_s: float) -> None:
        self._command = command
        self._listener = listener
        self._count = count
        self._stop_s = stop_s
        self._workers: list[trio.Process] = []
        self._leaving: set[int] = set()
        self._ready: dict[int, trio.Event] = {}

    async def run(self, on_started: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ConfigError: a worker does not start.
        """
        with tempfile.TemporaryDirectory(prefix="walle-control-") as folder:
            path = str(Path(folder, "notify"))
            with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
                await notices.bind(path)
                with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._hear, notices)
                        async with trio.open_nursery() as starting:
                            for _ in range(self._count):
                                starting.start_soon(self._start, nursery, path)
                        on_started()
                        async for number in signals:
                            if number != signal.SIGHUP:
                                break
                            await self._replace_all(nursery, path)
                        await self._stop_all()
                        nursery.cancel_scope.cancel()

    async def _hear(self, notices: trio.socket.SocketType) -> None:
        while True:
            lines = (await notices.recv(_DATAGRAM_BYTES)).decode(errors="replace").splitlines()
            said = dict(line.split("=", 1) for line in lines if "=" in line)
            pid = said.get("MAINPID", "")
            if said.get("READY") == "1" and pid.isdigit() and int(pid) in self._ready:
                self._ready[int(pid)].set()

    async def _start(self, nursery: trio.Nursery, path: str) -> None:
        descriptor = self._listener.fileno()
        worker = await trio.lowlevel.open_process(
            [*self._command, str(descriptor)],
            pass_fds=[descriptor],
            env={**os.environ, "NOTIFY_SOCKET": path},
            start_new_session=True,  # the terminal's Ctrl-C comes from here, in order
            stdin=subprocess.DEVNULL,
        )
        ready = self._ready[worker.pid] = trio.Event()
        with trio.move_on_after(_READY_S):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(_cancel_when_ended, worker, waiting.cancel_scope)
                await ready.wait()
                waiting.cancel_scope.cancel()
        del self._ready[worker.pid]
        if not ready.is_set():
            worker.kill()
            await self._stop_all()
            raise ConfigError(
                f"a worker did not start (exit code {worker.returncode}); see its own words above"
            )
        self._workers.append(worker)
        nursery.start_soon(self._watch, worker, nursery, path)
        _log.info("worker_started", pid=worker.pid)

    async def _watch(self, worker: trio.Process, nursery: trio.Nursery, path: str) -> None:
        code = await worker.wait()
        self._workers.remove(worker)
        if worker.pid in self._leaving:
            self._leaving.discard(worker.pid)
            return
        _log.error("worker_died", pid=worker.pid, exit_code=code)
        await trio.sleep(_AGAIN_S)
        await self._start(nursery, path)

    async def _replace_all(self, nursery: trio.Nursery, path: str) -> None:
        for old in list(self._workers):
            await self._start(nursery, path)
            await self._stop(old)
        _log.info("workers_replaced", count=len(self._workers))

    async def _stop_all(self) -> None:
        async with trio.open_nursery() as nursery:
            for worker in list(self._workers):
                nursery.start_soon(self._stop, worker)

    async def _stop(self, worker: trio.Process) -> None:
        self._leaving.add(worker.pid)
        worker.terminate()
        with trio.move_on_after(self._stop_s):
            await worker.wait()
        worker.kill()
        await worker.wait()


async def _cancel_when_ended(worker: trio.Process, scope: trio.CancelScope) -> None:
    await worker.wait()
    scope.cancel()
