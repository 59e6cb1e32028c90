"""The agent's part in learning together: which rounds are open for this device, and that it takes part once.

::

    learning.json ─► Learner.run ─event walle.learning_round─► streams ─► runner ─► task: learn.contribute
                          │                                                  │  asks learn.round
                          └──────────── Seat of the run ◄────────────────────┘  sends parts of an update

Rules:

1. A round is believed only by the signature of the role that signs epochs, and for as long as it says.
2. The device stays out of a round that asks more than the task's ``[learning]`` allows, whose cohort it is
   not in, or that is of another model file than it has (``walle_shared.learning``).
3. It takes part with its owner's consent alone, while it is charged, idle and on an unmetered network as the
   task wants it, within the rounds of a day.
4. It takes part once: the mark of it is kept in the transaction that puts the update into the outbox, and one
   run at a time may have the round.
5. A task that may have seen what must not leave the device teaches nothing, unless the settings say so: an
   update can tell of what it was learnt from.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import trio

from walle_agent.config import LearningSettings
from walle_agent.link.exchange import retry_after_s
from walle_agent.link.transport import StaticAnswer
from walle_agent.streams.allowance import Conditions
from walle_agent.streams.event import RawEvent
from walle_agent.tasks.registry import InstalledTask
from walle_container import TunnelSend
from walle_shared.backoff import Backoff
from walle_shared.errors import NotAllowed, RemoteProtocolError, StorageError, TaskError, WalleError
from walle_shared.ids import DeviceId
from walle_shared.learning import (
    BACKUP_FILE,
    BACKUP_RECORD,
    ROUND_EVENT,
    TAKEN_KEY,
    UPDATE_RECORD,
    BackupPart,
    OpenRound,
    OpenRounds,
    UpdatePart,
    encoded_bytes,
    model_path,
    parts_of,
    policy_of,
    vector_size,
)
from walle_shared.limits import LEARNING_MODEL_MAX_BYTES, LEARNING_PART_BYTES
from walle_shared.manifest import TaskFile
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import FileRef
from walle_shared.protocol.tunnel import Record
from walle_shared.records import RecordError, from_plain, to_plain
from walle_shared.sealing import Purpose, seal, wrap
from walle_shared.signing import SigningKey, file_ref, sha256_hex
from walle_shared.targeting.hashing import in_share
from walle_shared.targeting.policy import TaskKey
from walle_shared.units import DAY_S

_log = get_logger("agent.learning")

#: While a round waits for the device to be ready, it is looked so often whether it is.
_LOOK_S: Final = 30.0
#: A task is fired for a round so often, should its runs come to nothing.
_FIRINGS_MAX: Final = 3
#: Rounds that are remembered besides those of a day.
_TAKEN_MAX: Final = 64

_DAY_MS: Final = round(DAY_S * 1_000)


class Source(Protocol):
    """Where rounds and their models come from (``link.transport.Transport``)."""

    async def get_rounds(self, etag: str = "") -> StaticAnswer | None:
        """The file of the open rounds; None if it is still the one ``etag`` names, or there is none."""
        ...

    async def get_file(self, kind: str, ref: FileRef, *, limit_bytes: int) -> bytes:
        """A small immutable file."""
        ...


class Store(Protocol):
    """Where the marks are (``streams.service.StreamService``)."""

    async def get_value(self, task: TaskKey, key: str) -> Any:
        """What the task keeps under a key."""
        ...


@dataclass(frozen=True, slots=True)
class Around:
    """What a learner asks of the rest of the agent.

    Attributes:
        open_rounds: checks the signature of the file of the rounds.
        now_ms: the server's time.
        device_id: this device, once enrolled.
        conditions: its state.
        tasks: those that are active.
        emit: hands in an event.
        confining: what confines a task, by name.
        identity: this device's key, in hex.
        own_counter: the counter of the files that this device has of its own for a task.
    """

    open_rounds: Callable[[bytes], Awaitable[OpenRounds]]
    now_ms: Callable[[], Awaitable[int]]
    device_id: Callable[[], DeviceId | None]
    conditions: Callable[[], Conditions]
    tasks: Callable[[], Sequence[InstalledTask]]
    emit: Callable[[RawEvent], Awaitable[None]]
    confining: Callable[[TaskKey, TaskFile], Awaitable[tuple[str, ...]]]
    identity: Callable[[], str]
    own_counter: Callable[[TaskKey], int]


@dataclass(frozen=True, slots=True)
class LearningStatistics:
    """Rounds open for tasks of this device, given to since the start, and what one waits for."""

    open: int = 0
    contributed: int = 0
    waiting_for: str = ""


@dataclass(slots=True)
class Seat:
    """What one run may do about learning; it has the round of its task to itself until it is left."""

    learner: Learner
    task: InstalledTask
    round: OpenRound | None = None
    taken: list[dict[str, Any]] = field(default_factory=list)

    async def policy(self, _args: dict[str, Any]) -> dict[str, Any]:
        """Answer ``learn.policy``."""
        return policy_of(self.task.definition.learning, consents=self.learner.consents())

    async def offer(self, _args: dict[str, Any]) -> dict[str, Any] | None:
        """Answer ``learn.round``: the round that is open for this device, if there is one."""
        return await self.learner.offer(self)

    def records(self, sends: Sequence[TunnelSend], at_ms: int, *, confined: bool) -> tuple[Record, ...]:
        """The parts of an update as records, if they are those of one whole update of this run's round.

        Raises:
            NotAllowed: there is no round for them, or the task is confined.
            TaskError: they are malformed.
        """
        if not sends:
            return ()
        if self.round is None:
            raise NotAllowed("the run sends an update, and was given no round")
        if confined and not self.learner.config.local_fields:
            raise NotAllowed("an update stays on the device: the task may have seen what is local")
        parts = [_part(send) for send in sends]
        _check_parts(parts, self.round)
        return self._records(UPDATE_RECORD, parts, at_ms)

    def _records(self, name: str, parts: Iterable[UpdatePart | BackupPart], at_ms: int) -> tuple[Record, ...]:
        (scenario, task), version, release = self.task.key, self.task.version, self.task.release_id
        return tuple(Record(scenario, task, version, release, name, at_ms, to_plain(part)) for part in parts)

    def backup(self, sends: Sequence[TunnelSend], at_ms: int) -> tuple[Record, ...]:
        """A personal model, sealed to this device's own key, as records.

        Raises:
            NotAllowed: the task or the device's owner does not allow it.
            TaskError: the parts are malformed.
        """
        if not sends:
            return ()
        if not self.task.definition.learning.backup or not self.learner.consents():
            raise NotAllowed("a personal model stays on the device: set learning.backup, and ask its owner")
        return self._records(BACKUP_RECORD, self.learner.sealed(self.task.key, _joined(sends)), at_ms)

    def mark(self, now_ms: int) -> dict[str, Any]:
        """What is to be kept with an update: that the device took part."""
        assert self.round is not None
        fresh = {"plan": self.round.plan, "round": self.round.number, "at_ms": now_ms}
        return {TAKEN_KEY: [*_recent(self.taken, now_ms), fresh]}

    def leave(self, *, contributed: bool) -> None:
        """The run is over, and all of it is kept or gone."""
        self.learner.left(self, contributed=contributed)


class Learner:
    """Follows the open rounds, and lets tasks take part.

    Args:
        source: the control plane.
        store: has the marks.
        config: consent and budget.
        around: the rest of the agent.
        backoff: makes the waits after failures.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        config: LearningSettings,
        around: Around,
        *,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self.config = config
        self._source = source
        self._store = store
        self._around = around
        self._backoff = backoff
        self._etag = ""
        self._told = OpenRounds(0, 0, ())
        self._fired: dict[tuple[str, int], int] = {}
        self._seated: set[TaskKey] = set()
        self._digests: dict[tuple[str, int, int], str] = {}
        self._stats = LearningStatistics()

    def statistics(self) -> LearningStatistics:
        """What there is to learn."""
        return self._stats

    async def run(self) -> NoReturn:
        """Look for open rounds for ever, and fire the tasks that may take part."""
        backoff, due_s = self._backoff(), 0.0
        while True:
            learning = [task for task in self._around.tasks() if task.definition.learning.model]
            try:
                if learning and trio.current_time() >= due_s:
                    await self.refresh()
                    backoff.reset()
                    due_s = trio.current_time() + self.config.poll_s
                for task in learning:
                    await self._fire(task)
            except WalleError as error:
                due_s = trio.current_time() + backoff.next_delay_s(retry_after_s(error))
                _log.warning("rounds_delayed", code=error.code, error=str(error))
            await trio.sleep(min(_LOOK_S, self.config.poll_s))

    async def refresh(self) -> None:
        """Ask which rounds are open.

        Raises:
            TrustError: the file cannot be believed.
            WalleError: transport or protocol, by type.
        """
        answer = await self._source.get_rounds(self._etag)
        if answer is None:
            return
        self._told = await self._around.open_rounds(answer.envelope)
        self._etag = answer.etag
        self._fired = {key: n for key, n in self._fired.items() if key in map(_name_of, self._told.rounds)}

    def sealed(self, task: TaskKey, plain: bytes) -> list[BackupPart]:
        """A file that only this device can open, in parts."""
        device_id, key_hex = self._around.device_id(), self._around.identity()
        if device_id is None or not key_hex:
            raise NotAllowed("this device is not enrolled: give it an enrolment token")
        public, counter = SigningKey.from_hex(key_hex).public, self._around.own_counter(task)
        content_key, data = seal(plain)
        purpose = Purpose(device_id, task[0], task[1], BACKUP_FILE, counter, sha256_hex(plain))
        wrapped = wrap(content_key, public.raw_hex, purpose)
        name = sha256_hex(data)[:32]
        starts = range(0, len(data), LEARNING_PART_BYTES)
        return [
            BackupPart(
                name, number, len(starts), len(data), file_ref(plain), wrapped, public.keyid, counter,
                base64.b64encode(data[at : at + LEARNING_PART_BYTES]).decode(),
            )
            for number, at in enumerate(starts)
        ]  # fmt: skip

    def seat(self, task: InstalledTask) -> Seat:
        """A seat for one run; leave it when the run is over."""
        return Seat(self, task)

    def left(self, seat: Seat, *, contributed: bool) -> None:
        """A run is over."""
        if seat.round is not None:
            self._seated.discard(seat.task.key)
            if contributed:
                self._note(contributed=self._stats.contributed + 1)
                _log.info(
                    "round_joined", task=seat.task.key[1], plan=seat.round.plan, round=seat.round.number
                )

    async def offer(self, seat: Seat) -> dict[str, Any] | None:
        """The round that a run may take part in, with its model."""
        task = seat.task
        if task.key in self._seated:
            return None
        self._seated.add(task.key)
        try:
            found = await self._ready(task)
            weights = b"" if found is None else await self._weights_of(found[0])
        except BaseException:
            self._seated.discard(task.key)
            raise
        if found is None:
            self._seated.discard(task.key)
            return None
        seat.round, seat.taken = found
        size = vector_size(seat.round.parameters)
        return {
            "plan": seat.round.plan,
            "number": seat.round.number,
            "record": UPDATE_RECORD,
            "policy": policy_of(task.definition.learning, consents=self.consents()),
            "terms": to_plain(seat.round.terms),
            "parameters": [[each.name, list(each.shape)] for each in seat.round.parameters],
            "size_bytes": encoded_bytes(size, seat.round.terms.encoding),
            "weights": memoryview(weights).cast("f"),
        }

    async def _weights_of(self, told: OpenRound) -> bytes:
        data = await self._source.get_file("blob", told.weights, limit_bytes=LEARNING_MODEL_MAX_BYTES)
        if len(data) != 4 * vector_size(told.parameters):
            raise RemoteProtocolError(f"the model of round {told.number} has {len(data)} bytes")
        return data

    async def _fire(self, task: InstalledTask) -> None:
        """Fire a task for a round that it may take part in now."""
        found = await self._ready(task)
        if found is None or task.key in self._seated:
            return
        name = _name_of(found[0])
        if self._fired.get(name, 0) >= _FIRINGS_MAX:
            return
        self._fired[name] = self._fired.get(name, 0) + 1
        scenario, task_name = task.key
        args = {"scenario": scenario, "task": task_name, "plan": name[0], "round": name[1]}
        await self._around.emit(RawEvent("custom", ROUND_EVENT, args=args))

    async def _ready(self, task: InstalledTask) -> tuple[OpenRound, list[dict[str, Any]]] | None:
        """The round of a task that this device may take part in now, and those it took part in."""
        told = next((each for each in self._told.rounds if (each.scenario, each.task) == task.key), None)
        if told is None:
            self._note(open=0, waiting_for="")
            return None
        now_ms = await self._around.now_ms()
        taken = _taken(await self._store.get_value(task.key, TAKEN_KEY))
        reason = self._reason(task, told, taken, now_ms) or await self._deeper_reason(task, told)
        self._note(open=1, waiting_for=reason)
        if reason:
            _log.debug("round_not_joined", task=task.key[1], plan=told.plan, round=told.number, reason=reason)
            return None
        return told, taken

    def _reason(
        self, task: InstalledTask, told: OpenRound, taken: Sequence[Mapping[str, Any]], now_ms: int
    ) -> str:
        """Why this device does not take part now; empty: it does."""
        section, device_id = task.definition.learning, self._around.device_id()
        if now_ms >= min(told.deadline_ms, self._told.expires_ms):
            return "the next round"
        if any((each["plan"], each["round"]) == _name_of(told) for each in taken):
            return "the next round: it took part"
        if device_id is None or not in_share(told.salt, device_id, told.share):
            return "another cohort"
        if not self.consents():
            return "the consent of its owner"
        if objection := section.objection(told.terms):
            return f"gentler rounds: {objection}"
        today = [each for each in taken if each["at_ms"] > now_ms - _DAY_MS]
        if len(today) >= min(section.rounds_per_day, self.config.rounds_per_day):
            return "the rounds of another day"
        return self._unready(task)

    def _unready(self, task: InstalledTask) -> str:
        section, now = task.definition.learning, self._around.conditions()
        if section.unmetered and (now.metered or not now.online):
            return "a network that is not metered"
        if section.charging and now.battery is not None and not now.charging:
            return "its charger"
        if section.idle and now.idle is False:
            return "a time when it is idle"
        return ""

    async def _deeper_reason(self, task: InstalledTask, told: OpenRound) -> str:
        """What takes a look at files."""
        path = task.bundle_dir / model_path(task.definition.learning)
        if await trio.to_thread.run_sync(self._digest, path) != told.base:
            return "a round of the model file that it has"
        confining = await self._around.confining(task.key, task.definition)
        if confining and not self.config.local_fields:
            return f"a task that sees nothing local: {confining[0]}"
        return ""

    def _digest(self, path: Path) -> str:
        try:
            status = path.stat()
            key = (str(path), status.st_mtime_ns, status.st_size)
            if key not in self._digests:
                self._digests = {key: hashlib.sha256(path.read_bytes()).hexdigest()}
            return self._digests[key]
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error

    def consents(self) -> bool:
        """Whether the device's owner lets it learn together."""
        said = self._around.conditions().consent
        return self.config.consent if said is None else said

    def _note(self, **change: Any) -> None:
        self._stats = replace(self._stats, **change)


