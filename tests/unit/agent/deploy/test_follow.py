from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from walle_agent.deploy.follow import EpochFollower
from walle_agent.deploy.trust import TrustKeeper
from walle_agent.link.session import Session
from walle_agent.link.signed_clock import SignedClock
from walle_agent.link.transport import Transport
from walle_agent.state.keeper import StateKeeper
from walle_agent.state.store import StateStore
from walle_shared.clock import FixedClock
from walle_shared.errors import StorageError
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import GoodbyeNotice
from walle_shared.signing import SigningKey
from walle_shared.targeting.policy import Policy
from walle_support.control import ISSUED_MS, TOKEN, URL, SimulatedControl, unreachable


def _no_corruption(error: StorageError) -> None:
    raise error


class Listener:
    """Remembers the epochs a follower tells of."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self._changed = trio.Event()

    def __call__(self, policy: Policy, epoch: int) -> None:
        self.epochs.append(epoch)
        self._changed.set()
        self._changed = trio.Event()

    async def wait(self, epoch: int) -> None:
        while epoch not in self.epochs:
            await self._changed.wait()


def make_follower(
    folder: Path, transport: Transport, control: SimulatedControl, listener: Listener, *, poll_s: float
) -> EpochFollower:
    store = StateStore(folder, on_corrupt=_no_corruption)
    keeper, clock = StateKeeper(store), SignedClock(FixedClock(ISSUED_MS))
    session = Session(transport, store, clock, profile={}, enrol_token=TOKEN)
    trust = TrustKeeper(transport, folder, control.trust.pin, keeper, clock, on_corrupt=_no_corruption)
    return EpochFollower(transport, session, keeper, trust, on_policy=listener, poll_s=poll_s)


async def test_a_push_is_followed_at_once(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    control, listener = SimulatedControl(), Listener()
    async with Transport(URL, wire=control.wire()) as transport, trio.open_nursery() as nursery:
        follower = make_follower(tmp_path, transport, control, listener, poll_s=1e6)
        nursery.start_soon(follower.run_poll)
        nursery.start_soon(follower.run_stream)
        await listener.wait(1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        before_s = trio.current_time()
        control.publish()
        await listener.wait(2)
        assert trio.current_time() - before_s < 10
        nursery.cancel_scope.cancel()


async def test_without_pushes_the_poll_finds_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    control, listener = SimulatedControl(), Listener()
    async with Transport(URL, wire=control.wire()) as transport, trio.open_nursery() as nursery:
        follower = make_follower(tmp_path, transport, control, listener, poll_s=100.0)
        nursery.start_soon(follower.run_poll)
        await listener.wait(1)
        started_s = trio.current_time()
        control.publish()
        await listener.wait(2)
        assert 79 <= trio.current_time() - started_s <= 121
        nursery.cancel_scope.cancel()


async def wait_logged(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Wait for a line of the log: virtual time may pass faster than threads work."""
    with trio.fail_after(1e6):
        while text not in capsys.readouterr().out:  # noqa: ASYNC110 - a log tells nobody
            await trio.sleep(10)


