"""Judges releases by their votes: lets them grow, pauses them, or takes them back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Literal, NoReturn, Protocol

import trio

from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.releases import read_model as releases
from walle_control.features.rollouts.book import TrialBook
from walle_control.features.rollouts.guard import Decision, Verdict
from walle_shared.clock import Clock
from walle_shared.errors import Conflict, WalleError
from walle_shared.ids import ReleaseId
from walle_shared.observe import get_logger

_log = get_logger("control.rollouts")

ACTOR = "guard"

#: Where reports come all the time, each group of them would be judged, which took a tenth of a core and found
#: nothing sooner that matters.
_REST_S: Final = 0.05

GuardAction = Literal["rollback", "pause", "promote"]

#: What a verdict makes of a release that is live, and of one that is paused already.
_ACTIONS: Final[Mapping[tuple[str, Decision], GuardAction]] = {
    ("live", "rollback"): "rollback",
    ("live", "pause"): "pause",
    ("live", "pass"): "promote",
    ("paused", "rollback"): "rollback",
}


class ReleaseControl(Protocol):
    """What the guard may do to a release."""

    async def act(
        self,
        release_id: ReleaseId,
        action: GuardAction,
        actor: str,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> object:
        """Roll it back, pause it, or let it go on to its next stage."""
        ...


class RolloutsService:
    """The guard at work."""

    def __init__(self, database: Database, clock: Clock, control: ReleaseControl, book: TrialBook) -> None:
        self._database = database
        self._clock = clock
        self._control = control
        self._book = book
        self._poked = trio.Event()
        self.actions: Counter[GuardAction] = Counter()

    def poke(self) -> None:
        """New reports are there: judge soon, however many pokes there were."""
        self._poked.set()

    async def run(self, interval_s: float) -> NoReturn:
        """Judge whenever poked, and at least every ``interval_s`` seconds, but half of the time at most."""
        while True:
            with trio.move_on_after(interval_s):
                await self._poked.wait()
            self._poked = trio.Event()
            began = trio.current_time()
            try:
                await self.evaluate()
            except WalleError as error:  # e.g. a full disk: the guard must outlive it
                _log.error("release_judging_failed", error=error.message, code=error.code)
                await trio.sleep(interval_s)
            await trio.sleep(max(_REST_S, trio.current_time() - began))

    async def evaluate(self) -> list[tuple[ReleaseId, GuardAction]]:
        """Judge every release that devices may have; what was done about which."""
        due = await self._database.read(self._due)
        return [
            (release, action) for release, action, verdict in due if await self._act(release, action, verdict)
        ]

    async def _act(self, release_id: ReleaseId, action: GuardAction, verdict: Verdict) -> bool:
        evidence = {"rule": verdict.rule, **verdict.evidence}
        try:
            await self._control.act(release_id, action, ACTOR, verdict.reason, evidence)
        except Conflict:
            return False  # an operator, or an evaluation beside this one, was faster
        self.actions[action] += 1
        log = _log.info if action == "promote" else _log.warning
        log("release_judged", release=release_id, action=action, rule=verdict.rule, reason=verdict.reason)
        return True

    def _due(self, db: Connection) -> list[tuple[ReleaseId, GuardAction, Verdict]]:
        now_ms = self._clock.wall_ms()
        due = []
        for row in releases.on_devices(db):
            verdict = releases.verdict_of(db, row, self._book, now_ms)
            action = _ACTIONS.get((row.state, verdict.decision))
            if action == "promote" and not row.may_grow(now_ms):
                continue
            if action is not None:
                due.append((row.id, action, verdict))
        return due
