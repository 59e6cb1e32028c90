"""Brings the device to what the policy wants, reports how that went, and goes back when a version fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final, NoReturn

import trio

from walle_agent.config import DeploySection
from walle_agent.deploy import changes
from walle_agent.deploy.budget import NotNow
from walle_agent.deploy.planner import Install, Rebind, Remove, Step, Switch, plan
from walle_agent.deploy.retries import attempts_of, quarantine_of
from walle_agent.deploy.steps import Steps
from walle_agent.link.exchange import ServerBusy, retry_after_s
from walle_agent.link.reporter import Reporter
from walle_agent.state.keeper import StateKeeper
from walle_agent.state.machine import COMPLETE
from walle_agent.state.reports import new_report_id
from walle_agent.state.store import SLOT_NAMES, SlotContent
from walle_agent.tasks.registry import InstalledTask
from walle_agent.tasks.runner import NO_BALLOT, Ballot
from walle_shared.backoff import Backoff
from walle_shared.errors import (
    Conflict,
    LengthOrHashError,
    NotFound,
    ProtocolError,
    StorageError,
    TaskError,
    TransportError,
    TrustError,
    UnapprovedError,
    WalleError,
)
from walle_shared.ids import ReleaseId, Sha256
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import NO_RELEASE, ErrorClass, Outcome, Report, Stage
from walle_shared.targeting.policy import TaskKey, Wanted
from walle_shared.tracing import enter_trace, new_trace

_log = get_logger("agent.deploy")

#: Whose fault a failed installation is; the first row that fits counts.
FAILURE_CLASSES: Final[tuple[tuple[type[WalleError], ErrorClass], ...]] = (
    (ServerBusy, "shed"),
    (TransportError, "network"),
    (NotFound, "network"),
    (UnapprovedError, "network"),  # whoever answered for the control plane named what nobody approved
    (StorageError, "user"),  # this device's disk says nothing of the release
    (WalleError, "install"),
)

#: Appended to a release's id, it names the comparison of what runs here with that release.
COMPARISON: Final = "/control"

#: Trying again cannot help. A wrong digest can be the network's doing, so it is tried again.
_FINAL: Final = (TrustError, ProtocolError, TaskError)


#: How often it is looked whether the device's rules let a download go on.
_LOOK_S = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """What the newest epoch wants of this device."""

    epoch: int
    wanted: Mapping[TaskKey, Wanted]


class Deployer:
    """The deployment service.

    Args:
        keeper: the device state.
        steps: carries out single steps.
        reporter: told of every outcome.
        config: limits.
    """

    def __init__(self, keeper: StateKeeper, steps: Steps, reporter: Reporter, config: DeploySection) -> None:
        self._keeper = keeper
        self._steps = steps
        self._reporter = reporter
        self._config = config
        self._target: Target | None = None
        self._begun: dict[TaskKey, Wanted] = {}  # installations that have not succeeded
        self._untold: set[TaskKey] = set()  # those of them of which nothing was said since they began
        self._changed = trio.Event()
        self._littered = True  # after a start, or a failure, files may lie about that nothing needs
        self._starting = trio.Lock()
        self._started: set[tuple[TaskKey, Sha256]] = set()
        self._unsettled: list[tuple[float, TaskKey, Sha256]] = []
        self._first_start = trio.Event()

    @property
    def target(self) -> Target | None:
        """What the device is to become."""
        return self._target

    def wants(self, wanted: Wanted) -> bool:
        """Whether the present target has this release."""
        target = self._target
        return target is not None and any(
            each.release_id == wanted.release_id for each in target.wanted.values()
        )

    def want(self, target: Target) -> None:
        """Set what the device is to become; the newest wins."""
        self._target = target
        self._changed.set()

    def active_releases(self) -> frozenset[ReleaseId]:
        """The releases that are active here."""
        records = self._keeper.state.tasks
        return frozenset(r.slot(r.active).release_id for r in records if r.active is not None)

    async def compared_releases(self) -> frozenset[ReleaseId]:
        """The releases that this device has begun to be compared with."""
        names = await trio.to_thread.run_sync(self._reporter.queue.begun, COMPARISON)
        return frozenset(map(ReleaseId, names))

    async def recover(self) -> None:
        """After a start: forget what was half done, check what is active, and let it run.

        Raises:
            StorageError: the state cannot be written.
        """
        await self._keeper.update(changes.recover)
        await self._steps.sweep()
        for record in self._keeper.state.tasks:
            for name in SLOT_NAMES:
                if record.slot(name).state not in COMPLETE:
                    continue
                try:
                    await self._steps.check_slot(record.key, name)
                except WalleError as error:
                    _log.warning("slot_lost", task=record.task, slot=name, error=str(error))
                    await self._keeper.update(lambda s, k=record.key, n=name: changes.lose(s, k, n))  # type: ignore[misc]
            await self._let_run(record.key)
        # Last: a version that brings the device down has not been started yet, and what takes over is whole.
        for key, bad in changes.crash_looping(self._keeper.state, self._config.revert_after_crashes):
            reason = f"the agent died {bad.crashes} times in a row soon after starting it"
            await self._revert(key, bad, "crash_loop", reason)

    async def starting(self, task: InstalledTask) -> None:
        """Remember, before a fresh version's first run in this life, that it was started.

        Should the device die of it, the next life knows. Durable on return; nothing for proven versions.

        Raises:
            StorageError: the state cannot be written.
        """
        mark = (task.key, task.manifest)
        if mark in self._started:
            return
        async with self._starting:
            if mark in self._started:
                return
            before = self._keeper.state
            if await self._keeper.update(lambda s: changes.count_start(s, *mark)) != before:
                self._unsettled.append((trio.current_time() + self._config.settled_after_s, *mark))
                self._first_start.set()
            self._started.add(mark)

    async def settle(self, *, all_of_them: bool = True) -> None:
        """Forgive the lives before: the agent stops in good order, or has lived on after these starts.

        Raises:
            StorageError: the state cannot be written.
        """
        now_s = trio.current_time()
        while self._unsettled and (all_of_them or self._unsettled[0][0] <= now_s):
            _, key, manifest = self._unsettled[0]
            await self._keeper.update(lambda s, k=key, m=manifest: changes.settle(s, k, m))  # type: ignore[misc]
            del self._unsettled[0]

    async def run_settling(self) -> NoReturn:
        """Settle what has run long enough, for ever.

        Raises:
            StorageError: the state cannot be written.
        """
        while True:
            if not self._unsettled:
                self._first_start = trio.Event()
                await self._first_start.wait()
            await trio.sleep_until(self._unsettled[0][0])
            await self.settle(all_of_them=False)

    async def run(self) -> NoReturn:
        """Converge for ever: whenever something else is wanted, and again after failures.

        Raises:
            StorageError: the state cannot be written.
        """
        backoff = Backoff(1.0, self._config.retry_cap_s)
        while True:
            enter_trace(new_trace())
            self._changed = trio.Event()
            failure = await self.converge()
            if failure is None:
                backoff.reset()
                with trio.move_on_after(self._until_release_s()):
                    await self._changed.wait()
            elif isinstance(failure, NotNow):
                with trio.move_on_after(self._config.retry_cap_s):
                    await self._wait_until_now(failure)
            elif not isinstance(failure, Conflict):
                with trio.move_on_after(backoff.next_delay_s(retry_after_s(failure))):
                    await self._changed.wait()

    async def _wait_until_now(self, waiting: NotNow) -> None:
        """Wait until the device's rules let a download go on, or something else is wanted."""
        while not self._changed.is_set() and not waiting.over():
            with trio.move_on_after(_LOOK_S):
                await self._changed.wait()

    async def converge(self) -> WalleError | None:
        """Carry out the plan for the present target; the first failure worth another attempt, if any."""
        target = self._target
        if target is None:
            return None
        releases = frozenset(wanted.release_id for wanted in target.wanted.values())
        await self._keeper.update(lambda state: changes.forget_failures(state, releases))
        await self._tell_given_up(target)
        steps = plan(self._keeper.state, target.wanted, self._now_ms())
        failed: dict[TaskKey, WalleError] = {}
        started: dict[TaskKey, tuple[int, float]] = {}
        for step in steps:
            if step.key in failed:
                continue
            if self._target is not target:
                return Conflict("a newer epoch has come")
            try:
                await self._carry_out(step, started)
            except WalleError as error:
                failed[step.key] = error
                if not isinstance(error, Conflict):
                    await self._note_failure(step, error, started)
        self._littered = self._littered or bool(steps)
        if self._littered and not failed:  # after a failure, what was fetched in part is still wanted
            await self._steps.collect_garbage()
            self._littered = False
        await self._begin_comparisons(target)
        retried = [error for error in failed.values() if not isinstance(error, Conflict)]
        return next(iter(retried or failed.values()), None)

    async def judge(self, task: InstalledTask, *, ok: bool) -> None:
        """Count a run; enough failures in a row of a version on trial bring back the one before it.

        Raises:
            StorageError: the state cannot be written.
        """
        state = await self._keeper.update(
            lambda s: changes.count_run(
                s, task.key, task.manifest, ok=ok, proven_after=self._config.proven_after_successes
            )
        )
        bad = changes.failing(state, task.key, self._config.revert_after_failures)
        if bad is None:
            return
        await self._revert(task.key, bad, "reverted", f"{bad.failures} runs in a row failed")

    async def _revert(self, key: TaskKey, bad: SlotContent, code: str, reason: str) -> None:
        """Quarantine the version on trial, let the one before it run again, and report it."""
        at_ms = self._now_ms()
        first_s = quarantine_of(bad.quarantine_s, self._config)
        await self._keeper.update(lambda s: changes.condemn(s, key, reason, at_ms, first_s))
        await self._let_run(key)
        record = self._keeper.state.record(key)
        back_to = record.slot(record.active).version if record.active else "nothing"
        _log.warning(
            "version_reverted",
            task=key[1],
            version=bad.version,
            release_id=bad.release_id,
            reason=reason,
            back_to=back_to,
        )
        await self._reporter.put(
            Report(
                new_report_id(),
                bad.release_id,
                key[1],
                bad.version,
                "revert",
                "failure",
                1,
                at_ms,
                0.0,
                "runtime",
                code,
                f"{reason}; back to {back_to}",
                votes=False,  # the runs that led to it have voted
                barred_s=self._barred_s(bad.release_id, bad.manifest),
            )
        )

    def ballot(self, task: InstalledTask) -> Ballot:
        """What a run of this task counts for, by the newest policy."""
        wanted = self._target.wanted.get(task.key) if self._target is not None else None
        if wanted is None or wanted.release_id != task.release_id:
            return NO_BALLOT
        return Ballot(wanted.votes, wanted.control_of, told=wanted.votes or wanted.control_of != NO_RELEASE)

    def is_isolated(self, task: InstalledTask) -> bool:
        """Whether a task has a process of its own because a worker died under it."""
        return self._keeper.state.isolation(task.manifest) is not None

    async def isolate(self, task: InstalledTask, reason: str) -> None:
        """Give a task a process of its own, for as long as these files are installed.

        Raises:
            StorageError: the state cannot be written.
        """
        at_ms = self._reporter.clock.wall_ms()
        await self._keeper.update(lambda s: changes.isolate(s, task.manifest, reason, at_ms))
        _log.warning("task_isolated", task=task.key[1], version=task.version, reason=reason)

    async def _tell_given_up(self, target: Target) -> None:
        """Say of installations that nobody wants any more that they are over, and what runs after all."""
        for key, begun in list(self._begun.items()):
            wanted = target.wanted.get(key)
            if wanted is not None and wanted.release_id == begun.release_id:
                continue
            del self._begun[key]
            if key in self._untold:
                message = "another release is wanted"
                await self._report(
                    begun,
                    "install",
                    "failure",
                    attempt=1,
                    error_class="user",
                    code="superseded",
                    message=message,
                )
            record = self._keeper.state.record(key)
            if record.active is not None:
                active = record.slot(record.active)
                ref = replace(begun.manifest, sha256=active.manifest)
                runs = replace(
                    begun, release_id=active.release_id, version=active.version, manifest=ref, votes=False
                )
                await self._report(runs, "revert", "success", attempt=1)

    async def _begin_comparisons(self, target: Target) -> None:
        """Tell, once for each release that this device is held back from, that what was before runs here."""
        for key, wanted in target.wanted.items():
            record = self._keeper.state.record(key)
            if wanted.control_of == NO_RELEASE or record.active is None:
                continue
            if record.slot(record.active).release_id != wanted.release_id:
                continue
            attempt = await self._reporter.begin_attempt(ReleaseId(wanted.control_of + COMPARISON))
            if attempt == 1:
                await self._report(wanted, "start", "success", attempt=1)

    async def _let_run(self, key: TaskKey) -> None:
        """Let what is active run; a slot that cannot be run gives way to the other one."""
        while (name := self._keeper.state.record(key).active) is not None:
            try:
                await self._steps.publish(key)
            except StorageError:
                raise
            except WalleError as error:
                _log.warning("slot_lost", task=key[1], slot=name, error=str(error))
                await self._keeper.update(lambda s, n=name: changes.lose(s, key, n))  # type: ignore[misc]
            else:
                return
        await self._steps.publish(key)

    async def _carry_out(self, step: Step, started: dict[TaskKey, tuple[int, float]]) -> None:
        match step:
            case Remove():
                await self._steps.remove(step)
                _log.info("task_removed", task=step.key[1])
            case Rebind(wanted=wanted):
                await self._steps.rebind(step)
                await self._note_success(wanted, 1, 0.0)
            case Install(wanted=wanted):
                attempt = await self._reporter.begin_attempt(wanted.release_id)
                started[step.key] = (attempt, perf_counter())
                if attempt == 1:
                    await self._report(replace(wanted, control_of=NO_RELEASE), "start", "success", attempt=1)
                self._begun[step.key] = wanted
                self._untold.add(step.key)
                await self._steps.install(step)
            case Switch(wanted=wanted):
                attempt, since = started.setdefault(step.key, (1, perf_counter()))
                await self._steps.switch(step)
                await self._note_success(wanted, attempt, (perf_counter() - since) * 1e3)

    async def _note_success(self, wanted: Wanted, attempt: int, duration_ms: float) -> None:
        _log.info(
            "release_activated",
            release_id=wanted.release_id,
            task=wanted.task,
            version=wanted.version,
            duration_ms=round(duration_ms, 1),
        )
        await self._report(
            wanted,
            "install",
            "success",
            attempt=attempt,
            duration_ms=duration_ms,
        )

    async def _note_failure(
        self, step: Step, error: WalleError, started: Mapping[TaskKey, tuple[int, float]]
    ) -> None:
        if isinstance(step, Switch) and self._keeper.state.record(step.key).active == step.slot:
            await self._give_up(step, error, started)
            return
        if not isinstance(step, Install):
            # The files are in place; only the switch waits. That speaks of the network, not of the release.
            _log.warning("step_delayed", step=type(step).__name__.lower(), task=step.key[1], error=str(error))
            return
        wanted = step.wanted
        if isinstance(error, (NotNow, ServerBusy)):  # nothing has failed, so there is nothing to tell
            _log.info("install_delayed", release_id=wanted.release_id, task=wanted.task, error=str(error))
            return
        error_class = failure_class(error)
        failures = await self._count_failure(wanted, error) if error_class == "install" else 0
        _log.warning(
            "install_failed",
            release_id=wanted.release_id,
            task=wanted.task,
            version=wanted.version,
            error_class=error_class,
            code=error.code,
            error=str(error),
            failures=failures,
        )
        attempt, since = started[step.key]
        await self._report(
            wanted,
            "install",
            "failure",
            attempt=attempt,
            duration_ms=(perf_counter() - since) * 1e3,
            error_class=error_class,
            code=error.code,
            message=str(error),
        )

    async def _count_failure(self, wanted: Wanted, error: WalleError) -> int:
        """Count a failed installation that is the release's own fault; enough of them quarantine it."""
        state = await self._keeper.update(lambda s: changes.count_install_failure(s, wanted.release_id))
        failures = state.install_failures.get(wanted.release_id, 0)
        final = isinstance(error, _FINAL) and not isinstance(error, LengthOrHashError)
        if final or failures >= attempts_of(wanted.attempts, self._config):
            at_ms, first_s = self._now_ms(), quarantine_of(wanted.quarantine_s, self._config)
            await self._keeper.update(
                lambda s: changes.quarantine(
                    s, wanted.release_id, wanted.manifest.sha256, str(error), at_ms, first_s
                )
            )
        return failures

    async def _give_up(
        self, step: Switch, error: WalleError, started: Mapping[TaskKey, tuple[int, float]]
    ) -> None:
        """A version was made active, but could not be let run: the one before it takes over."""
        wanted = step.wanted
        at_ms, first_s = self._now_ms(), quarantine_of(wanted.quarantine_s, self._config)
        await self._keeper.update(lambda s: changes.condemn(s, step.key, str(error), at_ms, first_s))
        await self._let_run(step.key)
        _log.warning(
            "activation_failed",
            release_id=wanted.release_id,
            task=wanted.task,
            version=wanted.version,
            code=error.code,
            error=str(error),
        )
        await self._report(
            wanted,
            "install",
            "failure",
            attempt=started[step.key][0],
            error_class=failure_class(error),
            code=error.code,
            message=str(error),
        )

    async def _report(
        self,
        wanted: Wanted,
        stage: Stage,
        outcome: Outcome,
        *,
        attempt: int,
        duration_ms: float = 0.0,
        error_class: ErrorClass = "none",
        code: str = "",
        message: str = "",
    ) -> None:
        if stage == "install":
            key = (wanted.scenario, wanted.task)
            self._untold.discard(key)
            if outcome == "success":
                self._begun.pop(key, None)
        await self._reporter.put(
            Report(
                new_report_id(),
                wanted.release_id,
                wanted.task,
                wanted.version,
                stage,
                outcome,
                attempt,
                self._reporter.clock.wall_ms(),
                duration_ms,
                error_class,
                code,
                message[:1_000],
                wanted.votes,
                wanted.control_of,
                barred_s=self._barred_s(wanted.release_id, wanted.manifest.sha256),
            )
        )

    def _now_ms(self) -> int:
        """The wall clock, but never before the newest signed time: a quarantine must not outlast a reset."""
        return max(self._reporter.clock.wall_ms(), self._keeper.state.time_ms)

    def _barred_s(self, release_id: ReleaseId, manifest: Sha256) -> float:
        """For how long this release is not tried here; no longer than can be told."""
        entry = self._keeper.state.quarantined(release_id, manifest)
        return max(0.0, (entry.until_ms - self._now_ms()) / 1_000) if entry is not None else 0.0

    def _until_release_s(self) -> float:
        """Until the first quarantine of something wanted ends; infinite if there is none."""
        wanted = self._target.wanted.values() if self._target is not None else ()
        waits = (self._barred_s(each.release_id, each.manifest.sha256) for each in wanted)
        return min((wait_s for wait_s in waits if wait_s > 0), default=math.inf)


def failure_class(error: WalleError) -> ErrorClass:
    """Whose fault a failed installation is."""
    return next(name for kind, name in FAILURE_CLASSES if isinstance(error, kind))
