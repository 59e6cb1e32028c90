"""Types of the releases feature, and the table of a release's states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal

from walle_control.features.rollouts.guard import (
    RAMP_MAX_S,
    GuardSettings,
    RolloutPlan,
    RolloutStage,
    Verdict,
)
from walle_control.features.telemetry.types import ReportCount
from walle_control.percent import share_of
from walle_shared.errors import ConfigError, Conflict
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, TaskName, TaskVersion
from walle_shared.limits import ATTEMPTS_MAX, QUARANTINE_MAX_S
from walle_shared.targeting import Explanation, Personal, Profile, Ramp, parse_windows
from walle_shared.units import DAY_S

ReleaseState = Literal["pending", "live", "paused", "stopped", "rolled_back", "rejected"]
ReleaseAction = Literal["promote", "pause", "stop", "resume", "rollback"]

#: state, action -> next state; what is not listed is refused. Live and paused releases are in the snapshot: a
#: paused one keeps its devices and grows no further.
#: A pending one waits for approval (``approvals``): resuming it asks anew, rolling it back withdraws it.
TRANSITIONS: Final[Mapping[tuple[ReleaseState, ReleaseAction], ReleaseState]] = {
    ("pending", "resume"): "pending",
    ("pending", "rollback"): "rolled_back",
    ("live", "promote"): "live",
    ("live", "pause"): "paused",
    ("live", "stop"): "stopped",
    ("live", "rollback"): "rolled_back",
    ("paused", "resume"): "live",
    ("paused", "stop"): "stopped",
    ("paused", "rollback"): "rolled_back",
    ("stopped", "resume"): "live",
    ("stopped", "rollback"): "rolled_back",
}

ACTIONS: Final[tuple[ReleaseAction, ...]] = ("promote", "pause", "stop", "resume", "rollback")

#: What each action does, for whoever looks for it.
ACTION_WORDS: Final[Mapping[ReleaseAction, str]] = {
    "promote": "Let a release go on to its next stage now.",
    "pause": "Let a release grow no further for now; its devices keep it.",
    "stop": "Take a release off all devices for now.",
    "resume": "Let a paused or stopped release go on.",
    "rollback": "Take a release back for good.",
}

#: The control arm of a rollout in stages, unless the operator says otherwise: arms of equal size tell most.
CONTROL_PERCENT: Final = 50

CAP_MAX: Final = 10**9


def next_state(release_id: ReleaseId, state: ReleaseState, action: ReleaseAction) -> ReleaseState:
    """The state after an action.

    Raises:
        Conflict: the action does not apply; says which do.
    """
    if (state, action) not in TRANSITIONS:
        allowed = [possible for now, possible in TRANSITIONS if now == state]
        hint = f"it allows {' or '.join(allowed)}" if allowed else "nothing follows; create a new release"
        raise Conflict(f"release {release_id} is {state}: cannot {action} it; {hint}")
    return TRANSITIONS[state, action]


@dataclass(frozen=True, slots=True)
class StageWish:
    """One stage of a rollout (``guard.RolloutStage``), with its share as a percentage."""

    percent: str | int | float
    hold_s: float = 0.0
    min_devices: int = 100
    ramp_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GuardWish:
    """Guard settings (``guard.GuardSettings``) of one release; those left out are the server's."""

    max_failure_rate: float | None = None
    alpha: float | None = None
    tolerance: float | None = None
    horizon_s: float | None = None
    silence_s: float | None = None
    slower: float | None = None
    larger: float | None = None
    min_reports: int | None = None

    def over(self, defaults: GuardSettings) -> GuardSettings:
        """These settings where they are given, ``defaults`` elsewhere.

        Raises:
            ConfigError: one makes no sense.
        """
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(defaults, **given).checked()


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms devices get a release (``targeting.Release``).

    Args:
        windows: when, by the device's own clock (``targeting.schedule``).
        spread_s: the devices of a stage begin evenly over so many seconds.
        cap: at most so many devices; 0: any number.
        everyone: holdouts get it too.
        personal: for whom the bundle has a part of its own.
        attempts: how often a device tries to install it, within its own limits; 0: as it does by itself.
        quarantine_s: how long a device leaves it alone once it failed there, likewise.
    """

    windows: str = ""
    spread_s: float = 0.0
    cap: int = 0
    everyone: bool = False
    personal: Personal = "shared"
    attempts: int = 0
    quarantine_s: float = 0.0

    def checked(self, plan: RolloutPlan) -> Terms:
        """These terms, if they make sense.

        Raises:
            ConfigError: saying what does not.
        """
        parse_windows(self.windows)
        if not 0 <= self.spread_s <= RAMP_MAX_S:
            raise ConfigError(f"spread_s must be 0 to {RAMP_MAX_S:g} seconds")
        if not 0 <= self.cap <= CAP_MAX:
            raise ConfigError(f"a cap must be 1 to {CAP_MAX} devices, or 0 for none")
        if not 0 <= self.attempts <= ATTEMPTS_MAX:
            raise ConfigError(f"attempts must be 1 to {ATTEMPTS_MAX}, or 0 for what devices do by themselves")
        if not 0 <= self.quarantine_s <= QUARANTINE_MAX_S:
            raise ConfigError(f"quarantine_s must be 0 to {QUARANTINE_MAX_S:g} seconds")
        if self.cap and plan.control:
            raise ConfigError(
                "a capped release has no control arm, which no cap would hold: set control_percent to 0"
            )
        return self


@dataclass(frozen=True, slots=True)
class CreateRelease:
    """An operator's wish: ``percent`` at once, or in ``stages``, on ``terms``.

    ``control_percent`` of the devices of each stage but the last are held back and compared with;
    ``voters_percent`` of both arms tell every outcome. ``optional``: the predicate may ask for attributes
    that nobody declared.
    """

    scenario: str
    task: str
    version: str
    predicate: str = ""
    percent: str | int | float = "100"
    stages: tuple[StageWish, ...] = ()
    control_percent: str | int | float | None = None
    voters_percent: str | int | float = "100"
    guard: GuardWish = GuardWish()
    terms: Terms = Terms()
    optional: bool = False

    def plan(self) -> RolloutPlan:
        """The rollout that is wished for.

        Raises:
            ConfigError: a percentage is none, or the stages make no sense.
        """
        stages = self.stages or (StageWish(self.percent),)
        control = (
            (CONTROL_PERCENT if len(stages) > 1 else 0)
            if self.control_percent is None
            else self.control_percent
        )
        return RolloutPlan(
            tuple(RolloutStage(share_of(s.percent), s.hold_s, s.min_devices, s.ramp_s) for s in stages),
            share_of(control),
            share_of(self.voters_percent),
        ).checked()


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A release as stored. A higher ``rank`` is newer; it came to ``stage`` of its plan at ``staged_ms``.

    The stage's ramp began at ``ramp_ms``, which every pause moves on; ``paused_ms`` is when the present pause
    began, 0 if there is none.
    """

    id: ReleaseId
    rank: int
    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    predicate: str
    salt: str
    plan: RolloutPlan
    guard: GuardSettings
    state: ReleaseState
    stage: int
    staged_ms: int
    created_ms: int
    terms: Terms = Terms()
    ramp_ms: int = 0
    paused_ms: int = 0

    @property
    def share(self) -> int:
        """The share that its present stage reaches, in parts per billion."""
        return self.plan.stages[self.stage].share

    @property
    def ramp(self) -> Ramp | None:
        """How the present stage grows to that share, if it takes its time."""
        lasts_ms = round(self.plan.stages[self.stage].ramp_s * 1000)
        if not lasts_ms:
            return None
        return Ramp(self.plan.share_before(self.stage), self.ramp_ms, self.ramp_ms + lasts_ms)

    def share_at(self, now_ms: int) -> int:
        """The share at a time; while a release is paused it stays what it was."""
        ramp = self.ramp
        return ramp.share_at(self.paused_ms or now_ms, self.share) if ramp is not None else self.share

    @property
    def has_next_stage(self) -> bool:
        """Whether it can still grow."""
        return self.stage < len(self.plan.stages) - 1

    def may_grow(self, now_ms: int) -> bool:
        """Whether there is a next stage, and the present one has lasted long enough."""
        since_ms = self.ramp.end_ms if self.ramp is not None else self.staged_ms
        return self.has_next_stage and now_ms - since_ms >= self.plan.stages[self.stage].hold_s * 1000


