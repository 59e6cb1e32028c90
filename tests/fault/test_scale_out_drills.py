"""Drills of the scale-out profile: kill, stop and fill what it runs on; nothing acknowledged is lost.

Devices report all the while, each report until it is acknowledged, as agents do. At the end the database has
every acknowledged report once, and counts it once.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from walle_shared.ids import ReleaseId, TaskName, TaskVersion
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import Report, ReportBatch
from walle_support.live import LiveDevice, commit_tasks, task_folder, wait_for  # pyright: ignore[reportAttributeAccessIssue]
from walle_support.scale_out import Nginx, ScaleOutControl, children_of, nginx_program, run_profile
from walle_support.servers import ServerProcess, postgres_programs, run_postgres
from walle_support.uploads import enrol

pytestmark = [
    pytest.mark.slow_session,
    pytest.mark.slow,
    pytest.mark.skipif(nginx_program() is None, reason="needs nginx with nchan"),
    pytest.mark.skipif(postgres_programs() is None, reason="needs PostgreSQL"),
]

SCRIPT = "def run():\n    pass\n"
_DEVICES = 3


class Rig:
    """The profile with a task and a release, and devices that report through nginx."""

    def __init__(self, control: ScaleOutControl, nginx: Nginx, postgres: ServerProcess) -> None:
        self.control, self.nginx, self.postgres = control, nginx, postgres
        self.acked: set[str] = set()
        self.failures = 0
        self._stop = threading.Event()

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Devices report until the end of the block, and until their last report is acknowledged."""
        token = self.control.command("enrol-token", "create", "--uses", str(_DEVICES))["token"]
        credentials = [enrol(self.nginx.url, token)[1] for _ in range(_DEVICES)]
        self._stop.clear()
        threads = [threading.Thread(target=self._report, args=[c], daemon=True) for c in credentials]
        for thread in threads:
            thread.start()
        try:
            self.await_progress()
            yield
            self.await_progress()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(90)
            assert not any(thread.is_alive() for thread in threads), "a report was never acknowledged"

    def _report(self, credential: str) -> None:
        headers = {"Authorization": f"Bearer {credential}"}
        with httpx.Client(base_url=self.nginx.url, timeout=60, headers=headers) as client:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                report_id = f"{credential[:30]}-{number}"
                report = Report(
                    report_id, ReleaseId(self.release), TaskName("greeter"), TaskVersion("1.0.0"), "run",
                    "success", 1, 5, 1.0,
                )  # fmt: skip
                while not self._is_acked(client, report):
                    self.failures += 1
                    time.sleep(0.05)
                self.acked.add(report_id)

    def _is_acked(self, client: httpx.Client, report: Report) -> bool:
        try:
            answer = client.post("/d/v1/reports", content=encode(ReportBatch((report,))))
        except httpx.TransportError:
            return False
        assert answer.status_code < 400 or answer.status_code >= 500, answer.text
        return answer.status_code == 200

    release = "r0"

    def await_progress(self, more: int = 20, within_s: float = 90) -> None:
        """Wait until so many more reports are acknowledged."""
        wanted = len(self.acked) + more
        wait_for("reports to be acknowledged", lambda: len(self.acked) >= wanted or None, timeout_s=within_s)

    def check(self) -> None:
        """Every acknowledged report is there once, and counted once."""
        rows = [report["report_id"] for report in self.all_reports()]
        assert len(rows) == len(set(rows))
        assert self.acked <= set(rows)
        if self.release != "r0":
            counts = self.control.get(f"/releases/{self.release}")["counts"]
            assert sum(count["n"] for count in counts if count["stage"] == "run") == len(rows)

    def all_reports(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        while page := self.control.get("/reports", after=found[-1]["id"] if found else 0)["reports"]:
            found += page
        return [report for report in found if report["stage"] == "run"]

    def epoch(self) -> int:
        return int(self.control.get("/status")["epoch"])

    def leader(self) -> int:
        """The leading worker's process id."""
        import psycopg

        with psycopg.connect(self.control.database_url) as connection:
            row = connection.execute("SELECT holder FROM lease WHERE expires_ms > 0").fetchone()
        assert row is not None
        return int(row[0].split("-")[-2])


@pytest.fixture
def postgres_of_ones_own() -> Iterator[ServerProcess]:
    with run_postgres() as server:
        yield server


@pytest.fixture
def rig(tmp_path: Path, postgres_of_ones_own: ServerProcess) -> Iterator[Rig]:
    with run_profile(tmp_path, postgres_of_ones_own.url) as (control, nginx):
        repo = tmp_path / "tasks"
        commit_tasks(repo, {"greeter": task_folder(tmp_path, "greeter", SCRIPT)}, "1.0.0")
        control.import_task(repo, "greeter").raise_for_status()
        rig = Rig(control, nginx, postgres_of_ones_own)
        rig.release = control.release("greeter")
        yield rig


def test_kill_of_all_workers(rig: Rig) -> None:
    with rig.reporting():
        for _ in range(3):
            epoch = rig.epoch()
            rig.control.crash()
            rig.control.restart()
            rig.await_progress()
            assert rig.epoch() >= epoch
    rig.check()


def test_workers_do_not_outlive_their_parent(rig: Rig) -> None:
    with rig.reporting():
        workers = rig.control.worker_pids()
        assert len(workers) == 2
        rig.control.crash_parent()
        wait_for("the workers to end", lambda: not any(map(_runs, workers)) or None, timeout_s=60)
        rig.control.restart()
        rig.await_progress()
    rig.check()


def test_kill_of_one_worker_after_the_other(rig: Rig) -> None:
    with rig.reporting():
        for _ in range(2):
            for pid in rig.control.worker_pids():
                os.kill(pid, signal.SIGKILL)
                rig.await_progress()
        wait_for("two workers", lambda: len(rig.control.worker_pids()) == 2 or None, timeout_s=60)
    rig.check()


def test_restart_of_postgres(rig: Rig) -> None:
    with rig.reporting():
        for _ in range(3):
            rig.postgres.kill()
            time.sleep(0.3)
            rig.postgres.start()
            rig.await_progress()
    assert rig.failures > 0
    rig.check()


def test_restart_of_nginx(rig: Rig) -> None:
    with rig.reporting():
        rig.nginx.kill()
        rig.nginx.start()
        rig.await_progress()
    rig.check()


def test_a_leader_that_stands_still_is_followed_and_gives_way(rig: Rig) -> None:
    with rig.reporting(), ThreadPoolExecutor(1) as operator:
        late = rig.leader()
        os.kill(late, signal.SIGSTOP)
        try:
            wait_for("another leader", lambda: rig.leader() != late or None, timeout_s=60)
            asked = operator.submit(rig.control.release, "greeter")
            wait([asked], timeout=5)  # by the other one, or after the late one wakes
        finally:
            os.kill(late, signal.SIGCONT)
        release = asked.result(timeout=30)
        epoch = rig.epoch()
        wait_for("one leader", lambda: rig.leader() != late or None, timeout_s=60)
        rig.await_progress()
        assert rig.epoch() >= epoch
        assert rig.control.get(f"/releases/{release}")["release"]["state"] == "live"
    rig.check()


def test_a_database_that_cannot_be_reached_for_a_while(rig: Rig) -> None:
    with rig.reporting():
        assert rig.postgres.process is not None
        stopped = [rig.postgres.process.pid, *children_of(rig.postgres.process.pid)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(3)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        rig.await_progress()
    rig.check()


def test_a_full_disk_under_postgres(tmp_path: Path, rig_on_small_disk: tuple[Rig, Path]) -> None:
    rig, disk = rig_on_small_disk
    with rig.reporting():
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 65536)
            except OSError:
                pass
        before = len(rig.acked)
        wait_for("reports to be refused", _settled(lambda: len(rig.acked)), timeout_s=120)
        ballast.unlink()
        if rig.postgres.process is not None and rig.postgres.process.poll() is not None:
            rig.postgres.start()  # it ends itself if it cannot write its log
        rig.await_progress()
        assert len(rig.acked) > before
    rig.check()


@pytest.fixture
def rig_on_small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Rig, Path]]:
    # Not below pytest's folder: that is closed to other users, and a socket's path must be short.
    disk = Path(tempfile.mkdtemp(prefix="walle-disk-"))
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs", str(disk)]
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        disk.rmdir()
        pytest.skip("only root may mount a file system")
    try:
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        with run_postgres("max_wal_size=64MB", "wal_recycle=off") as postgres:
            monkeypatch.setattr("tempfile.tempdir", None)
            tmp_path.chmod(0o755)
            with run_profile(tmp_path, postgres.url) as (control, nginx):
                repo = tmp_path / "tasks"
                commit_tasks(repo, {"greeter": task_folder(tmp_path, "greeter", SCRIPT)}, "1.0.0")
                control.import_task(repo, "greeter").raise_for_status()
                rig = Rig(control, nginx, postgres)
                rig.release = control.release("greeter")
                yield rig, disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        disk.rmdir()


