"""The decision: a pure function of (snapshot, profile, device).

Rules, in order, for each task:

1. Releases are asked newest first (highest ``rank``); the first whose predicate matches and whose share holds
   the device wins.
2. A release that is rolled back or stopped is not in the snapshot, so its devices fall through to the release
   before it: going back is
   the same decision as going forward, under a higher epoch.
3. No release left means the task is not wanted and the device removes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from walle_shared.errors import RemoteProtocolError
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, TaskName, TaskVersion
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting.hashing import SHARE_ONE, in_share
from walle_shared.targeting.predicate import Predicate, PredicateError, Profile, parse_predicate


@dataclass(frozen=True, slots=True)
class Release:
    """A live release as devices see it. ``share`` is in parts per billion."""

    id: ReleaseId
    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    manifest: FileRef
    predicate: str
    share: int
    salt: str
    rank: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All live releases of one epoch; immutable."""

    epoch: int
    releases: tuple[Release, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a device should run for one task."""

    release_id: ReleaseId
    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    manifest: FileRef


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a release does or does not apply to a device, in words for an operator."""

    release_id: ReleaseId
    matches: bool
    in_share: bool
    chosen: bool
    reason: str


TaskKey = tuple[ScenarioName, TaskName]


class Policy:
    """A snapshot compiled once, asked many times.

    Raises:
        RemoteProtocolError: on construction, if a release has a bad share or predicate.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._by_task: dict[TaskKey, list[tuple[Release, Predicate, Wanted]]] = {}
        for release in sorted(snapshot.releases, key=lambda r: (-r.rank, r.id)):
            key = (release.scenario, release.task)
            self._by_task.setdefault(key, []).append((release, _compile(release), _wanted(release)))

    def decide(self, device_id: DeviceId, profile: Profile) -> dict[TaskKey, Wanted]:
        """What this device should run, by (scenario, task)."""
        decisions: dict[TaskKey, Wanted] = {}
        for key, candidates in self._by_task.items():
            for release, predicate, wanted in candidates:
                if predicate.test(profile) and in_share(release.salt, device_id, release.share):
                    decisions[key] = wanted
                    break
        return decisions

    def explain(self, device_id: DeviceId, profile: Profile) -> list[Explanation]:
        """Every release with the verdict for this device, newest first within each task."""
        chosen = {wanted.release_id for wanted in self.decide(device_id, profile).values()}
        return [
            _explain(release, predicate, device_id, profile, release.id in chosen)
            for candidates in self._by_task.values()
            for release, predicate, _ in candidates
        ]


def _compile(release: Release) -> Predicate:
    if not 0 <= release.share <= SHARE_ONE:
        raise RemoteProtocolError(f"release {release.id}: share {release.share} is not within 0..{SHARE_ONE}")
    if not 1 <= len(release.salt.encode()) <= 64:
        raise RemoteProtocolError(f"release {release.id}: salt must have 1 to 64 bytes")
    try:
        return parse_predicate(release.predicate)
    except PredicateError as error:
        raise RemoteProtocolError(f"release {release.id}: {error}") from None


def _wanted(release: Release) -> Wanted:
    return Wanted(release.id, release.scenario, release.task, release.version, release.manifest)


def _explain(
    release: Release, predicate: Predicate, device_id: DeviceId, profile: Profile, chosen: bool
) -> Explanation:
    matches = predicate.test(profile)
    inside = in_share(release.salt, device_id, release.share)
    missing = sorted(predicate.attributes - profile.keys())
    if chosen:
        reason = "chosen"
    elif not matches:
        reason = "predicate does not match" + (f" (profile has no {', '.join(missing)})" if missing else "")
    elif not inside:
        reason = f"outside the share of {release.share / SHARE_ONE:.4%}"
    else:
        reason = "a newer release of the task applies"
    return Explanation(release.id, matches, inside, chosen, reason)
