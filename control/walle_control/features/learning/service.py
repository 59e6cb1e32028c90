"""Leads learning plans through their rounds: opens, waits, sums, begins the next.

::

    start ─► running ─► round 1 open ─► closing ─► closed ─► round 2 open ─► ... ─► done
                              │            └─► discarded (too few) ─► the next attempt
                              └── enough updates, or the deadline

1. One worker leads (``run``); starting and stopping only write what is wanted.
2. A round that is ``closing`` takes no more updates, so that what is summed is what is deleted. Killed at
   any point, it is summed again from the same updates: model, scores and deletion are one transaction, and
   nothing of the sum was published before it, so noise is drawn twice but shown once.
3. Of a round remain counts, scores and the model. Single updates go with its end, whatever it was.
4. The published file follows the database, and is made anew at every start.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

import orjson
import trio

from walle_control.db.sql import Connection
from walle_control.db.store import Store
from walle_control.features.audit import log as audit
from walle_control.features.devices import read_model as devices
from walle_control.features.learning import models, store
from walle_control.features.learning.accountant import epsilon, epsilon_if_secret
from walle_control.features.learning.averaging import ServerState, advance, combine
from walle_control.features.learning.types import (
    CollectedUpdate,
    KeepSealed,
    PlanList,
    PlanRow,
    PlanView,
    PlanWish,
    RoundList,
    RoundRow,
    RoundState,
    RoundView,
    WholeBackup,
)
from walle_control.features.learning.updates import Vector, check, decode, to_bytes
from walle_control.features.tasks import read_model as tasks
from walle_control.features.trust.book import TrustBook
from walle_shared.clock import Clock
from walle_shared.errors import (
    ConfigError,
    Conflict,
    LimitExceeded,
    NotFound,
    RemoteProtocolError,
    StateError,
    WalleError,
)
from walle_shared.ids import TaskVersion, check_name, check_version
from walle_shared.learning import (
    ROUNDS_KIND,
    OpenRound,
    OpenRounds,
    check_terms,
    model_path,
    vector_size,
)
from walle_shared.limits import LEARNING_HOLDOUT_MAX_BYTES, LEARNING_ROUNDS_MAX_BYTES, MANIFEST_MAX_BYTES
from walle_shared.manifest import Manifest
from walle_shared.observe import get_logger
from walle_shared.protocol.codec import decode as decode_message
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import file_ref
from walle_shared.targeting.hashing import SHARE_ONE
from walle_shared.trust.roles import POLICY
from walle_shared.units import DAY_S

_log = get_logger("control.learning")

#: How often it is looked whether a round is over.
_TICK_S: Final = 1.0
#: The file of the open rounds holds for so long; it is signed anew at half of that.
_LIFETIME_MS: Final = 3_600_000
#: A plan gives up after so many times as many rounds as it wants.
_ATTEMPTS: Final = 3
#: How many of the chosen are expected to send an update: two in three.
_RESPONSE: Final = 2 / 3
#: Personal models that are handed over at once.
_BACKUPS: Final = 16
#: What all updates of a round may take in memory, as float32.
_ROUND_MAX_BYTES: Final = 1 << 30


class LearningService:
    """Knows the plans and their rounds.

    Args:
        data: database, published files and keys.
        clock: deadlines.
        trust: signs what devices are told.
        keep_sealed: makes a personal model a file of its device's own.
    """

    def __init__(self, data: Store, clock: Clock, trust: TrustBook, keep_sealed: KeepSealed) -> None:
        self._keep_sealed = keep_sealed
        self._data = data
        self._clock = clock
        self._trust = trust
        self._published, self._published_ms = b"", 0
        self._open: tuple[OpenRound, ...] = ()
        self._one_tick = trio.Lock()

    async def start(self, scenario: str, task: str, wish: PlanWish, actor: str) -> PlanView:
        """Begin a plan; its first round opens at once.

        Raises:
            ConfigError: a setting makes no sense, or the task does not allow it.
            NotFound: the version was not imported.
            Conflict: a plan for this task is running.
            ModelError: the model cannot be learnt.
        """
        check_name(scenario, "scenario")
        check_name(task, "task")
        version = TaskVersion(check_version(wish.version))
        _check_wish(wish)
        holdout = _decode(wish.holdout)
        ref = await self._data.database.read(lambda db: tasks.manifest_of(db, scenario, task, version))
        plan, state = await trio.to_thread.run_sync(self._prepare, ref, wish, holdout, actor)

        def job(db: Connection) -> PlanView:
            same = [
                each for each in store.running_plans(db) if (each.scenario, each.task) == (scenario, task)
            ]
            if same:
                raise Conflict(
                    f"plan {same[0].id} of {scenario}/{task} is running:"
                    f" 'walle-control learning stop {same[0].id}' ends it"
                )
            store.insert_plan(db, plan, state, holdout)
            self._audit(db, actor, "learning.start", plan, {"version": version, "noise": wish.noise})
            return _view(db, plan)

        return await self._data.database.write(job)

    async def stop(self, plan: str, actor: str) -> PlanView:
        """End a plan: the round that is open is thrown away with its updates.

        Raises:
            NotFound: there is no such plan.
            Conflict: it is over already.
        """

        def job(db: Connection) -> PlanView:
            row = _require(db, plan)
            if row.state != "running":
                raise Conflict(f"plan {plan} is {row.state} already")
            newest = store.rounds_of(db, plan, 1)
            if newest and newest[0].state in ("open", "closing"):
                self._discard(db, newest[0], 0, 0, "the plan was stopped")
            store.end_plan(db, plan, "stopped", f"by {actor}", self._clock.wall_ms())
            self._audit(db, actor, "learning.stop", row, {})
            return _view(db, _require(db, plan))

        return await self._data.database.write(job)

    async def show(self, plan: str) -> PlanView:
        """A plan.

        Raises:
            NotFound: there is no such plan.
        """
        return await self._data.database.read(lambda db: _view(db, _require(db, plan)))

    async def list(self) -> PlanList:
        """All plans."""
        return await self._data.database.read(
            lambda db: PlanList(tuple(_view(db, row) for row in store.list_plans(db)))
        )

    async def rounds(self, plan: str, limit: int) -> RoundList:
        """The rounds of a plan, newest first.

        Raises:
            NotFound: there is no such plan.
        """

        def look(db: Connection) -> RoundList:
            _require(db, plan)
            return RoundList(tuple(_round_view(db, row) for row in store.rounds_of(db, plan, limit)))

        return await self._data.database.read(look)

    async def model(self, plan: str) -> bytes:
        """The ``.wmodel`` file that a plan has come to.

        Raises:
            NotFound: there is no such plan.
        """

        def look(db: Connection) -> tuple[PlanRow, ServerState]:
            return _require(db, plan), store.server_state(db, plan)

        row, state = await self._data.database.read(look)
        return await trio.to_thread.run_sync(self._write, row, state.weights)

    async def run(self) -> NoReturn:
        """Lead all plans, for ever."""
        while True:
            try:
                await self.tick()
            except WalleError as error:  # a full disk, a database that is away: tried again
                _log.error("learning_failed", code=error.code, error=error.message)
            await trio.sleep(_TICK_S)

    async def tick(self) -> None:
        """Take every plan as far as it goes now, and publish what is open."""
        async with self._one_tick:
            for plan in await self._data.database.read(store.running_plans):
                try:
                    while await self._step(plan):
                        pass
                except WalleError as error:  # one plan's trouble must not keep the others waiting
                    _log.error("plan_failed", plan=plan.id, code=error.code, error=error.message)
            await self._publish()
            for whole in await self._data.database.read(lambda db: store.whole_backups(db, _BACKUPS)):
                await self._keep(whole)

    async def _keep(self, whole: WholeBackup) -> None:
        """Hand a personal model over; killed in between, it is handed over again, which changes nothing."""
        try:
            await self._keep_sealed(whole)
        except StateError as error:  # of a device that is gone, or of another key: nobody could open it
            _log.warning("backup_refused", device=whole.device_id, code=error.code, error=error.message)
        await self._data.database.write(lambda db: store.delete_backup(db, whole))

    async def _step(self, plan: PlanRow) -> bool:
        """Do the next thing that is due for a plan; whether there may be more."""

        def look(db: Connection) -> tuple[list[RoundRow], int]:
            newest = store.rounds_of(db, plan.id, 1)
            number = newest[0].number if newest else 0
            return newest, store.count_collected(db, plan.id, number)

        newest, collected = await self._data.database.read(look)
        if not newest or newest[0].state in ("closed", "discarded"):
            return await self._data.database.write(lambda db: self._open_next(db, plan))
        row = newest[0]
        if row.state == "closing":
            await self._close(plan, row)
            return True
        if collected < plan.wish.goal and self._clock.wall_ms() < row.deadline_ms:
            return False
        await self._data.database.write(
            lambda db: _only_if(
                db, row, "open", lambda: store.update_round(db, replace(row, state="closing", refused=0))
            )
        )
        return True

    def _open_next(self, db: Connection, plan: PlanRow) -> bool:
        """Begin the next round, or end the plan; whether a round was begun."""
        if _require(db, plan.id).state != "running":
            return False
        now_ms, counts = self._clock.wall_ms(), store.count_rounds(db, plan.id)
        closed, attempts = counts.get("closed", 0), sum(counts.values())
        if closed >= plan.wish.rounds:
            store.end_plan(db, plan.id, "done", "", now_ms)
        elif attempts >= _ATTEMPTS * plan.wish.rounds:
            store.end_plan(db, plan.id, "stopped", "too few devices took part in too many rounds", now_ms)
        else:
            deadline_ms = now_ms + round(plan.wish.deadline_s * 1_000)
            store.insert_round(
                db,
                RoundRow(
                    plan.id, attempts + 1, "open", secrets.token_hex(16), _share(db, plan.wish), now_ms,
                    deadline_ms, 0, 0, 0, 0, None, None, "",
                ),
            )  # fmt: skip
            return True
        ended = _require(db, plan.id)
        self._audit(db, "learning", "learning.end", ended, {"state": ended.state, "rounds": closed})
        return False

    async def _close(self, plan: PlanRow, row: RoundRow) -> None:
        """Sum a round."""

        def look(db: Connection) -> tuple[Sequence[CollectedUpdate], ServerState, bytes]:
            updates = tuple(store.collected(db, plan.id, row.number))
            return updates, store.server_state(db, plan.id), store.holdout_of(db, plan.id)

        updates, state, holdout = await self._data.database.read(look)
        vectors, samples, refused = await trio.to_thread.run_sync(_checked, plan, updates)
        if len(vectors) < plan.wish.min_cohort:
            words = f"{len(vectors)} updates of the {plan.wish.min_cohort} that there must be"
            await self._data.database.write(
                lambda db: _only_if(
                    db, row, "closing", lambda: self._discard(db, row, len(vectors), refused, words)
                )
            )
            _log.info("round_discarded", plan=plan.id, round=row.number, updates=len(vectors))
            return
        update = await trio.to_thread.run_sync(combine, vectors, samples, plan.wish.summing)
        fresh = advance(plan.wish.optimizer, state, update, plan.wish.server_rate)
        scored = await trio.to_thread.run_sync(self._score, plan, fresh.weights, holdout)

        def job(db: Connection) -> None:
            store.save_server_state(db, plan.id, fresh)
            store.delete_parts(db, plan.id, row.number)
            closed = replace(
                row, state="closed", closed_ms=self._clock.wall_ms(), updates=len(vectors), refused=refused,
                loss=scored.loss if scored else None, accuracy=scored.accuracy if scored else None,
            )  # fmt: skip
            store.update_round(db, closed)
            detail = {"round": row.number, "updates": len(vectors), "refused": refused}
            self._audit(db, "learning", "learning.round", plan, detail)

        await self._data.database.write(lambda db: _only_if(db, row, "closing", lambda: job(db)))
        _log.info("round_closed", plan=plan.id, round=row.number, updates=len(vectors), refused=refused)

    def _score(self, plan: PlanRow, weights: Vector, holdout: bytes) -> models.Score | None:
        if not holdout:
            return None
        return models.score(self._write(plan, weights), models.read_holdout(holdout), plan.loss)

    def _discard(self, db: Connection, row: RoundRow, updates: int, refused: int, reason: str) -> None:
        store.delete_parts(db, row.plan, row.number)
        now_ms = self._clock.wall_ms()
        store.update_round(
            db,
            replace(
                row, state="discarded", closed_ms=now_ms, updates=updates, refused=refused, reason=reason
            ),
        )

    def _prepare(
        self, ref: FileRef, wish: PlanWish, holdout: bytes, actor: str
    ) -> tuple[PlanRow, ServerState]:
        """A plan of a version, and the model that it starts from. Blocks."""
        encoded = self._data.files.read("manifest", ref)
        manifest = decode_message(Manifest, encoded, limit_bytes=MANIFEST_MAX_BYTES)
        section, head = manifest.definition.learning, manifest.definition.task
        if objection := section.objection(wish.terms):
            raise ConfigError(f"devices of {head.scenario}/{head.name} {wish.version} stay out: {objection}")
        path = model_path(section)
        file = next((each for each in manifest.files if each.path == path), None)
        if file is None:
            raise NotFound(f"{head.scenario}/{head.name} {wish.version} has no {path}")
        parameters, weights = models.read_parameters(self._data.files.path("blob", file.sha256), section)
        if wish.goal * weights.nbytes > _ROUND_MAX_BYTES:
            raise LimitExceeded(
                f"{wish.goal} updates of {weights.nbytes} bytes are more than a round may take,"
                f" {_ROUND_MAX_BYTES}: lower the goal, or learn fewer weights"
            )
        plan = PlanRow(
            secrets.token_hex(8), head.scenario, head.name, TaskVersion(wish.version), section.model,
            file.sha256, section.loss, parameters, replace(wish, holdout=""), "running", "",
            self._clock.wall_ms(), actor, 0,
        )  # fmt: skip
        if holdout:
            models.check_holdout(self._write(plan, weights), models.read_holdout(holdout), section.loss)
        return plan, ServerState(weights)

    def _write(self, plan: PlanRow, weights: Vector) -> bytes:
        base: Path = self._data.files.path("blob", plan.base)
        return models.write_model(base, plan.parameters, weights)

    async def _publish(self) -> None:
        """Tell devices which rounds are open: if that is news, or was said long ago, or by old keys."""
        now_ms, before = self._clock.wall_ms(), self._published

        def look(db: Connection) -> tuple[list[tuple[OpenRound, bytes]], bool]:
            return _open_rounds(db), bool(before) and self._trust.is_signed_now(db, POLICY, before)

        found, signed = await self._data.database.read(look)
        rounds = tuple(each for each, _ in found)
        if signed and rounds == self._open and now_ms - self._published_ms < _LIFETIME_MS // 2:
            return
        if not before:
            before = await trio.to_thread.run_sync(self._data.files.read_rounds)
        if not before and not rounds:
            return  # nobody ever learnt here
        for each, weights in found:
            await trio.to_thread.run_sync(self._data.files.put, "blob", weights, each.weights)
        told = OpenRounds(now_ms, now_ms + _LIFETIME_MS, rounds)
        envelope = await self._data.database.read(lambda db: self._trust.sign(db, POLICY, ROUNDS_KIND, told))
        if len(envelope) > LEARNING_ROUNDS_MAX_BYTES:
            raise LimitExceeded(f"{len(rounds)} open rounds do not fit {LEARNING_ROUNDS_MAX_BYTES} bytes")
        await trio.to_thread.run_sync(self._data.files.publish_rounds, envelope)
        await trio.to_thread.run_sync(self._forget, before, rounds)
        self._published, self._open, self._published_ms = envelope, rounds, now_ms

    def _forget(self, before: bytes, rounds: tuple[OpenRound, ...]) -> None:
        """Delete the blobs of rounds that are over: they were for those who took part."""
        kept = {each.weights.sha256 for each in rounds}
        for old in _blobs_of(before) - kept:
            self._data.files.drop("blob", old)

    def _audit(
        self, db: Connection, actor: str, action: str, plan: PlanRow, detail: Mapping[str, object]
    ) -> None:
        subject = f"{plan.scenario}/{plan.task} {plan.id}"
        audit.record(db, self._clock.wall_ms(), actor, action, subject, detail)


def _checked(plan: PlanRow, updates: Sequence[CollectedUpdate]) -> tuple[list[Vector], list[int], int]:
    """The updates that may be summed, with their counts of samples, and how many may not."""
    vectors, samples, refused = list[Vector](), list[int](), 0
    size = vector_size(plan.parameters)
    for update in updates:
        try:
            vectors.append(check(decode(update.body, update.encoding, size), plan.wish.terms))
        except RemoteProtocolError:
            refused += 1
        else:
            samples.append(update.samples)
    return vectors, samples, refused


def _open_rounds(db: Connection) -> list[tuple[OpenRound, bytes]]:
    """What devices are told of every open round, and the blob it names."""
    found = list[tuple[OpenRound, bytes]]()
    for plan in store.running_plans(db):
        for row in store.rounds_of(db, plan.id, 1):
            if row.state == "open":
                weights = to_bytes(store.server_state(db, plan.id).weights)
                told = OpenRound(
                    plan.id, plan.scenario, plan.task, row.number, plan.base, file_ref(weights),
                    plan.parameters, row.salt, row.share, row.deadline_ms, plan.wish.terms,
                )  # fmt: skip
                found.append((told, weights))
    return found


def _blobs_of(envelope: bytes) -> set[str]:
    """The models that a published file names; it is our own, or damaged."""
    try:
        return {each["weights"]["sha256"] for each in orjson.loads(envelope)["signed"]["rounds"]}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return set()


def _only_if(db: Connection, row: RoundRow, state: RoundState, act: Callable[[], None]) -> None:
    """Act on a round that is still in this state: it may have been stopped meanwhile."""
    found = store.find_round(db, row.plan, row.number)
    if found is not None and found.state == state:
        act()


def _require(db: Connection, plan: str) -> PlanRow:
    row = store.find_plan(db, plan)
    if row is None:
        raise NotFound(f"there is no learning plan {plan[:80]!r}: see 'walle-control learning list'")
    return row


def _share(db: Connection, wish: PlanWish) -> int:
    """The part of the devices that a round chooses, in parts per billion."""
    if wish.cohort_percent:
        return round(wish.cohort_percent / 100 * SHARE_ONE)
    wanted = max(wish.goal, wish.min_cohort) / _RESPONSE
    return min(SHARE_ONE, round(wanted / max(devices.count(db), 1) * SHARE_ONE))


def _view(db: Connection, plan: PlanRow) -> PlanView:
    counts, newest = store.count_rounds(db, plan.id), store.rounds_of(db, plan.id, 1)
    closed, wish = counts.get("closed", 0), plan.wish
    share = newest[0].share / SHARE_ONE if newest else 1.0
    exact = epsilon(wish.noise, closed, wish.delta) if wish.noise else None
    secret = epsilon_if_secret(share, wish.noise, closed, wish.delta) if wish.noise else None
    return PlanView(
        plan.id, plan.scenario, plan.task, plan.version, plan.model, vector_size(plan.parameters), wish,
        plan.state, plan.reason, plan.created_ms, plan.created_by, plan.ended_ms, closed,
        counts.get("discarded", 0), exact, secret, _round_view(db, newest[0]) if newest else None,
    )  # fmt: skip


def _round_view(db: Connection, row: RoundRow) -> RoundView:
    is_open = row.state in ("open", "closing")
    updates = store.count_collected(db, row.plan, row.number) if is_open else row.updates
    return RoundView(
        row.number, row.state, row.share / SHARE_ONE * 100, row.opened_ms, row.deadline_ms, row.closed_ms,
        updates, row.refused, row.late, row.loss, row.accuracy, row.reason,
    )  # fmt: skip


def _check_wish(wish: PlanWish) -> None:
    check_terms(wish.terms, "plan")
    for name, low, high in (
        ("rounds", 1, 10_000),
        ("goal", wish.min_cohort, 1_000_000),
        ("samples_cap", 1, 1_000_000),
        ("deadline_s", 1.0, 30 * DAY_S),
        ("cohort_percent", 0.0, 100.0),
        ("trim", 0.0, 0.49),
        ("server_rate", 1e-6, 1e3),
        ("delta", 1e-15, 0.1),
    ):
        if not low <= getattr(wish, name) <= high:
            raise ConfigError(f"plan.{name} must be {low:g} to {high:g}, not {getattr(wish, name):g}")
    if wish.noise and wish.rule != "mean":
        raise ConfigError(f"plan.rule {wish.rule} goes without noise: its noise covers means only")


def _decode(text: str) -> bytes:
    if len(text) > LEARNING_HOLDOUT_MAX_BYTES:
        raise LimitExceeded(f"the held-out data is over {LEARNING_HOLDOUT_MAX_BYTES} characters of base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError("plan.holdout is not base64") from None
