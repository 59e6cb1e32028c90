"""The supervision tree.

::

    run_agent
    ├── streams      file of events, rows and the outbox        closed last, flushed
    ├── host         worker process and its slots
    └── nursery
        ├── signals          SIGTERM, SIGINT: cancel the nursery
        ├── events           Unix socket in                     ┐
        ├── events-http      HTTP on loopback in, if it is set  │
        ├── pipeline         events to firings                  │
        ├── runners          firings to rows, records, reports  │ each restarts by itself
        ├── tunnel           records out                        │ after an error, with backoff;
        ├── poll             conditional GET of the epoch       │ none takes another down
        ├── stream           push of the epoch                  │
        ├── decider          policy and time to what is wanted  │
        ├── deployer         what is wanted to installed tasks  │
        ├── settling         fresh versions that did no harm    │
        ├── own-files        files that this device alone has   │
        ├── learning         open rounds to firings             │
        ├── reporter         reports out                        │
        └── status           counters for `walle-agent status`  ┘
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import trio

from walle_agent.config import AgentConfig
from walle_agent.deploy.answers import Answers
from walle_agent.deploy.budget import Budget
from walle_agent.deploy.decide import Decider
from walle_agent.deploy.deltas import Ways
from walle_agent.deploy.deployer import Deployer
from walle_agent.deploy.download import ContentStore, Downloader
from walle_agent.deploy.follow import EpochFollower
from walle_agent.deploy.own import OwnFiles, OwnLinks
from walle_agent.deploy.profile import measure_profile
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
from walle_agent.streams.allowance import Allowance, Conditions, ConditionsFile
from walle_agent.streams.asks import AskLine
from walle_agent.streams.http_ingest import TOKEN_FILE, HttpListener
from walle_agent.streams.ingest import EventCheck, EventListener
from walle_agent.streams.results import ResultBoard
from walle_agent.streams.service import ServiceLimits, StreamService, open_streams
from walle_agent.streams.tunnel import Tunnel
from walle_agent.tasks.confinement import Confinement
from walle_agent.tasks.inbox import Inbox
from walle_agent.tasks.learning import Around, Learner
from walle_agent.tasks.registry import InstalledTask, TaskRegistry
from walle_agent.tasks.runner import TaskRunner
from walle_container import HostConfig, TaskHost
from walle_shared.backoff import Backoff
from walle_shared.clock import Clock, SystemClock
from walle_shared.errors import ConfigError, StorageError
from walle_shared.exclusive import EXCLUSIVE_KIND, ExclusiveManifest
from walle_shared.learning import ROUNDS_KIND, OpenRounds
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import TOLD_KIND, Told
from walle_shared.records import to_plain
from walle_shared.schema import EventSchema
from walle_shared.trust.roles import EXCLUSIVE, POLICY

_log = get_logger("agent")

LOCK_FILE = "agent.lock"
STATUS_FILE = "status.json"
REPORTS_FILE = "reports.db"
STREAMS_FILE = "streams.db"
SLOTS_FOLDER = "slots"

#: A service that ran this long before it failed is not in a crash loop.
_SETTLED_S = 60.0
_STATUS_EVERY_S = 1.0

#: While one run waits for its group to be committed, others use the slot.
_RUNNERS_PER_SLOT = 32


@dataclass(frozen=True, slots=True)
class Agent:
    """The parts of a running agent."""

    config: AgentConfig
    keeper: StateKeeper
    session: Session
    follower: EpochFollower
    decider: Decider
    deployer: Deployer
    own: OwnFiles
    reporter: Reporter
    registry: TaskRegistry
    runner: TaskRunner
    streams: StreamService
    listener: EventListener
    results: ResultBoard
    http: HttpListener | None
    tunnel: Tunnel
    host: TaskHost
    learner: Learner

    def status(self) -> dict[str, Any]:
        """Counters of every part, as plain values."""
        return {
            "pid": os.getpid(),
            "epoch": self.follower.epoch,
            "events_socket": str(self.config.events_socket),
            "runs": to_plain(self.runner.statistics()),
            "streams": to_plain(self.streams.statistics()),
            "listener": to_plain(self.listener.statistics()),
            "results": to_plain(self.results.statistics()),
            "http": to_plain(self.http.statistics()) if self.http is not None else None,
            "tunnel": to_plain(self.tunnel.statistics()),
            "container": to_plain(self.host.statistics()),
            "learning": to_plain(self.learner.statistics()),
        }


async def run_agent(
    config: AgentConfig,
    *,
    clock: Clock | None = None,
    wire: httpx.AsyncBaseTransport | None = None,
    task_status: trio.TaskStatus[Agent] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until cancelled or told to stop by a signal.

    Args:
        config: the settings.
        clock: wall and monotonic time.
        wire: carries HTTP requests; tests put a simulator here.
        task_status: given the agent once its services run.

    Raises:
        ConfigError: another agent uses the folder, or a setting cannot be right.
        StorageError: the data folder cannot be used.
    """
    async with open_agent(config, clock or SystemClock(), wire) as agent:
        await agent.deployer.recover()
        _log.info(
            "agent_started", pid=os.getpid(), data_dir=str(config.data_dir), device_id=agent.session.device_id
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
            for name, service in services(agent):
                nursery.start_soon(supervise, name, service)
            task_status.started(agent)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5.0):
            try:
                await agent.deployer.settle()  # a stop in good order is no crash of what was started last
            except StorageError as error:
                _log.warning("starts_not_settled", error=str(error))
    _log.info("agent_stopped")


