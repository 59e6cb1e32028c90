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

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from walle_shared.errors import RemoteProtocolError
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, TaskName, TaskVersion
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting.hashing import SALT_MAX_BYTES, SHARE_ONE, compile_share, in_share
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

#: Profile classes remembered per policy; all are forgotten when there are more.
_CLASSES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class _Candidate:
    release: Release
    predicate: Predicate
    holds: Callable[[bytes], bool]
    key: TaskKey
    wanted: Wanted


class Policy:
    """A snapshot compiled once, asked many times.

    Devices whose profiles agree in every attribute that some predicate reads form a class. Which releases
    match is worked out once per class and remembered, so that a decision costs one look-up and a hash per
    matching release, however many releases are live.

    Raises:
        RemoteProtocolError: on construction, if a release has a bad share or predicate.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        newest_first = sorted(snapshot.releases, key=lambda release: (-release.rank, release.id))
        self._candidates = [_compile(release) for release in newest_first]
        self._attributes = sorted({name for c in self._candidates for name in c.predicate.attributes})
        self._classes: dict[tuple[object, ...], tuple[_Candidate, ...]] = {}

    def decide(self, device_id: DeviceId, profile: Profile) -> dict[TaskKey, Wanted]:
        """What this device should run, by (scenario, task)."""
        decisions: dict[TaskKey, Wanted] = {}
        unit = device_id.encode()
        for candidate in self._matching(profile):
            if candidate.key not in decisions and candidate.holds(unit):
                decisions[candidate.key] = candidate.wanted
        return decisions

    def explain(self, device_id: DeviceId, profile: Profile) -> list[Explanation]:
        """Every release with the verdict for this device, newest first."""
        chosen = {wanted.release_id for wanted in self.decide(device_id, profile).values()}
        return [_explain(candidate, device_id, profile, chosen) for candidate in self._candidates]

    def _matching(self, profile: Profile) -> tuple[_Candidate, ...]:
        # The type belongs to the class: True, 1 and 1.0 are equal keys but not equal attributes.
        values = [profile.get(name) for name in self._attributes]
        key = (*values, *map(type, values))
        matching = self._classes.get(key)
        if matching is None:
            matching = tuple(c for c in self._candidates if c.predicate.test(profile))
            if len(self._classes) >= _CLASSES_MAX:
                self._classes.clear()
            self._classes[key] = matching
        return matching


def _compile(release: Release) -> _Candidate:
    if not 0 <= release.share <= SHARE_ONE:
        raise RemoteProtocolError(f"release {release.id}: share {release.share} is not within 0..{SHARE_ONE}")
    if not 1 <= len(release.salt.encode()) <= SALT_MAX_BYTES:
        raise RemoteProtocolError(f"release {release.id}: salt must have 1 to {SALT_MAX_BYTES} bytes")
    try:
        predicate = parse_predicate(release.predicate)
    except PredicateError as error:
        raise RemoteProtocolError(f"release {release.id}: {error}") from None
    key = (release.scenario, release.task)
    wanted = Wanted(release.id, *key, release.version, release.manifest)
    return _Candidate(release, predicate, compile_share(release.salt, release.share), key, wanted)


def _explain(
    candidate: _Candidate, device_id: DeviceId, profile: Profile, chosen: Set[ReleaseId]
) -> Explanation:
    release, predicate = candidate.release, candidate.predicate
    matches = predicate.test(profile)
    inside = in_share(release.salt, device_id, release.share)
    missing = sorted(predicate.attributes - profile.keys())
    if release.id in chosen:
        reason = "chosen"
    elif not matches:
        reason = "predicate does not match" + (f" (profile has no {', '.join(missing)})" if missing else "")
    elif not inside:
        reason = f"outside the share of {release.share / SHARE_ONE:.4%}"
    else:
        reason = "a newer release of the task applies"
    return Explanation(release.id, matches, inside, release.id in chosen, reason)
