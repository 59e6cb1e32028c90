"""The decision: a pure function of (snapshot, profile, device).

Rules, in order, for each task:

1. Releases are asked newest first (highest ``rank``); the first whose predicate matches and whose share holds
   the device wins.
2. A release that is rolled back or stopped is not in the snapshot, so its devices fall through to the release
   before it: going back is
   the same decision as going forward, under a higher epoch.
3. A device in the control arm of a release that would win falls through as well: it keeps what was before, to
   be compared with (``control_of`` names the release).
4. No release left means the task is not wanted and the device removes it.

Which devices vote, and which of them are held back, are two positions of their own, salted apart from the one
that the share goes by: the voters are as large a part of either arm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final

from walle_shared.errors import RemoteProtocolError
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, TaskName, TaskVersion
from walle_shared.protocol.messages import NO_RELEASE, FileRef
from walle_shared.targeting.hashing import SALT_MAX_BYTES, SHARE_ONE, compile_share, in_share
from walle_shared.targeting.predicate import Predicate, PredicateError, Profile, parse_predicate

#: Longest salt of a release; what is appended to it must fit a key as well.
RELEASE_SALT_MAX_BYTES: Final = SALT_MAX_BYTES - 16

#: Appended to a release's salt for the positions that choose its control arm and its voters.
_CONTROL_SALT = "/control"
_VOTERS_SALT = "/voters"


@dataclass(frozen=True, slots=True)
class Release:
    """A live release as devices see it; shares are in parts per billion.

    ``control`` is the part of the share that is held back for comparison, ``voters`` the part of either arm
    whose every outcome is counted, ``deltas`` the list of ways to get the manifest's files with fewer bytes.
    """

    id: ReleaseId
    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    manifest: FileRef
    predicate: str
    share: int
    salt: str
    rank: int
    control: int = 0
    voters: int = SHARE_ONE
    deltas: FileRef | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All live releases of one epoch; immutable."""

    epoch: int
    releases: tuple[Release, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a device should run for one task.

    ``votes``: it tells every outcome, not only failures. ``control_of``: it is held back from this release,
    and votes for the arm that it is compared with.
    """

    release_id: ReleaseId
    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    manifest: FileRef
    votes: bool = True
    control_of: ReleaseId = NO_RELEASE
    deltas: FileRef | None = None


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
    held_back: Callable[[bytes], bool]
    votes: Callable[[bytes], bool]
    key: TaskKey
    wanted: Wanted
    wanted_quiet: Wanted


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
        held_back: dict[TaskKey, _Candidate] = {}
        unit = device_id.encode()
        for candidate in self._matching(profile):
            if candidate.key in decisions or not candidate.holds(unit):
                continue
            if candidate.held_back(unit):
                held_back.setdefault(candidate.key, candidate)
            else:
                decisions[candidate.key] = (
                    candidate.wanted if candidate.votes(unit) else candidate.wanted_quiet
                )
        for key, candidate in held_back.items():
            if key in decisions and candidate.votes(unit):
                decisions[key] = replace(decisions[key], control_of=candidate.release.id)
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
    for name, share in (("share", release.share), ("control", release.control), ("voters", release.voters)):
        if not 0 <= share <= SHARE_ONE:
            raise RemoteProtocolError(f"release {release.id}: {name} {share} is not within 0..{SHARE_ONE}")
    if not 1 <= len(release.salt.encode()) <= RELEASE_SALT_MAX_BYTES:
        raise RemoteProtocolError(f"release {release.id}: salt must have 1 to {RELEASE_SALT_MAX_BYTES} bytes")
    try:
        predicate = parse_predicate(release.predicate)
    except PredicateError as error:
        raise RemoteProtocolError(f"release {release.id}: {error}") from None
    key = (release.scenario, release.task)
    wanted = Wanted(release.id, *key, release.version, release.manifest, deltas=release.deltas)
    return _Candidate(
        release,
        predicate,
        compile_share(release.salt, release.share),
        compile_share(release.salt + _CONTROL_SALT, release.control),
        compile_share(release.salt + _VOTERS_SALT, release.voters),
        key,
        wanted,
        replace(wanted, votes=False),
    )


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
    elif candidate.held_back(device_id.encode()):
        reason = "held back, to be compared with (control arm)"
    else:
        reason = "a newer release of the task applies"
    return Explanation(release.id, matches, inside, release.id in chosen, reason)