def services(agent: Agent) -> list[tuple[str, Callable[[], Awaitable[object]]]]:
    """Every service by name."""
    make_backoff = partial(Backoff, agent.config.link.backoff_base_s, agent.config.link.backoff_cap_s)
    return [
        ("events", agent.listener.run),
        *([("events-http", agent.http.run)] if agent.http is not None else []),
        ("pipeline", agent.streams.run),
        *[
            (f"runner-{number}", agent.runner.run)
            for number in range(_RUNNERS_PER_SLOT * agent.config.run.slots)
        ],
        ("tunnel", agent.tunnel.run),
        ("poll", agent.follower.run_poll),
        ("stream", agent.follower.run_stream),
        ("decider", agent.decider.run),
        ("deployer", agent.deployer.run),
        ("settling", agent.deployer.run_settling),
        ("own-files", agent.own.run),
        ("learning", agent.learner.run),
        ("reporter", partial(agent.reporter.run, agent.session, make_backoff())),
        ("status", partial(write_status, agent)),
    ]


async def supervise(name: str, service: Callable[[], Awaitable[object]]) -> None:
    """Keep a service running: whatever it dies of, start it again after a wait. Cancellation passes."""
    backoff = Backoff(0.5, 60.0)
    while True:
        started_s = trio.current_time()
        try:
            await service()
            _log.warning("service_ended", service=name)
        except Exception as error:  # noqa: BLE001  # one service's fault must not take the others down
            _log.exception("service_failed", service=name, error=str(error))
        if trio.current_time() - started_s >= _SETTLED_S:
            backoff.reset()
        await trio.sleep(backoff.next_delay_s())


