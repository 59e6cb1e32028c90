"""Which rounds a device takes part in: once, with consent, when it is ready, and never in a harsher one."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from walle_agent.config import LearningSettings
from walle_agent.link.transport import StaticAnswer
from walle_agent.streams.allowance import Conditions
from walle_agent.streams.event import RawEvent
from walle_agent.tasks.learning import Around, Learner, Seat
from walle_agent.tasks.outputs import check_values
from walle_agent.tasks.registry import InstalledTask
from walle_container import TunnelSend
from walle_shared.errors import ConnectionLost, NotAllowed, RemoteProtocolError, SignatureError, TaskError
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.learning import (
    BACKUP_FILE,
    BACKUP_RECORD,
    ROUND_EVENT,
    TAKEN_KEY,
    UPDATE_RECORD,
    BackupPart,
    LearningSection,
    OpenRound,
    OpenRounds,
    Parameter,
    RoundTerms,
)
from walle_shared.manifest import TaskFile, TaskHead
from walle_shared.protocol.messages import FileRef
from walle_shared.records import from_plain
from walle_shared.sealing import Purpose, unseal, unwrap
from walle_shared.signing import SigningKey, file_ref, sha256_hex
from walle_shared.targeting.hashing import SHARE_ONE

KEY = (ScenarioName("demo"), TaskName("greeter"))
MODEL = b"a model file"
WEIGHTS = bytes(4 * 6)
NOW_MS = 1_000_000
SECTION = LearningSection(model="digits", table="samples", min_cohort=3, rounds_per_day=2)

ROUND = OpenRound(
    "p1", *KEY, 1, Sha256(hashlib.sha256(MODEL).hexdigest()), file_ref(WEIGHTS),
    (Parameter("w", (2, 3)),), "salt", SHARE_ONE, NOW_MS + 1_000, RoundTerms(min_cohort=3, encoding="f32"),
)  # fmt: skip


@dataclass
class World:
    """The rest of an agent, as a learner sees it."""

    folder: Path
    told: OpenRounds = field(default_factory=lambda: OpenRounds(0, NOW_MS + 10_000, (ROUND,)))
    conditions: Conditions = field(default_factory=lambda: Conditions(consent=True))
    config: LearningSettings = field(default_factory=lambda: LearningSettings(consent=True))
    section: LearningSection = SECTION
    confining: tuple[str, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    events: list[RawEvent] = field(default_factory=list)
    asked: int = 0
    forged: bool = False
    key: SigningKey = field(default_factory=SigningKey.generate)

    def __post_init__(self) -> None:
        (self.folder / "model").mkdir()
        (self.folder / "model" / "digits.wmodel").write_bytes(MODEL)
        self.learner = self.make()

    @property
    def task(self) -> InstalledTask:
        definition = TaskFile(TaskHead(*KEY), learning=self.section)
        return InstalledTask(
            KEY, TaskVersion("1.0.0"), ReleaseId("r1"), Sha256("0" * 64), self.folder, definition
        )

    def make(self) -> Learner:
        async def open_rounds(data: bytes) -> OpenRounds:
            if self.forged:
                raise SignatureError("not ours")
            return self.told

        async def now_ms() -> int:
            return NOW_MS

        async def emit(raw: RawEvent) -> None:
            self.events.append(raw)

        async def confining(key: Any, definition: Any) -> tuple[str, ...]:
            return self.confining

        around = Around(
            open_rounds, now_ms, lambda: DeviceId("d1"), lambda: self.conditions, lambda: [self.task], emit,
            confining, lambda: self.key.to_hex(), lambda key: 4,
        )  # fmt: skip
        return Learner(self, self, self.config, around)

    async def get_rounds(self, etag: str = "") -> StaticAnswer | None:
        self.asked += 1
        return None if etag == "now" else StaticAnswer(b"signed", "now")

    async def get_file(self, kind: str, ref: FileRef, *, limit_bytes: int) -> bytes:
        assert (kind, ref) == ("blob", ROUND.weights)
        return WEIGHTS

    async def get_value(self, task: Any, key: str) -> Any:
        return self.values.get(key)

    async def offered(self) -> Seat:
        """A run's seat after it has asked."""
        self.learner = self.make()
        await self.learner.refresh()
        seat = self.learner.seat(self.task)
        await seat.offer({})
        return seat


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def part(**change: Any) -> TunnelSend:
    fields = {
        "plan": "p1", "round": 1, "id": "u", "part": 0, "parts": 1, "samples": 3, "encoding": "f32",
        "body": "AAAA", **change,
    }  # fmt: skip
    return TunnelSend(UPDATE_RECORD, fields)


