"""The default profile at work: one process, SQLite, its own files; beside nginx, bare Trio and Hypercorn.

Client and servers share the machine, so every figure includes its load generator. nginx serves the same files
with one worker; what is "bare" is a server of a few lines in a process of its own that does nothing else.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import trio

from device_load import get, post_report, run_requests
from reporting import Row
from walle_control import setup
from walle_control.app import Control, create_control
from walle_control.config import ControlConfig
from walle_control.db.store import Store
from walle_control.features.releases.types import CreateRelease, GuardWish, StageWish
from walle_control.features.tasks.types import ImportRequest
from walle_control.fleet.http import Connection, Server
from walle_control.fleet.scenario import Scenario, Version
from walle_control.fleet.simulator import Target, allow_files, open_fleet
from walle_shared.clock import SystemClock
from walle_shared.ids import DeviceId, ReleaseId
from walle_shared.protocol.messages import NO_RELEASE, Report, ReportBatch
from walle_shared.protocol.version import DEVICE_API
from walle_shared.signing import SigningKey
from walle_support.live import SCENARIO, LiveControl, commit_tasks, task_folder
from walle_support.servers import free_port

#: The server does the same for each device, so a few thousand stand for any number; joining is not timed.
DEVICES = 3_000
RELEASES = 1
STREAMS = 2_000
FILE_BYTES = 64 << 10
LARGE_BYTES = 16 << 20
VOTES_PER_S = 1_000
BAD, GOOD = 0.05, 0.01
ROUNDS = 3
CONNECTIONS, REQUESTS = 64, 15


def run() -> list[Row]:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as folder, _live(Path(folder)) as control:
        rows = _streams(control)  # first: what a process has freed is used again, and measured too low
    with tempfile.TemporaryDirectory() as folder, _live(Path(folder)) as control:
        rows += [_completing(control), *_requests(control)]
        rows += _downloads(Path(folder, "static"), control)
    return [*rows, _time_to_rollback()]


def _row(what: str, samples: Sequence[float], unit: str, note: str = "") -> Row:
    return Row("platform", what, statistics.median(samples), unit, min(samples), max(samples), note)


@contextmanager
def _live(folder: Path) -> Iterator[LiveControl]:
    control = LiveControl(folder)
    try:
        control.start()
        for version in range(1, ROUNDS + 1):
            task = task_folder(folder / str(version), "greeter", f"def run():\n    return {version}\n")
            (task / "weights.bin").write_bytes(os.urandom(FILE_BYTES))
            commit_tasks(folder / "tasks", {"greeter": task}, f"{version}.0.0")
            control.import_task(folder / "tasks", "greeter", f"{version}.0.0").raise_for_status()
        yield control
    finally:
        control.stop()


def _pid(control: LiveControl) -> int:
    pid: int = json.loads((control.data / "address.json").read_text())["pid"]
    return pid


def _resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


# Devices


def _completing(control: LiveControl) -> Row:
    granted = control.post("/enrol-tokens", {"uses": DEVICES}).json()
    target = Target(control.url, granted["trusted_root"], granted["token"])
    return trio.run(_complete, control, target)


async def _complete(control: LiveControl, target: Target) -> Row:
    rates = []
    async with open_fleet(Scenario(DEVICES, versions=(Version(run_after_s=0.5),)), target) as fleet:
        await fleet.wait_enrolled()
        for number in range(1, RELEASES + 1):
            version = f"{number}.0.0"
            published = fleet.tally.now()
            await trio.to_thread.run_sync(control.release, "greeter", version)
            await fleet.wait_covered(f"{SCENARIO}/greeter {version}", 1.0)
            times = fleet.tally.activations[f"{SCENARIO}/greeter {version}"]
            rates.append(DEVICES / (max(times) - published))
        errors = sum(fleet.tally.errors.values())
    note = (
        f"{DEVICES} simulated devices on push streams: push, check, pull 4 files (66 KB), verify, report;"
        f" {errors} errors"
    )
    return _row("devices completing, default profile", rates, "/s", note)


# Push streams


def _streams(control: LiveControl) -> list[Row]:
    credential = _enrol(control)
    headers = {"Authorization": f"Bearer {credential}"}
    held = functools.partial(_hold, Server.of(control.url), _pid(control), f"{DEVICE_API}/stream", headers)
    ours = trio.run(held, lambda: control.release("greeter", "1.0.0"))
    rows = _stream_rows("default profile", *ours)
    with _program("bare_trio.py", "hub") as (port, process):

        def push() -> None:
            with socket.create_connection(("127.0.0.1", port)) as poke:
                poke.sendall(b"POST /push HTTP/1.1\r\n\r\n")

        hub = functools.partial(_hold, Server("127.0.0.1", port, False), process.pid, "/stream", {})
        rows += _stream_rows("bare Trio", *trio.run(hub, push))
    return rows


def _stream_rows(who: str, accepts: float, per_stream_kb: float, fan_out_s: list[float]) -> list[Row]:
    rates = [STREAMS / span for span in fan_out_s]
    return [
        _row(f"push streams opened, {who}", [accepts], "/s"),
        _row(
            f"memory of a held stream, {who}",
            [per_stream_kb],
            "KiB",
            f"{STREAMS} held, resident",
        ),
        _row(
            f"push to all streams, {who}",
            rates,
            "/s",
            "from the request that publishes to the last event",
        ),
    ]


async def _hold(
    server: Server, pid: int, path: str, headers: dict[str, str], publish: Callable[[], object]
) -> tuple[float, float, list[float]]:
    """Open streams, then publish a few times: streams opened a second, KiB of each, seconds to reach all."""
    allow_files(STREAMS + 200)
    before_kb = _resident_kb(pid)
    streams: list[Connection] = []
    limiter = trio.CapacityLimiter(64)

    async def open_one() -> None:
        async with limiter:
            connection = Connection(server, await server.connect())
            await connection.begin("GET", path, headers, b"")
            await _event(connection)
            streams.append(connection)

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(STREAMS):
            nursery.start_soon(open_one)
    opened_s = time.perf_counter() - began
    per_stream_kb = (_resident_kb(pid) - before_kb) / STREAMS
    spans = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(_event, stream)
            await trio.to_thread.run_sync(publish)
        spans.append(time.perf_counter() - began)
    for stream in streams:
        await stream.close()
    return STREAMS / opened_s, per_stream_kb, spans


async def _event(connection: Connection) -> None:
    while True:
        part = await connection.next_part()
        if part is None or b"event:" in part:
            return


def _enrol(control: LiveControl) -> str:
    import httpx

    granted = control.post("/enrol-tokens", {"uses": 1}).json()
    key = SigningKey.generate().public.raw_hex
    answer = httpx.post(
        f"{control.url}{DEVICE_API}/enrol", json={"token": granted["token"], "public_key": key}
    )
    credential: str = answer.raise_for_status().json()["credential"]
    return credential


# Requests


def _requests(control: LiveControl) -> list[Row]:
    """Requests on connections that stay: what the HTTP server costs, and what the application adds."""
    release = control.release("greeter", "1.0.0")
    credential = _enrol(control)
    address = Server.of(control.url)
    with ExitStack() as stack:
        bare = {
            name: ("127.0.0.1", stack.enter_context(_program("bare_asgi.py", name))[0])
            for name in ("ours", "Hypercorn")
        }
        ours = ("127.0.0.1", address.port)
        contestants = {
            "epoch asked for, default profile": (ours, lambda _: get("/s/epoch.json")),
            "a report each, default profile": (ours, lambda n: post_report(credential, f"r{n}", release)),
        } | {
            f"a report each, {name} with an application that does nothing": (
                where, lambda n: post_report(credential, f"r{n}", release)
            )
            for name, where in bare.items()
        }  # fmt: skip
        samples: dict[str, list[float]] = {name: [] for name in contestants}
        numbers = itertools.count()
        for _ in range(5):
            for name, (where, make) in contestants.items():
                requests = [[make(next(numbers)) for _ in range(REQUESTS)] for _ in range(CONNECTIONS)]
                samples[name].append(CONNECTIONS * REQUESTS / run_requests(where, requests))
    return [_row(f"requests: {name}", rates, "/s") for name, rates in samples.items()]


# Downloads


def _downloads(folder: Path, control: LiveControl) -> list[Row]:
    """One connection, one file again and again."""
    folder.mkdir()
    rows = []
    for size in (FILE_BYTES, LARGE_BYTES):
        data = os.urandom(size)
        digest = _publish_blob(control, data)
        (folder / "blob").write_bytes(data)
        with ExitStack() as stack:
            ports = {"default profile": (Server.of(control.url).port, f"/s/blob/{digest}")}
            if shutil.which("nginx"):
                ports["nginx"] = (stack.enter_context(_nginx(folder)), "/blob")
            port, _ = stack.enter_context(_program("bare_trio.py", "file", str(folder / "blob")))
            ports["bare Trio"] = (port, "/blob")
            samples: dict[str, list[float]] = {name: [] for name in ports}
            for _ in range(5):
                for name, (port, path) in ports.items():
                    samples[name].append(_download(port, path, size))
        words = f"{size >> 10} KiB" if size < 1 << 20 else f"{size >> 20} MiB"
        rows += [_row(f"downloads of {words}, {name}", rates, "MB/s") for name, rates in samples.items()]
    return rows


def _publish_blob(control: LiveControl, data: bytes) -> str:
    """Put a file among the server's blobs."""
    from walle_control.db.files import FileStore

    store = Store.open(control.data)
    try:
        files: FileStore = store.files
        return files.put("blob", data).sha256
    finally:
        store.close()


