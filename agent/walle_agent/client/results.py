"""Hear what tasks return.

::

    from walle_agent.client.results import TaskResults

    with TaskResults("/run/walle/events.sock", "demo/recommend") as results:
        ...                                    # emit what the task waits for, then
        result = results.next(timeout_s=0.3)   # None: go on without it
        order = result.value["order"] if result else what_the_server_sent

Under Trio, it is ``walle_agent.client.under_trio.open_results``.

Nothing of it fails because the agent is away, slow or not installed: then there are no results.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from walle_agent.client.buffer import RETRY_FIRST_S
from walle_agent.streams.event import EventError

_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one run returned.

    Attributes:
        task: ``<scenario>/<task>``.
        version: of the task.
        value: what its function returned: numbers, texts, lists and dicts.
    """

    task: str
    version: str
    value: Any


def ask_for(tasks: Iterable[str]) -> bytes:
    """The lines that ask the agent for the results of tasks."""
    return b"".join(orjson.dumps({"walle_listen": task}) + b"\n" for task in tasks)


def parse_said(line: bytes) -> TaskResult | str:
    """What the agent says: a result, or the name of a task whose results it will tell.

    Raises:
        EventError: it refuses; with its words.
    """
    said = orjson.loads(line)
    if "error" in said:
        raise EventError(said["error"]["message"])
    if "listening" in said:
        return str(said["listening"])
    return TaskResult(**said["result"])


class TaskResults:
    """A connection on which the agent tells what tasks return; for one thread.

    It connects when it is first asked, and again when the agent has been away. What ran meanwhile is not
    told later.

    Args:
        path: the agent's events socket; see ``walle-agent status --json``.
        tasks: ``<scenario>/<task>`` of each that is of interest; they need not be installed yet.
    """

    def __init__(self, path: str | Path, *tasks: str) -> None:
        self._path = str(path)
        self._tasks = tasks
        self._socket: socket.socket | None = None
        self._rest = b""
        self._heard: deque[TaskResult] = deque()
        self._listening: set[str] = set()

    def wait_listening(self, timeout_s: float) -> bool:
        """Wait until the agent has said that it will tell the results of all tasks.

        Raises:
            EventError: it refuses; with its words.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self._listening.issuperset(self._tasks):
            if not self._hear(deadline_s):
                return False
        return True

    def next(self, timeout_s: float) -> TaskResult | None:
        """The oldest result not yet taken; ``None`` if none comes within the time.

        Raises:
            EventError: the agent refuses to tell; with its words.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self._heard:
            if not self._hear(deadline_s):
                return None
        return self._heard.popleft()

    def close(self) -> None:
        """Hear no more."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._rest = b""
        self._listening.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _hear(self, deadline_s: float) -> bool:
        """Take what the agent says next; False when the time is up."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return False
        try:
            connection = self._connected(left_s)
            connection.settimeout(max(1e-3, deadline_s - time.monotonic()))
            data = connection.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError("the agent closed the connection")
        except TimeoutError:
            return False
        except OSError:
            self.close()
            time.sleep(max(0.0, min(RETRY_FIRST_S, deadline_s - time.monotonic())))
            return True
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            said = parse_said(line)
            if isinstance(said, TaskResult):
                self._heard.append(said)
            else:
                self._listening.add(said)
        return True

    def _connected(self, timeout_s: float) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(timeout_s)
            try:
                connection.connect(self._path)
                connection.sendall(ask_for(self._tasks))
            except OSError:
                connection.close()
                raise
            self._socket = connection
        return self._socket
