"""Decisions per second of one core: the policy asked by devices, with few and with many live releases."""

from __future__ import annotations

from collections.abc import Callable

from measuring import interleave
from reporting import Row
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting import SHARE_ONE, Policy, Release, Snapshot, position

DEVICES = [DeviceId(f"device-{i:06d}") for i in range(1_000)]
PROFILE = {"group": "stable", "app_version": "7.10.0", "os": "linux", "memory_mb": 4096}


def run() -> list[Row]:
    """Measure the bare hash and decisions over 1, 10 and 1 000 live releases of as many tasks."""
    contestants = {"one keyed hash": _hash_all}
    contestants |= {f"decision, {n} live releases": _decide_all(n) for n in (1, 10, 1_000)}
    rows = []
    for what, samples in interleave(contestants, turns=7).items():
        low, high = (len(DEVICES) / span for span in reversed(samples.span_s))
        rows.append(Row("platform", what, len(DEVICES) / samples.median_s, "/s", low, high))
    return rows


def _hash_all() -> None:
    for device in DEVICES:
        position("salt", device)


def _decide_all(releases: int) -> Callable[[], None]:
    policy = Policy(Snapshot(1, tuple(_release(i) for i in range(releases))))

    def work() -> None:
        for device in DEVICES:
            policy.decide(device, PROFILE)

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