def _download(port: int, path: str, size: int, seconds: float = 0.4) -> float:
    """MB/s over one connection."""
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    buffer = bytearray(1 << 20)
    done = 0
    with socket.create_connection(("127.0.0.1", port)) as peer:
        began = time.perf_counter()
        while (span := time.perf_counter() - began) < seconds:
            peer.sendall(request)
            got, head = peer.recv_into(buffer), -1
            while (head := buffer[:got].find(b"\r\n\r\n")) < 0:
                got += peer.recv_into(memoryview(buffer)[got:])
            left = size - (got - head - 4)
            while left > 0:
                left -= peer.recv_into(buffer)
            done += size
    return done / span / 1e6


@contextmanager
def _nginx(folder: Path) -> Iterator[int]:
    port = free_port()
    settings = folder / "nginx.conf"
    settings.write_text(
        f"worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;"
        f"{'user root;' if os.geteuid() == 0 else ''}"
        "events { worker_connections 1024; }"
        f"http {{ access_log off; sendfile on; server {{ listen 127.0.0.1:{port}; root {folder};"
        " keepalive_requests 1000000; } }"
    )
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(settings)], stderr=subprocess.DEVNULL)
    try:
        _await_port(port)
        yield port
    finally:
        process.terminate()
        process.wait()


