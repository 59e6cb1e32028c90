"""Answers what devices ask the cloud halves of their tasks.

A question is refused as early as that can be known: no such version, a cloud half that only fails, a budget
that is used up, a queue that is too long for the time there is. What is let in waits for its turn
(``queue``) and is run in the container that devices have, so with its limits and its fences.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol

import trio

from walle_container import HostConfig, TaskHost, TaskResult, TaskSpec, cloud_spec
from walle_control.config import CloudConfig
from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.db.store import Store
from walle_control.features.cloud.breaker import Breaker
from walle_control.features.cloud.budget import Budgets
from walle_control.features.cloud.queue import FairQueue, Ticket
from walle_control.features.releases import read_model as releases
from walle_control.features.tasks import read_model as tasks
from walle_control.features.tasks.cloud_files import CloudFiles
from walle_shared.clock import Clock
from walle_shared.errors import InternalError, NotFound, StateError, StorageError, TrustError, WalleError
from walle_shared.ids import DeviceId, ReleaseId, TaskName, TaskVersion
from walle_shared.limits import CLOUD_ANSWER_MAX_BYTES, MANIFEST_MAX_BYTES
from walle_shared.manifest import CloudSection, Manifest
from walle_shared.observe import get_logger
from walle_shared.protocol.asks import Answer, Ask
from walle_shared.protocol.codec import decode, encode
from walle_shared.protocol.messages import FileRef, Report
from walle_shared.tracing import TRACEPARENT

_log = get_logger("control.cloud")

#: Versions whose manifests and breakers are remembered.
_HALVES_MAX: Final = 256
#: A failure of one kind is reported so often at most.
_TOLD_EVERY_S: Final = 1.0
#: Failures that wait to be told; more are left out.
_FAILURES_MAX: Final = 64
#: Reasons that speak of this moment alone.
_PASSING: Final = frozenset({"busy", "deadline", "budget"})
#: Pause before another try to start the container.
_RESTART_S: Final = 5.0


class Refused(Exception):
    """There is no answer; the device is told why.

    Attributes:
        passes: asking again later may help.
    """

    def __init__(self, reason: str, message: str, *, passes: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.passes = passes or reason in _PASSING


@dataclass(frozen=True, slots=True)
class AskTimes:
    """What a question went through, by the wall clock; ``begun_ns`` is 0 where it never came to its turn."""

    device_id: DeviceId
    ask: Ask
    received_ns: int
    begun_ns: int
    ended_ns: int
    outcome: str


class _Progress:
    """How far a question is.

    Args:
        expires_s: when its answer is of no use any more.
    """

    def __init__(self, expires_s: float) -> None:
        self.expires_s = expires_s
        self.received_ns = time.time_ns()
        self.begun_ns = 0

    def times(self, device_id: DeviceId, ask: Ask, outcome: str) -> AskTimes:
        """It is over."""
        return AskTimes(device_id, ask, self.received_ns, self.begun_ns, time.time_ns(), outcome)


class Host(Protocol):
    """The container's front (``walle_container.TaskHost``)."""

    async def run(self, spec: TaskSpec, inputs: dict[str, Any]) -> TaskResult:
        """Run a task once."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """A cloud half failed: a diagnosis of its release."""

    device_id: DeviceId
    ask: Ask
    kind: str
    message: str
    wall_s: float


@dataclass(frozen=True, slots=True)
class Half:
    """The cloud half of a version."""

    spec: TaskSpec
    section: CloudSection
    breaker: Breaker = field(default_factory=Breaker)
    told_s: dict[str, float] = field(default_factory=dict)

    def is_news(self, kind: str, now_s: float) -> bool:
        """Whether a failure is worth a report: of each kind, one in a while."""
        if now_s - self.told_s.get(kind, -math.inf) < _TOLD_EVERY_S:
            return False
        self.told_s[kind] = now_s
        return True


@dataclass(slots=True)
class CloudCounts:
    """What happened since the start: answers by outcome (``answered``, or the reason for none), seconds that
    questions waited, that slots were busy, and of the processor."""

    answers: Counter[str] = field(default_factory=Counter)
    queue_s: float = 0.0
    busy_s: float = 0.0
    cpu_s: float = 0.0


class CloudService:
    """The cloud halves that this worker runs.

    Args:
        data: database and files.
        config: how many at once.
        clock: wall time, by whose hours budgets go.
        on_failure: told of every failure of a cloud half.
        on_asked: told of every question that has a trace, once it is over.
    """

    def __init__(
        self,
        data: Store,
        config: CloudConfig,
        clock: Clock,
        on_failure: Callable[[Failure], Awaitable[None]],
        on_asked: Callable[[AskTimes], None] | None = None,
    ) -> None:
        self.budgets = Budgets(data.database, clock)
        self._on_asked = on_asked
        self._database: Database = data.database
        self._data = data
        self._files = CloudFiles(data)
        self._config = config
        self._on_failure = on_failure
        self._failed, self._failures = trio.open_memory_channel[Failure](_FAILURES_MAX)
        self._queue = FairQueue(max(config.slots, 1), config.queue)
        self._turns: dict[Ticket, trio.Event] = {}
        self._halves: OrderedDict[tuple[str, str, str, str], Half] = OrderedDict()
        self._wanted = trio.Event()
        self._opened = trio.Event()
        self._host: Host | None = None
        self.counts = CloudCounts()

    @property
    def slots(self) -> int:
        """Answers that are worked out at once."""
        return self._config.slots

    @property
    def waiting(self) -> int:
        """Questions that wait for their turn."""
        return self._queue.waiting

    @property
    def running(self) -> int:
        """Questions that are worked on."""
        return self._queue.running

    async def run(self) -> NoReturn:
        """Have a container once somebody asks, and tell of failures, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_failures)
            nursery.start_soon(self._keep_hosts)
            await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def _tell_failures(self) -> None:
        async for failure in self._failures:
            try:
                await self._on_failure(failure)
            except WalleError as error:  # the database: the next one is told again
                _log.warning("cloud_failure_not_told", code=error.code, error=error.message)

    async def _keep_hosts(self) -> NoReturn:
        await self._wanted.wait()
        while True:
            try:
                await self._keep_host()
            except InternalError as error:  # its first worker does not start: questions wait, or give up
                _log.error("cloud_workers_not_started", error=error.message, retry_s=_RESTART_S)
            await trio.sleep(_RESTART_S)

    async def _keep_host(self) -> NoReturn:
        config = HostConfig(
            slots=self._config.slots,
            workers_max=self._config.processes,
            idle_s=self._config.idle_s,
            bundles_dir=self._data.home.unpacked,
        )
        async with TaskHost(config) as host:
            self._host = host
            self._opened.set()
            await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def ask(self, device_id: DeviceId, ask: Ask, data: bytes) -> Answer:
        """Answer a device, or say why not. Cancelling ends the work."""
        try:
            return await self.try_ask(device_id, ask, data)
        except Refused as refused:
            _log.debug(
                "ask_refused", device=device_id, task=ask.task, reason=refused.reason, message=refused.message
            )
            return Answer(reason=refused.reason, message=refused.message)

    async def try_ask(self, device_id: DeviceId, ask: Ask, data: bytes) -> Answer:
        """Answer a device. Cancelling ends the work.

        Raises:
            Refused: there is no answer.
        """
        outcome, progress = "withdrawn", _Progress(trio.current_time() + ask.within_ms / 1_000)
        try:
            answer = await self._ask(device_id, ask, data, progress)
            outcome = "answered"
        except Refused as refused:
            outcome = refused.reason
            raise
        finally:
            self.counts.answers[outcome] += 1
            if TRACEPARENT in ask.extra and self._on_asked is not None:
                self._on_asked(progress.times(device_id, ask, outcome))
        return answer

    async def _ask(self, device_id: DeviceId, ask: Ask, data: bytes, progress: _Progress) -> Answer:
        if not self._config.slots:
            raise Refused("unsupported", "this control plane runs no cloud halves: cloud.slots is 0")
        half = await self._half(ask)
        is_trial = half.breaker.is_open
        if not half.breaker.lets(trio.current_time()):
            message = f"the cloud half of {ask.task} {ask.version} fails, and is left alone a while"
            raise Refused("failed", message, passes=True)
        try:
            with trio.move_on_at(progress.expires_s):
                await self._charge(half, device_id, ask)
                return await self._in_turn(half, device_id, ask, data, progress)
        finally:
            if is_trial:
                half.breaker.unknown()
        raise Refused("deadline", "the answer was not there in time")

    async def _charge(self, half: Half, device_id: DeviceId, ask: Ask) -> None:
        if not await self.budgets.has_time(ask.release_id, half.section):
            raise Refused("budget", "the release has used its processor time of this hour (seconds_per_hour)")
        if not await self.budgets.take_ask(ask.release_id, device_id, half.section):
            raise Refused("budget", "the device has asked all it may in this hour (asks_per_device_hour)")

    async def _in_turn(
        self, half: Half, device_id: DeviceId, ask: Ask, data: bytes, progress: _Progress
    ) -> Answer:
        ticket = Ticket(ask.release_id, device_id, progress.expires_s, half.section.workers)
        began_s = trio.current_time()
        await self._wait_turn(ticket)
        self.counts.queue_s += trio.current_time() - began_s
        progress.begun_ns = time.time_ns()
        worked_s: float | None = None  # without the start of a worker
        started_s = trio.current_time()
        try:
            result = await self._run(half, device_id, ask, data)
            worked_s = result.wall_s
        finally:
            now_s = trio.current_time()
            self.counts.busy_s += now_s - started_s
            took_s = now_s - started_s if worked_s is None else worked_s
            self._queue.done(ticket, now_s, took_s, counts=worked_s is not None)
            self._begin()
        self.counts.cpu_s += result.cpu_s
        self.budgets.spend_time(ask.release_id, result.cpu_s)
        return self._judge(half, device_id, ask, result)

    async def _wait_turn(self, ticket: Ticket) -> None:
        refusal = self._queue.enter(ticket, trio.current_time())
        if refusal == "deadline":
            raise Refused("deadline", "so many wait already that the answer would not be there in time")
        if refusal is not None:
            raise Refused("busy", f"{self._config.queue} questions wait already")
        turn = self._turns[ticket] = trio.Event()
        self._begin()
        try:
            await turn.wait()
        except trio.Cancelled:
            if self._turns.pop(ticket, None) is not None:
                self._queue.leave(ticket)
            else:  # its turn had just come
                self._queue.done(ticket, trio.current_time(), 0.0, counts=False)
                self._begin()
            raise

    def _begin(self) -> None:
        """Let those begin whose turn it is."""
        while (ticket := self._queue.next(trio.current_time())) is not None:
            self._turns.pop(ticket).set()

    async def _run(self, half: Half, device_id: DeviceId, ask: Ask, data: bytes) -> TaskResult:
        self._wanted.set()
        await self._opened.wait()
        assert self._host is not None
        request: dict[str, Any] = {
            "payload": dict(ask.payload), "device_id": device_id, "version": ask.version
        }  # fmt: skip
        if data:
            request["data"] = memoryview(data)
        try:
            return await self._host.run(half.spec, {"events": [], "request": request})
        except InternalError as error:
            _log.error("cloud_worker_not_started", error=error.message)
            raise Refused("busy", "no worker starts here") from None
        except (WalleError, StateError) as error:
            raise Refused("refused", error.message) from None

    def _judge(self, half: Half, device_id: DeviceId, ask: Ask, result: TaskResult) -> Answer:
        kind: str | None = result.error_kind
        message = result.error or ""
        if result.ok:
            fault = _fault_of(result.value)
            if not fault:
                half.breaker.succeeded()
                return Answer(result.value)
            kind, message = "invalid", fault
        half.breaker.failed(trio.current_time())
        _log.warning(
            "cloud_half_failed", release=ask.release_id, task=ask.task, version=ask.version, kind=kind,
            error=message, traceback=result.traceback,
        )  # fmt: skip
        kind = kind or "no_worker"
        if half.is_news(kind, trio.current_time()):
            with suppress(trio.WouldBlock):  # there are more than enough to read
                self._failed.send_nowait(Failure(device_id, ask, kind, message, result.wall_s))
        raise Refused("failed", f"{kind}: {message}"[:500])

    # What answers

    async def _half(self, ask: Ask) -> Half:
        """The cloud half that a device means: of its own version, under a release that has it."""
        key = (ask.scenario, ask.task, ask.version, ask.release_id)
        half = self._halves.get(key)
        if half is None:
            half = await self._find(ask)
            self._halves[key] = half
            while len(self._halves) > _HALVES_MAX:
                self._halves.popitem(last=False)
        self._halves.move_to_end(key)
        return half

    async def _find(self, ask: Ask) -> Half:
        try:
            ref = await self._database.read(lambda db: _manifest_of(db, ask))
            return await trio.to_thread.run_sync(self._open, ref)
        except NotFound as error:
            raise Refused("refused", error.message) from None
        except (StorageError, TrustError) as error:
            _log.error("cloud_half_broken", task=ask.task, version=ask.version, error=error.message)
            raise Refused("refused", "the cloud half is not whole here") from None

    def _open(self, ref: FileRef) -> Half:
        encoded = self._data.files.read("manifest", ref)
        manifest = decode(Manifest, encoded, limit_bytes=MANIFEST_MAX_BYTES)
        place = self._files.unpack(manifest, ref.sha256)
        section = manifest.definition.cloud
        assert section is not None  # it could be unpacked
        return Half(cloud_spec(manifest.definition, place, manifest.version), section)


