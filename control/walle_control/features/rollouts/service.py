"""Judges live releases by their votes and rolls back those that fail too often."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, NoReturn, Protocol

import trio

from walle_control.db.connection import Database
from walle_control.features.releases import read_model as releases
from walle_control.features.rollouts.guard import GuardSettings, Verdict, judge
from walle_control.features.telemetry import read_model as telemetry
from walle_shared.errors import Conflict, WalleError
from walle_shared.ids import ReleaseId
from walle_shared.observe import get_logger

_log = get_logger("control.rollouts")

ACTOR = "guard"
RULE = "failure_rate"


class ReleaseControl(Protocol):
    """The one thing the guard may do to a release."""

    async def act(
        self,
        release_id: ReleaseId,
        action: Literal["rollback"],
        actor: str,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> object:
        """Roll it back."""
        ...


class RolloutsService:
    """The guard at work."""

    def __init__(self, database: Database, control: ReleaseControl) -> None:
        self._database = database
        self._control = control
        self._poked = trio.Event()

    def poke(self) -> None:
        """New reports are there: judge soon, however many pokes there were."""
        self._poked.set()

    async def run(self, interval_s: float) -> NoReturn:
        """Judge whenever poked, and at least every ``interval_s`` seconds."""
        while True:
            with trio.move_on_after(interval_s):
                await self._poked.wait()
            self._poked = trio.Event()
            try:
                await self.evaluate()
            except WalleError as error:  # e.g. a full disk: the guard must outlive it
                _log.error("release_judging_failed", error=error.message, code=error.code)
                await trio.sleep(interval_s)

    async def evaluate(self) -> list[ReleaseId]:
        """Judge every live release; those rolled back."""
        condemned = await self._database.read(_condemned)
        return [
            release_id
            for release_id, guard, verdict in condemned
            if await self._roll_back(release_id, guard, verdict)
        ]

    async def _roll_back(self, release_id: ReleaseId, guard: GuardSettings, verdict: Verdict) -> bool:
        evidence = {
            "rule": RULE,
            "stage": verdict.stage,
            "attempts": verdict.attempts,
            "failures": verdict.failures,
            "failure_rate": verdict.failures / verdict.attempts,
            **asdict(guard),
        }
        try:
            await self._control.act(release_id, "rollback", ACTOR, verdict.reason, evidence)
        except Conflict:
            return False  # an operator, or an evaluation beside this one, was faster
        _log.warning("release_rolled_back", release=release_id, reason=verdict.reason)
        return True


def _condemned(db: sqlite3.Connection) -> list[tuple[ReleaseId, GuardSettings, Verdict]]:
    judged = [
        (release_id, guard, judge(guard, telemetry.votes_of(db, release_id)))
        for release_id, guard in releases.live_guards(db).items()
    ]
    return [item for item in judged if item[2].decision == "rollback"]
