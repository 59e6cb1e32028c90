"""Brings the newest published epoch, with all it holds, into a database that is made anew. Blocks."""

from __future__ import annotations

from dataclasses import dataclass

from walle_control.db.sql import Connection
from walle_control.db.store import Store
from walle_control.features.audiences import restore as audiences
from walle_control.features.releases import store as rows
from walle_control.features.releases.store import EpochRow
from walle_control.features.releases.types import Course, Courses, ReleaseRow, Terms
from walle_control.features.rollouts.guard import GuardSettings, RolloutPlan, RolloutStage
from walle_control.features.tasks import read_model as tasks
from walle_control.features.trust.book import TrustBook
from walle_shared.errors import NotFound
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import EPOCH_KIND, EpochInfo
from walle_shared.signing import open_envelope, signed_by
from walle_shared.targeting import SHARE_ONE, Release, Snapshot
from walle_shared.trust.roles import POLICY


@dataclass(frozen=True, slots=True)
class Published:
    """The newest epoch as devices see it."""

    info: EpochInfo
    envelope: bytes
    snapshot: bytes
    plans: bytes | None


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
    plans = store.files.read("plan", info.plans) if info.plans is not None else None
    return Published(info, envelope, store.files.read("snapshot", info.snapshot), plans)


def restore_epoch(db: Connection, published: Published, now_ms: int) -> int:
    """Add the epoch, what it refers to, and its releases, paused; how many releases there are.

    Whatever is compiled from this next is what devices have now: nothing grows, and nobody falls out.

    Raises:
        NotFound: a release is of a version that could not be restored.
    """
    info = published.info
    snapshot = decode(Snapshot, published.snapshot)
    courses = decode(Courses, published.plans).releases if published.plans is not None else ()
    course_of = {course.id: course for course in courses}
    for release in snapshot.releases:
        if tasks.manifest_of(db, release.scenario, release.task, release.version) != release.manifest:
            raise NotFound(
                f"release {release.id} is of other files than {release.task} {release.version} here:"
                " import that version from its own tag"
            )
        course = course_of.get(release.id) or _told_by_policy(release, now_ms)
        rows.insert_release(db, _paused(release, course, now_ms))
    audiences.restore(db, snapshot, now_ms)
    epoch = EpochRow(
        info.epoch,
        published.snapshot,
        published.envelope,
        "rebuilt",
        now_ms,
        info.issued_ms,
        published.plans,
    )
    rows.insert_epoch(db, epoch)
    return len(snapshot.releases)


def _paused(release: Release, course: Course, now_ms: int) -> ReleaseRow:
    return ReleaseRow(
        id=release.id,
        rank=release.rank,
        scenario=release.scenario,
        task=release.task,
        version=release.version,
        predicate=release.predicate,
        salt=release.salt,
        plan=course.plan,
        guard=course.guard,
        state="paused",
        stage=course.stage,
        staged_ms=course.staged_ms,
        created_ms=course.created_ms,
        terms=Terms(
            release.windows,
            release.spread_s,
            release.cap,
            release.everyone,
            release.personal,
            release.attempts,
            release.quarantine_s,
        ),
        ramp_ms=course.ramp_ms,
        paused_ms=course.paused_ms or now_ms,
    )


def _told_by_policy(release: Release, now_ms: int) -> Course:
    """How a release goes on, from the policy of a program that published no courses: the stage it is in."""
    stages, ramp = [], release.ramp
    if ramp is not None and ramp.from_share:
        stages.append(RolloutStage(ramp.from_share, min_devices=1))
    lasts_s = (ramp.end_ms - ramp.start_ms) / 1000 if ramp is not None else 0.0
    stage = len(stages)
    stages.append(RolloutStage(release.share, min_devices=1, ramp_s=lasts_s))
    if release.share < SHARE_ONE:  # in the last stage of a plan nobody is held back
        stages.append(RolloutStage(SHARE_ONE, min_devices=1))
    return Course(
        release.id,
        RolloutPlan(tuple(stages), release.control, release.voters),
        GuardSettings(),
        stage,
        release.starts_ms or now_ms,
        now_ms,
        ramp.start_ms if ramp is not None else 0,
        0,
    )
