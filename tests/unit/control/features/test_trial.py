"""A trial of a release: what each rule sees, and what must not disturb it."""

from __future__ import annotations

import pytest

from walle_control.features.rollouts.guard import RULES, GuardSettings
from walle_control.features.rollouts.trial import Trial, Vote
from walle_support.trials import Fleet, run_trial

GUARD = GuardSettings(max_failure_rate=0.9)
HOUR_MS = 3_600_000


def trial_of(guard, taken):
    trial = Trial(guard)
    for vote in taken:
        trial.take(vote)
    return trial


def votes(arm, kind, count, *, at_ms=0, prefix="", **more):
    return [Vote(f"{prefix}{arm}{n}", arm, kind, at_ms, **more) for n in range(count)]


def both(kind, count, **more):
    pairs = zip(votes("treatment", kind, count, **more), votes("control", kind, count, **more), strict=True)
    return [vote for pair in pairs for vote in pair]


def test_nothing_yet_is_no_reason_for_anything():
    verdict = Trial(GUARD).judge()
    assert (verdict.decision, verdict.reason) == ("hold", "hold: 0 of 1 devices have run it")


def test_failures_of_the_new_version_only_take_it_back():
    trial = trial_of(GUARD, [*both("start", 50), *votes("treatment", "bad_run", 30)])
    verdict = trial.judge()
    assert (verdict.decision, verdict.rule) == ("rollback", "worse_than_before")
    assert verdict.reason == "30 of 50 devices failed (60.0%), before 0 of 50 (0.0%)"


def test_failures_of_both_arms_do_not():
    trial = trial_of(GUARD, [*both("start", 200), *both("bad_run", 120)])
    assert trial.judge().decision == "hold"
    assert trial.evidence()["arms"]["control"]["failed"] == 120


def test_without_a_control_arm_the_limit_decides():
    strict = GuardSettings(max_failure_rate=0.05)
    assert trial_of(strict, votes("treatment", "bad_run", 5)).judge().decision == "hold"
    assert trial_of(strict, votes("treatment", "bad_run", 6)).judge().rule == "failing_runs"


def test_installations_that_fail_count_by_themselves():
    good = [*votes("treatment", "start", 30, prefix="x"), *votes("treatment", "good_run", 30, prefix="x")]
    verdict = trial_of(GuardSettings(), [*good, *votes("treatment", "bad_install", 14)]).judge()
    assert (verdict.decision, verdict.rule) == ("rollback", "failing_installations")
    assert verdict.reason == "14 of 44 devices could not install it"


def test_a_device_counts_once_and_not_behind_its_horizon():
    trial = Trial(GuardSettings(horizon_s=3_600))
    for at_ms in (0, 1, 2):
        trial.take(Vote("d1", "treatment", "bad_run", at_ms))
    trial.take(Vote("d2", "treatment", "start", 3))
    trial.take(Vote("d2", "treatment", "bad_run", 2 * HOUR_MS))
    assert trial.evidence()["arms"]["treatment"]["failed"] == 1


@pytest.mark.parametrize(("silence_s", "rule"), [(3_600, "silent"), (0, "none")])
def test_devices_that_fall_silent_speak_against_the_new_version(silence_s, rule):
    trial = trial_of(GuardSettings(silence_s=silence_s), both("start", 60))
    for vote in votes("control", "good_run", 60, at_ms=60_000):
        trial.take(vote)
    trial.advance(2 * HOUR_MS)
    assert trial.judge().rule == rule


def test_silence_on_both_sides_does_not():
    trial = trial_of(GuardSettings(silence_s=3_600), both("start", 400))
    trial.advance(2 * HOUR_MS)
    assert trial.judge().decision == "hold"


def test_a_slower_version_is_paused():
    trial = trial_of(GUARD, both("start", 60))
    for n in range(60):
        trial.take(Vote(f"treatment{n}", "treatment", "good_run", 1, duration_ms=40 + n % 5))
        trial.take(Vote(f"control{n}", "control", "good_run", 1, duration_ms=20 + n % 5))
    verdict = trial.judge()
    assert (verdict.decision, verdict.rule) == ("pause", "slower")


def test_a_version_that_needs_more_memory_is_paused():
    trial = trial_of(GUARD, both("start", 60))
    for n in range(60):
        trial.take(Vote(f"treatment{n}", "treatment", "good_run", 1, 5.0, peak_bytes=8_000_000 + n))
        trial.take(Vote(f"control{n}", "control", "good_run", 1, 5.0, peak_bytes=2_000_000 + n))
    verdict = trial.judge()
    assert (verdict.decision, verdict.rule) == ("pause", "larger")
    assert verdict.reason.startswith("runs need ")
    assert verdict.evidence["arms"]["control"]["median_bytes"] == pytest.approx(2_000_000, rel=0.01)