@asynccontextmanager
async def open_agent(
    config: AgentConfig, clock: Clock, wire: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Agent]:
    """Make the parts of an agent and close them in order; nothing runs yet.

    Raises:
        ConfigError: another agent uses the folder.
        StorageError: the data folder cannot be used.
    """
    folder = config.data_dir
    schema = await trio.to_thread.run_sync(config.event_schema)
    check = EventCheck(schema, config.streams.check) if schema is not None else None
    with folder_lock(folder):
        store = await trio.to_thread.run_sync(partial(StateStore, folder, on_corrupt=_note_corrupt))
        queue = await trio.to_thread.run_sync(
            partial(
                ReportQueue,
                folder / REPORTS_FILE,
                capacity=config.link.reports_max,
                on_corrupt=_note_corrupt,
            )
        )
        try:
            async with (
                Transport(
                    config.control.url,
                    timeout_s=config.link.timeout_s,
                    stream_silence_s=config.link.stream_silence_s,
                    trace_share=config.run.trace_share,
                    wire=wire,
                ) as transport,
                open_streams(folder / STREAMS_FILE, clock, _stream_limits(config), check) as streams,
                TaskHost(host_config(config)) as host,
            ):
                yield assemble(config, clock, store, queue, transport, streams, host, schema)
        finally:
            queue.close()


def host_config(config: AgentConfig) -> HostConfig:
    """How the container works on this device."""
    return HostConfig(
        slots=config.run.slots,
        workers_max=config.run.workers,
        idle_s=config.run.worker_idle_s,
        bundles_dir=config.data_dir / SLOTS_FOLDER,
    )


def assemble(
    config: AgentConfig,
    clock: Clock,
    store: StateStore,
    queue: ReportQueue,
    transport: Transport,
    streams: StreamService,
    host: TaskHost,
    schema: EventSchema | None,
) -> Agent:
    """Wire the parts together."""
    link, deploy = config.link, config.deploy
    make_backoff = partial(Backoff, link.backoff_base_s, link.backoff_cap_s)
    profile = measure_profile(config.profile)
    keeper = StateKeeper(store)
    signed_clock = SignedClock(clock, keeper.state.time_ms)
    trust = TrustKeeper(
        transport,
        config.data_dir,
        config.trusted_root(),
        keeper,
        signed_clock,
        on_corrupt=_note_corrupt,
        require_simulation=deploy.require_simulation,
    )
    session = Session(transport, store, signed_clock, profile=profile, enrol_token=config.control.enrol_token)
    reporter = Reporter(queue, clock, linger_s=link.report_linger_s)
    confinement = Confinement(schema, streams)
    registry = TaskRegistry(streams, confinement)
    content = ContentStore(config.data_dir / "blobs")

    conditions = _conditions(config)
    budget = Budget(
        keeper,
        clock,
        bytes_per_day=deploy.bytes_per_day,
        metered_max_bytes=deploy.metered_max_bytes,
        conditions=conditions,
        profile=config.profile,
    )

    follower = EpochFollower(
        transport,
        session,
        keeper,
        trust,
        on_policy=lambda policy, epoch: decider.take(policy, epoch),
        poll_s=link.poll_s,
        backoff=make_backoff,
    )

    def make_downloader(target: ContentStore) -> Downloader:
        return Downloader(
            transport,
            target,
            attempts=deploy.download_attempts,
            base_s=link.backoff_base_s,
            on_received=budget.spend,
        )

    sealed = ContentStore(config.data_dir / "sealed")
    own = OwnFiles(
        session,
        store,
        keeper,
        registry,
        sealed,
        make_downloader(sealed),
        OwnLinks(
            config.data_dir / "own",
            lambda data: trust.open(ExclusiveManifest, EXCLUSIVE_KIND, EXCLUSIVE, data),
            trust.now_ms,
        ),
        poll_s=link.poll_s,
        backoff=make_backoff,
    )

    async def place_own(task: InstalledTask) -> None:
        await trio.to_thread.run_sync(own.place, task)
        own.poke()

    steps = Steps(
        keeper=keeper,
        folders=SlotFolders(config.data_dir / SLOTS_FOLDER, content),
        content=content,
        ways=Ways(transport, content, make_downloader(content), memory_max_bytes=deploy.delta_memory_bytes),
        transport=transport,
        registry=registry,
        budget=budget,
        confirm=lambda wanted: decider.confirm(wanted),
        still=lambda wanted: deployer.wants(wanted),
        approve=trust.approve,
        place_own=place_own,
    )
    http = config.events_http
    deployer = Deployer(keeper, steps, reporter, deploy)

    async def open_told(data: bytes) -> Told:
        return await trust.open(Told, TOLD_KIND, POLICY, data)

    answers = Answers(transport, session, open_told, trust.now_ms)
    decider = Decider(
        session,
        lambda: {"network": budget.network(), **profile},
        answers,
        deployer,
        follower.confirm,
        trust.now_ms,
    )

    async def open_rounds(data: bytes) -> OpenRounds:
        return await trust.open(OpenRounds, ROUNDS_KIND, POLICY, data)

    learner = Learner(
        transport,
        streams,
        config.learning,
        Around(
            open_rounds,
            trust.now_ms,
            lambda: session.device_id,
            conditions,
            registry.tasks,
            streams.inlet.emit,
            confinement.reasons,
            lambda: store.identity.key_hex if store.identity is not None else "",
            lambda key: keeper.state.own_record(key).counter,
        ),
        backoff=make_backoff,
    )
    inbox = Inbox(config.inbox_dir, config.inbox, clock)
    inbox.open()
    results, asks = ResultBoard(), AskLine()
    runner = TaskRunner(
        host,
        streams,
        registry,
        reporter,
        deployer.judge,
        deployer,
        clock,
        config.run,
        privacy=confinement,
        results=results,
        cloud=asks,
        learner=learner,
        inbox=inbox,
    )
    return Agent(
        config,
        keeper,
        session,
        follower,
        decider,
        deployer,
        own,
        reporter,
        registry,
        runner,
        streams,
        EventListener(config.events_socket, streams.inlet.emit, follower.hint, results),
        results,
        HttpListener(http, config.data_dir / TOKEN_FILE, streams.inlet.emit) if http is not None else None,
        Tunnel(
            streams,
            session.connect_tunnel,
            backoff=make_backoff(),
            allowance=_allowance(config, conditions),
            asks=asks,
            take_push=streams.take_push,
            heartbeat_s=config.tunnel.heartbeat_s,
        ),
        host,
        learner,
    )


