"""Decisions per second of one core with few and with many live releases; how soon a bad release is found."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

import bench_platform_live
from measuring import interleave
from reporting import Row
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting import SHARE_ONE, Holdout, Moment, Policy, Ramp, Release, Snapshot, position
from walle_support.trials import Fleet, run_trial

DEVICES = [DeviceId(f"device-{i:06d}") for i in range(1_000)]
NOW = Moment(1_700_000_000_000)
RAMP = Ramp(0, NOW.now_ms - 3_600_000, NOW.now_ms + 3_600_000)
PROFILE = {"group": "stable", "app_version": "7.10.0", "os": "linux", "memory_mb": 4096}


def run() -> list[Row]:
    """Measure the bare hash and decisions over 1, 10 and 1 000 live releases of as many tasks."""
    contestants = {"one keyed hash": _hash_all}
    contestants |= {f"decision, {n} live releases": _decide_all(n) for n in (1, 10, 1_000)}
    contestants["decision, 1000 live releases, a holdout"] = _decide_all(1_000, holdout=True)
    contestants["decision, 1000 live releases, all on ramps"] = _decide_all(1_000, ramp=RAMP)
    rows = []
    for what, samples in interleave(contestants, turns=7).items():
        low, high = (len(DEVICES) / span for span in reversed(samples.span_s))
        rows.append(Row("platform", what, len(DEVICES) / samples.median_s, "/s", low, high))
    rows += [_detection(part) for part in (0.02, 0.03, 0.05, 0.10)]
    return rows + bench_platform_live.run()


def _detection(bad_rate: float) -> Row:
    """Seconds from the first failure to the verdict, over simulated releases judged at every look."""
    fleet = Fleet(devices=60_000 if bad_rate < 0.03 else 20_000, bad_rate=bad_rate, old_bad_rate=0.01)
    found = [run_trial(fleet, seed) for seed in range(15)]
    missed = sum(each.decision != "rollback" for each in found)
    seconds = sorted(each.seconds - each.first_bad_s for each in found)
    starts = statistics.median(each.starts for each in found)
    note = (
        f"1 000 starts/s in equal arms, first run 1 s later on average; {starts:,.0f} starts, {missed} missed"
    )
    what = f"bad release found, {bad_rate:.0%} fail, 1 % before"
    return Row("platform", what, statistics.median(seconds), "s", seconds[0], seconds[-1], note)


def _hash_all() -> None:
    for device in DEVICES:
        position("salt", device)


def _decide_all(releases: int, *, holdout: bool = False, ramp: Ramp | None = None) -> Callable[[], None]:
    holdouts = (Holdout("h", SHARE_ONE // 50, "h"),) if holdout else ()
    policy = Policy(Snapshot(1, tuple(replace(_release(i), ramp=ramp) for i in range(releases)), holdouts))

    def work() -> None:
        for device in DEVICES:
            policy.decide(device, PROFILE, NOW)

    return work


def _release(number: int) -> Release:
    """The first five releases match the profile; the others name other groups."""
    group = "stable" if number < 5 else f"g{number}"
    return Release(
        id=ReleaseId(f"r{number}"),
        scenario=ScenarioName("bench"),
        task=TaskName(f"t{number}"),
        version=TaskVersion("1.0"),
        manifest=FileRef(Sha256("0" * 64), 1),
        predicate=f'group == "{group}" and app_version >= "7.2"',
        share=SHARE_ONE // 2,
        salt=f"salt-{number}",
        rank=number,
    )
