"""Compiles the live releases to an immutable snapshot and signs the epoch that names it.

1. ``compile_next`` runs inside the transaction that changes the releases: state and epoch change together
   or not at all.
2. The database holds the newest snapshot and envelope; the published files follow it, and ``publish`` may
   be repeated at any time (after a crash, at every start).
3. The snapshot is on disk before ``epoch.json`` names it, and ``epoch.json`` never goes back.
"""

from __future__ import annotations

import sqlite3

from walle_control.db.files import FileStore
from walle_control.features.releases import store
from walle_control.features.releases.store import EpochRow
from walle_control.features.releases.types import ReleaseRow
from walle_control.features.tasks import read_model as tasks
from walle_control.features.trust.book import TrustBook
from walle_shared.clock import Clock
from walle_shared.errors import Conflict, InternalError, LimitExceeded
from walle_shared.limits import SNAPSHOT_MAX_BYTES
from walle_shared.protocol.codec import canonical
from walle_shared.protocol.messages import EpochInfo
from walle_shared.signing import file_ref
from walle_shared.targeting import Release, Snapshot
from walle_shared.trust.roles import POLICY, bundle_path

#: The kind under which an ``EpochInfo`` is signed.
EPOCH_KIND = "epoch"


class EpochBook:
    """Makes and publishes epochs. Its methods block; those that take ``db`` run inside a write."""

    def __init__(self, files: FileStore, trust: TrustBook, clock: Clock, lifetime_s: float) -> None:
        self._files = files
        self._trust = trust
        self._clock = clock
        self._lifetime_ms = round(lifetime_s * 1000)

    def compile_next(self, db: sqlite3.Connection, reason: str) -> int:
        """Add the next epoch from the releases as they stand in this transaction.

        Raises:
            LimitExceeded: the snapshot would be too large for devices.
        """
        newest = store.newest_epoch(db)
        n = newest.n + 1 if newest else 1
        releases = tuple(_public(db, row) for row in store.live_releases(db))
        snapshot = canonical(Snapshot(n, releases))
        if len(snapshot) > SNAPSHOT_MAX_BYTES:
            raise LimitExceeded(
                f"the policy would have {len(snapshot)} bytes, over the limit of {SNAPSHOT_MAX_BYTES}:"
                " stop old releases"
            )
        now_ms = self._clock.wall_ms()
        store.insert_epoch(
            db, EpochRow(n, snapshot, self._sign(db, n, snapshot, now_ms), reason, now_ms, now_ms)
        )
        return n

    def check_approved(self, db: sqlite3.Connection, row: ReleaseRow) -> None:
        """Check that devices will believe a release's bundle.

        Raises:
            Conflict: its approval waits for signatures, or was withdrawn.
        """
        manifest = tasks.manifest_of(db, row.scenario, row.task, row.version)
        if not self._trust.is_approved(db, bundle_path(row.scenario, row.task, row.version), manifest):
            raise Conflict(
                f"{row.scenario}/{row.task} {row.version} is not approved: its approval waits for signatures"
                " or was withdrawn; see 'walle-control trust show'"
            )

    def ensure_first(self, db: sqlite3.Connection) -> int:
        """Make epoch 1 if there is none, so that devices always find a policy; the newest epoch."""
        newest = store.newest_epoch(db)
        return newest.n if newest else self.compile_next(db, "first epoch")

    def sign_anew_if_due(self, db: sqlite3.Connection) -> bool:
        """Sign the newest epoch again if half its lifetime is over or its key is another; whether it was."""
        newest = store.newest_epoch(db)
        now_ms = self._clock.wall_ms()
        if newest is None:
            return False
        is_young = now_ms - newest.signed_ms < self._lifetime_ms // 2
        if is_young and self._trust.is_signed_now(db, POLICY, newest.envelope):
            return False
        store.resign_epoch(db, newest.n, self._sign(db, newest.n, newest.snapshot, now_ms), now_ms)
        return True

    def publish(self, newest: EpochRow | None) -> int:
        """Write the newest epoch's files, the snapshot first; its number."""
        if newest is None:
            raise InternalError("there is no epoch to publish")
        self._files.put("snapshot", newest.snapshot)
        self._files.publish_epoch(newest.envelope)
        return newest.n

    def _sign(self, db: sqlite3.Connection, n: int, snapshot: bytes, now_ms: int) -> bytes:
        expires_ms = now_ms + self._lifetime_ms
        info = EpochInfo(n, file_ref(snapshot), now_ms, expires_ms, self._trust.version(db))
        return self._trust.sign(db, POLICY, EPOCH_KIND, info)


def _public(db: sqlite3.Connection, row: ReleaseRow) -> Release:
    """A release as devices see it."""
    manifest = tasks.manifest_of(db, row.scenario, row.task, row.version)
    return Release(
        row.id,
        row.scenario,
        row.task,
        row.version,
        manifest,
        row.predicate,
        row.share,
        row.salt,
        row.rank,
        control=row.plan.control_at(row.stage),
        voters=row.plan.voters,
    )
