"""Whether a task has seen, or may read from its store, what must not leave the device as it is.

The rule is ``walle_shared.privacy``; what it cannot know is here: a run that sees local fields may keep them
in a table, and a later version that sees none may read them there. So such tables are marked, and confine
whoever may read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from walle_agent.streams.tables import VALUES
from walle_shared.errors import TaskError
from walle_shared.manifest import TaskFile
from walle_shared.privacy import local_reads, open_uploads
from walle_shared.schema import EventSchema
from walle_shared.targeting.policy import TaskKey


class Stored(Protocol):
    """What knows the marks (``streams.service.StreamService``)."""

    async def holds_local(self, task: TaskKey, tables: Iterable[str]) -> tuple[str, ...]:
        """Those of the tables that may hold what is local; "" are the values."""
        ...


class Confinement:
    """Judges tasks.

    Args:
        schema: the classes of fields; None: there are none, and no task is confined.
        stored: what knows of the tables.
    """

    def __init__(self, schema: EventSchema | None, stored: Stored) -> None:
        self.schema = schema
        self._stored = stored

    async def reasons(self, task: TaskKey, definition: TaskFile) -> tuple[str, ...]:
        """What confines a task, by name; nothing if it is free.

        Raises:
            StorageError: the store cannot be read.
        """
        if self.schema is None:
            return ()
        reasons = local_reads(definition, self.schema)
        if not reasons and "store" in definition.task.capabilities:
            held = await self._stored.holds_local(task, (*definition.tables, VALUES))
            reasons = tuple(f"table {name}" if name != VALUES else "values kept by key" for name in held)
        return reasons

    async def check(self, task: TaskKey, definition: TaskFile) -> None:
        """Refuse to install a task that is confined and would send what is open.

        Raises:
            TaskError: naming a field, and why.
            StorageError: the store cannot be read.
        """
        reasons = await self.reasons(task, definition)
        if reasons and "cloud" in definition.task.capabilities:
            raise TaskError(
                f"{task[1]} asks its cloud half, and may see what is local: {', '.join(reasons[:3])}: "
                "read less (a table: under a new name), or do without 'cloud'"
            )
        if reasons and (paths := open_uploads(definition)):
            raise TaskError(
                f"uploads.{paths[0]} has no closed range, and {task[1]} may see what is local: "
                f"{', '.join(reasons[:3])}: declare [bounds], or read less (a table: under a new name)"
            )