def _fault_of(value: Any) -> str:
    """What keeps a value from being sent as an answer."""
    try:
        size_bytes = len(encode(Answer(value)))
    except TypeError:  # orjson's: the container lets numbers pass as they are
        return "the answer holds numbers that are not JSON: use .tolist()"
    if size_bytes > CLOUD_ANSWER_MAX_BYTES:
        return f"the answer has {size_bytes} bytes; the limit is {CLOUD_ANSWER_MAX_BYTES}"
    return ""


def report_of(failure: Failure, now_ms: int) -> Report:
    """A failure as a report of its release: it is diagnosed, but no device votes by it."""
    ask = failure.ask
    return Report(
        f"cloud-{secrets.token_hex(12)}", ReleaseId(ask.release_id), TaskName(ask.task),
        TaskVersion(ask.version), "run", "failure", 1, now_ms, failure.wall_s * 1_000, "runtime",
        f"cloud_{failure.kind}"[:64], failure.message[:1_000], votes=False,
    )  # fmt: skip


def _manifest_of(db: Connection, ask: Ask) -> FileRef:
    """The manifest of a version that a release has.

    Raises:
        NotFound: there is no such release, or it is of something else.
    """
    row = releases.find(db, ReleaseId(ask.release_id))
    if row is None or (row.scenario, row.task, row.version) != (ask.scenario, ask.task, ask.version):
        raise NotFound(f"no release {ask.release_id[:80]!r} has {ask.task[:80]} {ask.version[:40]}")
    return tasks.manifest_of(db, ask.scenario, ask.task, ask.version)


__all__ = ["AskTimes", "CloudCounts", "CloudService", "Failure", "report_of"]
