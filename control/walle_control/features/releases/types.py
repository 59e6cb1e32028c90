"""Types of the releases feature, and the table of a release's states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

from walle_control.features.rollouts.guard import GuardSettings, RolloutPlan, RolloutStage, Verdict
from walle_control.features.telemetry.types import ReportCount
from walle_shared.errors import ConfigError, Conflict
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, TaskName, TaskVersion
from walle_shared.targeting import SHARE_ONE, Explanation, Profile

ReleaseState = Literal["live", "paused", "stopped", "rolled_back"]
ReleaseAction = Literal["promote", "pause", "stop", "resume", "rollback"]

#: state, action -> next state; what is not listed is refused. Live and paused releases are in the snapshot: a
#: paused one keeps its devices and grows no further.
TRANSITIONS: Final[Mapping[tuple[ReleaseState, ReleaseAction], ReleaseState]] = {
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

#: The control arm of a rollout in stages, unless the operator says otherwise: arms of equal size tell most.
CONTROL_PERCENT: Final = 50


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


def share_of(percent: str | float) -> int:
    """A percentage as parts per billion, exactly.

    Raises:
        ConfigError: not a decimal number from 0 to 100 with at most 7 digits after the point.
    """
    try:
        share = Decimal(str(percent)) * (SHARE_ONE // 100)
    except InvalidOperation:
        share = Decimal("NaN")
    if not share.is_finite() or not 0 <= share <= SHARE_ONE or share != share.to_integral_value():
        raise ConfigError(
            f"percent {str(percent)[:40]!r} must be a number from 0 to 100, in steps of 0.0000001"
        )
    return int(share)


def percent_of(share: int) -> str:
    """Parts per billion as a percentage in plain decimals."""
    return f"{(Decimal(share) / (SHARE_ONE // 100)).normalize():f}"


@dataclass(frozen=True, slots=True)
class StageWish:
    """One stage of a rollout (``guard.RolloutStage``), with its share as a percentage."""

    percent: str | int | float
    hold_s: float = 0.0
    min_devices: int = 100


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
class CreateRelease:
    """An operator's wish: ``percent`` at once, or in ``stages``.

    ``control_percent`` of the devices of each stage but the last are held back and compared with;
    ``voters_percent`` of both arms tell every outcome.
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
            tuple(RolloutStage(share_of(s.percent), s.hold_s, s.min_devices) for s in stages),
            share_of(control),
            share_of(self.voters_percent),
        ).checked()


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A release as stored. A higher ``rank`` is newer; it came to ``stage`` of its plan at ``staged_ms``."""

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

    @property
    def share(self) -> int:
        """The share of its present stage, in parts per billion."""
        return self.plan.stages[self.stage].share

    @property
    def has_next_stage(self) -> bool:
        """Whether it can still grow."""
        return self.stage < len(self.plan.stages) - 1

    def may_grow(self, now_ms: int) -> bool:
        """Whether there is a next stage, and the present one has lasted long enough."""
        return self.has_next_stage and now_ms - self.staged_ms >= self.plan.stages[self.stage].hold_s * 1000


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


@dataclass(frozen=True, slots=True)
class ReleaseList:
    """All releases, newest first."""

    releases: tuple[ReleaseSummary, ...]


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """Why an operator acts."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """Which device; ``profile`` replaces what it enrolled with."""

    device_id: DeviceId
    profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class ExplainResponse:
    """Every live release with its verdict for one device."""

    epoch: int
    device_id: DeviceId
    profile: Profile
    releases: tuple[Explanation, ...] = field(default_factory=tuple)