@dataclass(frozen=True, slots=True)
class Course:
    """How a release is to go on, as far as the policy does not say it."""

    id: ReleaseId
    plan: RolloutPlan
    guard: GuardSettings
    stage: int
    staged_ms: int
    created_ms: int
    ramp_ms: int
    paused_ms: int


@dataclass(frozen=True, slots=True)
class Courses:
    """How the releases of an epoch are to go on; published beside its snapshot."""

    releases: tuple[Course, ...]


ApprovalStep = Literal["create", "full"]
ApprovalState = Literal["open", "approved", "rejected", "glass_broken", "lapsed"]


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """Which steps of a scenario's releases another person must approve, and how long a request stands."""

    steps: tuple[ApprovalStep, ...] = ()
    valid_s: float = 7 * DAY_S


@dataclass(frozen=True, slots=True)
class Approval:
    """A request for approval of a step, and what became of it."""

    id: int
    release_id: ReleaseId
    scenario: str
    step: ApprovalStep
    state: ApprovalState
    asked_by: str
    asked_ms: int
    expires_ms: int
    decided_by: str
    decided_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class ApprovalList:
    """Requests that wait for a decision, oldest first."""

    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True)
class ReleaseEvent:
    """Something that happened to a release, who did it, why, and the numbers behind it."""

    at_ms: int
    event: str
    state: ReleaseState
    actor: str
    reason: str
    evidence: Mapping[str, Any]
    epoch: int


@dataclass(frozen=True, slots=True)
class ReleaseSummary:
    """A line of the list of releases."""

    release: ReleaseRow
    percent: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ReleaseDetail:
    """All about one release."""

    release: ReleaseRow
    percent: str
    verdict: Verdict
    counts: tuple[ReportCount, ...]
    history: tuple[ReleaseEvent, ...]
    approvals: tuple[Approval, ...] = ()


@dataclass(frozen=True, slots=True)
class ReleaseList:
    """All releases, newest first."""

    releases: tuple[ReleaseSummary, ...]


@dataclass(frozen=True, slots=True)
class EpochView:
    """An epoch, why and when it was made, and the signed envelope that devices read."""

    epoch: int
    reason: str
    created_ms: int
    envelope: Mapping[str, Any]
    snapshot: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """Why an operator acts."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """Which device; ``profile`` replaces what it enrolled with, ``at_ms`` the present time."""

    device_id: DeviceId
    profile: Profile | None = None
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ExplainResponse:
    """Every live release with its verdict for one device at a time."""

    epoch: int
    device_id: DeviceId
    profile: Profile
    at_ms: int
    releases: tuple[Explanation, ...] = field(default_factory=tuple)
