"""Decisions in time: windows, ramps and permits, from the policy to what runs."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from walle_shared.errors import Conflict
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import PermitRequest
from walle_shared.targeting import SHARE_ONE, Holdout, Ramp
from walle_support.control import ISSUED_MS, SimulatedControl, unreachable
from walle_support.device import live

HOUR_MS = 3_600_000
#: 22:13 UTC on a Tuesday.
NOW_MS = ISSUED_MS + 1_000


def two_versions(**terms: object) -> tuple[SimulatedControl, str]:
    """A control plane with an old version for all and a new one on terms."""
    control = SimulatedControl()
    control.release(control.add_version(version="1.0"), version="1.0")
    return control, control.release(control.add_version(version="2.0"), version="2.0", **terms)


async def test_a_window_keeps_the_old_version_until_it_opens_and_closes_on_nobody(tmp_path: Path) -> None:
    control, _ = two_versions(windows="23:00-23:30")
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        assert device.active() == {"reader": "1.0"}
        assert await device.decider.decide() == pytest.approx(2_800 - 1, abs=61)
        device.clock.advance(3_000)
        assert await device.catch_up() is None
        assert device.active() == {"reader": "2.0"}
        device.clock.advance(3_600)
        assert await device.catch_up() is None
        assert device.active() == {"reader": "2.0"}


async def test_what_has_begun_is_remembered_over_a_restart(tmp_path: Path) -> None:
    control, _ = two_versions(windows="22:00-22:30")
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
    async with live(tmp_path, control) as device:
        device.clock.advance(7_200)
        assert await device.catch_up() is None
        assert device.active() == {"reader": "2.0"}


async def test_a_window_that_closes_during_the_download_holds_the_activation_back(tmp_path: Path) -> None:
    control, _ = two_versions(windows="22:00-22:14")
    async with live(tmp_path, control) as device:

        def slow(_request: httpx.Request, answer: httpx.Response) -> httpx.Response:
            device.clock.advance(600)
            return answer

        newest = control.releases[-1].manifest.sha256
        control.distort(f"/s/manifest/{newest}", slow)
        assert isinstance(await device.catch_up(), Conflict)
        assert await device.deployer.converge() is None
        assert device.active() == {"reader": "1.0"}


async def test_a_release_waiting_for_its_window_does_not_hold_a_rollback_back(tmp_path: Path) -> None:
    control, _ = two_versions(windows="23:00-23:30")
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        control.roll_back(control.releases[0].id)
        assert await device.catch_up() is None
        assert device.active() == {}


async def test_a_ramp_reaches_the_device_by_itself(tmp_path: Path) -> None:
    control, _ = two_versions(ramp=Ramp(0, NOW_MS, NOW_MS + HOUR_MS))
    async with live(tmp_path, control) as device:
        await device.catch_up()
        wait_s = await device.decider.decide()
        assert 0 < wait_s <= 3_600
        device.clock.advance(wait_s - 1)
        await device.decider.decide()
        assert device.active() == {"reader": "1.0"}
        device.clock.advance(1)
        await device.decider.decide()
        assert await device.deployer.converge() is None
        assert device.active() == {"reader": "2.0"}


async def test_the_service_decides_again_when_time_comes(tmp_path: Path) -> None:
    control, newest = two_versions(windows="23:00-23:30")
    async with live(tmp_path, control) as device, trio.open_nursery() as nursery:
        await device.catch_up()
        device.clock.advance(await device.decider.decide() - 0.05)
        nursery.start_soon(device.decider.run)
        nursery.start_soon(device.deployer.run)
        await trio.testing.wait_all_tasks_blocked(0.01)
        device.clock.advance(0.1)
        with trio.fail_after(30):
            while not any(  # noqa: ASYNC110  # nobody tells of a queued report
                (report.release_id, report.stage) == (newest, "install") for report in device.queued_reports()
            ):
                await trio.sleep(0.01)
        assert device.active() == {"reader": "2.0"}
        nursery.cancel_scope.cancel()


async def test_a_capped_release_is_for_those_with_a_permit(tmp_path: Path) -> None:
    control, newest = two_versions(cap=1)
    async with live(tmp_path / "a", control) as first, live(tmp_path / "b", control) as second:
        assert await first.catch_up() is None
        assert await second.catch_up() is None
        assert (first.active(), second.active()) == ({"reader": "2.0"}, {"reader": "1.0"})
        assert control.permits[newest] == {"d1"}
        asked = [path for _, path in control.requests].count("/d/v1/permits")
        assert await first.catch_up() is None  # whoever has it need not ask again
        assert [path for _, path in control.requests].count("/d/v1/permits") == asked


async def test_a_permit_lost_before_the_activation_is_not_used(tmp_path: Path) -> None:
    control, newest = two_versions(cap=1)
    async with live(tmp_path, control) as device:

        def lost_to_another(_request: httpx.Request, answer: httpx.Response) -> httpx.Response:
            control.permits[newest] = {"d99"}
            return answer

        control.distort(f"/s/manifest/{control.releases[-1].manifest.sha256}", lost_to_another)
        assert isinstance(await device.catch_up(), Conflict)
        assert await device.deployer.converge() is None
        assert device.active() == {"reader": "1.0"}


async def test_the_same_files_under_a_capped_release_need_a_permit_too(tmp_path: Path) -> None:
    control = SimulatedControl()
    manifest = control.add_version(version="1.0")
    control.release(manifest, version="1.0")
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        newest = control.release(manifest, version="1.0", cap=1)
        control.permits[newest] = {"d99"}
        assert await device.catch_up() is None
        assert {task.release_id for task in device.registry.tasks()} == {control.releases[0].id}
        control.permits[newest].clear()
        assert await device.catch_up() is None
        assert {task.release_id for task in device.registry.tasks()} == {newest}
        assert control.permits[newest] == {"d1"}


async def test_while_permits_cannot_be_asked_for_the_rest_goes_on(tmp_path: Path) -> None:
    control, _ = two_versions(cap=1)
    control.release(control.add_version("other"), "other")
    control.distort("/d/v1/permits", unreachable)
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        assert device.active() == {"reader": "1.0", "other": "1.0"}
        assert 0 < await device.decider.decide() <= 3_600
        assert await device.deployer.converge() is None
        assert device.active() == {"reader": "2.0", "other": "1.0"}


async def test_a_device_in_a_holdout_compares_what_it_keeps(tmp_path: Path) -> None:
    control = SimulatedControl()
    control.release(control.add_version(version="1.0"), version="1.0", everyone=True)
    newest = control.release(control.add_version(version="2.0"), version="2.0")
    control.holdouts = (Holdout("all", SHARE_ONE, "h"),)
    control.publish()
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        assert device.active() == {"reader": "1.0"}
        assert [(r.stage, r.control_of) for r in device.queued_reports()][-1] == ("start", newest)
        assert newest in await device.deployer.compared_releases()


async def test_no_place_is_claimed_once_the_window_has_closed(tmp_path: Path) -> None:
    control, newest = two_versions(cap=1, windows="22:00-22:14")
    async with live(tmp_path, control) as device:
        claims = []

        def slow(_request: httpx.Request, answer: httpx.Response) -> httpx.Response:
            device.clock.advance(600)
            return answer

        def seen(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
            claims.append(decode(PermitRequest, request.content).claim)
            return answer

        control.distort(f"/s/manifest/{control.releases[-1].manifest.sha256}", slow)
        control.distort("/d/v1/permits", seen, times=9)
        assert isinstance(await device.catch_up(), Conflict)
        assert await device.deployer.converge() is None
        assert (device.active(), claims) == ({"reader": "1.0"}, [False])
        assert newest in control.permits
