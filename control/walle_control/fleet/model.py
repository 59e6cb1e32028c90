"""A release to a fleet of any size, as a discrete-event model of groups of devices: no object per device.

Devices of one network and one way to hear of news are alike, so only how many of them are in which state is
kept, and to how many something happens in a step of time is drawn (binomially). The states, in order::

    away ⇄ online, has not heard ──hears──► step 1 ──► step 2 ... ──► activated
                                     │
              push stream (as fast as the servers can push), its own business, its poll, coming online

Each step of a pull is a request: it waits in one first-in first-out queue of the servers, is answered as
their capacity allows, and travels for the round trip and the bytes of the device's network. Batches of alike
devices move from event to event; a batch is cut where the capacity of a step of time ends.

What it leaves out: enrolment, failing versions, lost connections. It is compared with the protocol-true
fleet in ``tests/e2e/test_fleet_sim.py``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from walle_control.fleet.scenario import Scenario, check_scenario
from walle_shared.errors import ConfigError, LimitExceeded
from walle_shared.settings import parse_checked

Counts = npt.NDArray[np.int64]

#: A model that has not come to its end after so many steps never will.
_STEPS_MAX: Final = 1_000_000

#: The parts of the devices to be reached for which it is told when they were.
_TOLD: Final = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Pull:
    """What a device does once it has heard: the bytes of each request; it activates before the last.

    By default: the epoch, the snapshot, the manifest, four files of 64 KiB together, the epoch again (not
    modified), and the reports. ``static`` of them can come from any web server or CDN.
    """

    bytes: tuple[float, ...] = (500, 600, 1_500, 16_500, 16_500, 16_500, 16_500, 100, 300)
    static: int = 8


@dataclass(frozen=True, slots=True)
class Servers:
    """What one server can do, and what it costs. ``cdn``: static files cost no server anything."""

    count: int = 1
    requests_per_s: float = 1_000.0
    pushes_per_s: float = 4_000.0
    bytes_per_s: float = 1e9
    cdn: bool = False
    hour_price: float = 0.10
    gigabyte_price: float = 0.02
    million_requests_price: float = 0.60


@dataclass(frozen=True, slots=True)
class Stage:
    """From ``at_s`` on, ``share`` of the devices are to have the version."""

    at_s: float
    share: float


@dataclass(frozen=True, slots=True)
class Model:
    """A model: the fleet, of which ``online`` are online when the release is published, and the servers.

    ``until`` is the part of all devices that is to be reached, ``within_s`` the longest that is looked at.
    """

    fleet: Scenario = field(default_factory=Scenario)
    servers: Servers = Servers()
    pull: Pull = Pull()
    stages: tuple[Stage, ...] = (Stage(0.0, 1.0),)
    online: float = 1.0
    step_s: float = 0.1
    until: float = 0.999
    within_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What came of it: curves by time in seconds, and what it took; ``reach``: devices to be reached."""

    devices: int
    reach: float
    seconds: float
    times_s: Sequence[float]
    heard: Sequence[float]
    covered: Sequence[float]
    online: Sequence[float]
    requests_per_s: Sequence[float]
    bytes_per_s: Sequence[float]
    waiting: Sequence[float]
    requests: float
    server_requests: float
    bytes: float
    cost: Mapping[str, float]

    def seconds_to(self, devices: float) -> float:
        """When so many devices had the version; infinite if it never came to that."""
        curve = zip(self.times_s, self.covered, strict=True)
        return next((at for at, count in curve if count >= devices), math.inf)

    def summary(self) -> dict[str, Any]:
        """The figures as plain values."""
        return {
            "devices": self.devices,
            "seconds": self.seconds,
            "covered": self.covered[-1] / self.devices,
            "seconds_to": {f"{part:.0%}": self.seconds_to(part * self.reach) for part in _TOLD},
            "requests": self.requests,
            "server_requests": self.server_requests,
            "bytes": self.bytes,
            "peak_requests_per_s": max(self.requests_per_s, default=0.0),
            "peak_bytes_per_s": max(self.bytes_per_s, default=0.0),
            "peak_waiting": max(self.waiting, default=0.0),
            "cost": dict(self.cost),
        }


def parse_model(text: str, where: str) -> Model:
    """Read a model.

    Raises:
        ConfigError: naming the file and the key.
    """
    return parse_checked(Model, text, where, check_model)


