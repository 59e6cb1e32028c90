"""The first page: what is under way, and what needs somebody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from walle_control.console.frame import Page, Visit
from walle_control.console.releases import summaries
from walle_control.db.sql import Connection
from walle_control.features.releases import read_model as releases
from walle_control.features.releases.types import ReleaseRow, ReleaseState
from walle_control.features.telemetry import read_model as telemetry
from walle_control.features.telemetry.types import FailureCount, Installations
from walle_control.web.access import ALL_SCENARIOS
from walle_shared.ids import ReleaseId

if TYPE_CHECKING:
    from walle_control.app import Control

#: Releases that are under way: they wait for somebody, grow, or rest.
IN_FLIGHT: Final[tuple[ReleaseState, ...]] = ("pending", "live", "paused")
_IN_FLIGHT_MAX: Final = 25
_TASKS_MAX: Final = 25
_VERSIONS_MAX: Final = 6
_FAILURES_SINCE_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of a task by the devices that have them; the rest of them in one."""

    scenario: str
    task: str
    devices: int
    versions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Failures:
    """What fails now, of which release."""

    count: FailureCount
    release: ReleaseRow


class OverviewViews:
    """The overview."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def show(self, visit: Visit) -> Page:
        """What is under way."""
        control, who = self._control, visit.who
        in_flight = await summaries(control, IN_FLIGHT, 0, _IN_FLIGHT_MAX)
        waiting = await control.releases.waiting()
        since_ms = control.console.clock.wall_ms() - _FAILURES_SINCE_MS
        failures = await control.store.database.read(lambda db: _failures(db, since_ms))
        counts = await control.console.fleet.counts()
        facts = {
            "live": True,
            "releases": [found for found in in_flight if who.may("releases:read", found.release.scenario)],
            "waiting": [found for found in waiting.approvals if who.may("releases:read", found.scenario)],
            "failures": [found for found in failures if who.may("releases:read", found.release.scenario)],
            "counts": counts,
            "tasks": by_task(
                found
                for found in (counts.installations if counts else ())
                if who.may("releases:read", found.scenario)
            )[:_TASKS_MAX],
            "attributes": counts.attributes if counts and who.may("devices:read", ALL_SCENARIOS) else (),
            "epoch": control.hub.epoch,
            "streams": control.streams.taken,
            "tunnels": control.tunnels.taken,
            "cloud": control.cloud,
            "expiring": await control.trust.expiring(),
            "sinks": control.telemetry.sink_list() if who.may_somewhere("data:read") else None,
        }
        return Page("overview.html", facts)


def by_task(installations: Iterable[Installations]) -> list[Versions]:
    """Installations task by task, the largest first; rare versions are added up."""
    tasks: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for found in installations:
        tasks.setdefault((found.scenario, found.task), []).append((found.version, found.devices))
    grouped = [
        Versions(scenario, task, sum(devices for _, devices in versions), _commonest(versions))
        for (scenario, task), versions in tasks.items()
    ]
    return sorted(grouped, key=lambda each: -each.devices)


def _commonest(versions: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    ordered = sorted(versions, key=lambda each: -each[1])
    rest = sum(devices for _, devices in ordered[_VERSIONS_MAX:])
    return (*ordered[:_VERSIONS_MAX], *([("others", rest)] if rest else []))


def _failures(db: Connection, since_ms: int) -> list[Failures]:
    found = telemetry.recent_failures(db, since_ms)
    rows = {each.release_id: releases.find(db, ReleaseId(each.release_id)) for each in found}
    return [Failures(each, row) for each in found if (row := rows[each.release_id]) is not None]
