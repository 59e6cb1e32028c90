"""Drills of a bad network between a worker and PostgreSQL: the worker that is cut off, and the other one.

Two workers share a database and a data folder. One of them, ``far``, reaches the database over a link, and
leads when the weather turns. Whatever it does: acknowledged reports are there once, one worker at a time
decides, epochs only rise, and all come back by themselves.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from walle_control.features.audit.types import AuditEntry, check_chain
from walle_shared.ids import ReleaseId, TaskName, TaskVersion
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import Outcome, Report, ReportBatch
from walle_shared.records import from_plain
from walle_support.live import LiveControl, commit_tasks, task_folder, wait_for  # pyright: ignore[reportAttributeAccessIssue]
from walle_support.servers import FORGETFUL, postgres_programs, quiet_port, run_postgres
from walle_support.uploads import enrol
from walle_support.weather import CUT, FAIR, HELD, Link, Weather, why_no_link
from world import BIN, Program  # pyright: ignore[reportMissingImports]

_why_not = why_no_link()
pytestmark = [
    pytest.mark.slow_session,
    pytest.mark.slow,
    pytest.mark.skipif(bool(_why_not), reason=_why_not),
    pytest.mark.skipif(postgres_programs() is None, reason="needs PostgreSQL"),
]

SCRIPT = "def run():\n    pass\n"
_PORT = 8700

#: A worker that is cut off in the middle of a transaction holds all writers up until PostgreSQL gives it up.
_RECOVERY_S = 90.0


class Worker:
    """``walle-control serve`` on a data folder that others serve too."""

    def __init__(self, data: Path, host: str, port: int, log: Path, link: Link | None = None) -> None:
        self.url = f"http://{host}:{port}"
        self.log = log
        self._inside: Callable[[Callable[[], Any]], Any] = link.inside if link else lambda call: call()
        token = (data / "admin.token").read_text().strip()
        self._admin = {"Authorization": f"Bearer {token}"}
        words = [
            str(BIN / "walle-control"),
            "serve",
            "--data",
            str(data),
            "--host",
            host,
            "--port",
            str(port),
        ]
        self.program: Program = self._inside(lambda: Program("walle-control", words, log))
        wait_for("a worker to be ready", lambda: self.is_ready() or None, timeout_s=60)

    def send(self, method: str, path: str, *, timeout_s: float = 60, **options: Any) -> httpx.Response:
        """Ask it, from where it is."""
        ask = lambda: httpx.request(method, self.url + path, timeout=timeout_s, **options)  # noqa: E731
        answer: httpx.Response = self._inside(ask)
        return answer

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """Ask the admin API."""
        answer = self.send(method, f"/api/v1{path}", headers=self._admin, json=body)
        answer.raise_for_status()
        return answer.json()

    def enrol(self, token: str) -> str:
        """A new device's credential."""
        credential: str = self._inside(lambda: enrol(self.url, token)[1])
        return credential

    def is_ready(self) -> bool:
        """Whether the database answers it."""
        self.program.check()
        try:
            return self.send("GET", "/readyz", timeout_s=5).status_code == 200
        except httpx.TransportError:
            return False

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Lines of its log."""
        *lines, _unfinished = self.log.read_text().split("\n")
        return [line for line in map(json.loads, lines) if line["event"] == event]


class Rig:
    """Two workers, a release, and devices that report to both."""

    def __init__(self, folder: Path, link: Link, database_url: str) -> None:
        import psycopg

        self.link = link
        setup = LiveControl(folder)
        setup.command("init", "--database", database_url)
        for key, default, value in (
            ("require_simulation", "true", "false"), ("format", '"console"', '"json"'),
        ):  # fmt: skip
            setup.settle(key, default, value)
        self.data = setup.data
        self.database = psycopg.connect(database_url, autocommit=True)
        self.far = Worker(self.data, "127.0.0.1", _PORT, folder / "far.log", link)
        wait_for("the far worker to lead", lambda: self.leader() == self.pid(self.far) or None)
        self.near = Worker(self.data, "127.0.0.1", quiet_port(), folder / "near.log")
        repo = folder / "tasks"
        commit_tasks(repo, {"greeter": task_folder(folder, "greeter", SCRIPT)}, "1.0.0")
        self.near.admin("POST", "/tasks", {"repository": str(repo), "task": "greeter", "version": "1.0.0"})
        self.release = self.make_release()
        self.acked: set[str] = set()
        self.refused = 0
        self._stop = threading.Event()

    def stop(self) -> None:
        self.link.heal()
        for worker in (self.far, self.near):
            worker.program.kill()
        self.database.close()

    @staticmethod
    def pid(worker: Worker) -> int:
        return int(worker.program._process.pid)

    def lease(self) -> tuple[int, int]:
        """The process that leads or led last, and its fence."""
        row = self.database.execute("SELECT holder, fence FROM lease").fetchone()
        return (int(row[0].split("-")[-2]), int(row[1])) if row else (0, 0)

    def leader(self) -> int:
        return self.lease()[0]

    def make_release(self, **wish: Any) -> str:
        body = {"scenario": "proof", "task": "greeter", "version": "1.0.0", **wish}
        return str(self.near.admin("POST", "/releases", body)["release"]["id"])

    def epoch(self) -> int:
        """The epoch that devices find."""
        return int(json.loads((self.data / "static" / "epoch.json").read_bytes())["signed"]["epoch"])

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """A device at each worker reports until the end of the block, and until its last is acknowledged."""
        tokens = [self.near.admin("POST", "/enrol-tokens", {"uses": 1})["token"] for _ in range(2)]
        devices = [
            (worker, worker.enrol(token)) for worker, token in zip((self.far, self.near), tokens, strict=True)
        ]
        threads = [threading.Thread(target=self._report, args=device, daemon=True) for device in devices]
        for thread in threads:
            thread.start()
        try:
            yield
            self.await_progress()
        finally:
            self._stop.set()
            self.link.heal()
            for thread in threads:
                thread.join(_RECOVERY_S)
            assert not any(thread.is_alive() for thread in threads), "a report was never acknowledged"

    def await_progress(self) -> None:
        """Wait until both workers acknowledge again."""
        wanted = len(self.acked) + 20
        wait_for("reports", lambda: len(self.acked) >= wanted or None, timeout_s=_RECOVERY_S)

    def _report(self, worker: Worker, credential: str) -> None:
        for number in itertools.count():
            if self._stop.is_set():
                return
            report_id = f"{credential[:30]}-{number}"
            while not self.is_acked(worker, credential, report_id):
                self.refused += 1
                time.sleep(0.1)
            self.acked.add(report_id)
            time.sleep(0.02)

    def is_acked(
        self, worker: Worker, credential: str, report_id: str, release: str = "", outcome: Outcome = "success"
    ) -> bool:
        report = Report(
            report_id, ReleaseId(release or self.release), TaskName("greeter"), TaskVersion("1.0.0"), "run",
            outcome, 1, 5, 1.0, error_class="runtime" if outcome == "failure" else "none",
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {credential}"}
        batch = encode(ReportBatch((report,)))
        try:
            answer = worker.send("POST", "/d/v1/reports", headers=headers, content=batch, timeout_s=10)
        except httpx.TransportError:
            return False
        assert answer.status_code < 400 or answer.status_code >= 500, answer.text
        return answer.status_code == 200

    def check(self) -> None:
        """Every acknowledged report is there once; the audit log is whole; both workers are well."""
        rows = [row[0] for row in self.database.execute("SELECT report_id FROM report")]
        assert len(rows) == len(set(rows))
        assert self.acked <= set(rows)
        counted = self.near.admin("GET", f"/releases/{self.release}")["counts"]
        of_release = self.database.execute(
            "SELECT count(*) FROM report WHERE release_id = %s AND stage = 'run'", (self.release,)
        ).fetchone()
        assert of_release is not None
        assert sum(count["n"] for count in counts_of(counted, "run")) == of_release[0]
        entries = self.near.admin("GET", "/audit?limit=1000")["entries"]
        check_chain([from_plain(AuditEntry, entry) for entry in entries])
        for worker in (self.far, self.near):
            wait_for("a worker to be ready", lambda worker=worker: worker.is_ready() or None, timeout_s=60)


def counts_of(counts: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    return [count for count in counts if count["stage"] == stage]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Link(seed=2) as link, run_postgres(*FORGETFUL, host=link.outside_ip) as postgres:
        rig = Rig(tmp_path, link, postgres.url)
        try:
            yield rig
        finally:
            rig.stop()


#: What comes between the leader and its database.
PARTITIONS: dict[str, tuple[Weather, Weather]] = {
    "cut": (CUT, CUT),
    "requests_are_lost": (FAIR, CUT),
    "answers_are_lost": (CUT, FAIR),
    "held": (HELD, HELD),
    "requests_are_held": (FAIR, HELD),
    "answers_are_held": (HELD, FAIR),
}


@pytest.mark.parametrize("name", PARTITIONS)
def test_a_leader_that_is_cut_off_is_followed_and_decides_nothing(rig: Rig, name: str) -> None:
    to_inside, to_outside = PARTITIONS[name]
    near, far = rig.pid(rig.near), rig.pid(rig.far)
    fence, epoch = rig.lease()[1], rig.epoch()
    bad = rig.make_release(guard={"min_reports": 3, "max_failure_rate": 0.2})
    with rig.reporting():
        rig.await_progress()
        assert rig.leader() == far
        rig.link.change(to_inside=to_inside, to_outside=to_outside)
        wait_for("the near worker to lead", lambda: rig.leader() == near or None, timeout_s=_RECOVERY_S)
        what = "the far worker to know that it leads no more"
        wait_for(what, lambda: rig.far.logged("leadership_lost") or None, timeout_s=5)
        token = rig.near.admin("POST", "/enrol-tokens", {"uses": 4})["token"]
        for _ in range(4):  # the new leader has something to decide
            credential = rig.near.enrol(token)
            assert rig.is_acked(rig.near, credential, f"bad-{credential[-8:]}", bad, "failure")
        wait_for("the decision", lambda: _state(rig, bad) == "rolled_back" or None, timeout_s=60)
        decided = rig.epoch()
        assert decided > epoch
        rig.link.heal()  # what was held comes now, from a leader of the past
        wait_for("the far worker", lambda: rig.far.is_ready() or None, timeout_s=_RECOVERY_S)
        rig.await_progress()
    led = [
        (line["fence"], worker)
        for worker in (rig.far, rig.near)
        for line in worker.logged("leadership_taken")
    ]
    assert (fence, rig.far) in led
    assert (fence + 1, rig.near) in led
    assert len({number for number, _ in led}) == len(led) == rig.lease()[1], "the late leader acted"
    assert rig.epoch() >= decided
    history = rig.near.admin("GET", "/audit?limit=1000")["entries"]
    rollbacks = [
        entry for entry in history if (entry["action"], entry["subject"]) == ("release.rollback", bad)
    ]
    assert len(rollbacks) == 1
    rig.check()


def test_workers_bear_a_bad_network(rig: Rig) -> None:
    bad = Weather(loss=0.05, delay_s=0.02, jitter_s=0.1)
    with rig.reporting():
        rig.link.change(to_inside=bad, to_outside=bad)
        for _ in range(5):
            rig.make_release()
            rig.await_progress()
        rig.link.heal()
        rig.await_progress()
    rig.check()


def test_a_network_that_comes_and_goes(rig: Rig) -> None:
    with rig.reporting():
        for cut_s in (0.3, 1.0, 3.0, 0.3, 6.0):
            rig.link.cut()
            time.sleep(cut_s)
            rig.link.heal()
            rig.await_progress()
        epoch = rig.epoch()
        rig.make_release()
        assert rig.epoch() > epoch
    rig.check()


def _state(rig: Rig, release: str) -> str:
    return str(rig.near.admin("GET", f"/releases/{release}")["release"]["state"])
