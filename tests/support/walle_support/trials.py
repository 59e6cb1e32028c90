"""Releases in simulation: devices start, fail, fall silent or report late, and the real guard watches."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

from walle_control.features.rollouts.guard import Decision, GuardSettings, Rule, Verdict
from walle_control.features.rollouts.trial import Arm, Trial, Vote, VoteKind
from walle_shared.ids import DeviceId


@dataclass(frozen=True)
class Fleet:
    """What the devices of both arms do; rates are parts of the devices, times in seconds.

    Args:
        devices: voters of both arms together.
        bad_rate: of those with the new version, that fail at some time within the horizon.
        old_bad_rate: the same for the version before it.
        control: the part that is held back.
        starts_per_s: how fast they come.
        silence: never heard of after the start, in both arms.
        late: report only hours later, in both arms.
        skew: devices that come early fail so many times as often (in both arms).
        lost: begin to install the new version and are never heard of again.
        offline: cannot install the new version because their network fails.
    """

    devices: int = 2_000
    bad_rate: float = 0.01
    old_bad_rate: float = 0.01
    control: float = 0.5
    starts_per_s: float = 1_000.0
    silence: float = 0.0
    late: float = 0.0
    skew: float = 1.0
    lost: float = 0.0
    offline: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, after how many starts and failures; when the new version first failed."""

    decision: Decision
    rule: Rule
    seconds: float
    first_bad_s: float
    starts: int
    failures: int


def run_trial(fleet: Fleet, seed: int, guard: GuardSettings | None = None, tick_s: float = 0.05) -> Outcome:
    """Play a release to its end, judged every ``tick_s`` seconds; what the guard did, and when."""
    trial = Trial(guard or GuardSettings(max_failure_rate=0.2))
    events = _events(fleet, random.Random(seed))
    starts = failures = 0
    first_bad_s = 0.0
    next_look_ms = 0.0
    at_ms = 0

    def ended(verdict: Verdict) -> Outcome:
        return Outcome(verdict.decision, verdict.rule, at_ms / 1e3, first_bad_s, starts, failures)

    while events:
        at_ms, _, vote = heapq.heappop(events)
        if at_ms >= next_look_ms:
            trial.advance(at_ms)
            verdict = trial.judge()
            if verdict.decision in ("rollback", "pause"):
                return ended(verdict)
            next_look_ms = at_ms + tick_s * 1000
        trial.take(vote)
        starts += vote.kind == "start"
        failures += vote.kind == "bad_run"
        if vote.kind == "bad_run" and vote.arm == "treatment":
            first_bad_s = first_bad_s or at_ms / 1e3
    trial.advance(at_ms + 2 * 86_400_000)
    return ended(trial.judge())


def _events(fleet: Fleet, dice: random.Random) -> list[tuple[int, int, Vote]]:
    events: list[tuple[int, int, Vote]] = []

    def add(
        at_s: float, device: int, arm: Arm, kind: VoteKind, duration_ms: float = 0.0, peak_bytes: int = 0
    ) -> None:
        at_ms = round(at_s * 1000)
        vote = Vote(DeviceId(f"d{device}"), arm, kind, at_ms, duration_ms, peak_bytes)
        events.append((at_ms, len(events), vote))

    at_s = 0.0
    for device in range(fleet.devices):
        at_s += dice.expovariate(fleet.starts_per_s)
        arm: Arm = "control" if dice.random() < fleet.control else "treatment"
        if arm == "treatment":
            add(at_s, device, arm, "begin")
            if dice.random() < fleet.lost:
                continue
            if dice.random() < fleet.offline:
                add(at_s + dice.expovariate(0.1), device, arm, "excused")
                continue
        add(at_s, device, arm, "start")
        if dice.random() < fleet.silence:
            continue
        heard_s = at_s + (
            dice.expovariate(1 / 7_200) if dice.random() < fleet.late else dice.expovariate(1.0)
        )
        rate = fleet.old_bad_rate if arm == "control" else fleet.bad_rate
        early = device < fleet.devices // 4
        if dice.random() < min(1.0, rate * (fleet.skew if early else 1.0)):
            add(heard_s, device, arm, "bad_run")
        else:
            peak_bytes = round(dice.lognormvariate(14, 0.5))
            add(heard_s, device, arm, "good_run", dice.lognormvariate(2, 0.5), peak_bytes)
    heapq.heapify(events)
    return events