# Rollback


def _time_to_rollback() -> Row:
    """Votes through the service into the real database, judged by the real guard."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        setup.init(data, SystemClock())
        with closing(Store.open(data)) as store:
            spans = trio.run(_roll_back_often, store, Path(folder))
    note = (
        f"{VOTES_PER_S} starts and as many runs a second in equal arms, {BAD:.0%} fail against {GOOD:.0%}; "
        "from the first bad report to the published epoch"
    )
    return _row("time to rollback", spans, "s", note)


async def _roll_back_often(store: Store, folder: Path) -> list[float]:
    control = create_control(ControlConfig(), clock=SystemClock(), store=store)
    async with trio.open_nursery() as nursery:
        await nursery.start(control.run)
        task = task_folder(folder / "task", "greeter", "def run():\n    return 1\n")
        commit_tasks(folder / "tasks", {"greeter": task}, "1.0.0")
        await control.tasks.import_version(ImportRequest(str(folder / "tasks"), "greeter", "1.0.0"), "bench")
        before = (await control.releases.create(CreateRelease(SCENARIO, "greeter", "1.0.0"), "bench")).release
        spans = [await _roll_back(control, before.id, number) for number in range(ROUNDS)]
        nursery.cancel_scope.cancel()
    return spans


async def _roll_back(control: Control, before: ReleaseId, number: int) -> float:
    dice = random.Random(number)
    stages = (StageWish(50, min_devices=10**9), StageWish(100))
    wish = CreateRelease(SCENARIO, "greeter", "1.0.0", stages=stages, guard=GuardWish(max_failure_rate=0.5))
    release = (await control.releases.create(wish, "bench")).release.id
    seen = control.hub.epoch
    began = 0.0
    async with trio.open_nursery() as nursery:
        start = trio.current_time()

        async def vote() -> None:
            nonlocal began
            for device in range(20 * VOTES_PER_S):
                await trio.sleep_until(start + device / VOTES_PER_S)
                bad = dice.random() < (BAD if device % 2 else GOOD)
                if bad and device % 2 and not began:
                    began = trio.current_time()
                reports = _reports(before, release, f"d{number}-{device}", device, bad=bad)
                nursery.start_soon(control.telemetry.record_reports, DeviceId(f"d{number}-{device}"), reports)

        nursery.start_soon(vote)
        with trio.fail_after(20):
            await control.hub.wait_news(seen)
        nursery.cancel_scope.cancel()
    state = (await control.releases.show(release)).release.state
    assert state == "rolled_back", state
    return trio.current_time() - began


def _reports(before: ReleaseId, release: ReleaseId, name: str, number: int, *, bad: bool) -> ReportBatch:
    """What a device of one arm or the other says: that it has started, and how the first run went."""
    is_new = number % 2 == 1
    own, other = (release, NO_RELEASE) if is_new else (before, release)
    common = {
        "task": "greeter",
        "version": "1.0.0",
        "attempt": 1,
        "at_ms": 1,
        "votes": is_new,
        "control_of": other,
    }
    start = Report(
        f"{name}s", own, stage="install" if is_new else "start", outcome="success", duration_ms=1.0, **common
    )
    error = {"outcome": "failure", "error_class": "runtime"} if bad else {"outcome": "success"}
    return ReportBatch((start, Report(f"{name}r", own, stage="run", duration_ms=20.0, **error, **common)))


# Processes


@contextmanager
def _program(script: str, *words: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    process = subprocess.Popen([sys.executable, Path(__file__).with_name(script), str(port), *words])
    try:
        _await_port(port)
        yield port, process
    finally:
        process.kill()
        process.wait()


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")
