"""Creates releases and moves them through their states; every change is one transaction and one new epoch."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson
import trio

from walle_control.config import GuardConfig
from walle_control.db.connection import Database
from walle_control.db.files import FileStore
from walle_control.db.sql import Connection
from walle_control.features.audiences import read_model as audiences
from walle_control.features.audiences.answers import is_in
from walle_control.features.audit import log as audit
from walle_control.features.devices import read_model as devices
from walle_control.features.permits import read_model as permits
from walle_control.features.releases import approvals, read_model, store
from walle_control.features.releases.epochs import EpochBook
from walle_control.features.releases.told import ToldReleases
from walle_control.features.releases.types import (
    ApprovalList,
    ApprovalRule,
    ApprovalStep,
    CreateRelease,
    EpochView,
    ExplainRequest,
    ExplainResponse,
    ReleaseAction,
    ReleaseDetail,
    ReleaseEvent,
    ReleaseList,
    ReleaseRow,
    ReleaseState,
    ReleaseSummary,
    next_state,
)
from walle_control.features.rollouts.book import TrialBook
from walle_control.features.rollouts.guard import GuardSettings, RolloutPlan, Verdict
from walle_control.features.tasks import read_model as tasks
from walle_control.features.telemetry import read_model as telemetry
from walle_control.features.webhooks import outbox
from walle_control.percent import percent_of
from walle_shared.clock import Clock
from walle_shared.errors import Conflict, NotFound, RemoteProtocolError
from walle_shared.ids import (
    DeviceId,
    ReleaseId,
    ScenarioName,
    TaskName,
    TaskVersion,
    check_name,
    check_version,
)
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import DecideRequest, Told
from walle_shared.records import from_plain
from walle_shared.targeting import Explanation, Moment, Policy, Snapshot, idset
from walle_shared.targeting.policy import TIME_MAX_MS
from walle_shared.targeting.predicate import told_answer

#: Who acts when a release is judged.
GUARD = "guard"

#: What a decision is called in a release's history and in the audit log.
DECISION_EVENTS: Mapping[approvals.Decision, str] = {
    "approved": "approve",
    "rejected": "reject",
    "glass_broken": "break_glass",
}

#: In place of a verdict where nobody waits for one.
UNJUDGED: Final = Verdict("hold", "none", "its votes are being counted", {})

_log = get_logger("control.releases")

#: A device may go by what it was told for so long.
TOLD_LIFETIME_MS: Final = 3_600_000

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
        *,
        require_simulation: bool = True,
    ) -> None:
        self._database = database
        self._clock = clock
        self._book = book
        self._trials = trials
        self._defaults = defaults
        self._announce = announce
        self._require_simulation = require_simulation
        self._told = ToldReleases(book.files)
        self._publishing = trio.Lock()
        self._published = b""

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
        """Create a release; it is live at once, or once it is approved where the scenario asks for that.

        Raises:
            ConfigError: a name, the predicate, the percentage or a guard setting is wrong.
            NotFound: the version was not imported.
            Conflict: it has not passed its simulations.
        """
        check_name(wish.scenario, "scenario")
        check_name(wish.task, "task")
        check_version(wish.version)
        plan = wish.plan()
        wish.terms.checked(plan)
        guard = wish.guard.over(self._defaults.settings())
        release_id = await self._database.write(lambda db: self._create(db, wish, plan, guard, actor))
        await self._publish()
        _log.info("release_created", release=release_id, task=wish.task, version=wish.version, actor=actor)
        return await self.show(release_id, judged=False)

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
        return await self.show(release_id, judged=False)

    async def decide(
        self, release_id: ReleaseId, decision: approvals.Decision, actor: str, reason: str
    ) -> ReleaseDetail:
        """Approve or reject what a release waits for, or break the glass.

        Raises:
            NotFound: no such release.
            Conflict: it waits for nothing.
            NotAllowed: the actor asked for it.
            ConfigError: the glass is broken without a reason.
        """
        await self._database.write(lambda db: self._decide(db, release_id, decision, actor, reason))
        await self._publish()
        _log.warning("release_decided", release=release_id, decision=decision, actor=actor, reason=reason)
        return await self.show(release_id, judged=False)

    async def waiting(self) -> ApprovalList:
        """All requests that wait for a decision."""
        now_ms = self._clock.wall_ms()
        return ApprovalList(tuple(await self._database.read(lambda db: approvals.waiting(db, now_ms))))

    async def approval_rule(self, scenario: str) -> ApprovalRule:
        """Which steps of a scenario need approval."""
        return await self._database.read(lambda db: approvals.rule_of(db, scenario))

    async def set_approval_rule(self, scenario: str, rule: ApprovalRule, actor: str) -> ApprovalRule:
        """Say which steps of a scenario need approval.

        Raises:
            ConfigError: the scenario is no name, or the time makes no sense.
        """
        check_name(scenario, "scenario")

        def job(db: Connection) -> None:
            approvals.set_rule(db, scenario, rule)
            detail = {"steps": rule.steps, "valid_s": rule.valid_s}
            audit.record(db, self._clock.wall_ms(), actor, "approval.rule", scenario, detail)

        await self._database.write(job)
        return await self.approval_rule(scenario)

    async def show(self, release_id: ReleaseId, *, judged: bool = True) -> ReleaseDetail:
        """All about one release; not ``judged``: with ``UNJUDGED``, whatever its votes say.

        Raises:
            NotFound: no such release.
        """
        return await self._database.read(lambda db: self._detail(db, release_id, judged=judged))

    async def verdicts(self, release_ids: Sequence[ReleaseId]) -> Mapping[ReleaseId, Verdict]:
        """What the guard makes of releases. Blocks for their votes, which may be a million the first time.

        Raises:
            NotFound: there is no such release.
        """
        now_ms = self._clock.wall_ms()

        def judge(db: Connection) -> Mapping[ReleaseId, Verdict]:
            return {
                release_id: read_model.verdict_of(db, _find(db, release_id), self._trials, now_ms)
                for release_id in release_ids
            }

        return await self._database.read(judge)

    async def list(self, *, judged: bool = True) -> ReleaseList:
        """All releases, newest first."""
        return await self._summarize(store.list_releases, judged=judged)

    async def page(
        self,
        states: Sequence[ReleaseState] = (),
        before_rank: int = 0,
        limit: int = 50,
        *,
        judged: bool = True,
    ) -> ReleaseList:
        """Releases in some states (none named: in any) below a rank (0: all), newest first."""
        return await self._summarize(
            lambda db: store.page_of_releases(db, states, before_rank, limit), judged=judged
        )

    async def of_task(self, scenario: str, task: str, limit: int = 50) -> Sequence[ReleaseRow]:
        """The newest releases of a task, without their verdicts."""
        return await self._database.read(lambda db: store.releases_of(db, scenario, task, limit))

    async def newest_of(self, scenario: str, task: str, before_rank: int = 0) -> ReleaseRow | None:
        """The newest release of a task, or the newest below a rank."""
        return await self._database.read(lambda db: store.newest_of(db, scenario, task, before_rank))

    async def explain(self, request: ExplainRequest) -> ExplainResponse:
        """Why each live release does or does not apply to a device.

        Raises:
            NotFound: no such device, and no profile given.
        """
        now_ms = self._clock.wall_ms() if request.at_ms is None else request.at_ms
        return await self._database.read(
            lambda db: _explain(db, self._book.files, self._told, request, now_ms)
        )

    async def tell(self, request: DecideRequest, device_id: DeviceId) -> bytes:
        """Tell a device, signed, which releases apply to it as far as only the server can know.

        Raises:
            Conflict: the device does not have the newest policy yet.
            NotFound: no such device.
        """

        def read(db: Connection) -> bytes:
            now_ms = self._clock.wall_ms()
            epoch, releases = self._told.of(db, device_id)
            if request.epoch != epoch:
                raise Conflict(f"epoch {epoch} is the newest, not {request.epoch}: read the policy again")
            told = Told(device_id, epoch, releases, now_ms, now_ms + TOLD_LIFETIME_MS)
            return self._book.sign_told(db, told)

        return await self._database.read(read)

    async def change(self, actor: str, reason: str, change: Callable[[Connection], None]) -> int:
        """Change what releases refer to, and make the epoch that says so; its number."""

        def work(db: Connection) -> int:
            change(db)
            return self._book.compile_next(db, reason)

        epoch = await self._database.write(work)
        await self._publish()
        _log.info("policy_changed", actor=actor, reason=reason, epoch=epoch)
        return epoch

    async def epoch(self) -> EpochView:
        """The signed epoch as published, and why it was made."""
        row = await self._database.read(store.newest_epoch)
        if row is None:
            raise NotFound("no epoch was made yet: start the server once")
        envelope, snapshot = orjson.loads(row.envelope), orjson.loads(row.snapshot)
        return EpochView(row.n, row.reason, row.created_ms, envelope, snapshot)

    async def scenario_of(self, release_id: ReleaseId) -> str:
        """The scenario of a release.

        Raises:
            NotFound: no such release.
        """
        return (await self._database.read(lambda db: _find(db, release_id))).scenario

    async def follow(self) -> None:
        """Publish and announce what another worker may have made."""
        newest = await self._database.read(store.newest_epoch)
        if newest is not None and newest.envelope != self._published:
            await self._publish()

    async def _publish(self) -> None:
        # Read inside the lock: whoever publishes last publishes the newest.
        async with self._publishing:
            newest = await self._database.read(store.newest_epoch)
            epoch = await trio.to_thread.run_sync(self._book.publish, newest)
            self._published = newest.envelope if newest else b""
            self._announce(epoch)

    def _create(
        self, db: Connection, wish: CreateRelease, plan: RolloutPlan, guard: GuardSettings, actor: str
    ) -> ReleaseId:
        tasks.manifest_of(db, wish.scenario, wish.task, wish.version)
        audiences.audiences(db).check(wish.predicate, optional=wish.optional)
        if self._require_simulation:
            tasks.require_simulated(db, wish.scenario, wish.task, wish.version)
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
            state="pending" if _waits(db, wish.scenario, plan) else "live",
            stage=0,
            staged_ms=now_ms,
            created_ms=now_ms,
            terms=wish.terms,
            ramp_ms=now_ms,
        )
        self._book.check_approved(db, row)
        store.insert_release(db, row)
        steps = ", ".join(percent_of(stage.share) for stage in plan.stages)
        reason = f"{wish.version} to {steps} % of {wish.predicate or 'all devices'}"
        self._record(db, row, "create", actor, reason, {})
        if row.state == "pending":
            approvals.ask(db, row, "create", actor, now_ms)
        return release_id

    def _act(
        self,
        db: Connection,
        release_id: ReleaseId,
        action: ReleaseAction,
        actor: str,
        reason: str,
        evidence: Mapping[str, Any],
    ) -> int:
        row = _find(db, release_id)
        state = next_state(release_id, row.state, action)
        if row.state == "pending" and action == "resume":
            return self._ask(db, row, "create", actor)
        if action == "promote":
            if not row.has_next_stage:
                raise Conflict(
                    f"release {release_id} is in its last stage, which is as far as it goes; see"
                    " 'walle-control release show'"
                )
            if row.stage + 2 == len(row.plan.stages) and approvals.is_needed(db, row.scenario, "full"):
                return self._ask(db, row, "full", actor)
            reason = self._promote(db, row, reason)
        _set_state(db, _find(db, release_id), state, self._clock.wall_ms())
        changed = _find(db, release_id)
        return self._record(db, changed, action, actor, reason, evidence)

    def _promote(self, db: Connection, row: ReleaseRow, reason: str) -> str:
        """Bring a release to its next stage; the reason with the percentage in front."""
        store.set_stage(db, row.id, row.stage + 1, self._clock.wall_ms())
        to = percent_of(row.plan.stages[row.stage + 1].share)
        return f"to {to} %" + (f": {reason}" if reason else "")

    def _ask(self, db: Connection, row: ReleaseRow, step: ApprovalStep, actor: str) -> int:
        """Ask for approval instead of acting. The guard asks once, and not after it was turned down."""
        now_ms = self._clock.wall_ms()
        turned_down = actor == GUARD and approvals.was_rejected(db, row.id, step, now_ms)
        if turned_down or not approvals.ask(db, row, step, actor, now_ms):
            raise Conflict(
                f"release {row.id} waits for approval already, or was turned down; see 'walle-control"
                " release show'"
            )
        return self._record(db, row, "ask", actor, f"approval of step {step!r}", {})

    def _decide(
        self,
        db: Connection,
        release_id: ReleaseId,
        decision: approvals.Decision,
        actor: str,
        reason: str,
    ) -> None:
        row = _find(db, release_id)
        creator, now_ms = store.creator_of(db, release_id), self._clock.wall_ms()
        if row.state in ("rolled_back", "stopped", "rejected"):
            raise Conflict(
                f"release {release_id} is {row.state}: there is nothing to decide; see 'walle-control"
                " release show'"
            )
        request = approvals.decide(db, row, decision, actor, creator, reason, now_ms)
        if request.step == "create":
            store.set_stage(db, release_id, row.stage, now_ms)  # it begins now
            state: ReleaseState = "rejected" if decision == "rejected" else "live"
            _set_state(db, _find(db, release_id), state, now_ms)
        elif decision != "rejected":
            next_state(release_id, row.state, "promote")  # a paused one is resumed first
            reason = self._promote(db, row, reason)
        self._record(
            db, _find(db, release_id), DECISION_EVENTS[decision], actor, reason, {"step": request.step}
        )

    def _detail(self, db: Connection, release_id: ReleaseId, *, judged: bool = True) -> ReleaseDetail:
        row, now_ms = _find(db, release_id), self._clock.wall_ms()
        return ReleaseDetail(
            row,
            percent_of(row.share_at(now_ms)),
            read_model.verdict_of(db, row, self._trials, now_ms) if judged else UNJUDGED,
            telemetry.counts_of(db, release_id),
            tuple(store.history(db, release_id)),
            tuple(approvals.history(db, release_id, self._clock.wall_ms())),
        )

    async def _summarize(
        self, read: Callable[[Connection], Sequence[ReleaseRow]], *, judged: bool = True
    ) -> ReleaseList:
        now_ms = self._clock.wall_ms()

        def summaries(db: Connection) -> ReleaseList:
            return ReleaseList(
                tuple(
                    ReleaseSummary(
                        row,
                        percent_of(row.share_at(now_ms)),
                        read_model.verdict_of(db, row, self._trials, now_ms) if judged else UNJUDGED,
                    )
                    for row in read(db)
                )
            )

        return await self._database.read(summaries)

    def _record(
        self,
        db: Connection,
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
        outbox.emit(
            db,
            now_ms,
            f"release.{event}",
            row.scenario,
            row.id,
            {
                "task": row.task,
                "version": row.version,
                "state": row.state,
                "percent": percent_of(row.share),
                "by": actor,
                "reason": reason,
                "epoch": epoch,
                "evidence": evidence,
            },
        )
        return epoch


def _find(db: Connection, release_id: ReleaseId) -> ReleaseRow:
    row = store.find_release(db, release_id)
    if row is None:
        raise NotFound(f"no release {release_id!r}; see 'walle-control release list'")
    return row


def _set_state(db: Connection, row: ReleaseRow, state: ReleaseState, now_ms: int) -> None:
    """A release that rests stops growing; when it goes on, it does so from where it was."""
    ramp_ms, paused_ms = row.ramp_ms, row.paused_ms
    if state != "live":
        paused_ms = paused_ms or now_ms
    elif paused_ms:
        ramp_ms, paused_ms = ramp_ms + now_ms - paused_ms, 0
    store.set_state(db, row.id, state, ramp_ms=ramp_ms, paused_ms=paused_ms)


def _waits(db: Connection, scenario: str, plan: RolloutPlan) -> bool:
    """Whether a new release waits for approval: a release in one stage reaches its last one at once."""
    full_at_once = len(plan.stages) == 1 and approvals.is_needed(db, scenario, "full")
    return full_at_once or approvals.is_needed(db, scenario, "create")


def _explain(
    db: Connection, files: FileStore, told_releases: ToldReleases, request: ExplainRequest, now_ms: int
) -> ExplainResponse:
    if not 0 <= now_ms <= TIME_MAX_MS:
        raise RemoteProtocolError(f"at_ms {now_ms} is no time")
    profile = request.profile if request.profile is not None else devices.profile_of(db, request.device_id)
    newest = store.newest_epoch(db)
    if newest is None:
        raise NotFound("no epoch was made yet: start the server once")
    policy = Policy(from_plain(Snapshot, orjson.loads(newest.snapshot)))
    moment = Moment(
        now_ms,
        has=frozenset(telemetry.installed_releases(db, request.device_id, now_ms)),
        permits=frozenset(
            release.id
            for release in policy.snapshot.releases
            if release.cap and permits.has_permit(db, release.id, request.device_id, now_ms)
        ),
    )
    _, told = told_releases.of(db, request.device_id, profile)
    answered = {
        **profile,
        **{told_answer(release_id): release_id in told for release_id in policy.told_releases},
        **idset.answer_sets(
            policy.set_questions,
            request.device_id,
            profile,
            partial(is_in, files),
        ),
    }
    explanations = tuple(
        _with_predicate(db, each) if each.release_id in policy.told_releases else each
        for each in policy.explain(request.device_id, answered, moment)
    )
    return ExplainResponse(newest.n, request.device_id, profile, now_ms, explanations)


def _with_predicate(db: Connection, explanation: Explanation) -> Explanation:
    """Devices do not see the predicate of a release that the server decides; operators do."""
    row = _find(db, explanation.release_id)
    reason = f"{explanation.reason}; decided by the server: {row.predicate}"
    return replace(explanation, reason=reason, decided_by="server")
