"""The decision: a pure function of (snapshot, profile, device, moment).

Rules, in order, for each task:

1. Releases are asked newest first (highest ``rank``); the first whose predicate matches, whose share holds
   the device and which has begun for it wins.
2. A release that is rolled back or stopped is not in the snapshot, so its devices fall through to the release
   before it: going back is
   the same decision as going forward, under a higher epoch.
3. A release has begun for a device once its ramp has reached the device, the device's turn in the start
   spread has come, its window is open by the device's own clock, and, where the number of devices is capped,
   the device holds a permit. Until then the device falls through. What has begun stays begun: neither a
   window that closes nor anything else of this rule takes a release away (``Moment.has``), or ends a
   comparison (``Moment.compared``).
4. A device in a holdout, or in the control arm of a release that would win, falls through as well: it keeps
   what was before, to be compared with (``control_of`` names the release). Only releases that ask for it
   (``Release.everyone``) reach a holdout.
5. No release left means the task is not wanted and the device removes it.

Which devices vote, and which of them are held back, are positions of their own, salted apart from the one
that the share goes by: the voters are as large a part of either arm, and a holdout as large a part of every
release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol

from walle_shared.errors import ConfigError, RemoteProtocolError
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, TaskName, TaskVersion
from walle_shared.protocol.messages import NO_RELEASE, FileRef
from walle_shared.targeting.hashing import (
    POSITIONS,
    SALT_MAX_BYTES,
    SHARE_ONE,
    compile_position,
    compile_share,
    in_share,
)
from walle_shared.targeting.idset import IdSet
from walle_shared.targeting.predicate import Predicate, Profile, Segments, parse_predicate, told_answer
from walle_shared.targeting.ramp import Ramp
from walle_shared.targeting.schedule import TIMEZONE, Schedule, parse_windows, zone_of

#: Longest salt of a release; what is appended to it must fit a key as well.
RELEASE_SALT_MAX_BYTES: Final = SALT_MAX_BYTES - 16

#: Appended to a release's salt for the positions of its control arm, its voters, and its start spread.
_CONTROL_SALT = "/control"
_VOTERS_SALT = "/voters"
_SPREAD_SALT = "/spread"

#: No time of a policy lies behind this one (in the year 5138).
TIME_MAX_MS: Final = 10**14

#: For whom a release's bundle has a part of its own; ``shared``: for nobody.
Personal = Literal["shared", "device", "user"]


@dataclass(frozen=True, slots=True)
class Release:
    """A live release as devices see it; shares are in parts per billion.

    ``control`` is the part of the share that is held back for comparison, ``voters`` the part of either arm
    whose every outcome is counted, ``deltas`` the list of ways to get the manifest's files with fewer bytes.
    Each device begins at its own time within ``spread_s`` seconds from
    ``starts_ms`` on, within ``windows`` (``schedule``). At most ``cap`` devices may have it (0: any number);
    the server hands out the permits. ``everyone``: holdouts get it too. ``personal``: whose own files the
    device adds to the bundle, besides those that all share. A device tries it ``attempts`` times and then
    leaves it alone for ``quarantine_s``, within its own limits (0: as the device does by itself).
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
    ramp: Ramp | None = None
    starts_ms: int = 0
    spread_s: float = 0.0
    windows: str = ""
    cap: int = 0
    everyone: bool = False
    personal: Personal = "shared"
    attempts: int = 0
    quarantine_s: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Holdout:
    """Devices that no release of a scenario reaches (of any, if it names none), to be compared with."""

    name: str
    share: int
    salt: str
    scenario: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segment:
    """A predicate with a name, which others refer to; a higher ``version`` is newer."""

    name: str
    version: int
    predicate: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All live releases of one epoch, and what they refer to; immutable."""

    epoch: int
    releases: tuple[Release, ...]
    holdouts: tuple[Holdout, ...] = ()
    segments: tuple[Segment, ...] = ()
    sets: tuple[IdSet, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a device is decided for, and what it has.

    Args:
        now_ms: the time as the server signed it.
        has: releases that are active on the device.
        compared: releases that it is kept from and has begun to be compared with.
        permits: capped releases that it may have.
    """

    now_ms: int
    has: Set[ReleaseId] = frozenset()
    compared: Set[ReleaseId] = frozenset()
    permits: Set[ReleaseId] = frozenset()


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
    capped: bool = False
    personal: Personal = "shared"
    attempts: int = 0
    quarantine_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a release does or does not apply to a device, in words for an operator.

    ``decided_by``: where its predicate is evaluated.
    """

    release_id: ReleaseId
    matches: bool
    in_share: bool
    chosen: bool
    reason: str
    decided_by: Literal["device", "server"] = "device"


TaskKey = tuple[ScenarioName, TaskName]

#: Profile classes remembered per policy; all are forgotten when there are more.
_CLASSES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class _Start:
    """When a release that does not begin at once begins for a device."""

    release: Release
    schedule: Schedule | None
    place: Callable[[bytes], int]
    turn: Callable[[bytes], int]

    def spread_ms(self, unit: bytes) -> int:
        """A device's turn in the start spread."""
        spread_ms = round(self.release.spread_s * 1000)
        return self.release.starts_ms + self.turn(unit) * spread_ms // POSITIONS if spread_ms else 0

    def ramp_ms(self, unit: bytes) -> int:
        """When the ramp reaches a device of the share."""
        ramp = self.release.ramp
        return ramp.enters_ms(self.place(unit), self.release.share) if ramp is not None else 0

    def is_due(self, unit: bytes, profile: Profile, now_ms: int) -> bool:
        """Whether ``begins_ms`` is now."""
        if self.ramp_ms(unit) > now_ms or self.spread_ms(unit) > now_ms:
            return False
        return self.schedule is None or self.schedule.is_open(now_ms, zone_of(profile.get(TIMEZONE)))

    def begins_ms(self, unit: bytes, profile: Profile, now_ms: int) -> int:
        """The first moment from ``now_ms`` on at which it may begin."""
        at_ms = max(now_ms, self.ramp_ms(unit), self.spread_ms(unit))
        if self.schedule is None:
            return at_ms
        return self.schedule.opens_ms(at_ms, zone_of(profile.get(TIMEZONE)))