async def test_lies_and_outages_do_not_end_the_following(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    control, listener = SimulatedControl(), Listener()
    async with Transport(URL, wire=control.wire()) as transport, trio.open_nursery() as nursery:
        control.distort("/s/epoch.json", unreachable, times=3)
        follower = make_follower(tmp_path, transport, control, listener, poll_s=10.0)
        nursery.start_soon(follower.run_poll)
        await listener.wait(1)
        control.publish(key=SigningKey.generate())
        await wait_logged(capsys, "code=signature")
        control.publish(epoch=0)
        await wait_logged(capsys, "code=rollback")
        assert listener.epochs == [1]
        control.publish(epoch=9)
        await listener.wait(9)
        nursery.cancel_scope.cancel()


async def test_after_a_goodbye_or_a_break_the_stream_is_opened_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    control, listener = SimulatedControl(), Listener()
    async with Transport(URL, wire=control.wire()) as transport, trio.open_nursery() as nursery:
        follower = make_follower(tmp_path, transport, control, listener, poll_s=1e6)
        nursery.start_soon(follower.run_poll)
        nursery.start_soon(follower.run_stream)
        await listener.wait(1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        control.streams[0].send_nowait(b"event: goodbye\ndata: " + encode(GoodbyeNotice(5.0)) + b"\n\n")
        await trio.sleep(30)
        assert len(control.streams) == 1
        control.streams[0].close()
        await trio.sleep(30)
        control.revoke_credentials()
        control.streams[-1].close()
        await trio.sleep(60)
        control.publish()
        await listener.wait(2)
        assert [path for _, path in control.requests].count("/d/v1/stream") >= 4
        nursery.cancel_scope.cancel()


def asked(control: SimulatedControl) -> int:
    """How often the epoch was asked for."""
    return [path for _, path in control.requests].count("/s/epoch.json")


async def test_hints_of_all_ways_are_one_question_and_never_too_many(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    control, listener = SimulatedControl(), Listener()
    async with Transport(URL, wire=control.wire()) as transport, trio.open_nursery() as nursery:
        follower = make_follower(tmp_path, transport, control, listener, poll_s=1e6)
        nursery.start_soon(follower.run_poll)
        await listener.wait(1)
        before = asked(control)
        for epoch in range(2, 12):
            control.publish()
            for _ in range(5):
                follower.hint(epoch)
        await listener.wait(11)
        assert listener.epochs == [1, 11]
        await trio.sleep(100)
        assert asked(control) <= before + 2
        follower.hint(3)
        await trio.sleep(100)
        assert asked(control) <= before + 2  # no news
        nursery.cancel_scope.cancel()


async def test_a_lie_costs_a_few_questions_and_hides_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    control, listener = SimulatedControl(), Listener()
    async with Transport(URL, wire=control.wire()) as transport, trio.open_nursery() as nursery:
        follower = make_follower(tmp_path, transport, control, listener, poll_s=1e6)
        nursery.start_soon(follower.run_poll)
        await listener.wait(1)
        before = asked(control)
        follower.hint(10**15)
        await trio.sleep(80_000)
        assert 2 <= asked(control) - before <= 9
        control.publish()
        follower.hint(2)
        await listener.wait(2)
        nursery.cancel_scope.cancel()


async def test_a_cache_that_is_behind_is_asked_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    control, listener = SimulatedControl(), Listener()
    async with Transport(URL, wire=control.wire()) as transport, trio.open_nursery() as nursery:
        follower = make_follower(tmp_path, transport, control, listener, poll_s=1e6)
        nursery.start_soon(follower.run_poll)
        await listener.wait(1)
        follower.hint(2)
        await trio.sleep(3)
        control.publish()
        await listener.wait(2)
        nursery.cancel_scope.cancel()


async def test_a_push_may_ask_devices_to_spread(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    waits = []
    for number in range(20):
        control, listener = SimulatedControl(), Listener()
        async with Transport(URL, wire=control.wire()) as transport, trio.open_nursery() as nursery:
            follower = make_follower(tmp_path / str(number), transport, control, listener, poll_s=1e6)
            nursery.start_soon(follower.run_poll)
            await listener.wait(1)
            control.publish()
            began_s = trio.current_time()
            follower.hint(2, spread_s=600.0)
            await listener.wait(2)
            waits.append(trio.current_time() - began_s)
            nursery.cancel_scope.cancel()
    assert max(waits) < 640
    assert max(waits) - min(waits) > 60  # twenty at random


async def test_a_few_epochs_in_a_row_are_followed_at_once_and_many_at_the_rate_that_is_allowed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    control, listener = SimulatedControl(), Listener()
    async with Transport(URL, wire=control.wire()) as transport, trio.open_nursery() as nursery:
        follower = make_follower(tmp_path, transport, control, listener, poll_s=1e6)
        nursery.start_soon(follower.run_poll)
        await listener.wait(1)
        began_s, before = trio.current_time(), asked(control)
        for epoch in (2, 3, 4):
            control.publish()
            follower.hint(epoch)
            await listener.wait(epoch)
        assert trio.current_time() - began_s < 1
        for epoch in range(5, 105):
            control.publish()
            follower.hint(epoch)
            await trio.sleep(0.1)
        await listener.wait(104)
        assert asked(control) - before <= 3 + 10 + 4
        nursery.cancel_scope.cancel()