def _conditions(config: AgentConfig) -> Callable[[], Conditions]:
    path = config.tunnel.conditions_file
    return ConditionsFile(Path(path)) if path else Conditions


def _allowance(config: AgentConfig, conditions: Callable[[], Conditions]) -> Allowance:
    tunnel = config.tunnel
    return Allowance(
        bytes_per_day=tunnel.bytes_per_day, battery_min=tunnel.battery_min, conditions=conditions
    )


def _stream_limits(config: AgentConfig) -> ServiceLimits:
    streams = config.streams
    return ServiceLimits(firings=config.run.queue, reorder_s=streams.reorder_s, late=streams.late)


async def write_status(agent: Agent) -> None:
    """Write the counters for ``walle-agent status`` whenever they have changed."""
    path = agent.config.data_dir / STATUS_FILE
    written = b""
    while True:
        data = orjson.dumps(agent.status())
        if data != written:
            await trio.to_thread.run_sync(_replace, path, data)
            written = data
        await trio.sleep(_STATUS_EVERY_S)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other agents out of a data folder.

    Raises:
        ConfigError: one is in there.
        StorageError: the folder cannot be used.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = path.open("a+")
    except OSError as error:
        raise StorageError(f"{folder}: cannot be used: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{folder}: another agent uses this folder: stop it, or set agent.data_dir"
            ) from None
        yield


def is_running(folder: Path) -> bool:
    """Whether an agent uses this data folder."""
    try:
        with (folder / LOCK_FILE).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            _log.info("stop_requested", signal=signal.Signals(number).name)
            scope.cancel()
            return


def _replace(path: Path, data: bytes) -> None:
    """Replace a file that may be lost in a crash but is never half written."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    temporary.replace(path)


def _note_corrupt(error: StorageError) -> None:
    _log.error("file_set_aside", code=error.code, error=str(error))