def _name_of(told: OpenRound) -> tuple[str, int]:
    return told.plan, told.number


def _taken(value: Any) -> list[dict[str, Any]]:
    """The rounds that a device took part in, as they are kept."""
    if not isinstance(value, list):
        return []
    wanted = {"plan": str, "round": int, "at_ms": int}
    return [
        each
        for each in value
        if isinstance(each, dict) and all(type(each.get(name)) is kind for name, kind in wanted.items())
    ]


def _recent(taken: Sequence[dict[str, Any]], now_ms: int) -> list[dict[str, Any]]:
    """Those of a day, and some more: a round that is open is remembered however long ago it was joined."""
    today = [each for each in taken if each["at_ms"] > now_ms - _DAY_MS]
    return list(taken)[-max(len(today), _TAKEN_MAX) :]


def _part(send: TunnelSend) -> UpdatePart:
    try:
        return from_plain(UpdatePart, dict(send.fields))
    except RecordError as error:
        raise TaskError(f"a part of an update is malformed: {error}") from None


def _joined(sends: Sequence[TunnelSend]) -> bytes:
    """The file that a script sent in parts."""
    bodies = [send.fields.get("body") for send in sends]
    numbers = [(send.fields.get("part"), send.fields.get("parts")) for send in sends]
    if numbers != [(number, len(sends)) for number in range(len(sends))]:
        raise TaskError("the parts are not one whole personal model")
    try:
        return b"".join(base64.b64decode(str(body), validate=True) for body in bodies)
    except (binascii.Error, ValueError):
        raise TaskError("a part of a personal model is not base64") from None


def _check_parts(parts: Sequence[UpdatePart], told: OpenRound) -> None:
    expected = parts_of(encoded_bytes(vector_size(told.parameters), told.terms.encoding))
    whole = [part.part for part in parts] == list(range(expected))
    same = {(part.plan, part.round, part.id, part.parts, part.encoding, part.samples) for part in parts}
    wanted = (told.plan, told.number, expected, told.terms.encoding)
    if (
        not whole
        or len(same) != 1
        or (parts[0].plan, parts[0].round, parts[0].parts, parts[0].encoding) != wanted
    ):
        raise TaskError(f"the parts are not one whole update of round {told.number}")
