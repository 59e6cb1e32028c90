"""What is counted for the pages: beside the requests, and not for each of them."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from walle_control.console.fleet import Estimates, Fleet, FleetCounts, shares_of
from walle_control.features.audiences.types import Estimate, EstimateRequest
from walle_shared.clock import FixedClock
from walle_shared.errors import StorageError


class SlowDatabase:
    """Counts when it is let."""

    def __init__(self) -> None:
        self.answers: list[FleetCounts | StorageError] = []
        self.may_answer = trio.Event()
        self.asked = 0

    async def read(self, job: object) -> FleetCounts:
        self.asked += 1
        await self.may_answer.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, StorageError):
            raise answer
        return answer


def test_devices_are_told_apart_by_what_few_values_say():
    sample = [{"os": "linux" if n % 4 else "android", "serial": f"s{n}", "n": n % 10} for n in range(100)]
    sample[0] |= {"rooted": True}
    shares = {each.name: each.values for each in shares_of(sample, 1_000)}
    assert shares["os"] == (("linux", 750), ("android", 250))
    assert shares["rooted"] == (("true", 10), ("not said", 990))
    assert shares["n"] == (*((str(n), 100) for n in range(6)), ("others", 400))
    assert "serial" not in shares
    assert shares_of([], 0) == ()


async def test_a_page_waits_a_moment_for_the_first_counts_and_for_no_others(nursery, clock, autojump_clock):
    database = SlowDatabase()
    fleet = Fleet(database, clock)
    nursery.start_soon(fleet.run)
    assert await fleet.counts() is None
    assert trio.current_time() < 0.2
    database.answers = [FleetCounts(1, ()), FleetCounts(2, ())]
    database.may_answer.set()
    await trio.testing.wait_all_tasks_blocked()
    assert await fleet.counts() == FleetCounts(1, ())
    assert database.asked == 1  # still fresh
    database.may_answer = trio.Event()
    clock.advance(6)
    assert await fleet.counts() == FleetCounts(1, ())  # old ones, while new ones are made
    database.may_answer.set()
    await trio.testing.wait_all_tasks_blocked()
    assert await fleet.counts() == FleetCounts(2, ())


async def test_counting_outlives_a_failure(nursery, clock, autojump_clock):
    database = SlowDatabase()
    fleet = Fleet(database, clock)
    database.may_answer.set()
    database.answers = [StorageError("the disk is full"), FleetCounts(3, ())]
    nursery.start_soon(fleet.run)
    assert await fleet.counts() is None
    clock.advance(6)
    await fleet.counts()
    await trio.testing.wait_all_tasks_blocked()
    assert await fleet.counts() == FleetCounts(3, ())


async def test_an_estimate_is_asked_for_once_in_a_while():
    clock, asked = FixedClock(), []

    async def ask(wish: EstimateRequest) -> Estimate:
        asked.append(wish.predicate)
        if wish.predicate == "bad":
            raise StorageError("no")
        return Estimate(len(asked), 1, 1)

    estimates = Estimates(clock)
    assert await estimates.of("a", ask) == await estimates.of("a", ask)
    await estimates.of("b", ask)
    clock.advance(6)
    assert (await estimates.of("a", ask)).devices == 3
    for _ in range(2):
        with pytest.raises(StorageError):
            await estimates.of("bad", ask)
    assert asked == ["a", "b", "a", "bad", "bad"]
    for number in range(300):
        await estimates.of(str(number), ask)
    assert len(estimates._known) == 256
