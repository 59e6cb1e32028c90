"""The failure-rate guard: a pure judgement of a release by its votes.

A vote is a report of an installation or a run whose error class speaks about the release
(``VOTING_ERRORS``): an attempt. With fewer attempts than ``min_reports`` the guard holds; from then on it
rolls back when failures make up more than ``max_failure_rate`` of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from walle_shared.errors import ConfigError
from walle_shared.protocol.messages import Stage

#: Reports of these stages vote; a local revert is the consequence of a failure that has voted already.
VOTING_STAGES: frozenset[Stage] = frozenset({"install", "run"})


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
    """What devices said about a release."""

    attempts: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard makes of the votes, and why, in one sentence."""

    decision: Literal["hold", "pass", "rollback"]
    attempts: int
    failures: int
    reason: str


def judge(guard: GuardSettings, votes: Votes) -> Verdict:
    """Judge a release."""
    attempts, failures = votes.attempts, votes.failures
    if attempts < guard.min_reports:
        return Verdict("hold", attempts, failures, f"hold: {attempts} of {guard.min_reports} reports")
    # Multiplied out, so that exactly the allowed rate passes whatever the division would round to.
    too_many = failures > guard.max_failure_rate * attempts
    relation = "over" if too_many else "within"
    rate, allowed = f"{failures / attempts:.1%}", f"{guard.max_failure_rate:.1%}"
    reason = f"{failures} of {attempts} attempts failed ({rate}), {relation} {allowed}"
    return Verdict("rollback" if too_many else "pass", attempts, failures, reason)
