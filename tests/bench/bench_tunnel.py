"""The upload tunnel: from a record in the device's outbox to its acknowledgement, and what a core takes in.

The real server process (SQLite with synchronous=FULL, no other sink) and the agent's own tunnel, without TLS,
over loopback and over emulated links of 50 ms. An acknowledged record is on the server's disk.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import trio

import slow_link
from reporting import Row

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from walle_agent.link.transport import Transport
from walle_agent.streams.tunnel import Tunnel
from walle_shared.backoff import Backoff
from walle_shared.protocol.tunnel import Record
from walle_support.uploads import MemoryOutbox, enrol

SECTION = "tunnel"

SIZES_KB = (1, 3, 30)
RTT_MS = 50.0
#: Bars of the design for 30 KB over 50 ms, p99: without loss, and with 1 %.
BARS_MS = {0.0: 150.0, 0.01: 400.0}

#: What a device has after an hour without a network.
BACKLOG = 1_000

INGEST_CONNECTIONS = 8
INGEST_S = 4.0

_PROGRAM = [sys.executable, "-m", "walle_control"]
_START_S = 30.0


def run(samples: int = 120) -> list[Row]:
    """Measure latency on every link there can be here, then ingest."""
    with tempfile.TemporaryDirectory() as folder:
        rows = _latency_rows(Path(folder, "loopback"), "loopback", None, samples)
    reason = slow_link.unavailable()
    for loss in BARS_MS:
        where = f"{RTT_MS:.0f} ms link, {loss:.0%} loss"
        if reason:
            print(f"skipped: {where}: {reason}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder, slow_link.slow_link(RTT_MS, loss) as link:
            rows += _latency_rows(Path(folder, "slow"), where, link, samples, BARS_MS[loss])
    return [*rows, *_ingest_rows()]


# Latency


def _latency_rows(
    folder: Path, where: str, link: slow_link.SlowLink | None, samples: int, bar_ms: float | None = None
) -> list[Row]:
    with _serving(folder, link) as server:
        words = [sys.executable, __file__, server.url, server.token, str(samples)]
        device = subprocess.run(
            link.at(link.near, words) if link else words, capture_output=True, text=True, check=False
        )
    if device.returncode != 0:
        raise RuntimeError(device.stderr)
    rows = []
    for what, found in json.loads(device.stdout).items():
        times_ms = sorted(found["times_ms"])
        p99 = times_ms[min(len(times_ms) - 1, len(times_ms) * 99 // 100)]
        note = f"p99 {p99:.1f} ms" + (
            f"; {found['wire_bytes']:,} bytes on the wire" if "wire_bytes" in found else ""
        )
        if bar_ms is not None and what == "30 KB record to ack":
            note += f"; bar {bar_ms:.0f} ms"
        rows.append(Row(SECTION, f"{where}: {what}", median(times_ms), "ms", times_ms[0], p99, note))
    return rows


async def _measure_device(url: str, token: str, samples: int) -> dict[str, dict[str, Any]]:
    """At the device's end: connect anew, then records of each size, one at a time with pauses."""
    _, credential = enrol(url, token)
    chance = random.Random(3)
    cold_ms = [await _cold_ms(url, credential, chance) for _ in range(max(3, samples // 20))]
    found: dict[str, dict[str, Any]] = {"connect and send 1 KB to ack": {"times_ms": cold_ms}}
    outbox = MemoryOutbox()
    async with Transport(url, timeout_s=10) as transport, trio.open_nursery() as nursery:
        tunnel = Tunnel(outbox, lambda: transport.connect_tunnel(credential), backoff=Backoff(0.1, 1.0))
        nursery.start_soon(tunnel.run)
        await outbox.wait_acked(outbox.add(_record(chance, 1)))
        for size_kb in SIZES_KB:
            before = tunnel.statistics().bytes_sent
            times_ms = []
            for _ in range(samples if size_kb == max(SIZES_KB) else samples // 3):
                await trio.sleep(chance.uniform(0.3, 0.5))  # longer than TCP keeps its window open
                times_ms.append(await _one_ms(outbox, chance, size_kb))
            wire = (tunnel.statistics().bytes_sent - before) // len(times_ms)
            found[f"{size_kb} KB record to ack"] = {"times_ms": times_ms, "wire_bytes": wire}
        backlog_ms = [await _backlog_ms(outbox, chance) for _ in range(max(3, samples // 50))]
        found[f"{BACKLOG} records of 1 KB at once to the last ack"] = {"times_ms": backlog_ms}
        if tunnel.statistics().failures:
            raise RuntimeError("the tunnel broke while it was measured")
        nursery.cancel_scope.cancel()
    return found


async def _cold_ms(url: str, credential: str, chance: random.Random) -> float:
    outbox = MemoryOutbox()
    seq = outbox.add(_record(chance, 1))
    async with Transport(url, timeout_s=10) as transport, trio.open_nursery() as nursery:
        tunnel = Tunnel(outbox, lambda: transport.connect_tunnel(credential), backoff=Backoff(0.1, 1.0))
        start = time.perf_counter()
        nursery.start_soon(tunnel.run)
        await outbox.wait_acked(seq)
        took_ms = (time.perf_counter() - start) * 1e3
        nursery.cancel_scope.cancel()
    return took_ms


async def _one_ms(outbox: MemoryOutbox, chance: random.Random, size_kb: int) -> float:
    record = _record(chance, size_kb)
    start = time.perf_counter()
    await outbox.wait_acked(outbox.add(record))
    return (time.perf_counter() - start) * 1e3


async def _backlog_ms(outbox: MemoryOutbox, chance: random.Random) -> float:
    records = [_record(chance, 1) for _ in range(BACKLOG)]
    start = time.perf_counter()
    for record in records:
        outbox.add(record)
    await outbox.wait_acked(outbox.newest)
    return (time.perf_counter() - start) * 1e3


def _record(chance: random.Random, size_kb: int) -> Record:
    """A record whose text packs to three quarters, as Base64 does: harder than any JSON of events."""
    text = base64.b64encode(chance.randbytes(size_kb * 768)).decode()
    return Record(
        "bench", "tunnel", "1.0.0", "r1", "seen", 1_700_000_000_000, {"text": text[: size_kb * 1024]}
    )


# Ingest


def _ingest_rows() -> list[Row]:
    """Frames and bytes a second of one core of the server: its processor time, with clients elsewhere."""
    rows = []
    for size_kb in (1, 30):
        with tempfile.TemporaryDirectory() as folder, _serving(Path(folder, "ingest"), None) as server:
            words = [sys.executable, __file__, server.url, server.token, "--flood", str(size_kb)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(done.stderr)
            spent = json.loads(done.stdout)
            cpu_s = server.cpu_s() - server.cpu_before_s
        rate = spent["frames"] / cpu_s
        wall = spent["frames"] / spent["wall_s"]
        what = f"server, {size_kb} KB records from {INGEST_CONNECTIONS} devices, per core"
        note = f"{wall:,.0f} frames/s in all on this machine, clients included"
        rows.append(Row(SECTION, what, rate, "frames/s", rate, rate, note))
        rows.append(
            Row(SECTION, f"{what}, bytes", rate * size_kb / 1024, "MiB/s", rate * size_kb / 1024,
                rate * size_kb / 1024, "of records before packing")
        )  # fmt: skip
    return rows


async def _flood(url: str, token: str, size_kb: int) -> dict[str, float]:
    chance = random.Random(4)
    outboxes: list[MemoryOutbox] = []
    records = [_record(chance, size_kb) for _ in range(64)]
    async with Transport(url, timeout_s=10) as transport, trio.open_nursery() as nursery:
        for _ in range(INGEST_CONNECTIONS):
            _, credential = enrol(url, token)
            outbox = MemoryOutbox()
            outboxes.append(outbox)
            nursery.start_soon(_upload, transport, credential, outbox)
        start = time.perf_counter()
        for outbox in outboxes:
            nursery.start_soon(_fill, outbox, records)
        await trio.sleep(INGEST_S)
        wall_s = time.perf_counter() - start
        frames = sum(outbox.acked for outbox in outboxes)
        nursery.cancel_scope.cancel()
    return {"frames": frames, "wall_s": wall_s}


async def _upload(transport: Transport, credential: str, outbox: MemoryOutbox) -> None:
    await Tunnel(outbox, lambda: transport.connect_tunnel(credential), backoff=Backoff(0.1, 1.0)).run()


async def _fill(outbox: MemoryOutbox, records: Sequence[Record]) -> None:
    while True:
        for record in records:
            outbox.add(record)
        await outbox.wait_acked(outbox.newest - len(records))


# The server


class _Server:
    """A running control plane."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, token: str) -> None:
        self.process, self.url, self.token = process, url, token
        self.cpu_before_s = self.cpu_s()

    def cpu_s(self) -> float:
        """Processor time of the server so far."""
        found = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(found[11]) + int(found[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _serving(data: Path, link: slow_link.SlowLink | None) -> Iterator[_Server]:
    subprocess.run([*_PROGRAM, "init", "--data", str(data)], check=True, capture_output=True)
    words = [*_PROGRAM, "serve", "--data", str(data), "--port", "0"]
    if link is not None:
        words = link.at(link.far, [*words, "--host", slow_link.FAR_ADDRESS])
    environment = {**os.environ, "WALLE_CONTROL_SINKS__PARQUET": "off", "WALLE_CONTROL_LOG__LEVEL": "error"}
    with (data / "log.txt").open("wb") as log:
        process = subprocess.Popen(words, env=environment, stderr=log)
    try:
        url = _await_address(data, process)
        made = _create_token(link, data, url)
        if made.returncode != 0:
            raise RuntimeError(made.stderr)
        yield _Server(process, url, json.loads(made.stdout)["token"])
    finally:
        process.terminate()
        process.wait()


def _create_token(link: slow_link.SlowLink | None, data: Path, url: str) -> subprocess.CompletedProcess[str]:
    words = [*_PROGRAM, "enrol-token", "create", "--uses", "100", "--url", url, "--json",
             "--token", (data / "admin.token").read_text().strip()]  # fmt: skip
    words = link.at(link.near, words) if link else words
    return subprocess.run(words, capture_output=True, text=True, check=False)


def _await_address(data: Path, process: subprocess.Popen[bytes]) -> str:
    path, deadline = data / "address.json", time.monotonic() + _START_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError((data / "log.txt").read_text() or "the server did not start")
        time.sleep(0.02)
    url: str = orjson.loads(path.read_bytes())["url"]
    return url


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The device's end of the tunnel's benchmark.")
    parser.add_argument("url")
    parser.add_argument("token")
    parser.add_argument("samples", type=int, nargs="?", default=300)
    parser.add_argument("--flood", type=int, metavar="KB")
    given = parser.parse_args()
    if given.flood:
        print(json.dumps(trio.run(_flood, given.url, given.token, given.flood)))
    else:
        print(json.dumps(trio.run(_measure_device, given.url, given.token, given.samples)))
