"""The tunnel's loop under a virtual clock: real store, real receiver, a channel that fails on purpose."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import pytest
import trio
from trio.abc import Clock

from walle_agent.streams.allowance import Allowance, Conditions
from walle_agent.streams.outbox import Numbers, Outgoing
from walle_agent.streams.storage import RunCommit, StreamStore
from walle_agent.streams.tunnel import ACK_TIMEOUT_S, HEARTBEAT_S, Tunnel
from walle_shared.clock import FixedClock
from walle_shared.errors import ConnectionLost, StorageError
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.limits import TUNNEL_WINDOW_BYTES, TUNNEL_WINDOW_FRAMES
from walle_shared.protocol.asks import Answer, Push, answer_frame, push_frame, welcome_frame
from walle_shared.protocol.messages import GoodbyeNotice
from walle_shared.protocol.tunnel import Frame, FrameKind, PaceNotice, Record, TunnelClass, encode_frame
from walle_shared.protocol.tunnel_receiver import (
    HelloReceived,
    RecordReceived,
    SequenceLedger,
    TunnelReceiver,
    ack_frames,
    goodbye_frame,
    pace_frame,
)

TASK = (ScenarioName("demo"), TaskName("page_view"))
BATCH = TunnelClass.BATCH


class DirectOutbox:
    """``OutboxAccess`` straight on a store: without threads, so that the clock may be virtual."""

    def __init__(self, store: StreamStore) -> None:
        self.store = store
        self.runs = 0
        self.changed = trio.Event()
        self.ack_error: StorageError | None = None

    def add(self, count: int = 1, more: Mapping[str, str] = MappingProxyType({})) -> None:
        self.runs += 1
        records = tuple(
            Record("demo", "page_view", "1.0", "r", "view", 1, {"n": n, **more}) for n in range(count)
        )
        self.store.commit_run(
            RunCommit(TASK, "1.0", "r", self.runs, uploads=records, classes={"view": BATCH})
        )
        self.changed.set()
        self.changed = trio.Event()

    @property
    def incarnation(self) -> str:
        return self.store.incarnation

    async def next_batch(self, after: Mapping[TunnelClass, int], limit: int) -> list[Outgoing]:
        return self.store.next_batch(after, limit)

    async def ack(self, incarnation: str, klass: TunnelClass, seq: int) -> None:
        if self.ack_error is not None:
            raise self.ack_error
        self.store.ack(klass, seq, incarnation=incarnation)

    async def numbers(self) -> Numbers:
        return self.store.numbers()

    async def wait_outgoing(self, seen: int) -> int:
        while self.runs <= seen:
            await self.changed.wait()
        return self.runs


class FakeCloud:
    """Takes connections; ``react`` may answer a received item in another way than by acknowledging it."""

    def __init__(self) -> None:
        self.ledger = SequenceLedger()
        self.hellos: list[HelloReceived] = []
        self.hello_times: list[float] = []
        self.got: list[int] = []
        self.unacked_max = 0
        self.pings = 0
        self.deaf = False
        self.refuse: Exception | None = None
        self.react: Callable[[RecordReceived], list[bytes] | None] = lambda item: None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[FakeChannel]:
        await trio.lowlevel.checkpoint()
        if self.refuse is not None:
            raise self.refuse
        self.channel = FakeChannel(self)
        yield self.channel

    async def say_pace(self, window: int, reason: str, times: int) -> None:
        for _ in range(times):
            self.channel.out.send_nowait(pace_frame(window, PaceNotice(reason)))
            await trio.sleep(10)

    def admit(self, seq: int) -> None:
        item = RecordReceived(BATCH, seq, Record("demo", "page_view", "1.0", "r", "view", 1, {}))
        self.ledger.admit(item)
        self.got.append(seq)
        for frame in ack_frames(self.ledger, [item]):
            self.channel.out.send_nowait(frame)


class FakeChannel:
    def __init__(self, cloud: FakeCloud) -> None:
        self.cloud = cloud
        self.receiver = TunnelReceiver()
        self.unacked = 0
        self.out, self.inward = trio.open_memory_channel[bytes](100)

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        item = self.receiver.receive(data)
        if isinstance(item, HelloReceived):
            self.cloud.hellos.append(item)
            self.cloud.hello_times.append(trio.current_time())
            return
        assert isinstance(item, RecordReceived)
        self.unacked += 1
        self.cloud.unacked_max = max(self.cloud.unacked_max, self.unacked)
        answer = self.cloud.react(item)
        if answer is None:
            if self.cloud.ledger.admit(item):
                self.cloud.got.append(item.seq)
            answer = ack_frames(self.cloud.ledger, [item])
            self.unacked = 0
        for frame in answer:
            self.out.send_nowait(frame)

    async def receive(self) -> bytes:
        return await self.inward.receive()

    async def ping(self) -> None:
        self.cloud.pings += 1
        if self.cloud.deaf:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()


class Waits:
    """Waits one second, two, three...; remembers what the peer asked for."""

    def __init__(self) -> None:
        self.failures = 0
        self.asked: list[float | None] = []

    def next_delay_s(self, retry_after_s: float | None = None) -> float:
        self.failures += 1
        self.asked.append(retry_after_s)
        return max(float(self.failures), retry_after_s or 0.0)

    def reset(self) -> None:
        self.failures = 0


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[DirectOutbox]:
    store = StreamStore.open(tmp_path / "s.db", FixedClock(mono_ns=1))
    outbox = DirectOutbox(store)
    yield outbox
    outbox.store.close()


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
async def tunnel(outbox: DirectOutbox, cloud: FakeCloud, waits: Waits, nursery: trio.Nursery) -> Tunnel:
    tunnel = Tunnel(outbox, cloud.connect, backoff=waits)
    nursery.start_soon(tunnel.run)
    return tunnel


async def wait_until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(600):
        while not condition():  # noqa: ASYNC110 - the clock is virtual, and the states are counters
            await trio.sleep(0.1)


async def test_records_are_sent_as_they_come_and_forgotten_when_acknowledged(
    autojump_clock: Clock, tunnel: Tunnel, outbox: DirectOutbox, cloud: FakeCloud
) -> None:
    await wait_until(lambda: len(cloud.hellos) == 1)
    outbox.add(20)
    await wait_until(lambda: len(cloud.got) == 20)
    outbox.add()
    await wait_until(lambda: outbox.store.statistics().outbox.acked == 21)
    assert cloud.got == list(range(1, 22))
    statistics = tunnel.statistics()
    assert (statistics.connections, statistics.records_sent, statistics.failures) == (1, 21, 0)
    assert statistics.connected


async def test_batch_records_wait_for_a_network_that_is_not_metered(
    autojump_clock: Clock, outbox: DirectOutbox, cloud: FakeCloud, waits: Waits, nursery: trio.Nursery
) -> None:
    conditions = [Conditions(metered=True)]
    allowance = Allowance(conditions=lambda: conditions[-1])
    tunnel = Tunnel(outbox, cloud.connect, backoff=waits, allowance=allowance)
    nursery.start_soon(tunnel.run)
    outbox.add(3)
    await trio.sleep(3_600)
    assert cloud.got == []
    assert tunnel.statistics().allowance.waiting_for == "a network that is not metered"
    outbox.store.commit_run(
        RunCommit(TASK, "1.0", "r", 99, uploads=(Record("demo", "page_view", "1.0", "r", "now", 1, {}),))
    )
    await wait_until(lambda: tunnel.statistics().records_sent == 1)
    conditions.append(Conditions())
    await wait_until(lambda: outbox.store.statistics().outbox.acked == 4)


async def test_no_more_than_the_window_is_in_flight(
    autojump_clock: Clock, tunnel: Tunnel, outbox: DirectOutbox, cloud: FakeCloud
) -> None:
    cloud.react = lambda item: []
    outbox.add(100)
    await trio.sleep(ACK_TIMEOUT_S / 2)
    assert cloud.unacked_max == TUNNEL_WINDOW_FRAMES
    assert outbox.store.statistics().outbox.records == 100


async def test_large_records_fill_the_window_by_their_bytes(
    autojump_clock: Clock, tunnel: Tunnel, outbox: DirectOutbox, cloud: FakeCloud
) -> None:
    cloud.react = lambda item: []
    chance = random.Random(1)
    for _ in range(10):
        outbox.add(1, {"text": chance.randbytes(15_000).hex()})  # packed, 15 000 bytes and some
    await trio.sleep(ACK_TIMEOUT_S / 2)
    assert 3 <= cloud.unacked_max <= math.ceil(TUNNEL_WINDOW_BYTES / 15_000)


async def test_a_cloud_that_is_late_is_given_time_and_less(
    autojump_clock: Clock, tunnel: Tunnel, outbox: DirectOutbox, cloud: FakeCloud, nursery: trio.Nursery
) -> None:
    await wait_until(lambda: len(cloud.hellos) == 1)
    assert "pace" in cloud.hellos[0].understands

    def late(item: RecordReceived) -> list[bytes]:
        if item.seq == 1:
            nursery.start_soon(cloud.say_pace, 1, "sink: the disk is full", 20)
        return []

    cloud.react = late
    outbox.add()
    await wait_until(lambda: tunnel.statistics().slowed_by != "")
    outbox.add(9)
    await trio.sleep(3 * ACK_TIMEOUT_S)
    assert cloud.unacked_max == 1
    assert tunnel.statistics().failures == 0
    assert tunnel.statistics().slowed_by == "sink: the disk is full"
    cloud.react = lambda item: None
    cloud.admit(1)
    await wait_until(lambda: cloud.got == list(range(1, 11)))
    assert len(cloud.hellos) == 1


async def test_a_quiet_cloud_is_asked_and_left_if_it_does_not_answer(
    autojump_clock: Clock, tunnel: Tunnel, cloud: FakeCloud
) -> None:
    await trio.sleep(10.5 * HEARTBEAT_S)
    assert cloud.pings == tunnel.statistics().heartbeats == 10
    cloud.deaf = True
    await wait_until(lambda: len(cloud.hellos) == 2)
    assert tunnel.statistics().failures == 1


async def test_a_silent_cloud_is_left_and_everything_sent_again(
    autojump_clock: Clock, tunnel: Tunnel, outbox: DirectOutbox, cloud: FakeCloud, waits: Waits
) -> None:
    cloud.react = lambda item: []
    outbox.add(3)
    await wait_until(lambda: len(cloud.hellos) == 2)
    assert cloud.hello_times[1] - cloud.hello_times[0] == pytest.approx(ACK_TIMEOUT_S + 1, abs=0.5)
    cloud.react = lambda item: None
    await wait_until(lambda: outbox.store.statistics().outbox.acked == 3)
    assert cloud.got == [1, 2, 3]
    assert waits.failures == 0


async def test_a_quiet_tunnel_is_not_left(autojump_clock: Clock, tunnel: Tunnel, cloud: FakeCloud) -> None:
    await trio.sleep(100 * ACK_TIMEOUT_S)
    assert len(cloud.hellos) == 1


async def test_a_refused_connection_is_tried_again(
    autojump_clock: Clock, tunnel: Tunnel, outbox: DirectOutbox, cloud: FakeCloud, waits: Waits
) -> None:
    cloud.refuse = ConnectionLost("no route")
    outbox.add()
    await wait_until(lambda: waits.failures == 3)
    cloud.refuse = None
    await wait_until(lambda: cloud.got == [1])
    assert tunnel.statistics().failures == 3


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        encode_frame(Frame(FrameKind.DATA, BATCH, 1)),
        encode_frame(Frame(FrameKind.ACK, BATCH, 99)),
        encode_frame(Frame(FrameKind.GOODBYE, BATCH, 0, b"{}")),
        bytes(300_000),
    ],
)
async def test_a_cloud_that_talks_nonsense_is_left_and_tried_again(
    autojump_clock: Clock, tunnel: Tunnel, outbox: DirectOutbox, cloud: FakeCloud, nonsense: bytes
) -> None:
    cloud.react = lambda item: [nonsense]
    outbox.add()
    await wait_until(lambda: tunnel.statistics().failures == 2)
    cloud.react = lambda item: None
    await wait_until(lambda: outbox.store.statistics().outbox.acked == 1)


async def test_goodbye_is_obeyed(
    autojump_clock: Clock, tunnel: Tunnel, outbox: DirectOutbox, cloud: FakeCloud, waits: Waits
) -> None:
    cloud.react = lambda item: [goodbye_frame(GoodbyeNotice(30.0))]
    outbox.add()
    await wait_until(lambda: len(cloud.hellos) == 2)
    assert waits.asked[0] == 30.0
    assert cloud.hello_times[1] - cloud.hello_times[0] >= 30


async def test_sending_stops_while_acknowledgements_cannot_be_kept(
    autojump_clock: Clock, tunnel: Tunnel, outbox: DirectOutbox, cloud: FakeCloud
) -> None:
    outbox.ack_error = StorageError("disk full", code="storage_full")
    outbox.add(30)
    await wait_until(lambda: tunnel.statistics().failures == 2)
    assert max(cloud.got) <= TUNNEL_WINDOW_FRAMES
    outbox.ack_error = None
    await wait_until(lambda: outbox.store.statistics().outbox.acked == 30)
    assert cloud.got == list(range(1, 31))


async def test_a_new_store_greets_the_cloud_anew(
    autojump_clock: Clock, tunnel: Tunnel, outbox: DirectOutbox, cloud: FakeCloud
) -> None:
    outbox.add(3)
    await wait_until(lambda: outbox.store.statistics().outbox.acked == 3)
    outbox.store.replace_damaged()
    cloud.ledger = SequenceLedger()  # it keeps one per incarnation
    outbox.add(2)
    await wait_until(lambda: len(cloud.hellos) == 2)
    await wait_until(lambda: outbox.store.statistics().outbox.records == 0)
    assert cloud.hellos[0].incarnation != cloud.hellos[1].incarnation
    assert cloud.got == [1, 2, 3, 1, 2]


async def test_a_cloud_that_answers_what_nobody_asked_loses_the_connection_alone(
    autojump_clock: Clock, tunnel: Tunnel, outbox: DirectOutbox, cloud: FakeCloud
) -> None:
    await wait_until(lambda: len(cloud.hellos) == 1)
    assert "asks" in cloud.hellos[0].understands
    cloud.channel.out.send_nowait(welcome_frame())
    cloud.channel.out.send_nowait(answer_frame(5, Answer({})))
    await wait_until(lambda: len(cloud.hellos) == 2)
    outbox.add()
    await wait_until(lambda: cloud.got == [1])
    assert tunnel.statistics().failures == 1


async def test_pushes_come_one_at_a_time(autojump_clock: Clock, tunnel: Tunnel, cloud: FakeCloud) -> None:
    await wait_until(lambda: len(cloud.hellos) == 1)
    for number in (1, 2):
        cloud.channel.out.send_nowait(push_frame(number, Push(f"a:{number}", "demo", "page_view", {})))
    await wait_until(lambda: len(cloud.hellos) == 2)  # this tunnel takes none, so the second is too early
