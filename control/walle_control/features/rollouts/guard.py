"""What a release may do wrong before it is taken back: settings, verdicts, and the plan by which it grows.

The rules share one error budget ``alpha``: however long and however often one looks, a release that is no
worse than the version before it, and fails within ``max_failure_rate``, is taken back with a probability of
at most ``alpha``, all rules together (``sequential.py`` says why looking is free). Not enough data means
*hold*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from walle_shared.errors import ConfigError
from walle_shared.protocol.messages import Stage
from walle_shared.targeting import SHARE_ONE
from walle_shared.units import DAY_S

#: Stages whose reports vote, in a person's words; a local revert follows a failure that has voted already.
VOTING_STAGES: Final[Mapping[Stage, str]] = {"run": "runs", "install": "installations"}

Decision = Literal["hold", "pass", "pause", "rollback"]

Rule = Literal[
    "failing_runs",
    "failing_installations",
    "worse_than_before",
    "silent",
    "slower",
    "larger",
    "threshold",
    "none",
]

#: Each rule of a trial: what it does, and its part of the error budget; the parts sum to 1. Comparing with
#: the version before finds most, so it gets most. (``threshold`` is an operator's own rule, outside of it.)
RULES: Final[Mapping[Rule, tuple[Decision, float]]] = {
    "failing_runs": ("rollback", 1 / 8),
    "failing_installations": ("rollback", 1 / 8),
    "worse_than_before": ("rollback", 1 / 2),
    "silent": ("rollback", 1 / 8),
    "slower": ("pause", 1 / 16),
    "larger": ("pause", 1 / 16),
}

#: With this risk a release may grow although it fails more often than it may.
PROMOTE_ALPHA: Final = 0.05

RAMP_MAX_S: Final = 366 * DAY_S


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """How much failure a release may show, and how sure the guard must be.

    Args:
        max_failure_rate: the part of the devices that may fail, at the most.
        alpha: the probability of taking back a release that is fine, for all rules together.
        tolerance: a failure rate is not called worse than before unless it is higher by this much.
        horizon_s: a device's failures count within so many seconds of its start.
        silence_s: a device that has not been heard of for so long after its start counts as silent, and one
            that says nothing for so long of an installation it began as unknown; 0: never.
        slower: runs are called slower if their median takes this many times as long as before; 0: never.
        larger: runs are called larger if their median needs this many times as much memory; 0: never.
        min_reports: an operator's rule for a handful of devices: with so many reports (not devices) of a
            kind, roll back as soon as more than ``max_failure_rate`` of them failed; 0 turns it off. It gives
            no guarantee.
    """

    max_failure_rate: float = 0.05
    alpha: float = 1e-5
    tolerance: float = 0.005
    horizon_s: float = DAY_S
    silence_s: float = DAY_S
    slower: float = 1.5
    larger: float = 1.5
    min_reports: int = 0

    def checked(self) -> GuardSettings:
        """These settings, if they make sense.

        Raises:
            ConfigError: naming the one that does not.
        """
        rules = (
            (0 < self.max_failure_rate < 1, "max_failure_rate must be above 0 and below 1 (0.05 is 5 %)"),
            (0 < self.alpha <= 0.1, "alpha must be above 0 and at most 0.1"),
            (0 <= self.tolerance < 1, "tolerance must be at least 0 and below 1"),
            (self.horizon_s > 0, "horizon_s must be over 0"),
            (self.silence_s >= 0, "silence_s must not be negative"),
            (self.slower == 0 or self.slower > 1, "slower must be over 1, or 0 to turn it off"),
            (self.larger == 0 or self.larger > 1, "larger must be over 1, or 0 to turn it off"),
            (self.min_reports >= 0, "min_reports must not be negative"),
        )
        for holds, rule in rules:
            if not holds:
                raise ConfigError(rule)
        return self


@dataclass(frozen=True, slots=True)
class RolloutStage:
    """A step of a rollout: the share it reaches, and what it takes to go on to the next.

    Args:
        share: parts per billion.
        hold_s: how long it lasts at least.
        min_devices: how many voting devices must have run the release.
        ramp_s: in so many seconds it grows to ``share`` from that of the stage before; 0: at once.
    """

    share: int
    hold_s: float = 0.0
    min_devices: int = 100
    ramp_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """How a release grows. ``control`` (parts per billion) is held back in all stages but the last."""

    stages: tuple[RolloutStage, ...] = (RolloutStage(SHARE_ONE),)
    control: int = 0
    voters: int = SHARE_ONE

    def checked(self) -> RolloutPlan:
        """This plan, if it makes sense.

        Raises:
            ConfigError: saying what does not.
        """
        shares = [stage.share for stage in self.stages]
        rules = (
            (1 <= len(shares) <= 32, "a rollout has 1 to 32 stages"),
            (shares == sorted(set(shares)), "each stage must reach more devices than the one before it"),
            (0 <= self.control < SHARE_ONE, "the control arm must be at least 0 and below 100 percent"),
            (not self.control or len(shares) > 1, "a control arm needs a stage before the last one"),
            (0 < self.voters <= SHARE_ONE, "the voters must be over 0 and at most 100 percent"),
            (all(stage.hold_s >= 0 for stage in self.stages), "hold_s must not be negative"),
            (
                all(0 <= stage.ramp_s <= RAMP_MAX_S for stage in self.stages),
                f"ramp_s must be 0 to {RAMP_MAX_S:g}",
            ),
            (all(stage.min_devices >= 0 for stage in self.stages), "min_devices must not be negative"),
        )
        for holds, rule in rules:
            if not holds:
                raise ConfigError(rule)
        return self

    def share_before(self, stage: int) -> int:
        """The share that a stage grows from."""
        return self.stages[stage - 1].share if stage else 0

    def control_at(self, stage: int) -> int:
        """The control arm in a stage: none in the last, which is for everybody."""
        return self.control if stage < len(self.stages) - 1 else 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard makes of a release, by which rule, in one sentence, with the numbers behind it."""

    decision: Decision
    rule: Rule
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Votes:
    """Reports of one stage of a release."""

    stage: Stage
    attempts: int = 0
    failures: int = 0


def judge_threshold(guard: GuardSettings, votes: Sequence[Votes]) -> Verdict | None:
    """The operator's own rule, if it is on and a stage breaks it; each stage is judged by its own rate."""
    for each in votes if guard.min_reports else ():
        # Multiplied out, so that exactly the allowed rate passes whatever the division would round to.
        if each.attempts >= guard.min_reports and each.failures > guard.max_failure_rate * each.attempts:
            rate, allowed = f"{each.failures / each.attempts:.1%}", f"{guard.max_failure_rate:.1%}"
            what = f"{each.failures} of {each.attempts} {VOTING_STAGES[each.stage]}"
            reason = f"{what} failed ({rate}), over {allowed}"
            evidence = {
                "stage": each.stage, "attempts": each.attempts, "failures": each.failures,
                "failure_rate": each.failures / each.attempts, "min_reports": guard.min_reports,
                "max_failure_rate": guard.max_failure_rate,
            }  # fmt: skip
            return Verdict("rollback", "threshold", reason, evidence)
    return None
