"""Creates releases and moves them through their states; every change is one transaction and one new epoch."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import trio

from walle_control.config import GuardConfig
from walle_control.db.connection import Database
from walle_control.features.audit import log as audit
from walle_control.features.devices import read_model as devices
from walle_control.features.releases import read_model, store
from walle_control.features.releases.epochs import EpochBook
from walle_control.features.releases.types import (
    CreateRelease,
    ExplainRequest,
    ExplainResponse,
    ReleaseAction,
    ReleaseDetail,
    ReleaseEvent,
    ReleaseList,
    ReleaseRow,
    ReleaseSummary,
    next_state,
    percent_of,
)
from walle_control.features.rollouts.book import TrialBook
from walle_control.features.rollouts.guard import GuardSettings, RolloutPlan
from walle_control.features.tasks import read_model as tasks
from walle_control.features.telemetry import read_model as telemetry
from walle_shared.clock import Clock
from walle_shared.errors import Conflict, NotFound
from walle_shared.ids import ReleaseId, ScenarioName, TaskName, TaskVersion, check_name, check_version
from walle_shared.observe import get_logger
from walle_shared.records import from_plain
from walle_shared.targeting import Policy, Snapshot, parse_predicate

_log = get_logger("control.releases")

Announce = Callable[[int], None]


class ReleasesService:
    """Knows the releases and the epoch they make. ``announce`` is told every epoch once it is published."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        book: EpochBook,
        trials: TrialBook,
        defaults: GuardConfig,
        announce: Announce,
    ) -> None:
        self._database = database
        self._clock = clock
        self._book = book
        self._trials = trials
        self._defaults = defaults
        self._announce = announce
        self._publishing = trio.Lock()

    async def load(self) -> None:
        """Publish what the database says, whatever the files say (after a crash they may lag behind)."""
        await self._database.write(self._book.ensure_first)
        await self._database.write(self._book.sign_anew_if_due)
        await self._publish()

    async def keep_signed(self) -> None:
        """Extend the epoch's signature if it is due."""
        if await self._database.write(self._book.sign_anew_if_due):
            await self._publish()

    async def create(self, wish: CreateRelease, actor: str) -> ReleaseDetail:
        """Create a release; it is live at once.

        Raises:
            ConfigError: a name, the predicate, the percentage or a guard setting is wrong.
            NotFound: the version was not imported.
        """
        check_name(wish.scenario, "scenario")
        check_name(wish.task, "task")
        check_version(wish.version)
        parse_predicate(wish.predicate)
        plan = wish.plan()
        guard = wish.guard.over(self._defaults.settings())
        release_id = await self._database.write(lambda db: self._create(db, wish, plan, guard, actor))
        await self._publish()
        _log.info("release_created", release=release_id, task=wish.task, version=wish.version, actor=actor)
        return await self.show(release_id)

    async def act(
        self,
        release_id: ReleaseId,
        action: ReleaseAction,
        actor: str,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> ReleaseDetail:
        """Promote, pause, stop, resume or roll back a release.

        Raises:
            NotFound: no such release.
            Conflict: its state does not allow it.
        """
        epoch = await self._database.write(
            lambda db: self._act(db, release_id, action, actor, reason, evidence or {})
        )
        await self._publish()
        _log.info(
            "release_changed", release=release_id, action=action, actor=actor, reason=reason, epoch=epoch
        )
        return await self.show(release_id)

    async def show(self, release_id: ReleaseId) -> ReleaseDetail:
        """All about one release.

        Raises:
            NotFound: no such release.
        """
        return await self._database.read(lambda db: self._detail(db, release_id))

    async def list(self) -> ReleaseList:
        """All releases, newest first."""
        return ReleaseList(tuple(await self._database.read(self._summaries)))

    async def explain(self, request: ExplainRequest) -> ExplainResponse:
        """Why each live release does or does not apply to a device.

        Raises:
            NotFound: no such device, and no profile given.
        """
        return await self._database.read(lambda db: _explain(db, request))

    async def epoch(self) -> Mapping[str, Any]:
        """The signed epoch as published, and why it was made."""
        row = await self._database.read(store.newest_epoch)
        if row is None:
            raise NotFound("no epoch was made yet")
        return {
            "epoch": row.n,
            "reason": row.reason,
            "created_ms": row.created_ms,
            "envelope": orjson.loads(row.envelope),
            "snapshot": orjson.loads(row.snapshot),
        }

    async def _publish(self) -> None:
        # Read inside the lock: whoever publishes last publishes the newest.
        async with self._publishing:
            newest = await self._database.read(store.newest_epoch)
            epoch = await trio.to_thread.run_sync(self._book.publish, newest)
            self._announce(epoch)

    def _create(
        self, db: sqlite3.Connection, wish: CreateRelease, plan: RolloutPlan, guard: GuardSettings, actor: str
    ) -> ReleaseId:
        tasks.manifest_of(db, wish.scenario, wish.task, wish.version)
        rank, now_ms = store.next_rank(db), self._clock.wall_ms()
        release_id = ReleaseId(f"r{rank}-{secrets.token_hex(4)}")
        row = ReleaseRow(
            id=release_id,
            rank=rank,
            scenario=ScenarioName(wish.scenario),
            task=TaskName(wish.task),
            version=TaskVersion(wish.version),
            predicate=wish.predicate,
            salt=release_id,  # salted by itself: other devices go first in every release
            plan=plan,
            guard=guard,
            state="live",
            stage=0,
            staged_ms=now_ms,
            created_ms=now_ms,
        )
        self._book.check_approved(db, row)
        store.insert_release(db, row)
        steps = ", ".join(percent_of(stage.share) for stage in plan.stages)
        reason = f"{wish.version} to {steps} % of {wish.predicate or 'all devices'}"
        self._record(db, row, "create", actor, reason, {})
        return release_id

    def _act(
        self,
        db: sqlite3.Connection,
        release_id: ReleaseId,
        action: ReleaseAction,
        actor: str,
        reason: str,
        evidence: Mapping[str, Any],
    ) -> int:
        row = _find(db, release_id)
        state = next_state(release_id, row.state, action)
        if action == "promote":
            if not row.has_next_stage:
                raise Conflict(f"release {release_id} is in its last stage: it cannot be promoted further")
            store.set_stage(db, release_id, row.stage + 1, self._clock.wall_ms())
            to = percent_of(row.plan.stages[row.stage + 1].share)
            reason = f"to {to} %" + (f": {reason}" if reason else "")
        store.set_state(db, release_id, state)
        changed = _find(db, release_id)
        return self._record(db, changed, action, actor, reason, evidence)

    def _detail(self, db: sqlite3.Connection, release_id: ReleaseId) -> ReleaseDetail:
        row = _find(db, release_id)
        return ReleaseDetail(
            row,
            percent_of(row.share),
            read_model.verdict_of(db, row, self._trials, self._clock.wall_ms()),
            telemetry.counts_of(db, release_id),
            tuple(store.history(db, release_id)),
        )

    def _summaries(self, db: sqlite3.Connection) -> Sequence[ReleaseSummary]:
        now_ms = self._clock.wall_ms()
        return [
            ReleaseSummary(row, percent_of(row.share), read_model.verdict_of(db, row, self._trials, now_ms))
            for row in store.list_releases(db)
        ]

    def _record(
        self,
        db: sqlite3.Connection,
        row: ReleaseRow,
        event: str,
        actor: str,
        reason: str,
        evidence: Mapping[str, Any],
    ) -> int:
        epoch = self._book.compile_next(db, f"{event} {row.id}")
        now_ms = self._clock.wall_ms()
        store.insert_event(db, row.id, ReleaseEvent(now_ms, event, row.state, actor, reason, evidence, epoch))
        audit.record(db, now_ms, actor, f"release.{event}", row.id, {"reason": reason, "epoch": epoch})
        return epoch


def _find(db: sqlite3.Connection, release_id: ReleaseId) -> ReleaseRow:
    row = store.find_release(db, release_id)
    if row is None:
        raise NotFound(f"no release {release_id!r}; see 'walle-control release list'")
    return row


def _explain(db: sqlite3.Connection, request: ExplainRequest) -> ExplainResponse:
    profile = request.profile if request.profile is not None else devices.profile_of(db, request.device_id)
    newest = store.newest_epoch(db)
    if newest is None:
        raise NotFound("no epoch was made yet")
    policy = Policy(from_plain(Snapshot, orjson.loads(newest.snapshot)))
    explanations = tuple(policy.explain(request.device_id, profile))
    return ExplainResponse(newest.n, request.device_id, profile, explanations)
