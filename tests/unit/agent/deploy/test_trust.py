"""What a device believes, over a control plane that lies, stalls, rotates its keys and is away for years."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from walle_agent.deploy.trust import TRUST_FILE
from walle_shared.clock import FixedClock
from walle_shared.errors import (
    ExpiredError,
    LengthOrHashError,
    PeerTimeout,
    RollbackError,
    SignatureError,
    TransportError,
    TrustError,
    UnapprovedError,
    WalleError,
)
from walle_shared.exclusive import EXCLUSIVE_KIND, ExclusiveManifest
from walle_shared.ids import DeviceId, ScenarioName, TaskName
from walle_shared.protocol.codec import encode
from walle_shared.signing import SigningKey, sign_envelope
from walle_shared.trust.roles import (
    BUNDLES,
    EXCLUSIVE,
    POLICY,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIME_KIND,
    TIMESTAMP,
    Pin,
    SignedTime,
)
from walle_support.control import EXPIRES_MS, ISSUED_MS, SimulatedControl, unreachable
from walle_support.device import Device, live
from walle_support.trust import DAY_MS, SimulatedTrust

YEAR_S = 366 * DAY_MS / 1_000


def with_a_task() -> SimulatedControl:
    control = SimulatedControl()
    control.release(control.add_version())
    return control


def offer_another(control: SimulatedControl) -> None:
    """A version that a device would take, if it believed what comes with it."""
    control.release(control.add_version(version="2.0"), version="2.0")


async def keeps(device: Device, *errors: type[WalleError]) -> None:
    """What is offered is refused as one of these, and what was installed goes on running."""
    with pytest.raises(errors):
        await device.follower.refresh()
    assert await device.deployer.converge() is None
    assert device.active() == {"reader": "1.0"}


async def test_a_device_comes_back_with_what_it_believed(tmp_path: Path) -> None:
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()
    control.requests.clear()
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
    asked = [path for _, path in control.requests if path.startswith("/s/tuf/")]
    assert asked == ["/s/tuf/2.root.json", "/s/tuf/timestamp.json"]


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"sha256":"00","content":{}}'])
async def test_a_damaged_file_is_set_aside_and_trust_begun_again(tmp_path: Path, damage: bytes) -> None:
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()
    for name in (TRUST_FILE, TRUST_FILE + ".previous"):
        (tmp_path / name).write_bytes(damage)
    async with live(tmp_path, control) as device:
        assert device.active() == {"reader": "1.0"}
        assert await device.catch_up() is None
        assert len(device.corruptions) == 2


async def test_a_pin_of_another_control_plane_is_refused(tmp_path: Path) -> None:
    control = with_a_task()
    other = SimulatedTrust(ISSUED_MS).pin
    async with live(tmp_path / "a", control, pin=other) as device:
        await device.session.credential()
        with pytest.raises(LengthOrHashError, match="told to trust"):
            await device.follower.refresh()
    async with live(tmp_path / "b", control, pin=Pin(9, other.sha256)) as device:
        await device.session.credential()
        with pytest.raises(TrustError, match="no root 9"):
            await device.follower.refresh()


@pytest.mark.parametrize("role", [ROOT, TIMESTAMP, SNAPSHOT, TARGETS, BUNDLES, POLICY])
async def test_rotation_between_two_epochs_is_followed(tmp_path: Path, role: str) -> None:
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()
        control.trust.rotate(role)
        offer_another(control)
        assert await device.catch_up() is None
        assert device.active() == {"reader": "2.0"}


@pytest.mark.parametrize("file", ["3.root.json", "timestamp.json", "4.snapshot.json", "2.targets.json"])
async def test_rotation_in_the_middle_of_an_update_is_followed(tmp_path: Path, file: str) -> None:
    """The keys change after a device has asked for one file and before it asks for the next."""
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()
        control.trust.rotate(ROOT, TARGETS)
        offer_another(control)

        def rotate(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
            control.trust.rotate(TIMESTAMP, SNAPSHOT, TARGETS, POLICY)
            control.publish()
            return answer

        control.distort(f"/s/tuf/{file}", rotate)
        for _ in range(2):
            try:
                await device.catch_up()
            except TrustError:
                assert device.active() == {"reader": "1.0"}
        assert device.active() == {"reader": "2.0"}


async def test_epochs_begin_anew_under_other_policy_keys(tmp_path: Path) -> None:
    """Fast-forward: who had the policy key published the last epoch there can be."""
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()
        honest = control.epoch
        control.publish(epoch=2**53)
        await device.catch_up()
        control.publish(epoch=honest + 1)
        await keeps(device, RollbackError)
        control.trust.rotate(POLICY)
        control.epoch = honest
        offer_another(control)
        assert await device.catch_up() is None
        assert device.active() == {"reader": "2.0"}
    async with live(tmp_path, control) as device:  # and the floor is the new keys' own
        control.publish(epoch=1)
        with pytest.raises(RollbackError):
            await device.follower.refresh()


async def test_keys_that_were_rotated_away_sign_nothing_any_more(tmp_path: Path) -> None:
    control = with_a_task()
    stolen = control.trust.keys_of(POLICY)[0]
    control.trust.rotate(POLICY)
    control.publish()
    async with live(tmp_path, control) as device:
        await device.catch_up()
        control.publish(epoch=99, key=stolen)
        await keeps(device, SignatureError)


async def test_an_epoch_that_rests_on_what_is_withheld_is_refused(tmp_path: Path) -> None:
    """Mix and match: the newest epoch, over older approvals."""
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()
        old = dict(control.trust.files)
        offer_another(control)
        control.trust.files = old
        await keeps(device, RollbackError)


async def test_a_policy_cannot_bring_in_what_nobody_approved(tmp_path: Path) -> None:
    """Whoever has the whole server, and all its keys but those of the bundles."""
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()
        evil = control.add_version(version="6.6.6", approved=False)
        control.release(evil, version="6.6.6")
        assert isinstance(await device.catch_up(), UnapprovedError)
        assert device.active() == {"reader": "1.0"}
        forged = control.trust.forge(
            BUNDLES, version=9, keys=control.trust.keys_of(POLICY), edit=lambda b: b.targets.clear()
        )
        control.trust.files["9.bundles.json"] = forged
        control.trust.current[BUNDLES] = forged
        control.trust.change(lambda repository: repository.renew_due())
        assert device.active() == {"reader": "1.0"}


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json", "3.snapshot.json", "3.bundles.json"])
async def test_data_without_end_is_cut_off(tmp_path: Path, name: str) -> None:
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()
        sent = 0

        def endless(request: httpx.Request, _: httpx.Response) -> httpx.Response:
            async def body() -> AsyncIterator[bytes]:
                nonlocal sent
                while True:
                    sent += 65_536
                    await trio.lowlevel.checkpoint()
                    yield b" " * 65_536

            return httpx.Response(200, stream=_Body(body))

        offer_another(control)
        control.distort(f"/s/tuf/{name}", endless, times=10)
        if name.endswith("bundles.json"):
            assert isinstance(await device.catch_up(), LengthOrHashError)
        else:
            await keeps(device, LengthOrHashError)
        assert device.active() == {"reader": "1.0"}
        assert sent < 2**20


@pytest.mark.parametrize(
    "path", ["/s/epoch.json", "/s/tuf/timestamp.json", "/s/tuf/2.root.json", "/d/v1/time"]
)
async def test_data_that_trickles_is_given_up(
    tmp_path: Path, path: str, autojump_clock: trio.testing.MockClock
) -> None:
    control = SimulatedControl()

    def trickling(request: httpx.Request, _: httpx.Response) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            while True:
                await trio.sleep(20)  # never so long that a single read would time out
                yield b" "

        return httpx.Response(200, stream=_Body(body))

    async with live(tmp_path, control) as device:
        await device.session.credential()
        control.distort(path, trickling, times=10)
        started_s = trio.current_time()
        with pytest.raises(PeerTimeout):
            await device.follower.refresh()
        assert trio.current_time() - started_s < 120


class _Body(httpx.AsyncByteStream):
    def __init__(self, body: Callable[[], AsyncIterator[bytes]]) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body()


# Time


@pytest.mark.parametrize("wrong_by_s", [-20 * YEAR_S, 20 * YEAR_S])
async def test_a_clock_that_is_years_off_changes_nothing(tmp_path: Path, wrong_by_s: float) -> None:
    control = with_a_task()
    clock = FixedClock(control.clock.wall_ms() + round(wrong_by_s * 1_000))
    async with live(tmp_path, control, clock=clock) as device:
        assert await device.catch_up() is None
        assert device.active() == {"reader": "1.0"}
        renewals = [path for _, path in control.requests if path == "/d/v1/renew"]
        assert renewals == []
        for passing in (control.clock, clock):
            passing.advance(1)
        control.publish(expires_ms=control.clock.wall_ms() - 1)  # judged by the server's time
        await keeps(device, ExpiredError)


async def test_a_device_that_was_away_for_years_comes_back(tmp_path: Path) -> None:
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()
    for _ in range(3):
        control.clock.advance(YEAR_S)
        control.trust.now_ms = control.clock.wall_ms()
        control.trust.rotate(ROOT, TIMESTAMP, SNAPSHOT, TARGETS, BUNDLES, POLICY)
    control.trust.change(lambda repository: repository.renew_due())
    control.revoke_credentials()
    control.releases = ()
    manifest = control.add_version(version="2.0")
    control.expires_ms = control.clock.wall_ms() + DAY_MS
    control.release(manifest, version="2.0")
    async with live(tmp_path, control, clock=FixedClock(ISSUED_MS)) as device:
        assert device.active() == {"reader": "1.0"}
        assert await device.catch_up() is None
        assert device.active() == {"reader": "2.0"}
        await device.session.credential(refused=await device.session.credential())  # by proof of possession


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (
            lambda control, nonce: SignedTime("0" * 32, ISSUED_MS),
            SignatureError,
        ),  # an answer kept from before
        (lambda control, nonce: SignedTime(nonce, ISSUED_MS - 10 * DAY_MS), RollbackError),
    ],
)
async def test_the_servers_time_is_fresh_and_does_not_go_back(
    tmp_path: Path, said: Callable[[SimulatedControl, str], SignedTime], error: type[TrustError]
) -> None:
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()

    def lie(request: httpx.Request, _: httpx.Response) -> httpx.Response:
        nonce = httpx.Response(200, content=request.content).json()["nonce"]
        told = said(control, nonce)
        return httpx.Response(200, content=sign_envelope(TIME_KIND, told, control.trust.keys_of(TIMESTAMP)))

    async with live(tmp_path, control) as device:
        control.distort("/d/v1/time", lie)
        await keeps(device, error)


async def test_only_the_timestamp_role_tells_the_time(tmp_path: Path) -> None:
    control = SimulatedControl()

    def forged(request: httpx.Request, _: httpx.Response) -> httpx.Response:
        nonce = httpx.Response(200, content=request.content).json()["nonce"]
        told = SignedTime(nonce, ISSUED_MS)
        return httpx.Response(200, content=sign_envelope(TIME_KIND, told, [SigningKey.generate()]))

    async with live(tmp_path, control) as device:
        await device.session.credential()
        control.distort("/d/v1/time", forged)
        with pytest.raises(SignatureError):
            await device.follower.refresh()


async def test_nothing_is_judged_while_the_time_is_not_known(tmp_path: Path) -> None:
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()
        offer_another(control)
        device.clock.advance(2 * DAY_MS / 1_000)
        control.distort("/d/v1/time", unreachable)
        await keeps(device, TransportError)
        assert await device.catch_up() is None
        assert device.active() == {"reader": "2.0"}


async def test_a_frozen_control_plane_is_noticed(tmp_path: Path) -> None:
    control = with_a_task()
    async with live(tmp_path, control) as device:
        await device.catch_up()
        device.clock.advance((EXPIRES_MS - ISSUED_MS) / 1_000)
        await keeps(device, ExpiredError)


# What other roles sign


async def test_an_exclusive_manifest_is_opened_by_its_role(tmp_path: Path) -> None:
    control = with_a_task()
    manifest = ExclusiveManifest(
        DeviceId("d1"), ScenarioName("demo"), TaskName("reader"), 1, ISSUED_MS, EXPIRES_MS, ()
    )
    async with live(tmp_path, control) as device:
        await device.catch_up()
        control.trust.rotate(EXCLUSIVE)
        good = sign_envelope(EXCLUSIVE_KIND, manifest, control.trust.keys_of(EXCLUSIVE))
        opened = await device.trust.open(ExclusiveManifest, EXCLUSIVE_KIND, EXCLUSIVE, good)
        assert encode(opened) == encode(manifest)
        forged = sign_envelope(EXCLUSIVE_KIND, manifest, control.trust.keys_of(POLICY))
        with pytest.raises(SignatureError):
            await device.trust.open(ExclusiveManifest, EXCLUSIVE_KIND, EXCLUSIVE, forged)
