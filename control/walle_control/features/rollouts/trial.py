"""One release on trial: what the votes of its two arms say so far.

Devices of the share run the new version (``treatment``), those held back the version before it (``control``).
Devices of a holdout are counted beside them (``holdout``): no rule looks at them, but they stay when the
control arm has ended.
A device counts once: it *starts*, then it has *failed* or not. Both arms start by the same decision at the
same time, so whatever delays, silences or loses devices does so in both, and only the version differs.

Rules, and what each of them observes:

- ``failing_runs``, ``failing_installations``: of the devices that started (tried), how many failed, against
  the rate that is allowed. A failure still to come counts as none yet, which only makes the rule slower.
- ``worse_than_before``: of the failures of both arms, which arm each came from, against the sizes of the arms
  still at risk just before it (a log-rank test: late failures, late starts and devices gone for good do it no
  harm).
- ``silent``: whether a device was heard of by a deadline, against one of the other arm, pair by pair.
- ``slower``, ``larger``: whose first good run took longer, or needed more memory, pair by pair.

A device that has begun to install and says nothing more is *unknown* once the deadline for being heard of has
passed. That is no vote: its network may be gone. But a release does not grow while so many are unknown that
they could hide more failures than are allowed. What a device says later still counts.

The state depends on the votes alone, in their order, so that it can be made again from what is stored.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, assert_never

from walle_control.features.rollouts.guard import PROMOTE_ALPHA, RULES, GuardSettings, Rule, Verdict
from walle_control.features.rollouts.sequential import BETTER, OddsTest, log_e_of_rate
from walle_control.features.rollouts.sketch import QuantileSketch
from walle_shared.ids import DeviceId

Arm = Literal["treatment", "control", "holdout"]
#: ``begin``: an installation has begun. ``excused``: it failed, but through nobody's fault of the release.
VoteKind = Literal["begin", "excused", "start", "good_run", "bad_run", "bad_install"]

#: The quantiles of durations and memory that are shown.
_SHOWN: Final[Mapping[str, float]] = {"median": 0.5, "p95": 0.95}


@dataclass(frozen=True, slots=True)
class Vote:
    """The first of its kind from a device; ``at_ms`` is when it arrived by the server's clock."""

    device_id: DeviceId
    arm: Arm
    kind: VoteKind
    at_ms: int
    duration_ms: float = 0.0
    peak_bytes: int = 0


@dataclass(slots=True)
class _Arm:
    """One arm as it stands."""

    started: dict[DeviceId, int] = field(default_factory=dict)
    at_risk: set[DeviceId] = field(default_factory=set)
    leaving: deque[DeviceId] = field(default_factory=deque)  # in order of their start
    awaited: deque[DeviceId] = field(default_factory=deque)  # not yet past the deadline for being heard of
    heard: set[DeviceId] = field(default_factory=set)
    bad_installs: set[DeviceId] = field(default_factory=set)
    failures: int = 0
    due: int = 0
    silent: int = 0
    durations_ms: QuantileSketch = field(default_factory=QuantileSketch)
    peaks_bytes: QuantileSketch = field(default_factory=QuantileSketch)
    installing: dict[DeviceId, int] = field(default_factory=dict)  # in order of their beginning
    unknown: set[DeviceId] = field(default_factory=set)
    excused: set[DeviceId] = field(default_factory=set)

    def failure_rate(self) -> float:
        return self.failures / len(self.started) if self.started else 0.0

    def silence_rate(self) -> float:
        return self.silent / self.due if self.due else 0.0

    def tried(self) -> int:
        # Not the union: of a million devices it took 80 ms, at every look (2026-11-27).
        return len(self.started) + sum(device_id not in self.started for device_id in self.bad_installs)

    def begin(self, device_id: DeviceId, now_ms: int) -> None:
        if not any(device_id in answered for answered in (self.started, self.bad_installs, self.excused)):
            self.installing.setdefault(device_id, now_ms)

    def answered(self, device_id: DeviceId) -> None:
        self.installing.pop(device_id, None)
        self.unknown.discard(device_id)


class _Pairs:
    """Compares values of the arms pair by pair; a hit is a pair in which the new version's is higher."""

    def __init__(self) -> None:
        self.test = OddsTest()
        self._waiting: Mapping[Arm, deque[float]] = {"treatment": deque(), "control": deque()}

    def add(self, arm: Arm, value: float) -> None:
        self._waiting[arm].append(value)
        if all(self._waiting.values()):
            new, old = (self._waiting[each].popleft() for each in ("treatment", "control"))
            if new != old:
                self.test.observe(int(new > old), int(new < old), 1.0)


