"""The platform with everything on: devices served in both profiles, streams held, news told.

Clients and servers share this machine. A device has a connection of its own and does what an agent does when
it hears of an epoch, without running a task: ask for the epoch, fetch 64 KiB, check them, report.
"""

from __future__ import annotations

import contextlib
import hashlib
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from device_load import Streams, get, post_report, run_cycles
from reporting import Row
from walle_control.features.devices import credentials
from walle_shared.ids import DeviceId
from walle_support.live import LiveControl, commit_tasks, task_folder  # pyright: ignore[reportAttributeAccessIssue]
from walle_support.scale_out import Nginx, children_of, nginx_program, run_profile
from walle_support.servers import postgres_programs, run_postgres

SECTION = "platform-scale"
_STREAMS = 4_000
_DEVICES = 2_000
_AT_ONCE = 64
_TURNS = 3
_FILE_BYTES = 64 * 1024


def run() -> list[Row]:
    """Measure the default profile, then the scale-out profile if its programs are installed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    rows = _measure_default()
    if nginx_program() is not None and postgres_programs() is not None:
        rows += _measure_scale_out()
    return rows


def _measure_default() -> list[Row]:
    with _folder() as folder:
        control = LiveControl(folder)
        control.start()
        try:
            bench = _Bench(control, control.url, "default profile")
            pids = [bench.control_pid()]
            return [bench.devices_per_second(), *bench.streams(pids)]
        finally:
            control.stop()


def _measure_scale_out() -> list[Row]:
    with (
        _folder() as folder,
        run_postgres() as postgres,
        run_profile(folder, postgres.url) as (control, nginx),
    ):
        bench = _Bench(control, nginx.url, "scale-out profile")
        rows = [bench.devices_per_second(), bench.files_per_second()]
        return rows + bench.streams(_nginx_pids(nginx))


class _Bench:
    """One profile that is up, with a task released to everybody."""

    def __init__(self, control: LiveControl, url: str, profile: str) -> None:
        self._control, self._profile = control, profile
        parts = httpx.URL(url)
        assert parts.port is not None
        self._address = (parts.host, parts.port)
        folder = control.data.parent
        commit_tasks(
            folder / "tasks", {"greeter": task_folder(folder, "greeter", "def run(): pass\n")}, "1.0.0"
        )
        control.import_task(folder / "tasks", "greeter").raise_for_status()
        self._release = control.release("greeter")
        data = bytes(range(256)) * (_FILE_BYTES // 256)
        self._sha256 = hashlib.sha256(data).hexdigest()
        (control.data / "static" / "blob" / self._sha256).write_bytes(data)
        (control.data / "static" / "blob" / self._sha256).chmod(0o644)
        key = bytes.fromhex((control.data / "keys" / "credential.key").read_text())
        expires_ms = round(time.time() * 1000) + 3_600_000
        self._credentials = [
            credentials.issue(key, DeviceId(f"d{number:020x}"), expires_ms) for number in range(_STREAMS)
        ]

    def control_pid(self) -> int:
        """The server's process id."""
        address = self._control._address()
        assert address is not None
        return int(address["pid"])

    def devices_per_second(self) -> Row:
        """Devices that complete, all on a push: check, 64 KiB, verify, report."""
        rates = []
        for turn in range(_TURNS):
            devices = [
                [
                    get("/s/epoch.json"),
                    get(f"/s/blob/{self._sha256}"),
                    post_report(self._credentials[number], f"{turn}-{number}", self._release),
                ]
                for number in range(_DEVICES)
            ]
            rates.append(_DEVICES / run_cycles(self._address, devices, self._sha256, _AT_ONCE))
        counts = self._control.get(f"/releases/{self._release}")["counts"]
        reported = sum(count["n"] for count in counts)
        assert reported == _TURNS * _DEVICES, f"{reported} reports were counted"
        note = f"{_DEVICES} devices, {_AT_ONCE} at once, a connection each; load generator included"
        return self._row("devices: check, 64 KiB, verify, report", rates, "/s", note)

    def files_per_second(self) -> Row:
        """The same without the report: nginx and the load generator alone."""
        devices = [[get("/s/epoch.json"), get(f"/s/blob/{self._sha256}")]] * _DEVICES
        rates = [_DEVICES / run_cycles(self._address, devices, self._sha256, _AT_ONCE) for _ in range(_TURNS)]
        return self._row(
            "devices: check, 64 KiB, verify; nginx alone", rates, "/s", "the ceiling of the above"
        )

    def streams(self, pids: list[int]) -> list[Row]:
        """Memory of a held push stream, and how fast all hear of an epoch."""
        before = _memory(pids)
        started = time.perf_counter()
        held = Streams(self._address, self._credentials)
        opened_s = time.perf_counter() - started
        try:
            each = (_memory(pids) - before) / _STREAMS / 1000
            rates = []
            for _ in range(_TURNS):
                heard = min(stream.heard for stream in held.streams)
                told = time.perf_counter()
                release = self._control.release("greeter")
                rates.append(_STREAMS / (held.wait_heard(heard + 1) - told))
                self._control.post(f"/releases/{release}/rollback", {"reason": "bench"}).raise_for_status()
                held.wait_heard(heard + 2)
        finally:
            held.close()
        note = (
            f"{_STREAMS} held; user memory of the server that holds them; {_STREAMS / opened_s:,.0f} opened/s"
        )
        memory = Row("platform", f"{self._profile}: memory of a held stream", each, "kB", each, each, note)
        note = "from the operator's request, epoch made, signed and published, to the last of the streams"
        return [memory, self._row("streams told of a new epoch", rates, "/s", note)]

    def _row(self, what: str, rates: list[float], unit: str, note: str) -> Row:
        named = f"{self._profile}: {what}"
        return Row("platform", named, statistics.median(rates), unit, min(rates), max(rates), note)


def _memory(pids: list[int]) -> int:
    """Bytes of user memory, shared pages shared out."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def _nginx_pids(nginx: Nginx) -> list[int]:
    master = int((nginx.folder / "nginx.pid").read_text())
    return [master, *children_of(master)]


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="walle-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
