"""Sender, outbox and receiver together: whatever breaks, every number ends as one record or one loss."""

from __future__ import annotations

import random
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from walle_agent.streams.storage import RunCommit, StoreLimits, StreamStore
from walle_agent.streams.tunnel import TunnelSender
from walle_shared.clock import FixedClock
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.protocol.tunnel_receiver import (
    HelloReceived,
    RecordReceived,
    SequenceLedger,
    TombstoneReceived,
    TunnelReceiver,
    ack_frames,
)

TASK = (ScenarioName("demo"), TaskName("page_view"))
LIMITS = StoreLimits(outbox_rows=6)


@dataclass
class Cloud:
    """A sink that keeps its ledger and its records together, as a transaction would."""

    ledger: dict[str, Any] | None = None
    records: list[tuple[TunnelClass, int, int]] = field(default_factory=list)
    lost: int = 0

    def connect(self, hello: HelloReceived) -> None:
        ledger = SequenceLedger.from_plain(self.ledger)
        assert ledger.settle(hello) == 0
        self.ledger = ledger.to_plain()

    def take(self, item: RecordReceived | TombstoneReceived) -> list[bytes]:
        ledger = SequenceLedger.from_plain(self.ledger)
        fresh = ledger.admit(item)
        if isinstance(item, TombstoneReceived):
            self.lost += fresh
        elif fresh:
            self.records.append((item.klass, item.seq, item.record.fields["n"]))
        self.ledger = ledger.to_plain()
        return ack_frames(ledger, [item])


class Device:
    """A store that may lose its process, and a connection that may break, at any step."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "streams.db"
        self.store = StreamStore.open(self.path, FixedClock(), LIMITS)
        self.runs = 0
        self.added: dict[TunnelClass, int] = dict.fromkeys(TunnelClass, 0)

    def add(self, klass: TunnelClass, count: int) -> None:
        self.runs += 1
        records = tuple(
            Record("demo", "page_view", "1.0", "r", "view", 1, {"n": self.added[klass] + i + 1})
            for i in range(count)
        )
        self.added[klass] += count
        assert self.store.commit_run(
            RunCommit(
                TASK,
                "1.0",
                "r",
                self.runs,
                uploads=records,
                classes={record.name: klass for record in records},
            )
        )

    def restart(self) -> None:
        self.store.close()
        incarnation = self.store.incarnation
        self.store = StreamStore.open(self.path, FixedClock(), LIMITS)
        assert self.store.incarnation == incarnation

    def talk(self, cloud: Cloud, rng: random.Random, *, breaks: float) -> bool:
        """One connection; True if it ended because nothing was left to send."""
        sender = TunnelSender(self.store.incarnation, self.store.numbers())
        receiver = TunnelReceiver()
        hello = receiver.receive(sender.hello())
        assert isinstance(hello, HelloReceived)
        cloud.connect(hello)
        while batch := self.store.next_batch(sender.sent, rng.randint(1, sender.room)):
            acks: list[bytes] = []
            for frame in sender.send(batch):
                item = receiver.receive(frame)
                assert not isinstance(item, HelloReceived)
                acks += cloud.take(item)
                if rng.random() < breaks:
                    return False
                if rng.random() < 0.1:
                    self.add(rng.choice(list(TunnelClass)), rng.randint(1, 4))  # evicts what is in flight
            for ack in acks:
                if (acked := sender.receive(ack)) is not None:
                    self.store.ack(acked.klass, acked.seq)  # type: ignore[union-attr]
        return True


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(TunnelClass), st.integers(1, 12)), st.just("talk"), st.just("restart")
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(steps, st.integers(0, 2**32))
def test_every_number_arrives_once_or_is_reported_lost(
    given_steps: list[tuple[TunnelClass, int] | str], seed: int
) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        device, cloud = Device(Path(folder)), Cloud()
        stack.callback(lambda: device.store.close())
        for step in given_steps:
            if step == "talk":
                device.talk(cloud, rng, breaks=0.3)
            elif step == "restart":
                device.restart()
            else:
                assert isinstance(step, tuple)
                device.add(*step)
            assert device.store.statistics().outbox.records <= LIMITS.outbox_rows
        while not device.talk(cloud, rng, breaks=0.1):
            pass
    ledger = SequenceLedger.from_plain(cloud.ledger)
    for klass, added in device.added.items():
        assert ledger.contiguous(klass) == added
        numbers = [(seq, n) for record_class, seq, n in cloud.records if record_class is klass]
        assert numbers == sorted(set(numbers))
        assert all(seq == n for seq, n in numbers)
    assert len(cloud.records) + cloud.lost == sum(device.added.values())
