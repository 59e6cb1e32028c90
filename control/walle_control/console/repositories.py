"""Repositories that versions are imported from, and how they fare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from walle_control.console.frame import Page, Visit

if TYPE_CHECKING:
    from walle_control.app import Control


class RepositoryViews:
    """Pages and forms about repositories."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def list(self, visit: Visit) -> Page:
        """The repositories of the scenarios one may see."""
        return await self._page(visit)

    async def sync(self, visit: Visit) -> Page:
        """The form that fetches one now; what came of it is shown."""

        def check(scenario: str) -> None:
            visit.who.require("tasks:write", scenario)

        result = await self._control.repositories.sync(visit.path("name"), check)
        return await self._page(visit, result)

    async def _page(self, visit: Visit, result: object = None) -> Page:
        found = (await self._control.repositories.list()).repositories
        rows = [row for row in found if visit.who.may("tasks:read", row.repository.scenario)]
        return Page("repositories.html", {"repositories": rows, "result": result})