async def test_a_run_is_offered_the_round_and_its_update_is_taken(world: World):
    await world.learner.refresh()
    seat = world.learner.seat(world.task)
    offer = await seat.offer({})
    assert offer is not None
    assert (offer["plan"], offer["number"], offer["parameters"]) == ("p1", 1, [["w", [2, 3]]])
    assert offer["weights"].tolist() == [0.0] * 6
    assert await world.learner.seat(world.task).offer({}) is None  # another run, meanwhile
    (record,) = seat.records([part()], 5, confined=False)
    assert (record.name, record.fields["round"], record.at_ms) == (UPDATE_RECORD, 1, 5)
    world.values |= seat.mark(NOW_MS)
    seat.leave(contributed=True)
    assert await world.learner.seat(world.task).offer({}) is None  # it took part
    assert world.learner.statistics().contributed == 1
    assert (await seat.policy({}))["table"] == "samples"


async def test_a_run_that_fails_leaves_the_round_to_the_next(world: World):
    seat = await world.offered()
    seat.leave(contributed=False)
    assert await world.learner.seat(world.task).offer({}) is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"told": OpenRounds(0, NOW_MS, (ROUND,))}, "the next round"),
        ({"told": OpenRounds(0, 2 * NOW_MS, (replace(ROUND, deadline_ms=NOW_MS),))}, "the next round"),
        ({"told": OpenRounds(0, 2 * NOW_MS, (replace(ROUND, share=0),))}, "another cohort"),
        ({"told": OpenRounds(0, 2 * NOW_MS, (replace(ROUND, base=Sha256("0" * 64)),))}, "model file"),
        ({"config": LearningSettings(), "conditions": Conditions()}, "consent"),
        ({"conditions": Conditions(consent=False)}, "consent"),
        ({"conditions": Conditions(metered=True)}, "not metered"),
        ({"conditions": Conditions(online=False)}, "not metered"),
        ({"conditions": Conditions(battery=0.9)}, "charger"),
        ({"conditions": Conditions(idle=False)}, "idle"),
        ({"section": replace(SECTION, min_cohort=4)}, "cohort of 3"),
        ({"section": replace(SECTION, clip_norm=0.5)}, "norm of 1"),
        ({"section": replace(SECTION, noise=0.1)}, "noise 0"),
        ({"section": replace(SECTION, local_noise=0.1)}, "noise 0"),
        ({"section": replace(SECTION, sends=("gradient",))}, "does not allow update"),
        ({"section": replace(SECTION, rate=0.01)}, "rate"),
        ({"confining": ("tap.args.text",)}, "nothing local: tap.args.text"),
        ({"values": {TAKEN_KEY: [{"plan": "p1", "round": 1, "at_ms": 1}]}}, "it took part"),
        (
            {"values": {TAKEN_KEY: [{"plan": "p0", "round": n, "at_ms": NOW_MS - 5} for n in (1, 2)]}},
            "another day",
        ),
    ],
)
async def test_a_device_stays_out(world: World, change: dict[str, Any], reason: str):
    for name, value in change.items():
        setattr(world, name, value)
    seat = await world.offered()
    assert seat.round is None
    assert reason in world.learner.statistics().waiting_for
    assert world.events == []


