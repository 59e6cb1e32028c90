"""The parent of several workers, with workers that are smaller than the real ones."""

from __future__ import annotations

import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from walle_control.workers.supervisor import Supervisor
from walle_shared.errors import ConfigError

#: Answers its process id to whoever connects, until SIGTERM.
WORKER = textwrap.dedent("""
    import os, select, signal, socket, sys
    from walle_control.workers.notify import notify
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.setblocking(False)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    notify("READY=1")
    while not signal.sigtimedwait([signal.SIGTERM], 0):
        if select.select([listener], [], [], 0.02)[0]:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:  # the other one was faster
                continue
            connection.sendall(str(os.getpid()).encode())
            connection.close()
""")


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    return [sys.executable, str(script)]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener


@asynccontextmanager
async def running(command: list[str], listener: socket.socket, count: int) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(command, listener, count, stop_s=30)
    started = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run, started.set)
        with trio.fail_after(60):
            await started.wait()
        yield supervisor
        os.kill(os.getpid(), signal.SIGTERM)


async def answer(listener: socket.socket) -> int:
    async with await trio.open_tcp_stream(*listener.getsockname()) as stream:
        return int(await stream.receive_some())


async def wait_until(condition: Callable[[], object]) -> None:
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - the states are the processes'
            await trio.sleep(0.01)


async def test_they_are_replaced_one_by_one_and_somebody_always_answers(
    command: list[str], listener: socket.socket
) -> None:
    async with running(command, listener, 2) as supervisor:
        before = {worker.pid for worker in supervisor._workers}
        os.kill(os.getpid(), signal.SIGHUP)
        answers = set()
        with trio.fail_after(60):
            while before & {worker.pid for worker in supervisor._workers} or len(supervisor._workers) != 2:
                answers.add(await answer(listener))
        after = {worker.pid for worker in supervisor._workers}
        assert not before & after
        assert await answer(listener) in after
    assert supervisor._workers == []


async def test_a_worker_that_dies_is_started_again(command: list[str], listener: socket.socket) -> None:
    async with running(command, listener, 1) as supervisor:
        dead = supervisor._workers[0].pid
        os.kill(dead, signal.SIGKILL)
        await wait_until(lambda: supervisor._workers and supervisor._workers[0].pid != dead)
        assert await answer(listener) == supervisor._workers[0].pid


async def test_a_worker_that_cannot_start_is_an_error(listener: socket.socket) -> None:
    supervisor = Supervisor([sys.executable, "-c", "raise SystemExit(3)"], listener, 1, stop_s=30)
    refused = pytest.RaisesExc(ConfigError, match="exit code 3")
    with pytest.RaisesGroup(refused, flatten_subgroups=True):
        await supervisor.run(lambda: None)
