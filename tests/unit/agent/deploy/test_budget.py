from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from walle_agent.config import DeploySection
from walle_agent.deploy.budget import Budget, NotNow
from walle_agent.state.keeper import StateKeeper
from walle_agent.state.store import StateStore
from walle_agent.streams.allowance import Conditions
from walle_shared.clock import FixedClock
from walle_support.control import ISSUED_MS, TASK_TOML, SimulatedControl
from walle_support.device import live

DAY_MS = 24 * 3_600_000
METERED = Conditions(metered=True)
BIG = {"model.bin": bytes(range(256)) * 40}


def budget(folder: Path, clock: FixedClock | None = None, **settings: object) -> Budget:
    def no_corruption(error: Exception) -> None:
        raise error

    keeper = StateKeeper(StateStore(folder, on_corrupt=no_corruption))
    return Budget(keeper, clock or FixedClock(ISSUED_MS), **settings)  # type: ignore[arg-type]


def test_the_profile_wins_over_the_conditions(tmp_path: Path) -> None:
    assert budget(tmp_path).network() == "unmetered"
    assert budget(tmp_path, conditions=lambda: METERED).network() == "metered"
    assert budget(tmp_path, conditions=lambda: Conditions(online=False)).network() == "none"
    assert budget(tmp_path, conditions=lambda: METERED, profile={"network": "none"}).network() == "none"


@pytest.mark.parametrize(
    ("metered", "cost_bytes", "passes"),
    [
        ("small", 100, True),
        ("small", 101, False),
        ("always", 10**9, True),
        ("never", 1, False),
        ("never", 0, True),
    ],
)
def test_what_may_come_over_a_metered_network(
    tmp_path: Path, metered: str, cost_bytes: int, passes: bool
) -> None:
    rules = budget(tmp_path, conditions=lambda: METERED, metered_max_bytes=100)
    if passes:
        rules.check_install(cost_bytes, metered, "it")  # type: ignore[arg-type]
    else:
        with pytest.raises(
            NotNow, match=f"it waits: the network is metered, and it takes {cost_bytes} bytes"
        ):
            rules.check_install(cost_bytes, metered, "it")  # type: ignore[arg-type]


async def test_the_bytes_of_a_day_count_over_restarts_and_a_new_day_has_its_own(tmp_path: Path) -> None:
    clock = FixedClock(ISSUED_MS)
    rules = budget(tmp_path, clock, bytes_per_day=100)
    rules.check_day("it")
    await rules.spend(99)
    rules.check_day("it")
    await rules.spend(1)
    again = budget(tmp_path, clock, bytes_per_day=100)
    with pytest.raises(NotNow, match=r"deploy\.bytes_per_day") as caught:
        again.check_day("it")
    assert not caught.value.over()
    clock.advance(DAY_MS / 1_000)
    assert caught.value.over()
    again.check_day("it")


async def test_a_clock_set_back_for_years_does_not_hold_downloads_for_years(tmp_path: Path) -> None:
    rules = budget(tmp_path, FixedClock(ISSUED_MS), bytes_per_day=10)
    await rules.spend(10)
    budget(tmp_path, FixedClock(ISSUED_MS - 5_000 * DAY_MS), bytes_per_day=10).check_day("it")


async def test_a_large_version_waits_for_another_network_and_then_comes_by_itself(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    control, conditions = SimulatedControl(), [METERED]
    control.release(control.add_version(files=BIG))
    config = DeploySection(metered_max_bytes=1_000)
    async with live(tmp_path, control, config=config, conditions=lambda: conditions[0]) as device:
        assert isinstance(await device.catch_up(), NotNow)
        assert [each.stage for each in device.queued_reports()] == ["start"]  # waiting is no failure
        assert device.keeper.state.install_failures == {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(device.deployer.run)
            await trio.sleep(500)
            assert device.active() == {}
            asked = len(control.requests)
            await trio.sleep(500)
            assert len(control.requests) == asked  # nothing travels while it waits
            conditions[0] = Conditions()
            while device.active() != {"reader": "1.0"}:  # noqa: ASYNC110  # threads work outside this clock
                await trio.sleep(1)
            nursery.cancel_scope.cancel()


async def test_the_task_says_what_it_is_worth_on_a_metered_network(tmp_path: Path) -> None:
    control = SimulatedControl()
    toml = TASK_TOML + '[download]\nmetered = "always"\n'
    control.release(control.add_version(files=BIG, toml=toml))
    async with live(
        tmp_path, control, config=DeploySection(metered_max_bytes=0), conditions=lambda: METERED
    ) as device:
        assert await device.catch_up() is None


async def test_the_day_ends_an_installation_that_the_next_day_goes_on_with(tmp_path: Path) -> None:
    control, clock = SimulatedControl(), FixedClock(ISSUED_MS + 1_000)
    control.release(control.add_version(files={f"part{n}": bytes([n]) * 1_000 for n in range(4)}))
    config = DeploySection(bytes_per_day=1_500)
    days = 0
    async with live(tmp_path, control, config=config, clock=clock) as device:
        while isinstance(await device.catch_up(), NotNow):
            clock.advance(DAY_MS / 1_000)
            days += 1
        assert device.active() == {"reader": "1.0"}
    blobs = [path for _, path in control.requests if "/blob/" in path]
    assert len(blobs) == len(set(blobs)) == 5  # each came once
    assert days == 1
