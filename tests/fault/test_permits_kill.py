"""A server that is killed while many devices ask for the places of a capped release."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from walle_control import setup
from walle_control.db.store import Store
from walle_control.features.releases import store as releases_store
from walle_control.features.releases.types import ReleaseRow, Terms
from walle_control.features.rollouts.guard import GuardSettings, RolloutPlan
from walle_control.features.tasks import store as tasks_store
from walle_control.features.tasks.types import VersionRow
from walle_shared.clock import SystemClock
from walle_shared.ids import ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.protocol.messages import FileRef

CAP = 40

#: Asks for places until it is killed; two of three devices claim theirs. Prints who was told that it may.
ASKING = """
import sys
from pathlib import Path
import trio
from walle_control.db.store import Store
from walle_control.features.permits.service import PermitsService
from walle_shared.clock import SystemClock
from walle_shared.protocol.messages import PermitRequest

async def device(service, name, claim):
    await service.ask(PermitRequest("r1"), name)
    if claim and (await service.ask(PermitRequest("r1", claim=True), name)).granted:
        print("told", name, flush=True)

async def main():
    store = Store.open(Path(sys.argv[1]))
    service = PermitsService(store.database, SystemClock())
    for wave in range(1_000):
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(device, service, f"d{sys.argv[2]}-{wave}-{number}", number != 2)

trio.run(main)
"""


def capped_release(data: Path) -> None:
    """A live release with a cap, as the server stores it."""
    setup.init(data, SystemClock())
    store = Store.open(data)
    names = ScenarioName("s"), TaskName("t"), TaskVersion("1")
    release = ReleaseRow(
        ReleaseId("r1"), 1, *names, "", "r1", RolloutPlan(), GuardSettings(), "live", 0, 1, 1, Terms(cap=CAP)
    )
    version = VersionRow(*names, "c", FileRef(Sha256("0" * 64), 1), 1, 1, 1)

    def work(db: sqlite3.Connection) -> None:
        tasks_store.insert_version(db, version)
        releases_store.insert_release(db, release)

    store.database.write_sync(work)
    store.close()


def test_kills_never_hand_out_a_place_twice_nor_take_one_back(tmp_path: Path) -> None:
    capped_release(tmp_path)
    told: set[str] = set()
    for life in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", ASKING, str(tmp_path), str(life)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            lines = (line.split()[1] for line in process.stdout if line.startswith("told "))
            told.update(itertools.islice(lines, 8))
            os.kill(process.pid, signal.SIGKILL)
            told.update(lines)
    store = Store.open(tmp_path)
    claimed = store.database.read_sync(
        lambda db: {row["device_id"] for row in db.execute("SELECT device_id FROM permit WHERE claimed = 1")}
    )
    store.close()
    assert told <= claimed
    assert len(claimed) <= CAP
    assert len(told) >= 3 * 8
