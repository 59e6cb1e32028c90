"""Learning plans: from their start to a model, with devices that send twice, late, too little, and lies."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from walle_control.app import Control, create_app
from walle_control.features.learning import store as learning_store
from walle_control.features.learning.accountant import epsilon
from walle_control.features.learning.models import read_parameters
from walle_control.features.learning.service import LearningService
from walle_control.features.learning.types import PlanView, PlanWish
from walle_control.features.telemetry.types import FeatureQuery
from walle_shared.errors import ConfigError, Conflict, NotFound, StorageError
from walle_shared.ids import DeviceId, ScenarioName, TaskName
from walle_shared.learning import (
    BACKUP_FILE,
    BACKUP_RECORD,
    ROUNDS_KIND,
    BackupPart,
    LearningSection,
    OpenRound,
    OpenRounds,
    vector_size,
)
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.protocol.tunnel_receiver import RecordReceived
from walle_shared.records import to_plain
from walle_shared.sealing import Purpose, seal, wrap
from walle_shared.signing import SigningKey, file_ref, open_envelope, signed_by
from walle_shared.trust.roles import POLICY
from walle_support.learning import TASK_TOML, npz, parts, records, write_digits_model

TASK = (ScenarioName("demo"), TaskName("greeter"))
WISH = PlanWish("1.0.0", noise=0.0, rounds=2, goal=3, min_cohort=3, deadline_s=60.0, cohort_percent=100.0)


@pytest.fixture(autouse=True)
def _nobody_else_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(self: LearningService) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(LearningService, "run", run)


@pytest.fixture
async def plan(control: Control, repo, tmp_path: Path):
    """``await plan(...)``: a plan that has opened its first round."""
    from walle_control.features.tasks.types import ImportRequest

    model = write_digits_model(tmp_path / "digits.wmodel").read_bytes()
    files = {
        "task.toml": TASK_TOML.encode(),
        "main.py": b"def run():\n    return 1\n",
        "model/digits.wmodel": model,
    }
    repo.tag("greeter/1.0.0", "greeter", files)
    await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")

    async def start(wish: PlanWish = WISH) -> PlanView:
        made = await control.learning.start("demo", "greeter", wish, "anna")
        await control.learning.tick()
        return await control.learning.show(made.id)

    return start


class Sender:
    """Devices that send what they are told to, each on a tunnel of its own."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._sent = 0

    async def send(self, device: str, sent: Sequence[Record]) -> None:
        items = [
            RecordReceived(TunnelClass.BATCH, self._sent + i, record) for i, record in enumerate(sent, 1)
        ]
        self._sent += len(sent)
        await self._control.telemetry.record_tunnel(DeviceId(device), f"inc-{device}-{self._sent}", items)


@pytest.fixture
def sender(control: Control) -> Sender:
    return Sender(control)


def told(control: Control) -> tuple[OpenRound, ...]:
    """What devices are told, after they have checked the signature."""
    envelope = control.store.files.rounds_path.read_bytes()
    keys = control.store.database.read_sync(lambda db: control.learning._trust.keys(db, POLICY))
    check = signed_by(key.public for key in keys)
    return open_envelope(OpenRounds, ROUNDS_KIND, envelope, check).rounds


def weights_of(control: Control, plan: str) -> np.ndarray:
    state = control.store.database.read_sync(lambda db: learning_store.server_state(db, plan))
    return state.weights


def kept_parts(control: Control) -> int:
    def count(db) -> int:
        return int(db.execute("SELECT count(*) AS n FROM learning_part").fetchone()["n"])

    return control.store.database.read_sync(count)


