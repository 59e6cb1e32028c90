"""A server that dies at every step of two learning rounds: each is summed once, and nothing single stays."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from walle_control import setup
from walle_control.app import Control, create_app
from walle_control.config import ControlConfig
from walle_control.db.connection import Database
from walle_control.db.store import Store
from walle_control.features.learning import store as learning_store
from walle_control.features.learning.service import LearningService
from walle_control.features.learning.types import PlanWish
from walle_control.features.tasks.types import ImportRequest, SimulationCell, SimulationResult
from walle_shared.clock import FixedClock
from walle_shared.ids import DeviceId
from walle_shared.learning import OpenRound, OpenRounds, vector_size
from walle_shared.protocol.tunnel import TunnelClass
from walle_shared.protocol.tunnel_receiver import RecordReceived
from walle_shared.records import from_plain
from walle_support.learning import TASK_TOML, parts, write_digits_model
from walle_support.live import commit_tasks

WISH = PlanWish(
    "1.0.0", noise=0.0, rounds=2, goal=3, min_cohort=3, deadline_s=60.0, cohort_percent=100.0, encoding="f32"
)


class Killed(BaseException):
    """The process is gone."""


class Deaths:
    """Lets the process die before or after the n-th thing it does to the disk."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.left, self.after = at, after

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def write(*args: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                raise Killed
            result = await function(*args, **more)
            if self.left == 0:
                raise Killed
            return result

        return write


@pytest.fixture
def home(tmp_path: Path) -> Path:
    source = tmp_path / "src" / "greeter"
    (source / "model").mkdir(parents=True)
    (source / "task.toml").write_text(TASK_TOML)
    (source / "main.py").write_text(
        "from walle_task import learn\n\n\ndef run():\n    learn.contribute(list)\n"
    )
    write_digits_model(source / "model" / "digits.wmodel")
    commit_tasks(tmp_path / "tasks.git", {"greeter": source}, "1.0.0")
    setup.init(tmp_path / "data", FixedClock(), "")
    return tmp_path


def simulate(files: Any, timeout_s: float) -> SimulationResult:
    return SimulationResult(passed=True, smoked=True, cells=(SimulationCell("", "", "", 1, 0.1, 1, ()),))


def vectors(told: OpenRound) -> list[np.ndarray]:
    size = vector_size(told.parameters)
    rng = np.random.default_rng(told.number)
    found = [rng.standard_normal(size) for _ in range(3)]
    return [(v / np.linalg.norm(v)).astype(np.float32) for v in found]


def told(control: Control) -> tuple[OpenRound, ...]:
    import orjson

    data = control.store.files.read_rounds()
    content = orjson.loads(data)["signed"] if data else {"issued_ms": 0, "expires_ms": 0, "rounds": []}
    content.pop("kind", None)
    return from_plain(OpenRounds, content).rounds


async def live(store: Store, home: Path, plan: str, names: itertools.count[int]) -> tuple[str, bool]:
    """One life: take rounds as far as they go, devices sending again what was not told to have come."""
    control: Control = create_app(
        ControlConfig(), clock=FixedClock(), store=store, simulate=simulate
    ).state.control
    service: LearningService = control.learning
    if not plan:
        request = ImportRequest(str(home / "tasks.git"), "greeter", "1.0.0")
        await control.trust.load()
        await control.tasks.import_version(request, "anna")
        plan = (await service.start("demo", "greeter", WISH, "anna")).id
    for _ in range(6):
        await service.tick()
        for open_round in told(control):
            for device, vector in enumerate(vectors(open_round)):
                items = [
                    RecordReceived(TunnelClass.BATCH, i, record)
                    for i, record in enumerate(parts(open_round, vector), 1)
                ]
                # What a death lost of the acknowledgement is sent again, by a store made anew.
                await control.telemetry.record_tunnel(DeviceId(f"d{device}"), f"inc{next(names)}", items)
    return plan, (await service.show(plan)).state == "done"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.slow_session
def test_killed_at_every_write(home: Path, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> None:
    names = itertools.count()
    with closing(Store.open(home / "data")) as store:
        plan, _ = trio.run(live, store, home, "", names)  # imported and started; done without a death
        steps = 0
        original = Database.write
        first = store.database.read_sync(lambda db: learning_store.server_state(db, plan)).weights
        for at in itertools.count(1):
            plan = trio.run(_again, store)
            deaths = Deaths(at, after=after)
            monkeypatch.setattr(Database, "write", deaths.wrap(original))
            died = False
            try:
                trio.run(live, store, home, plan, names)
            except (Killed, BaseExceptionGroup):
                died = True
            monkeypatch.setattr(Database, "write", original)
            _, done = trio.run(live, store, home, plan, names)
            assert done
            found = store.database.read_sync(lambda db, p=plan: learning_store.server_state(db, p)).weights
            np.testing.assert_allclose(found, first, atol=1e-6)
            rounds = store.database.read_sync(lambda db, p=plan: learning_store.rounds_of(db, p, 9))
            assert [(r.number, r.state, r.updates) for r in rounds] == [(2, "closed", 3), (1, "closed", 3)]
            kept = store.database.read_sync(
                lambda db: db.execute("SELECT count(*) AS n FROM learning_part").fetchone()["n"]
            )
            assert kept == 0
            if not died:
                break
            steps += 1
    assert steps >= 10


async def _again(store: Store) -> str:
    control: Control = create_app(
        ControlConfig(), clock=FixedClock(), store=store, simulate=simulate
    ).state.control
    return (await control.learning.start("demo", "greeter", WISH, "anna")).id