def _settled(count: Callable[[], int], for_s: float = 2.0) -> Callable[[], bool | None]:
    """Whether a count has not moved for a while."""
    last = [count(), time.monotonic()]

    def probe() -> bool | None:
        if count() != last[0]:
            last[:] = [count(), time.monotonic()]
        return True if time.monotonic() - last[1] > for_s else None

    return probe


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_backup_restored_elsewhere_is_accepted_by_agents(rig: Rig, tmp_path: Path) -> None:
    """The drill of a lost machine: agents go on with what was restored, and never go back."""
    device = LiveDevice("phone", tmp_path, {"group": "beta"})
    token = rig.control.command("enrol-token", "create")["token"]
    device.start(rig.nginx.url, rig.control.get("/status")["trusted_root"], token)
    device.await_ready()
    rig.control.await_report(rig.release, "install", "success")
    archive = tmp_path / "backup.tar"
    with rig.reporting():
        made = rig.control.command("backup", "--to", str(archive))
    for _ in range(3):  # epochs that the backup does not know, but the device does
        lost = rig.control.release("greeter")
    rig.control.await_report(lost, "install", "success")
    seen = rig.epoch()
    port = httpx.URL(rig.control.url).port
    assert port is not None
    rig.control.crash()
    rig.control.data.rename(tmp_path / "lost")
    rig.postgres.kill()
    with run_postgres() as new:
        rig.control.database_url = new.url
        rig.control.command("restore", "--from", str(archive), "--database", new.url)
        rig.control.start(port)
        assert rig.epoch() > seen
        assert made["epoch"] < seen
        release = rig.control.release("greeter")
        rig.control.await_report(release, "install", "success")
        refused = [line for line in device.log_lines() if line["event"] == "epoch_refused"]
        assert refused == []
        rows = {report["report_id"] for report in rig.all_reports()}
        assert rows
        device.stop()
        rig.control.stop()