@dataclass(frozen=True, slots=True)
class _Candidate:
    release: Release
    predicate: Predicate
    holds: Callable[[bytes], bool]
    held_out: tuple[Callable[[bytes], bool], ...]
    held_back: Callable[[bytes], bool]
    votes: Callable[[bytes], bool]
    start: _Start | None
    key: TaskKey
    wanted: Wanted
    wanted_quiet: Wanted

    def is_held(self, unit: bytes) -> bool:
        """Whether a device of the share is kept from it, to be compared with."""
        return self.held_back(unit) or any(holds(unit) for holds in self.held_out)

    def began_before(self, unit: bytes, moment: Moment) -> bool:
        """Whether it has begun for a device already: as what it runs, or as what it is compared with."""
        return self.release.id in (moment.compared if self.is_held(unit) else moment.has)

    def has_begun(self, unit: bytes, profile: Profile, moment: Moment) -> bool:
        """Whether nothing of rule 3 keeps it from a device any more."""
        if (moment.has or moment.compared) and self.began_before(unit, moment):
            return True
        if self.release.cap and self.release.id not in moment.permits:
            return False
        return self.start is None or self.start.is_due(unit, profile, moment.now_ms)


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
        holdouts = tuple(map(_checked_holdout, snapshot.holdouts))
        newest_first = sorted(snapshot.releases, key=lambda release: (-release.rank, release.id))
        segments = {name: segment.predicate for name, segment in by_reference(snapshot.segments).items()}
        self._candidates = [_compile(release, holdouts, segments) for release in newest_first]
        sets = by_reference(map(_checked_set, snapshot.sets))
        asked = {question for c in self._candidates for question in c.predicate.sets}
        unknown = sorted(question.set_name for question in asked if question.set_name not in sets)
        if unknown:
            raise RemoteProtocolError(f"the policy refers to a set {unknown[0]!r} that is not in it")
        #: What a profile must answer before it is decided for (``predicate.set_answer``), about which set.
        self.set_questions = {question: sets[question.set_name] for question in sorted(asked)}
        #: The releases of which the server must tell first whether they apply (``predicate.told_answer``).
        self.told_releases = sorted(
            c.release.id for c in self._candidates if told_answer(c.release.id) in c.predicate.attributes
        )
        self._attributes = sorted({name for c in self._candidates for name in c.predicate.attributes})
        self._classes: dict[tuple[object, ...], tuple[_Candidate, ...]] = {}

    def decide(
        self, device_id: DeviceId, profile: Profile, moment: Moment | None = None
    ) -> dict[TaskKey, Wanted]:
        """What this device should run, by (scenario, task).

        Without a ``moment``: once every release has begun for it.
        """
        decisions: dict[TaskKey, Wanted] = {}
        held: dict[TaskKey, _Candidate] = {}
        unit = device_id.encode()
        for candidate in self._matching(profile):
            if candidate.key in decisions or not candidate.holds(unit):
                continue
            if moment is not None and not candidate.has_begun(unit, profile, moment):
                continue
            if candidate.is_held(unit):
                held.setdefault(candidate.key, candidate)
            else:
                decisions[candidate.key] = (
                    candidate.wanted if candidate.votes(unit) else candidate.wanted_quiet
                )
        for key, candidate in held.items():
            if key in decisions and candidate.votes(unit):
                decisions[key] = replace(decisions[key], control_of=candidate.release.id)
        return decisions

    def next_start_ms(self, device_id: DeviceId, profile: Profile, moment: Moment) -> int | None:
        """When time alone will next change this device's decision; ``None`` if it will not."""
        unit = device_id.encode()
        starts = [
            candidate.start.begins_ms(unit, profile, moment.now_ms)
            for candidate in self._matching(profile)
            if candidate.start is not None
            and candidate.holds(unit)
            and not candidate.began_before(unit, moment)
        ]
        return min((start for start in starts if start > moment.now_ms), default=None)

    def permits_wanted(self, device_id: DeviceId, profile: Profile, moment: Moment) -> list[ReleaseId]:
        """The capped releases that the device would have now if it had their permits."""
        capped = frozenset(c.release.id for c in self._candidates if c.release.cap)
        if not capped:
            return []
        allowed = self.decide(device_id, profile, replace(moment, permits=capped | moment.permits))
        wanted = {w.release_id for w in allowed.values() if w.release_id in capped}
        return sorted(wanted - moment.has - moment.permits)

    def explain(
        self, device_id: DeviceId, profile: Profile, moment: Moment | None = None
    ) -> list[Explanation]:
        """Every release with the verdict for this device, newest first."""
        chosen = {wanted.release_id for wanted in self.decide(device_id, profile, moment).values()}
        return [
            _explain(candidate, self.snapshot, device_id, profile, moment, chosen)
            for candidate in self._candidates
        ]

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


