"""Questions to a cloud half: from a run's question to its answer, and what a core answers.

The real server process and the agent's own tunnel on loopback, without TLS; the cloud half adds a few
numbers. The run on the device that asks is left out: ``container`` measures what a host call takes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import trio

from reporting import Row

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from walle_agent.link.transport import Transport
from walle_agent.streams.asks import AskLine
from walle_agent.streams.tunnel import Tunnel
from walle_container import HostConfig, TaskHost, cloud_spec
from walle_shared.backoff import Backoff
from walle_shared.limits import CLOUD_ASKS_OPEN_MAX
from walle_shared.manifest import parse_task_file
from walle_shared.protocol.asks import Ask
from walle_support.live import SCENARIO, LiveControl, commit_tasks, task_folder
from walle_support.uploads import MemoryOutbox, enrol

SECTION = "cloud"

HALF = "def answer(request):\n    return {'sum': sum(request.payload['values']) + len(request.data)}\n"
TOML = "[cloud]\nworkers = 8\nasks_per_device_hour = 0\nseconds_per_hour = 0.0\n"
PAYLOAD = {"values": [1, 2, 3, 4]}
SIZES_KB = (0, 30)

SAMPLES = 500
FLOOD_S = 4.0
DEVICES = 4


def run(samples: int = SAMPLES) -> list[Row]:
    """Measure round trips, then a flood, then the same work without any of the way."""
    with tempfile.TemporaryDirectory() as folder, _live(Path(folder)) as (control, release):
        rows = trio.run(_round_trips, control, release, samples)
        rows.append(trio.run(_flood, control, release))
        rows += trio.run(_bare, Path(folder, "sources", "asker"), samples)
    return rows


@contextmanager
def _live(folder: Path) -> Iterator[tuple[LiveControl, str]]:
    control = LiveControl(folder)
    try:
        control.start()
        task = task_folder(folder / "sources", "asker", "def run():\n    return None\n", toml=TOML)
        (task / "cloud.py").write_text(HALF)
        commit_tasks(folder / "tasks", {"asker": task}, "1.0.0")
        control.import_task(folder / "tasks", "asker").raise_for_status()
        yield control, control.release("asker")
    finally:
        control.stop()


@asynccontextmanager
async def _line(control: LiveControl) -> AsyncIterator[AskLine]:
    """The line of a device of its own."""
    token = control.post("/enrol-tokens", {"uses": 1}).json()["token"]
    _, credential = enrol(control.url, token)
    line = AskLine()
    async with Transport(control.url, timeout_s=10) as transport, trio.open_nursery() as nursery:
        connect = lambda: transport.connect_tunnel(credential)  # noqa: E731  # what the tunnel takes
        tunnel = Tunnel(MemoryOutbox(), connect, backoff=Backoff(0.1, 1.0), asks=line)
        nursery.start_soon(tunnel.run)
        while not tunnel.statistics().connected:  # noqa: ASYNC110  # it tells nobody
            await trio.sleep(0.01)
        yield line
        nursery.cancel_scope.cancel()


async def _one_ms(line: AskLine, release: str, data: bytes) -> float:
    start = time.perf_counter()
    answer = await line.ask(Ask(SCENARIO, "asker", "1.0.0", release, PAYLOAD, 1), data, 30.0)
    took_ms = (time.perf_counter() - start) * 1e3
    if answer.answer != {"sum": 10 + len(data)}:
        raise RuntimeError(f"no answer: {answer.reason}: {answer.message}")
    return took_ms


async def _round_trips(control: LiveControl, release: str, samples: int) -> list[Row]:
    rows = []
    async with _line(control) as line:
        for size_kb in SIZES_KB:
            data = os.urandom(size_kb * 1024)
            await _one_ms(line, release, data)
            times_ms = []
            for _ in range(samples):
                times_ms.append(await _one_ms(line, release, data))
                await trio.sleep(0.005)
            what = f"question of {size_kb} KB to its answer" if size_kb else "small question to its answer"
            rows.append(_row(what, times_ms))
    return rows


async def _flood(control: LiveControl, release: str) -> Row:
    """As many questions as may be open, of several devices; the server's and its workers' processor time."""
    answered = 0

    async def ask_on(line: AskLine) -> None:
        nonlocal answered
        while True:
            await _one_ms(line, release, b"")
            answered += 1

    async def device(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with _line(control) as line, trio.open_nursery() as nursery:
            task_status.started()
            for _ in range(CLOUD_ASKS_OPEN_MAX):
                nursery.start_soon(ask_on, line)

    pid = _server_pid(control)
    async with trio.open_nursery() as nursery:
        for _ in range(DEVICES):
            await nursery.start(device)
        await trio.sleep(0.5)
        before, cpu_s, start = answered, _cpu_s(pid), time.perf_counter()
        await trio.sleep(FLOOD_S)
        count, wall_s = answered - before, time.perf_counter() - start
        cpu_s = _cpu_s(pid) - cpu_s
        nursery.cancel_scope.cancel()
    rate = count / cpu_s
    note = f"{count / wall_s:,.0f} a second in all on this machine, {DEVICES} devices included"
    return Row(
        SECTION, "answers, per core of the server and its workers", rate, "answers/s", rate, rate, note
    )


async def _bare(task: Path, samples: int) -> list[Row]:
    """The same answers from the container alone, and from the function alone."""
    spec = cloud_spec(parse_task_file((task / "task.toml").read_text()), task)
    request = {"payload": PAYLOAD, "device_id": "d", "version": "1.0.0"}
    async with TaskHost(HostConfig(slots=1)) as host:
        await host.run(spec, {"events": [], "request": request})
        times_ms = []
        for _ in range(samples):
            start = time.perf_counter()
            await host.run(spec, {"events": [], "request": request})
            times_ms.append((time.perf_counter() - start) * 1e3)
    names: dict[str, Any] = {}
    exec(HALF, names)
    asked = type("Request", (), {"payload": PAYLOAD, "data": b""})()
    function_ms = []
    for _ in range(samples):
        start = time.perf_counter()
        names["answer"](asked)
        function_ms.append((time.perf_counter() - start) * 1e3)
    return [_row("the container's run alone", times_ms), _row("the function alone", function_ms)]


def _row(what: str, times_ms: list[float]) -> Row:
    ordered = sorted(times_ms)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return Row(SECTION, what, median(ordered), "ms", ordered[0], p99, f"p99 {p99:.2f} ms")


def _server_pid(control: LiveControl) -> int:
    pid: int = json.loads((control.data / "address.json").read_text())["pid"]
    return pid


def _cpu_s(pid: int) -> float:
    """Processor time of a process and of those it has started."""
    return sum(_times_s(each) for each in [pid, *(p for p in _pids() if _parent(p) == pid)])


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["", "0", *["0"] * 20]


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _times_s(pid: int) -> float:
    return sum(map(int, _stat(pid)[11:13])) / os.sysconf("SC_CLK_TCK")