def test_a_little_more_memory_is_nobodys_business():
    trial = trial_of(GUARD, both("start", 200))
    for n in range(200):
        trial.take(Vote(f"treatment{n}", "treatment", "good_run", 1, 5.0, peak_bytes=2_200_000))
        trial.take(Vote(f"control{n}", "control", "good_run", 1, 5.0, peak_bytes=2_000_000))
    assert trial.judge().decision == "pass"


def test_installations_that_nothing_is_heard_of_become_unknown_and_keep_the_release_from_growing():
    trial = trial_of(GuardSettings(silence_s=3_600), votes("treatment", "begin", 20, prefix="lost"))
    for vote in [*both("start", 100, at_ms=1), *both("good_run", 100, at_ms=2, duration_ms=5.0)]:
        trial.take(vote)
    assert trial.judge(100).decision == "pass"  # they may yet answer
    trial.advance(2 * HOUR_MS)
    arm = trial.evidence()["arms"]["treatment"]
    assert (arm["installing"], arm["unknown"]) == (0, 20)
    verdict = trial.judge(100)
    assert (verdict.decision, verdict.reason) == (
        "hold", "hold: 20 devices began to install it and were not heard of since"
    )  # fmt: skip
    for vote in votes("treatment", "start", 20, at_ms=3 * HOUR_MS, prefix="lost"):
        trial.take(vote)  # late, but there
    assert trial.evidence()["arms"]["treatment"]["unknown"] == 0
    assert trial.judge(100).decision == "pass"


@pytest.mark.parametrize("answer", ["excused", "bad_install", "start", "bad_run"])
def test_any_answer_ends_an_installation(answer):
    trial = trial_of(GuardSettings(silence_s=3_600), votes("treatment", "begin", 1))
    trial.take(Vote("treatment0", "treatment", answer, 5))
    trial.take(Vote("treatment0", "treatment", "begin", 6))  # a report that was overtaken
    trial.advance(2 * HOUR_MS)
    arm = trial.evidence()["arms"]["treatment"]
    assert (arm["installing"], arm["unknown"]) == (0, 0)


def test_networks_that_fail_say_nothing_of_the_release():
    trial = trial_of(
        GuardSettings(), [*votes("treatment", "begin", 500), *votes("treatment", "excused", 500)]
    )
    trial.advance(48 * HOUR_MS)
    assert trial.judge().reason == "hold: 0 of 1 devices have run it"


def test_the_parts_of_the_error_budget_are_the_whole():
    assert sum(part for _, part in RULES.values()) == 1


def test_time_never_runs_back():
    trial = Trial(GuardSettings(horizon_s=10))
    trial.advance(100_000)
    trial.take(Vote("d", "treatment", "start", 0))
    trial.take(Vote("d", "treatment", "bad_run", 5))
    assert trial.evidence()["arms"]["treatment"]["failed"] == 1


def test_a_good_release_passes_once_enough_devices_have_run_it():
    trial = trial_of(GuardSettings(), [*both("start", 100), *both("good_run", 100, duration_ms=5.0)])
    assert trial.judge(100).decision == "pass"
    assert trial.judge(101).reason == "hold: 100 of 101 devices have run it"


@pytest.mark.parametrize("seed", range(6))
def test_clean_releases_with_churn_delays_and_silence_are_never_taken_back(seed):
    fleet = Fleet(devices=600, bad_rate=0.02, old_bad_rate=0.02, silence=0.2, late=0.3, lost=0.1, offline=0.1)
    result = run_trial(fleet, seed)
    assert result.decision not in ("rollback", "pause")


@pytest.mark.slow_session
def test_ten_thousand_clean_releases_are_never_taken_back():
    """Late reports, silence, devices that fail early, unequal arms; every rule, looked at all the time."""
    fleets = [
        Fleet(devices=900, bad_rate=0.01, old_bad_rate=0.01),
        Fleet(devices=900, bad_rate=0.03, old_bad_rate=0.03, late=0.5),
        Fleet(devices=900, bad_rate=0.02, old_bad_rate=0.02, silence=0.3),
        Fleet(devices=900, bad_rate=0.02, old_bad_rate=0.02, skew=4.0, control=0.1),
        Fleet(devices=900, bad_rate=0.0, old_bad_rate=0.0, silence=0.1, late=0.2, control=0.3),
        Fleet(devices=900, bad_rate=0.02, old_bad_rate=0.02, lost=0.1, offline=0.2, late=0.3),
        Fleet(devices=900, bad_rate=0.02, old_bad_rate=0.02, lost=0.3, silence=0.3, skew=6.0, control=0.7),
    ]
    outcomes = [run_trial(fleets[seed % len(fleets)], seed, tick_s=0.1) for seed in range(10_000)]
    assert [o for o in outcomes if o.decision in ("rollback", "pause")] == []


@pytest.mark.parametrize("seed", range(3))
def test_a_release_that_fails_on_a_tenth_is_found_soon(seed):
    result = run_trial(Fleet(devices=4_000, bad_rate=0.10, old_bad_rate=0.01), seed)
    assert (result.decision, result.rule) == ("rollback", "worse_than_before")
    assert result.failures < 90
