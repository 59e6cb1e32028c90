"""The deployment half of an agent on a simulated control plane, for tests that kill it and look inside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from walle_agent.config import DeploySection
from walle_agent.deploy.answers import Answers
from walle_agent.deploy.budget import Budget
from walle_agent.deploy.decide import Decider
from walle_agent.deploy.deltas import Ways
from walle_agent.deploy.deployer import Deployer
from walle_agent.deploy.download import ContentStore, Downloader
from walle_agent.deploy.follow import EpochFollower
from walle_agent.deploy.slots import SlotFolders
from walle_agent.deploy.steps import Steps
from walle_agent.deploy.trust import TrustKeeper
from walle_agent.link.reporter import Reporter
from walle_agent.link.session import Session
from walle_agent.link.signed_clock import SignedClock
from walle_agent.link.transport import Transport
from walle_agent.state.keeper import StateKeeper
from walle_agent.state.reports import ReportQueue
from walle_agent.state.store import StateStore
from walle_agent.streams.allowance import Conditions
from walle_agent.tasks.registry import TaskRegistry
from walle_shared.clock import FixedClock
from walle_shared.errors import LimitExceeded, StorageError
from walle_shared.manifest import ColumnType, Prepare, Retention, Trigger
from walle_shared.protocol.messages import TOLD_KIND, Report, Told
from walle_shared.targeting.policy import Policy, TaskKey
from walle_shared.trust.roles import POLICY, Pin
from walle_support.control import TOKEN, URL, SimulatedControl


class FakeTriggers:
    """A trigger table that only remembers."""

    def __init__(self) -> None:
        self.registered: dict[TaskKey, Sequence[Trigger]] = {}
        self.declared: dict[TaskKey, Mapping[str, Mapping[str, ColumnType]]] = {}
        self.triggers_max = 8

    async def register(
        self,
        task: TaskKey,
        triggers: Sequence[Trigger],
        tables: Mapping[str, Mapping[str, ColumnType]] | None = None,
        retention: Mapping[str, Retention] | None = None,  # the real one's
        prepare: Sequence[Prepare] = (),
    ) -> None:
        if len(triggers) > self.triggers_max:
            raise LimitExceeded(f"{len(triggers)} triggers are over the limit")
        self.registered[task] = triggers
        self.declared[task] = tables or {}

    async def deregister(self, task: TaskKey) -> None:
        self.registered.pop(task, None)


@dataclass
class Device:
    """Everything of one life of a device."""

    store: StateStore
    keeper: StateKeeper
    queue: ReportQueue
    transport: Transport
    session: Session
    follower: EpochFollower
    decider: Decider
    deployer: Deployer
    steps: Steps
    folders: SlotFolders
    content: ContentStore
    registry: TaskRegistry
    triggers: FakeTriggers
    clock: FixedClock
    trust: TrustKeeper
    corruptions: list[StorageError] = field(default_factory=list)

    async def catch_up(self) -> object:
        """Learn the newest epoch and carry out what it wants; the first failure, if any."""
        if self.session.device_id is None:
            await self.session.credential()
        await self.follower.refresh()
        await self.decider.decide()
        return await self.deployer.converge()

    def active(self) -> dict[str, str]:
        """Version by task, of what may run."""
        return {task.key[1]: task.version for task in self.registry.tasks()}

    def queued_reports(self) -> tuple[Report, ...]:
        """Reports that wait."""
        return self.queue.next_batch(1_000)[1]


@asynccontextmanager
async def live(
    folder: Path,
    control: SimulatedControl,
    *,
    on_boundary: Callable[[str], None] = lambda _: None,
    config: DeploySection | None = None,
    token: str = TOKEN,
    triggers_max: int = 8,
    conditions: Callable[[], Conditions] = Conditions,
    pin: Pin | None = None,
    clock: FixedClock | None = None,
) -> AsyncIterator[Device]:
    """One life of a device: from start to stop, or to death when the body raises."""
    config = config or DeploySection(download_attempts=2)
    clock = clock or control.clock
    corruptions: list[StorageError] = []
    store = StateStore(folder, on_corrupt=corruptions.append)
    keeper = StateKeeper(store)
    content = ContentStore(folder / "blobs")
    folders = SlotFolders(folder / "slots", content)
    triggers = FakeTriggers()
    triggers.triggers_max = triggers_max
    registry = TaskRegistry(triggers)
    queue = ReportQueue(folder / "reports.db", on_corrupt=corruptions.append)
    async with Transport(URL, wire=control.wire()) as transport:
        signed_clock = SignedClock(clock, keeper.state.time_ms)
        trust = TrustKeeper(
            transport,
            folder,
            pin or control.trust.pin,
            keeper,
            signed_clock,
            on_corrupt=corruptions.append,
            require_simulation=config.require_simulation,
        )
        session = Session(transport, store, signed_clock, profile={"group": "beta"}, enrol_token=token)

        def on_policy(policy: Policy, epoch: int) -> None:
            decider.take(policy, epoch)

        follower = EpochFollower(transport, session, keeper, trust, on_policy=on_policy, poll_s=60.0)
        budget = Budget(
            keeper,
            clock,
            bytes_per_day=config.bytes_per_day,
            metered_max_bytes=config.metered_max_bytes,
            conditions=conditions,
        )
        downloader = Downloader(
            transport,
            content,
            attempts=config.download_attempts,
            base_s=0.001,
            cap_s=0.002,
            on_received=budget.spend,
        )
        steps = Steps(
            keeper=keeper,
            folders=folders,
            content=content,
            ways=Ways(transport, content, downloader, memory_max_bytes=config.delta_memory_bytes),
            transport=transport,
            registry=registry,
            budget=budget,
            confirm=lambda wanted: decider.confirm(wanted),
            still=lambda wanted: deployer.wants(wanted),
            approve=trust.approve,
            on_boundary=on_boundary,
        )
        deployer = Deployer(keeper, steps, Reporter(queue, clock), config)

        async def open_told(data: bytes) -> Told:
            return await trust.open(Told, TOLD_KIND, POLICY, data)

        answers = Answers(transport, session, open_told, trust.now_ms)
        decider = Decider(
            session, lambda: {"group": "beta"}, answers, deployer, follower.confirm, trust.now_ms
        )
        try:
            await deployer.recover()
            yield Device(
                store,
                keeper,
                queue,
                transport,
                session,
                follower,
                decider,
                deployer,
                steps,
                folders,
                content,
                registry,
                triggers,
                clock,
                trust,
                corruptions,
            )
        finally:
            queue.close()
