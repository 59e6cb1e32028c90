"""What tasks return, told to the apps that listen for it.

An app writes ``{"walle_listen": "<scenario>/<task>"}`` to the events socket, hears ``{"listening": ...}``,
and from then on one line for each run of that task that ended well and returned something::

    {"result": {"task": "demo/recommend", "version": "1.0.0", "value": {"order": ["i7", "i2"]}}}

A run is told once, after it was kept, and only to those who listen then: what must not be lost belongs into
a table or an upload. Nobody waits for an app: where it does not read, the oldest results give way to the
newest.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

import orjson
import trio

from walle_agent.streams.event import EventError
from walle_shared.errors import ConfigError
from walle_shared.ids import ScenarioName, TaskName, TaskVersion, check_name
from walle_shared.limits import LISTENED_TASKS_MAX, RESULTS_WAITING_MAX
from walle_shared.observe import get_logger
from walle_shared.targeting.policy import TaskKey

_log = get_logger("agent.streams")

LISTEN_MEMBER = b'"walle_listen"'


@dataclass(frozen=True, slots=True)
class ResultStatistics:
    """Tasks listened for now, by all apps together; results told, and lost because an app did not read."""

    listening: int = 0
    told: int = 0
    lost: int = 0


class ResultBoard:
    """Brings results from runs to listeners."""

    def __init__(self) -> None:
        self._listeners: defaultdict[TaskKey, set[ResultListener]] = defaultdict(set)
        self._told = 0
        self._lost = 0

    def tell(self, task: TaskKey, version: TaskVersion, value: Any) -> None:
        """Tell all who listen for a task what a run of it returned; never waits."""
        listeners = self._listeners.get(task)
        if not listeners or value is None:
            return
        result = {"task": "/".join(task), "version": version, "value": value}
        try:
            line = orjson.dumps({"result": result}, default=_to_lists) + b"\n"
        except orjson.JSONEncodeError as error:  # integers beyond 64 bits, or lists in lists without end
            self._lost += len(listeners)
            _log.warning("result_untold", task=task[1], version=version, error=str(error))
            return
        for listener in listeners:
            self._told += 1
            self._lost += listener.put(line)

    def add(self, task: TaskKey, listener: ResultListener) -> None:
        """Let ``listener`` hear of a task's runs from now on; the task need not be installed yet."""
        self._listeners[task].add(listener)

    def drop(self, listener: ResultListener) -> None:
        """Tell ``listener`` nothing any more."""
        for task in [task for task, listeners in self._listeners.items() if listener in listeners]:
            self._listeners[task].discard(listener)
            if not self._listeners[task]:
                del self._listeners[task]

    def statistics(self) -> ResultStatistics:
        """Listeners now, and counters since the start."""
        return ResultStatistics(sum(map(len, self._listeners.values())), self._told, self._lost)


class ResultListener:
    """One app's connection: the tasks it listens for, and the lines that it has not read yet.

    Args:
        board: where results come from.
    """

    def __init__(self, board: ResultBoard) -> None:
        self._board = board
        self._tasks: set[TaskKey] = set()
        self._lines: deque[bytes] = deque(maxlen=RESULTS_WAITING_MAX)
        self._changed = trio.Event()

    def listen(self, task: TaskKey) -> None:
        """Hear of a task's runs from now on, behind a line that says so.

        Raises:
            EventError: it listens for too many.
        """
        if task not in self._tasks and len(self._tasks) >= LISTENED_TASKS_MAX:
            raise EventError(f"this connection listens for {LISTENED_TASKS_MAX} tasks already: open another")
        self._tasks.add(task)
        self._board.add(task, self)
        self.put(orjson.dumps({"listening": "/".join(task)}) + b"\n")

    def put(self, line: bytes) -> bool:
        """Add a line; whether an older one was lost for it."""
        full = len(self._lines) == RESULTS_WAITING_MAX
        self._lines.append(line)
        self._changed.set()
        return full

    async def next_lines(self) -> bytes:
        """Wait for lines, and take all there are."""
        while not self._lines:
            self._changed = trio.Event()
            await self._changed.wait()
        lines = b"".join(self._lines)
        self._lines.clear()
        return lines

    def close(self) -> None:
        """Hear no more."""
        self._board.drop(self)


def _to_lists(value: object) -> object:
    """Numbers that came as a buffer, as nested lists."""
    if isinstance(value, memoryview):
        return value.tolist()
    raise TypeError


def parse_listen(line: bytes) -> TaskKey | None:
    """The task that a line asks to listen for; ``None`` if it is no such line.

    Raises:
        EventError: it is one, and names no task.
    """
    if LISTEN_MEMBER not in line:
        return None
    try:
        plain = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(plain, dict) or plain.keys() != {"walle_listen"}:
        return None
    wanted = plain["walle_listen"]
    scenario, _, task = wanted.partition("/") if isinstance(wanted, str) else ("", "", "")
    try:
        return (
            ScenarioName(check_name(scenario, "walle_listen: scenario")),
            TaskName(check_name(task, "walle_listen: task")),
        )
    except ConfigError as error:
        raise EventError(f"{error.message}; write {{'walle_listen': 'scenario/task'}}") from None