class Versioned(Protocol):
    """What predicates refer to by name."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def version(self) -> int:
        """Higher is newer."""
        ...


def by_reference[T: Versioned](items: Iterable[T]) -> dict[str, T]:
    """Items by what predicates may call them: ``name`` follows the newest version, ``name@3`` is that one."""
    found: dict[str, T] = {}
    for item in sorted(items, key=lambda item: item.version):
        found[item.name] = found[f"{item.name}@{item.version}"] = item
    return found


def holdouts_of(device_id: DeviceId, scenario: ScenarioName, holdouts: Iterable[Holdout]) -> list[Holdout]:
    """The holdouts that keep a scenario's releases from a device."""
    return [h for h in holdouts if h.scenario in ("", scenario) and in_share(h.salt, device_id, h.share)]


def _checked_holdout(holdout: Holdout) -> Holdout:
    _check_shares(f"holdout {holdout.name}", holdout.salt, share=holdout.share)
    return holdout


def _checked_set(asked: IdSet) -> IdSet:
    if not 1 <= len(asked.salt.encode()) <= SALT_MAX_BYTES:
        raise RemoteProtocolError(f"set {asked.name}: salt must have 1 to {SALT_MAX_BYTES} bytes")
    return asked


def _check_shares(what: str, salt: str, **shares: int) -> None:
    for name, share in shares.items():
        if not 0 <= share <= SHARE_ONE:
            raise RemoteProtocolError(f"{what}: {name} {share} is not within 0..{SHARE_ONE}")
    if not 1 <= len(salt.encode()) <= RELEASE_SALT_MAX_BYTES:
        raise RemoteProtocolError(f"{what}: salt must have 1 to {RELEASE_SALT_MAX_BYTES} bytes")


def _compile(release: Release, holdouts: Iterable[Holdout], segments: Segments) -> _Candidate:
    what = f"release {release.id}"
    _check_shares(what, release.salt, share=release.share, control=release.control, voters=release.voters)
    try:
        predicate = parse_predicate(release.predicate, segments)
        start = _start_of(release)
    except ConfigError as error:
        raise RemoteProtocolError(f"{what}: {error}") from None
    key = (release.scenario, release.task)
    wanted = Wanted(
        release.id,
        *key,
        release.version,
        release.manifest,
        deltas=release.deltas,
        capped=release.cap > 0,
        personal=release.personal,
        attempts=release.attempts,
        quarantine_s=release.quarantine_s,
    )
    return _Candidate(
        release,
        predicate,
        compile_share(release.salt, release.share),
        tuple(
            compile_share(holdout.salt, holdout.share)
            for holdout in holdouts
            if not release.everyone and holdout.scenario in ("", release.scenario)
        ),
        compile_share(release.salt + _CONTROL_SALT, release.control),
        compile_share(release.salt + _VOTERS_SALT, release.voters),
        start,
        key,
        wanted,
        replace(wanted, votes=False),
    )


