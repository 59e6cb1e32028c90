"""The connection to PostgreSQL breaks at the n-th statement of every kind of write, until none is left.

Whatever broke, and whenever: the write happened as a whole or not at all, its caller knows that it may not
have, and asking again works.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from walle_control import setup
from walle_control.app import Control, create_control
from walle_control.config import ControlConfig, ImportConfig, TrustConfig
from walle_control.db import dump
from walle_control.db.postgres import PostgresConnection
from walle_control.db.sql import Connection
from walle_control.db.store import Store
from walle_control.features.audit.service import read_entries
from walle_control.features.audit.types import check_chain
from walle_control.features.devices.types import EnrolTokenRequest
from walle_control.features.releases.types import CreateRelease
from walle_control.features.tasks import store as tasks_store
from walle_control.features.tasks.types import VersionRow
from walle_control.features.telemetry import store as telemetry_store
from walle_control.features.trust.book import TrustBook
from walle_shared.clock import FixedClock
from walle_shared.errors import ConnectionLost
from walle_shared.ids import DeviceId
from walle_shared.protocol.messages import (
    EnrolRequest,
    FileRef,
    RenewRequest,
    Report,
    ReportBatch,
    renewal_bytes,
)
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.protocol.tunnel_receiver import HelloReceived, RecordReceived
from walle_shared.signing import SigningKey
from walle_shared.trust.roles import bundle_path

BATCH = TunnelClass.BATCH
NOBODY = DeviceId("")


@dataclass
class Rig:
    """A control plane with a device and a release, and what to do with them."""

    control: Control
    clock: FixedClock
    watching: Connection
    token: str = ""
    release: str = ""
    device: DeviceId = NOBODY
    key: SigningKey | None = None
    count: int = 0

    def number(self) -> int:
        self.count += 1
        return self.count

    async def prepare(self) -> None:
        control = self.control
        await control.trust.load()
        await control.devices.load()
        await control.releases.load()
        row = VersionRow("demo", "greeter", "1.0.0", "commit", FileRef("0" * 64, 1), 1, 1, 5)  # type: ignore[arg-type]
        trust = TrustBook(control.store.files, control.store.keyring, self.clock, TrustConfig())

        def import_version(db: Connection) -> None:
            tasks_store.insert_version(db, row)
            trust.approve(db, {bundle_path("demo", "greeter", "1.0.0"): row.manifest})

        await control.store.database.write(import_version)
        self.token = (await control.devices.create_enrol_token(EnrolTokenRequest(uses=10_000), "anna")).token
        self.key = SigningKey.generate()
        self.device = (await control.devices.enrol(self.request(self.key))).device_id
        self.release = (await self.create_release()).release.id

    def request(self, key: SigningKey) -> EnrolRequest:
        return EnrolRequest(self.token, key.public.raw_hex, {})

    async def enrol(self) -> Any:
        return await self.control.devices.enrol(self.request(SigningKey.generate()))

    async def renew(self) -> Any:
        assert self.key is not None
        at_ms = self.number()
        signature = self.key.sign(renewal_bytes(self.device, at_ms))
        return await self.control.devices.renew(RenewRequest(self.device, at_ms, signature))

    async def create_release(self) -> Any:
        return await self.control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "anna")

    async def pause_or_resume(self) -> Any:
        detail = await self.control.releases.show(self.release)  # type: ignore[arg-type]
        action = "pause" if detail.release.state == "live" else "resume"
        return await self.control.releases.act(self.release, action, "anna")  # type: ignore[arg-type]

    async def report(self) -> Any:
        stages = ("install", "run")
        reports = tuple(
            Report(f"p{self.number()}", self.release, "greeter", "1.0.0", stage, "success", 1, 5, 1.5)  # type: ignore[arg-type]
            for stage in stages
        )
        return await self.control.telemetry.record_reports(self.device, ReportBatch(reports))

    async def open_tunnel(self) -> Any:
        return await self.control.telemetry.open_tunnel(self.device, HelloReceived(f"inc{self.number()}"))

    async def upload(self) -> Any:
        items = [
            RecordReceived(
                BATCH, seq, Record("demo", "greeter", "1.0.0", self.release, "seen", 5, {"n": seq})
            )
            for seq in (self.number(), self.number())
        ]
        return await self.control.telemetry.record_tunnel(self.device, f"up{self.number()}", items)

    async def create_token(self) -> Any:
        return await self.control.devices.create_enrol_token(EnrolTokenRequest(), "anna")

    async def revoke(self) -> Any:
        return await self.control.devices.revoke(self.device, "anna")

    async def see(self) -> Any:
        self.clock.advance(3_600)
        return await self.control.devices.seen(self.device)

    async def move_sink(self) -> Any:
        at = self.number()
        await self.control.store.database.write(
            lambda db: telemetry_store.save_sink_position(db, "parquet", at, at)
        )

    def counts(self) -> dict[str, int]:
        """How many rows each table has, from a connection of its own."""
        backend = self.control.store.database.backend
        return {
            table: self.watching.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in dump.tables(backend, self.watching)
        }

    def check(self) -> None:
        entries = self.control.store.database.read_sync(lambda db: read_entries(db, 0, 100_000))
        check_chain(entries)


OPERATIONS: dict[str, Callable[[Rig], Awaitable[Any]]] = {
    operation.__name__: operation
    for operation in (
        Rig.enrol, Rig.renew, Rig.create_release, Rig.pause_or_resume, Rig.report, Rig.open_tunnel,
        Rig.upload, Rig.create_token, Rig.revoke, Rig.see, Rig.move_sink,
    )
}  # fmt: skip


@dataclass
class Cut:
    """Breaks the writer's connection at its n-th statement from now."""

    rig: Rig
    at: int = 0
    after_commit: bool = False
    passed: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        execute = PostgresConnection.execute

        def breaking(connection: PostgresConnection, sql: str, parameters: Any = (), /) -> Any:
            if not self.at or connection is not self.rig.control.store.database._connection:
                return execute(connection, sql, parameters)
            self.passed += 1
            if self.after_commit and sql == "COMMIT":
                execute(connection, sql, parameters)  # it happened, and nobody heard
                connection.close()
            elif not self.after_commit and self.passed == self.at:
                connection.close()
            return execute(connection, sql, parameters)

        monkeypatch.setattr(PostgresConnection, "execute", breaking)