class Trial:
    """The votes of one release so far.

    Args:
        guard: the rules' settings.
    """

    def __init__(self, guard: GuardSettings) -> None:
        self.guard = guard
        self._arms: Mapping[Arm, _Arm] = {"treatment": _Arm(), "control": _Arm(), "holdout": _Arm()}
        self._worse = OddsTest()
        self._silence = _Pairs()
        self._duration = _Pairs()
        self._memory = _Pairs()
        self._compared = True
        self._now_ms = 0

    def take(self, vote: Vote) -> None:
        """Count a vote. A device that is not known to have started starts with it."""
        self.advance(vote.at_ms)
        arm = self._arms[vote.arm]
        if vote.kind == "begin":
            arm.begin(vote.device_id, self._now_ms)
            return
        arm.answered(vote.device_id)
        match vote.kind:
            case "excused":
                arm.excused.add(vote.device_id)
            case "bad_install":
                arm.bad_installs.add(vote.device_id)
            case "start":
                self._start(arm, vote.device_id)
            case "good_run":
                self._start(arm, vote.device_id)
                arm.heard.add(vote.device_id)
                self._measure(vote)
            case "bad_run":
                self._start(arm, vote.device_id)
                arm.heard.add(vote.device_id)
                self._fail(vote)
            case _:
                assert_never(vote.kind)

    def advance(self, now_ms: int) -> None:
        """Let time pass, never back: devices leave the horizon, deadlines for being heard of run out."""
        self._now_ms = now_ms = max(now_ms, self._now_ms)
        for name, arm in self._arms.items():
            leave_ms = now_ms - self.guard.horizon_s * 1000
            while arm.leaving and arm.started[arm.leaving[0]] < leave_ms:
                arm.at_risk.discard(arm.leaving.popleft())
            silent_ms = now_ms - self.guard.silence_s * 1000
            while self.guard.silence_s and arm.awaited and arm.started[arm.awaited[0]] <= silent_ms:
                silent = arm.awaited.popleft() not in arm.heard
                arm.due += 1
                arm.silent += silent
                if self._compares(name):
                    self._silence.add(name, float(silent))
            while self.guard.silence_s and arm.installing:
                device_id = next(iter(arm.installing))
                if arm.installing[device_id] > silent_ms:
                    break
                del arm.installing[device_id]
                arm.unknown.add(device_id)

    def stop_comparing(self) -> None:
        """From here on nobody is held back: what comes says nothing about the arms any more."""
        self._compared = False

    def judge(self, min_devices: int = 0) -> Verdict:
        """What the votes allow: the first rule that is broken, or whether there are enough of them."""
        evidence = self.evidence()
        for rule, (decision, _) in RULES.items():
            if self._log_e(rule) >= self._needed(rule) and self._matters(rule):
                return Verdict(decision, rule, self._words(rule), evidence)
        missing = self._missing(min_devices)
        if missing:
            return Verdict("hold", "none", f"hold: {missing}", evidence)
        return Verdict("pass", "none", f"{self._words('failing_runs')}: within what is allowed", evidence)

    def evidence(self) -> dict[str, Any]:
        """The numbers behind a verdict: both arms, and the evidence of each rule beside what it needs."""
        arms = {
            name: {
                "started": len(arm.started), "failed": arm.failures, "failure_rate": arm.failure_rate(),
                "heard": len(arm.heard), "silent": arm.silent, "bad_installations": len(arm.bad_installs),
                "installing": len(arm.installing), "unknown": len(arm.unknown),
                **{f"{name}_ms": arm.durations_ms.quantile(part) for name, part in _SHOWN.items()},
                **{f"{name}_bytes": arm.peaks_bytes.quantile(part) for name, part in _SHOWN.items()},
            }
            for name, arm in self._arms.items()
        }  # fmt: skip
        return {
            "arms": arms,
            "log10_e": {rule: round(self._log_e(rule) / math.log(10), 3) for rule in RULES},
            "log10_needed": {rule: round(self._needed(rule) / math.log(10), 3) for rule in RULES},
        }

    def _compares(self, arm: Arm) -> bool:
        return self._compared and arm != "holdout"

    def _start(self, arm: _Arm, device_id: DeviceId) -> None:
        if device_id in arm.started:
            return
        arm.started[device_id] = self._now_ms
        arm.at_risk.add(device_id)
        arm.leaving.append(device_id)
        arm.awaited.append(device_id)

    def _measure(self, vote: Vote) -> None:
        arm = self._arms[vote.arm]
        arm.durations_ms.add(vote.duration_ms)
        if self._compares(vote.arm):
            self._duration.add(vote.arm, vote.duration_ms)
        if not vote.peak_bytes:  # an agent from before it was told
            return
        arm.peaks_bytes.add(vote.peak_bytes)
        if self._compares(vote.arm):
            self._memory.add(vote.arm, vote.peak_bytes)

    def _fail(self, vote: Vote) -> None:
        arm = self._arms[vote.arm]
        if vote.device_id not in arm.at_risk:
            return  # behind the horizon
        new, old = (len(self._arms[name].at_risk) for name in ("treatment", "control"))
        if self._compares(vote.arm) and new and old:
            is_new = vote.arm == "treatment"
            self._worse.observe(int(is_new), int(not is_new), new / old)
        arm.at_risk.discard(vote.device_id)
        arm.failures += 1

    def _log_e(self, rule: Rule) -> float:
        new, allowed = self._arms["treatment"], self.guard.max_failure_rate
        match rule:
            case "failing_runs":
                return log_e_of_rate(new.failures, len(new.started), allowed)
            case "failing_installations":
                return log_e_of_rate(len(new.bad_installs), new.tried(), allowed)
            case "worse_than_before":
                return self._worse.peak
            case "silent":
                return self._silence.test.peak
            case "slower":
                return self._duration.test.peak
            case "larger":
                return self._memory.test.peak
            case _:
                raise ValueError(f"{rule} is no rule of a trial")

    def _needed(self, rule: Rule) -> float:
        """The log e-value that is enough: one over the rule's part of the error budget."""
        return -math.log(self.guard.alpha * RULES[rule][1])

    def _matters(self, rule: Rule) -> bool:
        """Whether what a rule is sure of is also large enough to act on."""
        new, old = self._arms["treatment"], self._arms["control"]
        match rule:
            case "worse_than_before":
                return new.failure_rate() - old.failure_rate() > self.guard.tolerance
            case "silent":
                return new.silence_rate() - old.silence_rate() > self.guard.tolerance
            case "slower":
                return bool(self.guard.slower) and self._slowdown() > self.guard.slower
            case "larger":
                return bool(self.guard.larger) and self._growth() > self.guard.larger
            case _:
                return True

    def _slowdown(self) -> float:
        return _ratio(self._arms["treatment"].durations_ms, self._arms["control"].durations_ms)

    def _growth(self) -> float:
        return _ratio(self._arms["treatment"].peaks_bytes, self._arms["control"].peaks_bytes)

    def _missing(self, min_devices: int) -> str:
        """What keeps the release from growing; empty if nothing does."""
        new = self._arms["treatment"]
        heard = len(new.heard)
        if heard < max(min_devices, 1):
            return f"{heard} of {max(min_devices, 1)} devices have run it"
        enough = math.log(1 / PROMOTE_ALPHA)
        allowed = self.guard.max_failure_rate
        if log_e_of_rate(new.failures, heard, allowed, BETTER) < enough:
            return f"{new.failures} of {heard} devices failed: too few to be sure of at most {allowed:.1%}"
        if len(new.unknown) > allowed * (new.tried() + len(new.unknown)):
            return f"{len(new.unknown)} devices began to install it and were not heard of since"
        for rule in ("worse_than_before", "silent", "slower", "larger"):
            if self._log_e(rule) >= enough and self._matters(rule):
                return f"{self._words(rule)}: not yet sure"
        return ""

    def _words(self, rule: Rule) -> str:
        new, old = self._arms["treatment"], self._arms["control"]
        failed = f"{new.failures} of {len(new.started)} devices failed ({new.failure_rate():.1%})"
        match rule:
            case "failing_installations":
                return f"{len(new.bad_installs)} of {new.tried()} devices could not install it"
            case "worse_than_before":
                return f"{failed}, before {old.failures} of {len(old.started)} ({old.failure_rate():.1%})"
            case "silent":
                return (
                    f"{new.silent} of {new.due} devices were not heard of ({new.silence_rate():.1%}),"
                    f" before {old.silent} of {old.due} ({old.silence_rate():.1%})"
                )
            case "slower":
                return f"runs take {self._slowdown():.2f} times as long as before"
            case "larger":
                return f"runs need {self._growth():.2f} times as much memory as before"
            case _:
                return failed


def _ratio(new: QuantileSketch, old: QuantileSketch) -> float:
    """The median of one beside that of the other; 1 while either is empty."""
    above, below = new.quantile(0.5), old.quantile(0.5)
    return above / below if above is not None and below is not None else 1.0
