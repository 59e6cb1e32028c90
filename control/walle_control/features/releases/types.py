"""Types of the releases feature, and the table of a release's states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

from walle_control.features.rollouts.guard import GuardSettings, Verdict
from walle_control.features.telemetry.types import ReportCount
from walle_shared.errors import ConfigError, Conflict
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, TaskName, TaskVersion
from walle_shared.targeting import SHARE_ONE, Explanation, Profile

ReleaseState = Literal["live", "stopped", "rolled_back"]
ReleaseAction = Literal["stop", "resume", "rollback"]

#: state, action -> next state; what is not listed is refused. Only live releases are in the snapshot.
TRANSITIONS: Final[Mapping[tuple[ReleaseState, ReleaseAction], ReleaseState]] = {
    ("live", "stop"): "stopped",
    ("live", "rollback"): "rolled_back",
    ("stopped", "resume"): "live",
    ("stopped", "rollback"): "rolled_back",
}

ACTIONS: Final[tuple[ReleaseAction, ...]] = ("stop", "resume", "rollback")


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
class CreateRelease:
    """An operator's wish; guard settings left out are the server's defaults."""

    scenario: str
    task: str
    version: str
    predicate: str = ""
    percent: str | int | float = "100"
    min_reports: int | None = None
    max_failure_rate: float | None = None


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A release as stored. ``share`` in parts per billion; a higher ``rank`` is newer."""

    id: ReleaseId
    rank: int
    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    predicate: str
    share: int
    salt: str
    guard: GuardSettings
    state: ReleaseState
    created_ms: int


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
