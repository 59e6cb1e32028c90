"""What the guard makes of releases, for whoever does not wait until a million votes are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from walle_control.features.releases.service import ReleasesService
from walle_control.features.releases.types import ReleaseDetail, ReleaseSummary
from walle_control.features.rollouts.guard import Verdict
from walle_control.web.soon import Soon
from walle_shared.ids import ReleaseId

#: So long an answer of the API waits for votes to be counted: the first time after a start there may be many.
API_WAIT_S: Final = 2.0


class Verdicts:
    """Puts the guard's verdicts into answers: today's, or the last known, or that votes are being counted."""

    def __init__(self, service: ReleasesService, soon: Soon) -> None:
        self._service = service
        self._soon = soon

    async def on(self, detail: ReleaseDetail, wait_s: float | None = None) -> ReleaseDetail:
        """One release with its verdict."""
        release_id = detail.release.id
        found = await self._of((release_id,), wait_s)
        return replace(detail, verdict=found.get(release_id, detail.verdict))

    async def on_all(
        self, summaries: Sequence[ReleaseSummary], wait_s: float | None = None, name: str = ""
    ) -> tuple[ReleaseSummary, ...]:
        """Releases with their verdicts; ``name`` says which these are, where their list grows for ever."""
        found = await self._of(tuple(each.release.id for each in summaries), wait_s, name)
        return tuple(replace(each, verdict=found.get(each.release.id, each.verdict)) for each in summaries)

    async def _of(
        self, release_ids: tuple[ReleaseId, ...], wait_s: float | None, named: str = ""
    ) -> Mapping[ReleaseId, Verdict]:
        name = ("verdicts", named or release_ids)
        answers = await self._soon.of({name: partial(self._service.verdicts, release_ids)}, wait_s)
        found: Mapping[ReleaseId, Verdict] = answers.get(name, {})
        return found
