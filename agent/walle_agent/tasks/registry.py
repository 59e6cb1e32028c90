"""The tasks that may run now: what deployment has activated, as triggers see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from walle_shared.errors import ConfigError, Conflict, TaskError
from walle_shared.ids import ReleaseId, Sha256, TaskVersion
from walle_shared.manifest import ColumnType, Prepare, Retention, TaskFile, Trigger
from walle_shared.targeting.policy import TaskKey


@dataclass(frozen=True, slots=True)
class InstalledTask:
    """An active task: what it is, where its files lie, and under which release it runs."""

    key: TaskKey
    version: TaskVersion
    release_id: ReleaseId
    manifest: Sha256
    bundle_dir: Path
    definition: TaskFile


class TriggerTable(Protocol):
    """The part of the streams that knows triggers and tables; ``StreamService`` has it."""

    async def register(
        self,
        task: TaskKey,
        triggers: Sequence[Trigger],
        tables: Mapping[str, Mapping[str, ColumnType]] | None = None,
        retention: Mapping[str, Retention] | None = None,
        prepare: Sequence[Prepare] = (),
    ) -> None:
        """Watch for a task's triggers and stages, in place of those it had, and make its tables."""
        ...

    async def deregister(self, task: TaskKey) -> None:
        """Stop watching for them."""
        ...


class Judge(Protocol):
    """Says whether a task may be installed by the classes of what it sees (``confinement.Confinement``)."""

    async def check(self, task: TaskKey, definition: TaskFile) -> None:
        """Raise a TaskError if not."""
        ...


class TaskRegistry:
    """Active tasks by key; keeps the trigger table in step.

    Args:
        triggers: the part of the streams that knows triggers and tables.
        judge: asked before a task is activated; None lets every task in.
    """

    def __init__(self, triggers: TriggerTable, judge: Judge | None = None) -> None:
        self._triggers = triggers
        self._judge = judge
        self._tasks: dict[TaskKey, InstalledTask] = {}
        self._runs: Counter[Path] = Counter()
        self._run_ended = trio.Event()

    async def prepare(self, key: TaskKey, definition: TaskFile) -> None:
        """Make the tables that a task declares, before it is activated.

        Raises:
            TaskError: a column has another type already, so the author must rename it; or what the task
                sends may hold what must stay on the device.
            StorageError: the disk refused.
        """
        if self._judge is not None:
            await self._judge.check(key, definition)
        active = self._tasks.get(key)
        triggers = active.definition.triggers if active is not None else ()
        stages = active.definition.prepare if active is not None else ()
        try:
            await self._triggers.register(key, triggers, definition.tables, definition.retention, stages)
        except (Conflict, ConfigError) as error:
            raise TaskError(str(error)) from error

    async def activate(self, task: InstalledTask) -> None:
        """Let a task run; one of the same key stops being started."""
        before = self._tasks.get(task.key)
        if before == task:
            return
        self._tasks[task.key] = task
        what = task.definition
        await self._triggers.register(task.key, what.triggers, what.tables, what.retention, what.prepare)

    async def deactivate(self, key: TaskKey) -> None:
        """Stop starting a task; runs that go on are left to end."""
        if self._tasks.pop(key, None) is not None:
            await self._triggers.deregister(key)

    @contextmanager
    def running(self, task: InstalledTask) -> Iterator[None]:
        """While a run reads a task's files, they stay where they are."""
        self._runs[task.bundle_dir] += 1
        try:
            yield
        finally:
            self._runs[task.bundle_dir] -= 1
            if not self._runs[task.bundle_dir]:
                del self._runs[task.bundle_dir]
                self._run_ended.set()
                self._run_ended = trio.Event()

    def is_in_use(self, bundle_dir: Path) -> bool:
        """Whether a run reads files in this folder."""
        return bundle_dir in self._runs

    async def wait_unused(self, bundle_dir: Path) -> None:
        """Wait until no run reads files in this folder. Blocks: a run at most."""
        while bundle_dir in self._runs:
            await self._run_ended.wait()

    def get(self, key: TaskKey) -> InstalledTask | None:
        """The active task of this key."""
        return self._tasks.get(key)

    def tasks(self) -> tuple[InstalledTask, ...]:
        """All active tasks, by key."""
        return tuple(self._tasks[key] for key in sorted(self._tasks))
