"""What is asked of the whole fleet, counted in the background: no page waits for a million rows."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import trio

from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.audiences.types import Estimate, EstimateRequest
from walle_control.features.devices import read_model as devices
from walle_control.features.rollouts import read_model as rollouts
from walle_control.features.telemetry import read_model as telemetry
from walle_control.features.telemetry.types import Installations
from walle_shared.clock import Clock
from walle_shared.errors import WalleError
from walle_shared.ids import ReleaseId
from walle_shared.observe import get_logger
from walle_shared.targeting import Profile

_log = get_logger("control.console")

#: Counts are made anew when somebody looks and they are so old.
_FRESH_MS: Final = 5_000
#: So long a page waits for the first counts there are.
_WAIT_S: Final = 0.1

#: Coverage is remembered in such steps in a release's first hour, in longer ones later, for so many releases.
_STEP_MS: Final = 1_000
_LATER_STEP_MS: Final = 60_000
_LATER_MS: Final = 3_600_000
_RELEASES_MAX: Final = 256
_PREDICATES_MAX: Final = 256

#: Of so many devices the attributes are counted, so many attributes are shown, and so many values of each.
_SAMPLE: Final = 1_000
_ATTRIBUTES_MAX: Final = 12
_VALUES_MAX: Final = 6
_NOT_SAID: Final = "not said"


@dataclass(frozen=True, slots=True)
class AttributeShares:
    """About how many devices have which value of an attribute: commonest first, then the rest, then none."""

    name: str
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class FleetCounts:
    """How many devices there are, on how many each version is, and about how they differ."""

    devices: int
    installations: tuple[Installations, ...]
    attributes: tuple[AttributeShares, ...] = ()


class Fleet:
    """Counts devices. ``run`` beside the requests."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._counts: FleetCounts | None = None
        self._counted_ms = 0
        self._wanted = trio.Event()
        self._counted = trio.Event()

    async def run(self) -> NoReturn:
        """Count whenever somebody wants to know, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            self._counted_ms = self._clock.wall_ms()
            try:
                self._counts = await self._database.read(_count)
            except WalleError as error:  # pages show the last counts; the next look tries again
                _log.error("fleet_count_failed", error=error.message, code=error.code)
            self._counted.set()

    async def counts(self) -> FleetCounts | None:
        """The last counts; ``None`` while the first ones take long."""
        if self._clock.wall_ms() - self._counted_ms >= _FRESH_MS:
            self._wanted.set()
        with trio.move_on_after(_WAIT_S):
            await self._counted.wait()
        return self._counts


def _count(db: Connection) -> FleetCounts:
    total = devices.count(db)
    sample = [profile for _, profile in devices.sample(db, _SAMPLE)]
    return FleetCounts(total, tuple(telemetry.installations(db)), shares_of(sample, total))


def shares_of(sample: Sequence[Profile], total: int) -> tuple[AttributeShares, ...]:
    """How the devices differ in each attribute, by a sample of them.

    An attribute that tells most devices apart, such as a serial number, tells nothing of the fleet: left out.
    """
    counts: dict[str, Counter[str]] = {}
    for profile in sample:
        for name, value in profile.items():
            counts.setdefault(name, Counter())[_worded(value)] += 1
    telling = sorted(
        (name, found) for name, found in counts.items() if len(found) <= max(_VALUES_MAX, found.total() // 2)
    )
    return tuple(
        AttributeShares(name, _scaled(found, len(sample), total)) for name, found in telling[:_ATTRIBUTES_MAX]
    )


def _scaled(found: Counter[str], sampled: int, total: int) -> tuple[tuple[str, int], ...]:
    commonest = found.most_common(_VALUES_MAX)
    others = found.total() - sum(n for _, n in commonest)
    rows = [*commonest, ("others", others), (_NOT_SAID, sampled - found.total())]
    return tuple((value, round(n * total / sampled)) for value, n in rows if n)


def _worded(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Estimates:
    """How many devices predicates match: asked anew when somebody looks and the answer is old."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[str, tuple[int, Estimate]] = OrderedDict()

    async def of(self, predicate: str, ask: Callable[[EstimateRequest], Awaitable[Estimate]]) -> Estimate:
        """The estimate for a predicate, a few seconds old at the most.

        Raises:
            PredicateError: it can no longer be read.
        """
        now_ms = self._clock.wall_ms()
        known = self._known.get(predicate)
        if known is not None and now_ms - known[0] < _FRESH_MS:
            return known[1]
        found = await ask(EstimateRequest(predicate, optional=True))
        self._known[predicate] = now_ms, found
        self._known.move_to_end(predicate)
        if len(self._known) > _PREDICATES_MAX:
            self._known.popitem(last=False)
        return found


@dataclass(slots=True)
class _Seen:
    """The installations of one release so far: the last vote counted, devices by the end of their step."""

    vote_id: int
    steps: dict[int, int]


class Coverage:
    """How many devices had each release installed by when; adds up what is new since it was asked last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: OrderedDict[ReleaseId, _Seen] = OrderedDict()

    async def of(self, release_id: ReleaseId) -> list[tuple[int, int]]:
        """Points (time in ms, devices so far), by time."""
        seen = self._seen.get(release_id)
        vote_id, steps = (seen.vote_id, dict(seen.steps)) if seen else (0, {})
        fresh, vote_id = await self._database.read(
            lambda db: rollouts.starts_after(db, release_id, vote_id, _STEP_MS)
        )
        first_ms = min(steps, default=fresh[0][0] if fresh else 0)
        for at_ms, devices_in_step in fresh:
            step_ms = _STEP_MS if at_ms - first_ms < _LATER_MS else _LATER_STEP_MS
            end_ms = (at_ms // step_ms + 1) * step_ms
            steps[end_ms] = steps.get(end_ms, 0) + devices_in_step
        # Two askers at once each add to a copy: the later one replaces the earlier one's, and is as right.
        self._seen[release_id] = _Seen(vote_id, steps)
        self._seen.move_to_end(release_id)
        if len(self._seen) > _RELEASES_MAX:
            self._seen.popitem(last=False)
        total, points = 0, []
        for at_ms, devices_in_step in sorted(steps.items()):
            total += devices_in_step
            points.append((at_ms, total))
        return points