def check_model(model: Model) -> None:
    """Check that a model makes sense.

    Raises:
        ConfigError: naming the key that does not.
    """
    try:
        check_scenario(model.fleet)
    except ConfigError as error:
        raise ConfigError(f"fleet.{error.message}") from None
    servers, shares = model.servers, [stage.share for stage in model.stages]
    rules = [
        ("servers.count", servers.count >= 1, "must be at least 1"),
        ("servers.requests_per_s", servers.requests_per_s > 0, "must be over 0"),
        ("servers.pushes_per_s", servers.pushes_per_s > 0, "must be over 0"),
        ("servers.bytes_per_s", servers.bytes_per_s > 0, "must be over 0"),
        ("pull.bytes", len(model.pull.bytes) >= 2, "must have at least two requests"),
        ("pull.bytes", all(size >= 0 for size in model.pull.bytes), "must not be negative"),
        (
            "pull.static",
            0 <= model.pull.static <= len(model.pull.bytes),
            "must be 0 to the number of requests",
        ),
        ("stages", bool(shares) and shares == sorted(shares), "must grow"),
        ("stages", all(0 < share <= 1 for share in shares), "must have shares over 0 and at most 1"),
        (
            "stages",
            [s.at_s for s in model.stages] == sorted(s.at_s for s in model.stages),
            "must be in order",
        ),
        ("online", 0 < model.online <= 1, "must be over 0 and at most 1"),
        ("step_s", model.step_s > 0, "must be over 0"),
        ("until", 0 < model.until <= 1, "must be over 0 and at most 1"),
        ("within_s", 0 < model.within_s <= _STEPS_MAX * model.step_s, f"must be 1 to {_STEPS_MAX} steps"),
    ]
    for name in ("hour_price", "gigabyte_price", "million_requests_price"):
        rules.append((f"servers.{name}", getattr(servers, name) >= 0, "must not be negative"))
    for key, holds, rule in rules:
        if not holds:
            raise ConfigError(f"{key} {rule}")


@dataclass
class _Curves:
    """What is written down at every step."""

    times: list[float] = field(default_factory=list)
    heard: list[float] = field(default_factory=list)
    covered: list[float] = field(default_factory=list)
    online: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    bytes: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)


class _Run:
    """One run of a model. Arrays are by class of device: streaming or not (rows) and network (columns)."""

    def __init__(self, model: Model) -> None:
        fleet = model.fleet
        self.model = model
        self.dice = np.random.default_rng(fleet.seed)
        weights = np.array([network.weight for network in fleet.networks])
        parts = np.outer([fleet.streaming, 1 - fleet.streaming], weights / weights.sum())
        sizes: Counts = self.dice.multinomial(fleet.devices, parts.ravel() / parts.sum()).reshape(parts.shape)
        self.online: Counts = self.dice.binomial(sizes, model.online)  # online, and has not heard
        self.away: Counts = sizes - self.online
        self.closed: Counts = np.zeros_like(sizes)  # outside of the share that the stages have come to
        self.closed_away: Counts = np.zeros_like(sizes)
        self.heard = self.covered = 0
        self.stage_s = 0.0
        self.queue: deque[tuple[int, Counts]] = deque()  # the next request of a batch of devices
        self.queued = 0
        self.travelling: dict[int, list[tuple[int, Counts]]] = {}  # by the step at which they arrive
        self.rtt_s = np.array([network.rtt_ms / 1_000 for network in fleet.networks])
        self.pace = np.array([1 / n.bytes_per_s if n.bytes_per_s else 0.0 for n in fleet.networks])
        self.requests = self.server_requests = self.bytes = 0.0
        self.answered = self.sent_bytes = 0.0  # in this step
        self.spare = 0.0  # a part of a request that was left over
        self.step = 0
        self.curves = _Curves()

    def play(self) -> None:
        model = self.model
        pending = deque(model.stages)
        share = 0.0
        self.closed, self.online = self.online, self.closed
        self.closed_away, self.away = self.away, self.closed_away
        for self.step in range(math.ceil(model.within_s / model.step_s) + 1):
            now_s = self.step * model.step_s
            self.answered = self.sent_bytes = 0.0
            while pending and pending[0].at_s <= now_s:
                stage = pending.popleft()
                self._open((stage.share - share) / (1 - share) if share < 1 else 0.0)
                share, self.stage_s = stage.share, now_s
            self._come_and_go()
            self._hear(now_s)
            self._arrive()
            self._serve()
            self._note(now_s)
            if self.covered >= model.until * model.fleet.devices:
                return

    def _open(self, part: float) -> None:
        """Let a part of the devices that were outside of the share in."""
        for outside, inside in ((self.closed, self.online), (self.closed_away, self.away)):
            let_in = self.dice.binomial(outside, min(1.0, max(0.0, part)))
            outside -= let_in
            inside += let_in

    def _come_and_go(self) -> None:
        fleet, step_s = self.model.fleet, self.model.step_s
        go = -math.expm1(-step_s / fleet.online_s) if fleet.online_s else 0.0
        come = -math.expm1(-step_s / fleet.offline_s)
        for online, away in ((self.online, self.away), (self.closed, self.closed_away)):
            gone = self.dice.binomial(online, go)
            back = self.dice.binomial(away, come)
            online -= gone
            away += gone - back
            if online is self.online:
                self._pull(back)  # it reads the epoch when it comes
            else:
                online += back

    def _hear(self, now_s: float) -> None:
        """Devices that are online hear: by their stream, by their business, or by their poll."""
        model, fleet = self.model, self.model.fleet
        since_s = now_s - self.stage_s
        poll_left_s = max(fleet.poll_s - since_s, model.step_s)
        hazard = model.step_s / poll_left_s if poll_left_s > model.step_s else 50.0
        if fleet.business_s:
            hazard += model.step_s / fleet.business_s
        told = self.dice.binomial(self.online, -math.expm1(-hazard))
        self.online -= told
        streams = self.online[0]
        pushes = round(model.servers.count * model.servers.pushes_per_s * model.step_s)
        pushed = np.zeros_like(told)
        pushed[0] = _share_out(streams, pushes)
        self.online -= pushed
        self._pull(told + pushed)

    def _pull(self, devices: Counts) -> None:
        count = int(devices.sum())
        self.heard += count
        if count:
            self._ask(0, devices)

    def _ask(self, request: int, devices: Counts) -> None:
        """Devices send a request: a CDN answers at once, a server when their turn comes."""
        if self.model.servers.cdn and request < self.model.pull.static:
            self._answer(request, devices)
        else:
            self.queue.append((request, devices))
            self.queued += int(devices.sum())

    def _arrive(self) -> None:
        last = len(self.model.pull.bytes) - 1
        for request, devices in self.travelling.pop(self.step, ()):
            if request == last:
                self.covered += int(devices.sum())
            if request <= last:
                self._ask(request, devices)

    def _serve(self) -> None:
        """Servers answer what waits, oldest first, as far as their capacity goes."""
        model, servers = self.model, self.model.servers
        requests_left = servers.count * servers.requests_per_s * model.step_s + self.spare
        bytes_left = servers.count * servers.bytes_per_s * model.step_s
        while self.queue and requests_left >= 1 and bytes_left > 0:
            request, devices = self.queue.popleft()
            size = model.pull.bytes[request]
            fits = requests_left if not size else min(requests_left, bytes_left / size)
            done = _share_out(devices, math.ceil(fits) if fits < 1 else int(fits))
            count = int(done.sum())
            requests_left -= count
            bytes_left -= size * count
            self.queued -= count
            self.server_requests += count
            rest = devices - done
            if rest.any():
                self.queue.appendleft((request, rest))
            self._answer(request, done)
        self.spare = min(requests_left, 1.0) if self.queue else 0.0

    def _answer(self, request: int, devices: Counts) -> None:
        """Answers travel; each network takes its own time."""
        size, count = self.model.pull.bytes[request], int(devices.sum())
        self.answered += count
        self.sent_bytes += count * size
        for network, seconds in enumerate(self.rtt_s + size * self.pace):
            part = np.zeros_like(devices)
            part[:, network] = devices[:, network]
            if part.any():
                at = self.step + max(1, round(seconds / self.model.step_s))
                self.travelling.setdefault(at, []).append((request + 1, part))

    def _note(self, now_s: float) -> None:
        curves = self.curves
        curves.times.append(now_s)
        curves.heard.append(self.heard)
        curves.covered.append(self.covered)
        away = int(self.away.sum() + self.closed_away.sum())
        curves.online.append(self.model.fleet.devices - away)
        curves.waiting.append(self.queued)
        curves.requests.append(self.answered / self.model.step_s)
        curves.bytes.append(self.sent_bytes / self.model.step_s)
        self.requests += self.answered
        self.bytes += self.sent_bytes