@pytest.fixture
async def rig(tmp_path: Path, postgres_schema: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = FixedClock()
    setup.init(tmp_path / "data", clock, postgres_schema)
    store = Store.open(tmp_path / "data", postgres_schema)
    watching = store.database.backend.connect()
    config = ControlConfig(tasks=ImportConfig(require_simulation=False))
    rig = Rig(create_control(config, clock=clock, store=store), clock, watching)
    await rig.prepare()
    yield rig
    watching.close()
    store.close()


@pytest.fixture
def cut(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cut]:
    cut = Cut(rig)
    cut.install(monkeypatch)
    yield cut
    cut.at = 0


@pytest.mark.parametrize(
    "name",
    [name if name == "report" else pytest.param(name, marks=pytest.mark.slow_session) for name in OPERATIONS],
)
async def test_a_write_happens_as_a_whole_or_not_at_all(rig: Rig, cut: Cut, name: str) -> None:
    operation = OPERATIONS[name]
    await operation(rig)  # the first one makes counters that the next ones find
    before = rig.counts()
    for at in range(1, 60):
        cut.at, cut.passed = at, 0
        try:
            await operation(rig)
        except ConnectionLost:
            cut.at = 0
            assert rig.counts() == before, f"half of it stayed after statement {at}"
            continue
        break
    assert at > 3  # savepoint, statement, release, commit
    cut.at = 0
    once = rig.counts()
    grown = {table: once[table] - before[table] for table in once}
    cut.at, cut.after_commit = 1, True
    with pytest.raises(ConnectionLost):  # the commit happened, but its answer was lost
        await operation(rig)
    cut.at = 0
    twice = rig.counts()
    again = {table: twice[table] - once[table] for table in twice}
    assert again == grown
    await operation(rig)
    rig.check()


async def test_a_report_whose_answer_was_lost_counts_once(rig: Rig, cut: Cut) -> None:
    report = Report("same", rig.release, "greeter", "1.0.0", "install", "success", 1, 5, 1.5)  # type: ignore[arg-type]
    cut.at, cut.after_commit = 1, True
    with pytest.raises(ConnectionLost):
        await rig.control.telemetry.record_reports(rig.device, ReportBatch((report,)))
    cut.at = 0
    receipt = await rig.control.telemetry.record_reports(rig.device, ReportBatch((report,)))
    assert (receipt.accepted, receipt.duplicates) == (0, 1)
    detail = await rig.control.releases.show(rig.release)  # type: ignore[arg-type]
    assert [count.n for count in detail.counts] == [1]