def _start_of(release: Release) -> _Start | None:
    """When a release begins, checked; ``None`` if it does at once."""
    schedule, ramp = parse_windows(release.windows), release.ramp
    if not (0 <= release.starts_ms <= TIME_MAX_MS and 0 <= release.spread_s <= TIME_MAX_MS / 1000):
        raise ConfigError(f"starts_ms {release.starts_ms} or spread_s {release.spread_s} must be a time")
    if ramp is not None and not (
        0 <= ramp.from_share <= release.share and 0 <= ramp.start_ms < ramp.end_ms <= TIME_MAX_MS
    ):
        raise ConfigError("its ramp must rise, and end after it starts")
    if ramp is None and schedule is None and not release.spread_s:
        return None
    place, turn = compile_position(release.salt), compile_position(release.salt + _SPREAD_SALT)
    return _Start(release, schedule, place, turn)


def _explain(
    candidate: _Candidate,
    snapshot: Snapshot,
    device_id: DeviceId,
    profile: Profile,
    moment: Moment | None,
    chosen: Set[ReleaseId],
) -> Explanation:
    release, unit = candidate.release, device_id.encode()
    matches = candidate.predicate.test(profile)
    inside = in_share(release.salt, device_id, release.share)
    if release.id in chosen:
        reason = "chosen" + _asides(candidate, unit, profile, moment)
    elif not matches:
        reason = "predicate does not match" + _what_it_saw(candidate.predicate, profile)
    elif not inside:
        reason = f"outside the share of {release.share / SHARE_ONE:.4%}"
    elif moment is not None and not candidate.has_begun(unit, profile, moment):
        reason = _why_waiting(candidate, unit, profile, moment)
    elif candidate.held_back(unit):
        reason = "held back, to be compared with (control arm)"
    elif candidate.is_held(unit):
        names = [h.name for h in holdouts_of(device_id, release.scenario, snapshot.holdouts)]
        reason = f"in holdout {', '.join(names)}: gets no release that is not for everyone"
    else:
        reason = "a newer release of the task applies"
    return Explanation(release.id, matches, inside, release.id in chosen, reason)


def _what_it_saw(predicate: Predicate, profile: Profile) -> str:
    """The values that a predicate read, and what it missed."""
    seen = [f"{name} is {profile[name]!r}" for name in sorted(predicate.attributes & profile.keys())]
    missing = sorted(predicate.attributes - profile.keys())
    if missing:
        seen.append(f"profile has no {', '.join(missing)}")
    return f" ({', '.join(seen)})" if seen else ""


def _why_waiting(candidate: _Candidate, unit: bytes, profile: Profile, moment: Moment) -> str:
    """What of rule 3 keeps a release from a device, in the order in which it ends."""
    release, start, now_ms = candidate.release, candidate.start, moment.now_ms
    if start is not None and release.ramp is not None and start.ramp_ms(unit) > now_ms:
        share = release.ramp.share_at(now_ms, release.share)
        return f"its ramp is at {share / SHARE_ONE:.4%} and reaches this device {_at(start.ramp_ms(unit))}"
    if start is not None and start.spread_ms(unit) > now_ms:
        turn = _at(start.spread_ms(unit))
        return f"starts are spread over {release.spread_s:g} s; this device's turn is {turn}"
    opens_ms = start.begins_ms(unit, profile, now_ms) if start is not None else now_ms
    if opens_ms > now_ms:
        return f"outside its window {release.windows!r} ({_zone(profile)}), which opens {_at(opens_ms)}"
    return f"for at most {release.cap} devices, and this one has no permit"


def _asides(candidate: _Candidate, unit: bytes, profile: Profile, moment: Moment | None) -> str:
    """What would keep a chosen release from a device that did not have it already."""
    if moment is None or candidate.has_begun(
        unit, profile, replace(moment, has=frozenset(), compared=frozenset())
    ):
        return ""
    return f"; the device has it already ({_why_waiting(candidate, unit, profile, moment)})"


def _zone(profile: Profile) -> str:
    zone = zone_of(profile.get(TIMEZONE))
    return f"{zone} time" if zone is not UTC else f"UTC: no known {TIMEZONE} in the profile"


def _at(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("at %Y-%m-%d %H:%M:%S UTC")
