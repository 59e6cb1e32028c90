"""SIGKILL of the control plane in the middle of batches, and of a sink: every sink has each record once."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from walle_agent.link.transport import Transport
from walle_agent.streams.tunnel import Tunnel
from walle_shared.backoff import Backoff
from walle_shared.protocol.tunnel import Record
from walle_support.live import LiveControl, commit_tasks, task_folder  # pyright: ignore[reportAttributeAccessIssue]
from walle_support.servers import ServerProcess
from walle_support.uploads import MemoryOutbox, enrol

pytestmark = pytest.mark.slow

SCRIPT = "def run():\n    pass\n"
DECLARED = "n = 'integer'\n"


class Rig:
    """A control plane with every sink, and a device that uploads to it through the agent's own tunnel."""

    def __init__(self, folder: Path, postgres: ServerProcess, nats_server: ServerProcess) -> None:
        self.control = LiveControl(folder)
        self.postgres, self.nats_server = postgres, nats_server
        self.outbox = MemoryOutbox()
        self.tunnel: Tunnel | None = None
        repo = folder / "tasks"
        task = task_folder(folder, "counter", SCRIPT, toml=DECLARED)
        commit_tasks(repo, {"counter": task}, "1.0.0")
        self.control.start()
        self.control.import_task(repo, "counter").raise_for_status()
        token = self.control.command("enrol-token", "create")["token"]
        self.device_id, self.credential = enrol(self.control.url, token)

    def emit(self, count: int) -> None:
        for _ in range(count):
            fields = {"what": "x" * 50, "n": self.outbox.newest}
            self.outbox.add(Record("proof", "counter", "1.0.0", "r1", "seen", 5, fields))

    @asynccontextmanager
    async def uploading(self) -> AsyncIterator[None]:
        async with Transport(self.control.url, timeout_s=10) as transport, trio.open_nursery() as nursery:
            self.tunnel = Tunnel(
                self.outbox,
                lambda: transport.connect_tunnel(self.credential),
                backoff=Backoff(0.02, 0.1, rng=random.Random(1)),
            )
            nursery.start_soon(self.tunnel.run)
            yield
            nursery.cancel_scope.cancel()

    async def found(self) -> dict[str, list[int]]:
        """By sink, the numbers of this device's records, by arrival."""
        await until("the sinks to have all", lambda: all(s["lag_rows"] == 0 for s in self.sinks()))
        return await trio.to_thread.run_sync(self._found)

    def sinks(self) -> list[dict[str, Any]]:
        sinks: list[dict[str, Any]] = self.control.get("/sinks")["sinks"]
        return sinks

    def _found(self) -> dict[str, list[int]]:
        return {
            "journal": [row["fields"]["n"] for row in self.control.features("counter")],
            "parquet": list(self._parquet()),
            "postgres": list(self._postgres()),
            "nats": list(self._nats()),
        }

    def _parquet(self) -> Iterator[int]:
        from pyarrow import parquet

        folder = self.control.data / "features" / "scenario=proof" / "task=counter"
        files = sorted(folder.rglob("*.parquet"), key=lambda path: path.name)
        for path in files:
            yield from (row["fields"]["n"] for row in parquet.ParquetFile(path).read().to_pylist())

    def _postgres(self) -> Iterator[int]:
        import psycopg

        with psycopg.connect(self.postgres.url) as connection:
            wanted = "SELECT (fields->>'n')::int FROM walle_feature WHERE device_id = %s ORDER BY id"
            yield from (row[0] for row in connection.execute(wanted, [self.device_id]))

    def _nats(self) -> Iterator[int]:
        import asyncio
        import json

        import nats

        async def read() -> list[dict[str, Any]]:
            client = await nats.connect(self.nats_server.url)
            stream = client.jetstream()
            last = (await stream.stream_info("WALLE_FEATURES")).state.last_seq
            kept = [await stream.get_msg("WALLE_FEATURES", seq) for seq in range(1, last + 1)]
            got = [json.loads(message.data or b"") for message in kept]
            await client.close()
            return got

        yield from (row["fields"]["n"] for row in asyncio.run(read()) if row["device_id"] == self.device_id)


async def until(what: str, condition: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():  # an HTTP request of it may block the device for a moment
        assert time.monotonic() < deadline, f"waited too long for {what}"
        await trio.sleep(0.02)


@pytest.fixture
def rig(
    tmp_path: Path, postgres: ServerProcess, nats_server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    settings = {"POSTGRES_URL": postgres.url, "NATS_URL": nats_server.url, "PARQUET_ROLL_S": "0.1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"WALLE_CONTROL_SINKS__{name}", value)
    rig = Rig(tmp_path, postgres, nats_server)
    yield rig
    rig.control.stop()


def differences(numbers: list[int], expected: list[int]) -> str:
    if numbers == expected:
        return ""
    lost, doubled = sorted({*expected} - {*numbers}), len(numbers) - len({*numbers})
    return f"{len(lost)} lost ({lost[:3]}...), {doubled} doubled, or out of order"


async def kill_rounds(rig: Rig, rounds: int) -> None:
    rng = random.Random(5)
    async with rig.uploading():
        for _ in range(rounds):
            with trio.move_on_after(rng.uniform(0.05, 0.4)):
                while True:
                    rig.emit(rng.randint(1, 30))
                    await trio.sleep(0.005)
            await trio.to_thread.run_sync(rig.control.crash)
            await trio.to_thread.run_sync(rig.control.restart)
        with trio.fail_after(60):
            await rig.outbox.wait_acked(rig.outbox.newest)
    expected = list(range(rig.outbox.newest))
    found = await rig.found()
    assert {name: differences(numbers, expected) for name, numbers in found.items()} == dict.fromkeys(
        found, ""
    )


async def test_a_few_kills_of_the_control_plane(rig: Rig) -> None:
    await kill_rounds(rig, rounds=2)


@pytest.mark.slow_session
async def test_many_kills_of_the_control_plane(rig: Rig) -> None:
    await kill_rounds(rig, rounds=25)


async def test_a_dead_sink_slows_the_device_and_loses_nothing(rig: Rig) -> None:
    async with rig.uploading():
        tunnel = rig.tunnel
        assert tunnel is not None
        rig.emit(5)
        with trio.fail_after(60):
            await rig.outbox.wait_acked(5)
        rig.postgres.kill()
        rig.emit(200)
        await until("the device to be slowed", lambda: tunnel.statistics().slowed_by != "")
        assert "postgres: sinks.postgres_url" in tunnel.statistics().slowed_by
        (failing,) = [sink for sink in rig.sinks() if sink["error"]]
        assert failing["name"] == "postgres"
        assert failing["failing_since_ms"] > 0
        assert rig.outbox.acked < rig.outbox.newest
        await trio.to_thread.run_sync(rig.postgres.start)
        with trio.fail_after(60):
            await rig.outbox.wait_acked(205)
        assert tunnel.statistics().connections == 1
        await until("the pace to be taken back", lambda: tunnel.statistics().slowed_by == "")
    assert set(map(tuple, (await rig.found()).values())) == {tuple(range(205))}
