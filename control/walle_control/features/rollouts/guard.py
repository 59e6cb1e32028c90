"""The failure-rate guard: a pure judgement of a release by its votes.

A vote is a report of an installation or a run whose error class speaks about the release (``VOTING_ERRORS``).
Installations and runs are judged each by their own rate: a release that installs everywhere and never runs
well must not hide its failing runs behind good installations, nor the other way round. With fewer votes of a
kind than ``min_reports`` the guard holds; from then on it rolls back when failures make up more than
``max_failure_rate`` of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from walle_shared.errors import ConfigError
from walle_shared.protocol.messages import Stage

#: Stages whose reports vote, in a person's words; a local revert follows a failure that has voted already.
VOTING_STAGES: Final[Mapping[Stage, str]] = {"run": "runs", "install": "installations"}

Decision = Literal["hold", "pass", "rollback"]

_SEVERITY: Final[Mapping[Decision, int]] = {"hold": 0, "pass": 1, "rollback": 2}


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """When to judge a release and how much failure it may show."""

    min_reports: int
    max_failure_rate: float

    def checked(self) -> GuardSettings:
        """These settings, if they make sense.

        Raises:
            ConfigError: naming the one that does not.
        """
        if self.min_reports < 1:
            raise ConfigError("min_reports must be at least 1")
        if not 0 <= self.max_failure_rate < 1:
            raise ConfigError("max_failure_rate must be at least 0 and below 1 (0.05 is 5 %)")
        return self


@dataclass(frozen=True, slots=True)
class Votes:
    """What devices said about one stage of a release."""

    stage: Stage
    attempts: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard makes of the votes, and why, in one sentence; the numbers are those of ``stage``."""

    decision: Decision
    stage: Stage
    attempts: int
    failures: int
    reason: str


def judge(guard: GuardSettings, votes: Sequence[Votes]) -> Verdict:
    """Judge a release: its worst stage speaks for it, the one with most votes among equals."""
    verdicts = [_judge_stage(guard, each) for each in votes] or [_judge_stage(guard, Votes("run"))]
    return max(verdicts, key=lambda verdict: (_SEVERITY[verdict.decision], verdict.attempts))


def _judge_stage(guard: GuardSettings, votes: Votes) -> Verdict:
    stage, attempts, failures = votes.stage, votes.attempts, votes.failures
    words = VOTING_STAGES[stage]
    if attempts < guard.min_reports:
        reason = f"hold: {attempts} of {guard.min_reports} {words} reported"
        return Verdict("hold", stage, attempts, failures, reason)
    # Multiplied out, so that exactly the allowed rate passes whatever the division would round to.
    too_many = failures > guard.max_failure_rate * attempts
    relation = "over" if too_many else "within"
    rate, allowed = f"{failures / attempts:.1%}", f"{guard.max_failure_rate:.1%}"
    reason = f"{failures} of {attempts} {words} failed ({rate}), {relation} {allowed}"
    return Verdict("rollback" if too_many else "pass", stage, attempts, failures, reason)