def pull(told: OpenRound, seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(vector_size(told.parameters))
    return (vector / np.linalg.norm(vector) * 0.5).astype(np.float32)


async def test_rounds_lead_to_a_model(control: Control, plan, sender: Sender, tmp_path: Path):
    images, labels = np.zeros((4, 64), np.float32), np.zeros(4, np.int64)
    holdout = base64.b64encode(npz(image=images, target=labels)).decode()
    view = await plan(PlanWish(**{**_plain(WISH), "holdout": holdout, "encoding": "f32"}))
    base = weights_of(control, view.id)
    for number in (1, 2):
        (open_round,) = told(control)
        assert (open_round.number, open_round.scenario, open_round.task) == (number, "demo", "greeter")
        blob = control.store.files.read("blob", open_round.weights)
        np.testing.assert_allclose(np.frombuffer(blob, "<f4"), base, atol=1e-6)
        vectors = [pull(open_round, seed) for seed in range(3)]
        for i, vector in enumerate(vectors):
            await sender.send(f"d{i}", parts(open_round, vector, samples=(1, 2, 1_000)[i], encoding="f32"))
        await control.learning.tick()
        base = base + np.average(vectors, axis=0, weights=(1, 2, 100))
        np.testing.assert_allclose(weights_of(control, view.id), base, atol=1e-6)
        assert not control.store.files.root.joinpath("blob", open_round.weights.sha256).exists()
    view = await control.learning.show(view.id)
    assert (view.state, view.rounds_closed, view.epsilon) == ("done", 2, None)
    newest = (await control.learning.rounds(view.id, 10)).rounds[0]
    assert newest.accuracy is not None
    assert newest.loss is not None
    assert told(control) == ()
    assert kept_parts(control) == 0
    (tmp_path / "learnt.wmodel").write_bytes(await control.learning.model(view.id))
    _, learnt = read_parameters(tmp_path / "learnt.wmodel", LearningSection(model="digits"))
    assert np.array_equal(learnt, weights_of(control, view.id))
    # What devices sent is nowhere among the features.
    assert (await control.telemetry.features(FeatureQuery(), 0, 100)).features == ()


async def test_a_device_counts_once_however_often_it_sends(control: Control, plan, sender: Sender):
    view = await plan()
    (open_round,) = told(control)
    first, second = pull(open_round, 1), pull(open_round, 2)
    await sender.send("d1", parts(open_round, first))
    await sender.send("d1", parts(open_round, first))  # the acknowledgement was lost, and the store made anew
    await sender.send("d1", parts(open_round, second, name="another"))
    await control.learning.tick()
    assert (await control.learning.show(view.id)).newest.updates == 1
    for device in ("d2", "d3"):
        await sender.send(device, parts(open_round, first))
    await control.learning.tick()
    moved = weights_of(control, view.id)
    await sender.send("d4", parts(open_round, second))  # a straggler
    rounds = (await control.learning.rounds(view.id, 10)).rounds
    assert [(r.number, r.updates, r.late) for r in rounds] == [(2, 0, 0), (1, 3, 1)]
    assert np.array_equal(weights_of(control, view.id), moved)


async def test_too_few_are_thrown_away_unseen(control: Control, plan, sender: Sender, clock):
    view = await plan(PlanWish(**{**_plain(WISH), "rounds": 1}))
    before = weights_of(control, view.id)
    for _ in range(3):
        (open_round,) = told(control)
        await sender.send("d1", parts(open_round, pull(open_round, 1)))
        await control.learning.tick()
        clock.advance(61)
        await control.learning.tick()
        assert kept_parts(control) == 0
        assert np.array_equal(weights_of(control, view.id), before)
    view = await control.learning.show(view.id)
    assert (view.state, view.rounds_closed, view.rounds_discarded) == ("stopped", 0, 3)
    assert "too few" in view.reason
    assert told(control) == ()


async def test_lies_are_refused_and_counted(control: Control, plan, sender: Sender, clock):
    view = await plan()
    (open_round,) = told(control)
    size = vector_size(open_round.parameters)
    honest = pull(open_round, 1)
    for i in range(3):
        await sender.send(f"good{i}", parts(open_round, honest))
    body = np.ones(-(-size // 256), "<f4").tobytes() + bytes([127]) * size
    lies = {
        "long": records(open_round, body),
        "nan": records(open_round, np.full(-(-size // 256), np.nan, "<f4").tobytes() + bytes(size)),
        "short": records(open_round, body[:-1]),
        "other": records(open_round, np.zeros(size, "<f4").tobytes(), encoding="f32"),
        "none": records(open_round, body, samples=0),
        "bad64": [_with(records(open_round, body)[0], body="!!!!")],
        "part": [_with(records(open_round, body)[0], part=7)],
        "shape": [_with(records(open_round, body)[0], part="x")],
        "plan": [_with(records(open_round, body)[0], plan="nobody")],
        "round": [_with(records(open_round, body)[0], round=99)],
        "big": [_with(records(open_round, body)[0], body="A" * 200_000)],
    }
    for device, sent in lies.items():
        await sender.send(device, sent)
    await control.learning.tick()
    assert (await control.learning.show(view.id)).rounds_closed == 1
    closed = (await control.learning.rounds(view.id, 10)).rounds[1]
    # Seven name the round and cannot be updates, but nan and long, which are known when they are summed.
    assert (closed.updates, closed.refused) == (3, 8)
    assert np.isfinite(weights_of(control, view.id)).all()


async def test_only_the_cohort_takes_part(control: Control, plan, sender: Sender):
    view = await plan(PlanWish(**{**_plain(WISH), "cohort_percent": 1e-7}))
    (open_round,) = told(control)
    await sender.send("d1", parts(open_round, pull(open_round, 1)))
    newest = (await control.learning.show(view.id)).newest
    assert (newest.updates, newest.refused) == (0, 1)


async def test_killed_between_collecting_and_closing(
    control: Control, plan, sender: Sender, config, clock, store, monkeypatch
):
    view = await plan()
    (open_round,) = told(control)
    vectors = [pull(open_round, seed) for seed in range(3)]
    for i, vector in enumerate(vectors):
        await sender.send(f"d{i}", parts(open_round, vector))
    before = weights_of(control, view.id)

    async def dies(*_: object) -> None:
        raise KeyboardInterrupt  # nothing after "closing" was written happens

    monkeypatch.setattr(control.learning, "_close", dies)
    with pytest.raises(KeyboardInterrupt):
        await control.learning.tick()
    assert (await control.learning.show(view.id)).newest.state == "closing"
    await sender.send("d9", parts(open_round, vectors[0]))  # comes too late, though the deadline has not
    again: Control = create_app(config, clock=clock, store=store).state.control
    await again.learning.tick()
    rounds = (await again.learning.rounds(view.id, 10)).rounds
    assert [(r.number, r.state, r.updates, r.late) for r in rounds] == [
        (2, "open", 0, 0),
        (1, "closed", 3, 1),
    ]
    moved = weights_of(control, view.id) - before
    assert np.linalg.norm(moved - np.mean(vectors, axis=0)) < 0.05  # rounded to int8
    assert kept_parts(control) == 0
    await again.learning.tick()
    assert (await again.learning.show(view.id)).newest.number == 2


async def test_a_plan_in_trouble_is_tried_again_and_keeps_nobody_waiting(
    control: Control, plan, sender: Sender, monkeypatch
):
    view = await plan()
    (open_round,) = told(control)
    for i in range(3):
        await sender.send(f"d{i}", parts(open_round, pull(open_round, i)))

    async def full(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(control.learning, "_close", full)
        await control.learning.tick()
    assert told(control) == ()  # what is closing takes no more, and that was published
    await control.learning.tick()
    assert (await control.learning.show(view.id)).rounds_closed == 1


async def test_noise_is_accounted_for(control: Control, plan, sender: Sender):
    view = await plan(PlanWish(**{**_plain(WISH), "noise": 2.0, "delta": 1e-5}))
    (open_round,) = told(control)
    for i in range(3):
        await sender.send(f"d{i}", parts(open_round, pull(open_round, i)))
    await control.learning.tick()
    view = await control.learning.show(view.id)
    assert view.epsilon == epsilon(2.0, 1, 1e-5)
    assert view.epsilon_if_secret >= view.epsilon  # everybody was chosen: the looser bound of the two


async def test_a_stopped_plan_keeps_nothing_of_its_round(control: Control, plan, sender: Sender, admin):
    view = await plan()
    (open_round,) = told(control)
    await sender.send("d1", parts(open_round, pull(open_round, 1)))
    with pytest.raises(Conflict, match="is running"):
        await control.learning.start("demo", "greeter", WISH, "anna")
    stopped = await control.learning.stop(view.id, "anna")
    assert (stopped.state, stopped.newest.state) == ("stopped", "discarded")
    assert kept_parts(control) == 0
    await control.learning.tick()
    assert told(control) == ()
    with pytest.raises(Conflict, match="stopped already"):
        await control.learning.stop(view.id, "anna")
    with pytest.raises(NotFound, match="no learning plan"):
        await control.learning.show("nobody")
    entries = (await control.audit.page(0, 100)).entries
    assert [each.action for each in entries if each.action.startswith("learning")] == [
        "learning.start",
        "learning.stop",
    ]
    found = (await admin.get("/api/v1/learning")).json()["plans"]
    assert [each["id"] for each in found] == [view.id]


#: What a plan cannot say, and the words that name it.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"min_cohort": 2}, "stay out: a cohort of 2"),
    ({"clip_norm": 5.0}, "clip_norm"),
    ({"rounds": 0}, "plan.rounds"),
    ({"goal": 2}, "plan.goal"),
    ({"noise": -1.0}, "plan.noise"),
    ({"noise": float("nan")}, "plan.noise"),
    ({"noise": 1.0, "rule": "median"}, "goes without noise"),
    ({"holdout": "!"}, "base64"),
    ({"holdout": base64.b64encode(b"no zip").decode()}, "no .npz"),
    ({"holdout": base64.b64encode(npz(target=np.zeros(2))).decode()}, "inputs by name"),
    ({"holdout": base64.b64encode(npz(x=np.zeros((2, 64)), target=np.zeros(2))).decode()}, "not fit"),
    ({"holdout": base64.b64encode(npz(x=np.zeros((3, 64)), target=np.zeros(2))).decode()}, "equally"),
]


async def test_plans_that_cannot_be_are_refused(control: Control, plan):
    await plan()
    for change, words in WRONG:
        wish = PlanWish(**{**_plain(WISH), **change})
        with pytest.raises(ConfigError, match=words):
            await control.learning.start("demo", "greeter", wish, "anna")


def _plain(wish: PlanWish) -> dict:
    from dataclasses import fields

    return {each.name: getattr(wish, each.name) for each in fields(wish)}


def _with(record: Record, **change: object) -> Record:
    from dataclasses import replace

    return replace(record, fields={**record.fields, **change})


def backup(device: Any, plain: bytes, *, counter: int = 0, key: SigningKey | None = None) -> list[Record]:
    """A personal model as a device sends it."""
    public = (key or device.key).public
    content_key, sealed = seal(plain)
    purpose = Purpose(DeviceId(device.id), *TASK, BACKUP_FILE, counter, file_ref(plain).sha256)
    wrapped, name = wrap(content_key, public.raw_hex, purpose), file_ref(sealed).sha256[:32]
    pieces = [sealed[at : at + 45_000] for at in range(0, len(sealed), 45_000)]
    return [
        Record(
            *TASK, "1.0.0", "r1", BACKUP_RECORD, 0,
            to_plain(
                BackupPart(
                    name, n, len(pieces), len(sealed), file_ref(plain), wrapped, public.keyid, counter,
                    base64.b64encode(piece).decode(),
                )
            ),
        )
        for n, piece in enumerate(pieces)
    ]  # fmt: skip


async def test_a_personal_model_becomes_a_file_of_the_device(control: Control, plan, sender: Sender, enrol):
    await plan()
    device = await enrol()
    plain = b"what this device has learnt" * 4_000
    sent = backup(device, plain)
    assert len(sent) == 3

    async def files() -> list[tuple[str, int, str]]:
        await control.learning.tick()
        page = await control.exclusive.page(*TASK, "", 10)
        return [(each.path, each.counter, each.sha256) for each in page.files]

    await sender.send(device.id, sent[:2])
    assert await files() == []
    await sender.send(device.id, [*sent[1:], sent[0]])
    first = [(BACKUP_FILE, 0, file_ref(plain).sha256)]
    assert await files() == first
    await sender.send(device.id, sent)  # once more: its acknowledgement was lost
    assert await files() == first
    offer = await control.exclusive.offer(DeviceId(device.id), *TASK)
    assert '"counter":1' in offer.envelope
    await sender.send(device.id, [backup(device, b"half" * 40_000)[0], *backup(device, b"newer", counter=1)])
    assert await files() == [(BACKUP_FILE, 1, file_ref(b"newer").sha256)]
    for wrong in (
        backup(device, b"ahead", counter=9),
        backup(device, b"of another key", key=SigningKey.generate()),
        [_with(backup(device, b"x")[0], parts=2)],
        [_with(backup(device, b"x")[0], body="!")],
        [_with(backup(device, b"x")[0], size_bytes=1 << 40)],
        [_with(backup(device, b"x")[0], plain=3)],
    ):
        await sender.send(device.id, wrong)
        assert await files() == [(BACKUP_FILE, 1, file_ref(b"newer").sha256)]
    left = control.store.database.read_sync(
        lambda db: db.execute("SELECT count(*) AS n FROM learning_backup").fetchone()["n"]
    )
    assert left == 0


async def test_what_is_told_is_signed_anew_in_time_and_by_new_keys(control: Control, plan, clock, store):
    await plan()
    published = store.files.read_rounds()
    await control.learning.tick()
    assert store.files.read_rounds() == published  # nothing is news
    clock.advance(1_801)
    await control.learning.tick()
    later = store.files.read_rounds()
    assert later != published
    book = control.learning._trust
    store.database.write_sync(lambda db: book.rotate(db, POLICY))
    await control.learning.tick()
    assert store.files.read_rounds() != later
    assert len(told(control)) == 1  # by the keys that there are now


async def test_a_death_before_a_round_is_published_leaves_no_model_behind(
    control: Control, plan, sender: Sender, config, clock, store, monkeypatch
):
    await plan()
    (open_round,) = told(control)
    for i in range(3):
        await sender.send(f"d{i}", parts(open_round, pull(open_round, i)))

    async def dies() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(control.learning, "_publish", dies)
    with pytest.raises(KeyboardInterrupt):
        await control.learning.tick()
    assert told(control) == (open_round,)
    again: Control = create_app(config, clock=clock, store=store).state.control
    await again.learning.tick()
    assert [each.number for each in told(again)] == [2]
    blobs = store.files.root / "blob"
    assert not (blobs / open_round.weights.sha256).exists()
    assert (blobs / told(again)[0].weights.sha256).exists()