def _share_out(devices: Counts, most: int) -> Counts:
    """Up to ``most`` of the devices, of each class in proportion."""
    total = int(devices.sum())
    if total <= most:
        return devices.copy()
    parts: Counts = np.minimum(devices, np.floor(devices * (most / total)).astype(np.int64))
    left = most - int(parts.sum())  # fewer than there are classes
    for at in np.argsort(-(devices - parts), axis=None)[:left]:
        parts.flat[at] += 1
    return parts


def run_model(model: Model) -> ModelResult:
    """Play a release to its end, or to the end of the time that is looked at."""
    run = _Run(model)
    run.play()
    curves, servers = run.curves, model.servers
    seconds = curves.times[-1]
    cost = {
        "servers": servers.count * servers.hour_price * seconds / 3_600,
        "bytes": run.bytes / 1e9 * servers.gigabyte_price,
        "requests": run.requests / 1e6 * servers.million_requests_price,
    }
    return ModelResult(
        model.fleet.devices,
        model.until * model.fleet.devices,
        seconds,
        curves.times,
        curves.heard,
        curves.covered,
        curves.online,
        curves.requests,
        curves.bytes,
        curves.waiting,
        run.requests,
        run.server_requests,
        run.bytes,
        cost,
    )


def servers_needed(model: Model, part: float, within_s: float, most: int = 1 << 20) -> int:
    """The fewest servers with which so large a part of the devices has the version within a time.

    Raises:
        LimitExceeded: no number of servers does it: devices hear too late, or their networks are too slow.
    """

    def does(count: int) -> bool:
        tried = replace(model, servers=replace(model.servers, count=count), until=part, within_s=within_s)
        return run_model(tried).seconds_to(part * model.fleet.devices) <= within_s

    low, high = 0, 1
    while not does(high):
        low, high = high, high * 2
        if high > most:
            raise LimitExceeded(
                f"with {most} servers too, fewer than {part:.0%} of the devices have it by then"
            )
    while high - low > max(1, high // 100):  # to a hundredth
        middle = (low + high) // 2
        low, high = (low, middle) if does(middle) else (middle, high)
    return high
