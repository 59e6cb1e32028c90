"""What happened in a simulated fleet: counts, times, and the curve of a version's coverage."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

#: Version of a task on devices: "SCENARIO/TASK VERSION".
VersionName = str


@dataclass
class Tally:
    """Filled by the devices.

    Args:
        now: seconds since the simulation began.
    """

    now: Callable[[], float]
    enrolled: int = 0
    online: int = 0
    streams: int = 0
    reports: int = 0
    blob_bytes: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    running: Counter[VersionName] = field(default_factory=Counter)
    activations: defaultdict[VersionName, list[float]] = field(default_factory=lambda: defaultdict(list))
    epochs: dict[int, float] = field(default_factory=dict)
    told_s: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._changed = trio.Event()

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of these figures."""
        while not holds():
            self._changed = trio.Event()
            await self._changed.wait()

    def heard_of(self, epoch: int) -> None:
        """A device has learned of an epoch; the first of all starts the clock of it."""
        now = self.now()
        self.epochs.setdefault(epoch, now)
        self.told_s[epoch].append(now - self.epochs[epoch])
        self._changed.set()

    def activated(self, before: VersionName | None, after: VersionName | None) -> None:
        """A device runs another version of a task, or begins or stops to run one."""
        if before == after:  # the same version under another release
            return
        if before is not None:
            self.running[before] -= 1
        if after is not None:
            self.running[after] += 1
            self.activations[after].append(self.now())
        self._changed.set()

    def coverage(self, version: VersionName, devices: int, points: int = 200) -> list[tuple[float, float]]:
        """The part of the devices that have run a version, over the seconds since its first."""
        times = sorted(self.activations[version])
        return curve(times, times[0] if times else 0.0, devices, points)

    def summary(self, devices: int, requests: Counter[str], received_bytes: int) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "devices": devices,
            "enrolled": self.enrolled,
            "seconds": self.now(),
            "requests": dict(sorted(requests.items())),
            "received_bytes": received_bytes,
            "blob_bytes": self.blob_bytes,
            "reports": self.reports,
            "errors": dict(sorted(self.errors.items())),
            "running": {name: count for name, count in sorted(self.running.items()) if count},
            "epochs": {str(n): _spread(self.told_s[n]) for n in sorted(self.epochs)},
            "versions": {
                name: _spread([at - min(times) for at in times])
                for name, times in sorted(self.activations.items())
            },
        }


def curve(times: Sequence[float], start: float, devices: int, points: int = 200) -> list[tuple[float, float]]:
    """The part of ``devices`` whose (sorted) time has come, at evenly spaced times after ``start``."""
    if not times:
        return []
    end = times[-1] - start
    grid = [end * step / points for step in range(points + 1)]
    return [(at, bisect_right(times, start + at) / devices) for at in grid]


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    parts = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    found = {name: ordered[min(int(part * len(ordered)), len(ordered) - 1)] for name, part in parts.items()}
    return {"devices": len(ordered), **found, "last": ordered[-1]}
