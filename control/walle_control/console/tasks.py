"""Tasks and their versions: what devices get of them, how they did in simulation, where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from walle_control.console.frame import Page, Visit, go_to
from walle_control.features.audit.types import AuditEntry
from walle_control.features.releases.types import ReleaseRow
from walle_control.features.tasks.types import Simulation, VersionRow
from walle_control.web.access import ALL_SCENARIOS
from walle_shared.deltas import NO_BASE, Delta
from walle_shared.errors import NotFound
from walle_shared.manifest import BundleFile

if TYPE_CHECKING:
    from walle_control.app import Control

#: The log is asked of a version and so many of its releases, and so many entries are shown.
_SUBJECTS_MAX: Final = 20
_DEEDS_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A task in the list: its newest version, and how many there are."""

    newest: VersionRow
    versions: int


@dataclass(frozen=True, slots=True)
class FileLine:
    """A file of a version: its size whole, packed, and as the smallest and largest difference to others."""

    file: BundleFile
    packed_bytes: int
    smallest_bytes: int
    largest_bytes: int


class TaskViews:
    """Pages and forms about tasks."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def list(self, visit: Visit) -> Page:
        """All tasks, the one imported last first."""
        tasks: dict[tuple[str, str], TaskLine] = {}
        for found in (await self._control.tasks.list()).versions:
            if visit.who.may("tasks:read", found.scenario):
                key = (found.scenario, found.task)
                known = tasks.get(key)
                tasks[key] = TaskLine(known.newest if known else found, known.versions + 1 if known else 1)
        return Page("tasks.html", {"tasks": list(tasks.values())})

    async def show(self, visit: Visit) -> Page:
        """A task: its versions, newest first, and its newest releases."""
        scenario, task = visit.path("scenario"), visit.path("task")
        versions = [
            found
            for found in (await self._control.tasks.list()).versions
            if (found.scenario, found.task) == (scenario, task)
        ]
        if not versions:
            raise NotFound(f"no version of task {scenario}/{task} was imported; see the list of tasks")
        facts = {
            "scenario": scenario,
            "task": task,
            "versions": versions,
            "releases": await self._releases(visit, scenario, task),
        }
        return Page("task.html", facts)

    async def version(self, visit: Visit) -> Page:
        """One version."""
        control = self._control
        names = scenario, task, version = (visit.path("scenario"), visit.path("task"), visit.path("version"))
        detail = await control.tasks.show(*names)
        deltas = await control.tasks.deltas_to(*names)
        simulation: Simulation | None
        try:
            simulation = await control.tasks.simulation(*names)
        except NotFound:
            simulation = None
        releases = [row for row in await self._releases(visit, scenario, task) if row.version == version]
        base = visit.query("base")
        others = [
            row.version
            for row in (await control.tasks.list()).versions
            if (row.scenario, row.task) == (scenario, task) and row.version != version
        ]
        facts = {
            "v": detail.version,
            "comparison": await control.tasks.compare(*names, base),
            "others": others,
            "history": await control.task_history(*names, base),
            "approval": (await control.tasks.approval(*names)).approval,
            "deeds": await self._deeds(visit, detail.version, releases),
            "definition": detail.definition,
            "files": file_lines(detail.files, deltas),
            "deltas": len(deltas),
            "simulation": simulation,
            "releases": releases,
            "may_simulate": visit.who.may("tasks:write", scenario),
            "may_release": detail.version.state == "ready" and visit.who.may("releases:write", scenario),
            "done": visit.query("done"),
        }
        return Page("version.html", facts)

    async def simulate(self, visit: Visit) -> Response:
        """The form that plays a version's simulations again."""
        names = visit.path("scenario"), visit.path("task"), visit.path("version")
        await self._control.tasks.simulate(*names, visit.who.name)
        return go_to("/tasks/" + "/".join(names), "simulated")

    async def _deeds(
        self, visit: Visit, version: VersionRow, releases: Sequence[ReleaseRow]
    ) -> Sequence[AuditEntry] | None:
        """Who imported, simulated and released a version, and who approved that; for who may read the log."""
        if not visit.who.may("audit:read", ALL_SCENARIOS):
            return None
        subjects = [f"{version.scenario}/{version.task} {version.version}", *(row.id for row in releases)]
        found = [
            entry
            for subject in subjects[:_SUBJECTS_MAX]
            for entry in await self._control.audit.about(subject, _DEEDS_MAX)
        ]
        return sorted(found, key=lambda entry: -entry.seq)[:_DEEDS_MAX]

    async def _releases(self, visit: Visit, scenario: str, task: str) -> Sequence[ReleaseRow]:
        if not visit.who.may("releases:read", scenario):
            return ()
        return await self._control.releases.of_task(scenario, task)


def file_lines(files: Sequence[BundleFile], deltas: Sequence[Delta]) -> list[FileLine]:
    """The files with what devices load of them, depending on what they have."""
    lines = []
    for file in files:
        ways = [delta for delta in deltas if delta.target == file.sha256]
        packed = [delta.file.size_bytes for delta in ways if delta.base == NO_BASE]
        from_others = [delta.file.size_bytes for delta in ways if delta.base != NO_BASE]
        lines.append(
            FileLine(file, min(packed, default=0), min(from_others, default=0), max(from_others, default=0))
        )
    return lines
