"""What a simulated fleet is made of and how it behaves: one TOML file, every value with a default.

[[groups]]                       # who they are
weight = 0.9
profile = { group = "stable", os = "linux" }

[[networks]]                     # how they are connected
name = "wifi"
weight = 0.7
rtt_ms = 30
bytes_per_s = 3e6

[[versions]]                     # how a version does on them; the first that fits
task = "demo/digit_reader"
version = "1.1.0"
run_failure = 0.05
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Protocol

from walle_shared.errors import ConfigError
from walle_shared.settings import parse_checked
from walle_shared.targeting import Profile


@dataclass(frozen=True, slots=True)
class Group:
    """Devices with the same attributes. ``weight`` is their part of the fleet, beside the others'."""

    weight: float = 1.0
    profile: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Network:
    """How a part of the devices is connected. ``failure``: the part of the downloads that break off."""

    name: str = "fast"
    weight: float = 1.0
    rtt_ms: float = 0.0
    bytes_per_s: float = 0.0  # 0: as fast as the server
    failure: float = 0.0


@dataclass(frozen=True, slots=True)
class Version:
    """How a task version does; rates are parts of the devices.

    ``silent`` devices never say how it went; runs come ``run_after_s`` after the activation on average and
    take ``run_ms`` in the middle (log-normal, with ``run_spread``).
    """

    task: str = ""  # SCENARIO/TASK; empty: any
    version: str = ""  # empty: any
    install_failure: float = 0.0
    run_failure: float = 0.0
    silent: float = 0.0
    run_after_s: float = 1.0
    run_ms: float = 20.0
    run_spread: float = 0.3
    peak_bytes: int = 4_000_000

    def fits(self, task: str, version: str) -> bool:
        """Whether this describes such a version."""
        return self.task in ("", task) and self.version in ("", version)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet.

    Attributes:
        devices: how many.
        seed: of everything that is drawn.
        enrol_per_s: how fast they come.
        streaming: the part that holds a push stream; all others poll, as those do too.
        poll_s: mean time between two asks for the epoch.
        business_s: mean time between two requests of the app's own business, whose answers name the newest
            epoch; 0: there are none.
        online_s: mean time until a device goes away; 0: it stays.
        offline_s: mean time until it is back.
        connections: kept open and shared by all devices, besides one for each push stream.
    """

    devices: int = 1_000
    seed: int = 0
    enrol_per_s: float = 1_000.0
    streaming: float = 1.0
    poll_s: float = 300.0
    business_s: float = 0.0
    online_s: float = 0.0
    offline_s: float = 60.0
    connections: int = 32
    groups: tuple[Group, ...] = (Group(),)
    networks: tuple[Network, ...] = (Network(),)
    versions: tuple[Version, ...] = ()

    def behaviour(self, task: str, version: str) -> Version:
        """How a version does: the first that fits."""
        return next((each for each in self.versions if each.fits(task, version)), _PLAIN)


_PLAIN = Version()


class Weighted(Protocol):
    """Has a part of the fleet, beside the others'."""

    @property
    def weight(self) -> float:
        """That part."""
        ...


def draw[T: Weighted](choices: Sequence[T], dice: Random) -> T:
    """One of them, by weight."""
    sums = list(accumulate(choice.weight for choice in choices))
    return choices[min(bisect(sums, dice.random() * sums[-1]), len(choices) - 1)]


def profile_of(group: Group) -> Profile:
    """The attributes a device of this group enrols with."""
    return dict(group.profile)


def parse_scenario(text: str, where: str) -> Scenario:
    """Read a scenario.

    Raises:
        ConfigError: naming the file and the key.
    """
    return parse_checked(Scenario, text, where, check_scenario)


def check_scenario(scenario: Scenario) -> None:
    """Check that a scenario makes sense.

    Raises:
        ConfigError: naming the key that does not.
    """
    rules = [
        ("devices", scenario.devices >= 1, "must be at least 1"),
        ("enrol_per_s", scenario.enrol_per_s > 0, "must be over 0"),
        ("streaming", 0 <= scenario.streaming <= 1, "must be 0 to 1"),
        ("poll_s", scenario.poll_s > 0, "must be over 0"),
        ("business_s", scenario.business_s >= 0, "must not be negative"),
        ("online_s", scenario.online_s >= 0, "must not be negative"),
        ("offline_s", scenario.offline_s > 0, "must be over 0"),
        ("connections", scenario.connections >= 1, "must be at least 1"),
        ("groups", bool(scenario.groups), "must not be empty"),
        ("networks", bool(scenario.networks), "must not be empty"),
    ]
    weighted: dict[str, Sequence[Weighted]] = {"groups": scenario.groups, "networks": scenario.networks}
    for name, choices in weighted.items():
        rules += [(f"{name}[{n}].weight", c.weight > 0, "must be over 0") for n, c in enumerate(choices)]
    for n, network in enumerate(scenario.networks):
        rules += [
            (f"networks[{n}].rtt_ms", network.rtt_ms >= 0, "must not be negative"),
            (f"networks[{n}].bytes_per_s", network.bytes_per_s >= 0, "must not be negative"),
            (f"networks[{n}].failure", 0 <= network.failure < 1, "must be at least 0 and below 1"),
        ]
    for n, version in enumerate(scenario.versions):
        rates = ("install_failure", "run_failure", "silent")
        rules += [(f"versions[{n}].{r}", 0 <= getattr(version, r) <= 1, "must be 0 to 1") for r in rates]
        rules += [
            (f"versions[{n}].run_after_s", version.run_after_s >= 0, "must not be negative"),
            (f"versions[{n}].run_ms", version.run_ms > 0, "must be over 0"),
            (f"versions[{n}].run_spread", version.run_spread >= 0, "must not be negative"),
            (f"versions[{n}].peak_bytes", version.peak_bytes >= 0, "must not be negative"),
        ]
    for key, holds, rule in rules:
        if not holds:
            raise ConfigError(f"{key} {rule}")
