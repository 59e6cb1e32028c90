"""Brings the newest published epoch and its releases into a database that is made anew. Blocks."""

from __future__ import annotations

from dataclasses import dataclass

from walle_control.db.sql import Connection
from walle_control.db.store import Store
from walle_control.features.releases import store as rows
from walle_control.features.releases.store import EpochRow
from walle_control.features.releases.types import ReleaseRow
from walle_control.features.rollouts.guard import GuardSettings, RolloutPlan, RolloutStage
from walle_control.features.tasks import read_model as tasks
from walle_control.features.trust.book import TrustBook
from walle_shared.errors import NotFound
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import EPOCH_KIND, EpochInfo
from walle_shared.signing import open_envelope, signed_by
from walle_shared.targeting import SHARE_ONE, Snapshot
from walle_shared.trust.roles import POLICY


@dataclass(frozen=True, slots=True)
class Published:
    """The newest epoch as devices see it."""

    info: EpochInfo
    envelope: bytes
    snapshot: bytes


def open_published(store: Store, trust: TrustBook) -> Published | None:
    """Read and check what is published; None if nothing is.

    Raises:
        TrustError: it was not signed here, or is damaged.
    """
    try:
        envelope = store.files.epoch_path.read_bytes()
    except FileNotFoundError:
        return None
    keys = store.database.read_sync(lambda db: trust.keys(db, POLICY))
    info = open_envelope(EpochInfo, EPOCH_KIND, envelope, signed_by(key.public for key in keys))
    return Published(info, envelope, store.files.read("snapshot", info.snapshot))


def restore_epoch(db: Connection, published: Published, now_ms: int) -> int:
    """Add the epoch and its releases, paused; how many releases there are.

    Raises:
        NotFound: a release is of a version that could not be restored.
    """
    info = published.info
    snapshot = decode(Snapshot, published.snapshot)
    for release in snapshot.releases:
        if tasks.manifest_of(db, release.scenario, release.task, release.version) != release.manifest:
            raise NotFound(
                f"release {release.id} is of other files than {release.task} {release.version} here"
            )
        stages = [RolloutStage(release.share, hold_s=0.0, min_devices=1)]
        if release.share < SHARE_ONE:  # in the last stage of a plan nobody is held back
            stages.append(RolloutStage(SHARE_ONE, hold_s=0.0, min_devices=1))
        row = ReleaseRow(
            id=release.id,
            rank=release.rank,
            scenario=release.scenario,
            task=release.task,
            version=release.version,
            predicate=release.predicate,
            salt=release.salt,
            plan=RolloutPlan(tuple(stages), release.control, release.voters),
            guard=GuardSettings(),
            state="paused",
            stage=0,
            staged_ms=now_ms,
            created_ms=now_ms,
        )
        rows.insert_release(db, row)
    epoch = EpochRow(info.epoch, published.snapshot, published.envelope, "rebuilt", now_ms, info.issued_ms)
    rows.insert_epoch(db, epoch)
    return len(snapshot.releases)