@pytest.mark.parametrize(
    "change",
    [
        {"conditions": Conditions(consent=True, battery=0.2, charging=True, idle=True)},
        {"conditions": Conditions(), "config": LearningSettings(consent=True)},
        {"conditions": Conditions(battery=0.2), "section": replace(SECTION, charging=False)},
        {"conditions": Conditions(metered=True), "section": replace(SECTION, unmetered=False)},
        {"conditions": Conditions(idle=False), "section": replace(SECTION, idle=False)},
        {"confining": ("x",), "config": LearningSettings(consent=True, local_fields=True)},
        {"values": {TAKEN_KEY: "damaged"}},
        {"values": {TAKEN_KEY: [{"plan": 3}, 7]}},
    ],
)
async def test_a_device_that_is_ready_takes_part(world: World, change: dict[str, Any]):
    for name, value in change.items():
        setattr(world, name, value)
    assert (await world.offered()).round == ROUND


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([part(), part(part=1)], TaskError),
        ([part(part=1)], TaskError),
        ([part(parts=2)], TaskError),
        ([part(round=2)], TaskError),
        ([part(plan="p2")], TaskError),
        ([part(encoding="int8")], TaskError),
        ([part(encoding="zip")], TaskError),
        ([part(body=7)], TaskError),
        ([TunnelSend(UPDATE_RECORD, {})], TaskError),
    ],
)
async def test_parts_that_are_not_the_rounds_are_refused(world: World, parts: Any, error: Any):
    with pytest.raises(error):
        (await world.offered()).records(parts, 0, confined=False)


async def test_an_update_without_a_round_or_of_a_confined_task_is_refused(world: World):
    with pytest.raises(NotAllowed, match="no round"):
        world.learner.seat(world.task).records([part()], 0, confined=False)
    seat = await world.offered()
    with pytest.raises(NotAllowed, match="local"):
        seat.records([part()], 0, confined=True)
    assert seat.records([], 0, confined=True) == ()
    with pytest.raises(NotAllowed, match="agent's own"):
        check_values({TAKEN_KEY: []})


def pieces(*bodies: str) -> list[TunnelSend]:
    return [
        TunnelSend(BACKUP_RECORD, {"id": "b", "part": n, "parts": len(bodies), "body": body})
        for n, body in enumerate(bodies)
    ]


async def test_a_personal_model_is_sealed_to_the_device(world: World):
    plain = bytes(range(256)) * 400
    sent = pieces(
        *(base64.b64encode(plain[at : at + 45_000]).decode() for at in range(0, len(plain), 45_000))
    )
    with pytest.raises(NotAllowed, match=r"learning\.backup"):
        world.learner.seat(world.task).backup(sent, 0)
    world.section = replace(SECTION, backup=True)
    found = [from_plain(BackupPart, r.fields) for r in world.learner.seat(world.task).backup(sent, 0)]
    sealed = b"".join(base64.b64decode(part.body) for part in found)
    assert plain[:100] not in sealed
    assert len(sealed) == found[0].size_bytes
    purpose = Purpose(DeviceId("d1"), *KEY, BACKUP_FILE, 4, sha256_hex(plain))
    assert unseal(sealed, unwrap(found[0].wrapped, world.key.to_hex(), purpose)) == plain
    world.conditions = Conditions(consent=False)
    with pytest.raises(NotAllowed, match="owner"):
        world.learner.seat(world.task).backup(sent, 0)
    world.conditions = Conditions(consent=True)
    for wrong in (pieces("AAAA", "!"), sent[1:], [TunnelSend(BACKUP_RECORD, {})]):
        with pytest.raises(TaskError):
            world.learner.seat(world.task).backup(wrong, 0)


async def test_a_task_is_fired_a_few_times_at_most(world: World, nursery, autojump_clock):
    import trio

    autojump_clock.autojump_threshold = 0.02  # files are read in threads
    nursery.start_soon(world.learner.run)
    await trio.sleep(100)
    assert [(raw.event_id, raw.args["round"]) for raw in world.events] == [(ROUND_EVENT, 1)] * 3
    assert world.asked == 1


async def test_failures_are_waited_out(world: World, nursery, autojump_clock, monkeypatch):
    import trio

    autojump_clock.autojump_threshold = 0.02
    world.forged = True
    nursery.start_soon(world.learner.run)
    await trio.sleep(5)
    assert world.events == []
    world.forged = False

    async def away(etag: str = "") -> StaticAnswer | None:
        raise ConnectionLost("away")

    with monkeypatch.context() as patch:
        patch.setattr(world, "get_rounds", away)
        await trio.sleep(40)
    await trio.sleep(400)
    assert world.events


async def test_a_model_of_another_size_is_refused(world: World, monkeypatch: pytest.MonkeyPatch):
    async def short(kind: str, ref: FileRef, *, limit_bytes: int) -> bytes:
        return WEIGHTS[:-4]

    monkeypatch.setattr(world, "get_file", short)
    with pytest.raises(RemoteProtocolError, match="20 bytes"):
        await world.offered()
    assert world.learner._seated == set()
