"""Compiles the live releases to an immutable snapshot and signs the epoch that names it.

1. ``compile_next`` runs inside the transaction that changes the releases: state and epoch change together
   or not at all.
2. The database holds the newest snapshot and envelope; the published files follow it, and ``publish`` may
   be repeated at any time (after a crash, at every start).
3. The snapshot is on disk before ``epoch.json`` names it, and ``epoch.json`` never goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from walle_control.db.files import FileStore
from walle_control.db.sql import Connection
from walle_control.features.audiences import read_model as audiences
from walle_control.features.releases import store
from walle_control.features.releases.store import EpochRow
from walle_control.features.releases.types import Course, Courses, ReleaseRow
from walle_control.features.tasks import read_model as tasks
from walle_control.features.trust.book import TrustBook
from walle_shared.clock import Clock
from walle_shared.errors import Conflict, InternalError, LimitExceeded
from walle_shared.limits import SNAPSHOT_MAX_BYTES
from walle_shared.protocol.codec import canonical
from walle_shared.protocol.messages import EPOCH_KIND, TOLD_KIND, EpochInfo, Told
from walle_shared.signing import file_ref
from walle_shared.targeting import Release, Snapshot
from walle_shared.trust.roles import POLICY, bundle_path


class EpochBook:
    """Makes and publishes epochs. Its methods block; those that take ``db`` run inside a write."""

    def __init__(self, files: FileStore, trust: TrustBook, clock: Clock, lifetime_s: float) -> None:
        self.files = files
        self._trust = trust
        self._clock = clock
        self._lifetime_ms = round(lifetime_s * 1000)

    def compile_next(self, db: Connection, reason: str, at_least: int = 1) -> int:
        """Add the next epoch from the releases as they stand in this transaction.

        Args:
            db: the transaction.
            reason: why there is a new one.
            at_least: its number is not less than this.

        Raises:
            LimitExceeded: the snapshot would be too large for devices.
        """
        newest = store.newest_epoch(db)
        n = max(newest.n + 1 if newest else 1, at_least)
        snapshot = canonical(_snapshot(db, n))
        if len(snapshot) > SNAPSHOT_MAX_BYTES:
            raise LimitExceeded(
                f"the policy would have {len(snapshot)} bytes, over the limit of {SNAPSHOT_MAX_BYTES}:"
                " stop old releases"
            )
        now_ms, plans = self._clock.wall_ms(), canonical(_courses(db))
        envelope = self._sign(db, n, snapshot, plans, now_ms)
        store.insert_epoch(db, EpochRow(n, snapshot, envelope, reason, now_ms, now_ms, plans))
        return n

    def check_approved(self, db: Connection, row: ReleaseRow) -> None:
        """Check that devices will believe a release's bundle.

        Raises:
            Conflict: its approval waits for signatures or for its simulations, or was withdrawn.
        """
        manifest = tasks.manifest_of(db, row.scenario, row.task, row.version)
        if not self._trust.is_approved(db, bundle_path(row.scenario, row.task, row.version), manifest):
            raise Conflict(
                f"{row.scenario}/{row.task} {row.version} is not approved: its approval waits for signatures"
                " or for 'walle-control simulation run', or was withdrawn; see 'walle-control trust show'"
            )

    def ensure_first(self, db: Connection) -> int:
        """Make epoch 1 if there is none, so that devices always find a policy; the newest epoch."""
        newest = store.newest_epoch(db)
        return newest.n if newest else self.compile_next(db, "first epoch")

    def sign_anew_if_due(self, db: Connection) -> bool:
        """Sign the newest epoch again if half its lifetime is over or its key is another; whether it was."""
        newest = store.newest_epoch(db)
        now_ms = self._clock.wall_ms()
        if newest is None:
            return False
        is_young = now_ms - newest.signed_ms < self._lifetime_ms // 2
        if is_young and self._trust.is_signed_now(db, POLICY, newest.envelope):
            return False
        envelope = self._sign(db, newest.n, newest.snapshot, newest.plans, now_ms)
        store.resign_epoch(db, newest.n, envelope, now_ms)
        return True

    def sign_told(self, db: Connection, told: Told) -> bytes:
        """Sign what one device is told."""
        return self._trust.sign(db, POLICY, TOLD_KIND, told)

    def publish(self, newest: EpochRow | None) -> int:
        """Write the newest epoch's files, those that it names first; its number."""
        if newest is None:
            raise InternalError("there is no epoch to publish")
        self.files.put("snapshot", newest.snapshot)
        if newest.plans is not None:
            self.files.put("plan", newest.plans)
        self.files.publish_epoch(newest.envelope)
        return newest.n

    def _sign(self, db: Connection, n: int, snapshot: bytes, plans: bytes | None, now_ms: int) -> bytes:
        info = EpochInfo(
            n,
            file_ref(snapshot),
            now_ms,
            now_ms + self._lifetime_ms,
            self._trust.version(db),
            file_ref(plans) if plans is not None else None,
        )
        return self._trust.sign(db, POLICY, EPOCH_KIND, info)


def _snapshot(db: Connection, n: int) -> Snapshot:
    """The live releases and what their predicates refer to, as devices see them."""
    known = audiences.audiences(db)
    releases: list[Release] = []
    segments: set[str] = set()
    sets: set[str] = set()
    for row in store.live_releases(db):
        release, predicate = _public(db, row), known.parse(row.predicate)
        if known.is_decided_here(predicate):
            release = replace(release, predicate=f'told("{row.id}")')
        else:
            segments |= predicate.segments
            sets |= {question.set_name for question in predicate.sets}
        releases.append(release)
    return Snapshot(
        n,
        tuple(releases),
        tuple(audiences.holdouts(db)),
        tuple(_each(known.segments, segments)),
        tuple(_each(known.sets, sets)),
    )


def _courses(db: Connection) -> Courses:
    """How the live releases are to go on."""
    return Courses(
        tuple(
            Course(
                row.id,
                row.plan,
                row.guard,
                row.stage,
                row.staged_ms,
                row.created_ms,
                row.ramp_ms,
                row.paused_ms,
            )
            for row in store.live_releases(db)
        )
    )


def _each[T](known: Mapping[str, T], references: Iterable[str]) -> list[T]:
    """What is referred to, once each, in the order of the references."""
    found: list[T] = []
    for reference in sorted(references):
        if known[reference] not in found:
            found.append(known[reference])
    return found


def _public(db: Connection, row: ReleaseRow) -> Release:
    """A release as devices see it; one that is paused does not grow."""
    terms = row.terms
    manifest = tasks.manifest_of(db, row.scenario, row.task, row.version)
    return Release(
        row.id,
        row.scenario,
        row.task,
        row.version,
        manifest,
        row.predicate,
        row.share_at(row.paused_ms) if row.paused_ms else row.share,
        row.salt,
        row.rank,
        control=row.plan.control_at(row.stage),
        voters=row.plan.voters,
        deltas=tasks.deltas_of(db, manifest),
        ramp=None if row.paused_ms else row.ramp,
        starts_ms=row.staged_ms,
        spread_s=terms.spread_s,
        windows=terms.windows,
        cap=terms.cap,
        everyone=terms.everyone,
        personal=terms.personal,
        attempts=terms.attempts,
        quarantine_s=terms.quarantine_s,
    )
