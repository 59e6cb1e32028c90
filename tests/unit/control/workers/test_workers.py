"""Several workers on one PostgreSQL: one leads, all know, and a leader that is late is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from walle_control import setup
from walle_control.app import Control, create_control
from walle_control.config import ControlConfig
from walle_control.db.connection import Database
from walle_control.db.postgres import PostgresBackend
from walle_control.db.store import Store
from walle_control.features.devices.types import EnrolTokenRequest
from walle_control.features.releases import store as releases_store
from walle_control.features.telemetry.types import FeatureQuery
from walle_control.workers import leadership, lease
from walle_control.workers.leadership import Leadership
from walle_control.workers.lease import LeadershipLost
from walle_shared.clock import FixedClock
from walle_shared.errors import NotAllowed
from walle_shared.ids import DeviceId
from walle_shared.protocol.messages import EnrolRequest
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.protocol.tunnel_receiver import RecordReceived
from walle_shared.signing import SigningKey


@pytest.fixture
def stores(tmp_path: Path, clock: FixedClock, postgres_schema: str) -> Iterator[tuple[Store, Store]]:
    setup.init(tmp_path / "data", clock, postgres_schema)
    one, two = (Store.open(tmp_path / "data", postgres_schema) for _ in range(2))
    yield one, two
    one.close()
    two.close()


@pytest.fixture
async def workers(
    stores: tuple[Store, Store], clock: FixedClock, nursery: trio.Nursery
) -> tuple[Control, Control]:
    one, two = (create_control(ControlConfig(), clock=clock, store=store) for store in stores)
    await nursery.start(one.run)
    await nursery.start(two.run)
    return one, two


@pytest.fixture
def databases(postgres_schema: str) -> Iterator[tuple[Database, Database]]:
    with Database(PostgresBackend(postgres_schema)) as one, Database(PostgresBackend(postgres_schema)) as two:
        yield one, two


async def wait_until(what: str, condition: Callable[[], object]) -> None:
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - the states are the workers' own
            await trio.sleep(0.005)


async def enrol(control: Control) -> DeviceId:
    token = await control.devices.create_enrol_token(EnrolTokenRequest(), "anna")
    request = EnrolRequest(token.token, SigningKey.generate().public.raw_hex, {})
    return (await control.devices.enrol(request)).device_id


# What one worker does, the other knows


async def test_one_of_them_leads(workers: tuple[Control, Control]) -> None:
    one, two = workers
    assert one.leadership is not None
    assert two.leadership is not None
    await wait_until("a leader", lambda: one.leadership.leads or two.leadership.leads)
    assert [one.leadership.leads, two.leadership.leads].count(True) == 1
    assert await one.store.database.read(lease.leader) in (one.leadership.holder, two.leadership.holder)


async def test_an_epoch_of_one_is_announced_by_the_other(workers: tuple[Control, Control]) -> None:
    one, two = workers
    before = two.hub.epoch
    await one.store.database.write(lambda db: one.releases._book.compile_next(db, "test"))
    await wait_until("the news", lambda: one.hub.epoch == two.hub.epoch == before + 1)
    published = two.store.files.epoch_path.read_bytes()
    newest = await two.store.database.read(releases_store.newest_epoch)
    assert newest is not None
    assert published == newest.envelope


async def test_a_device_that_one_revokes_is_refused_by_the_other(workers: tuple[Control, Control]) -> None:
    one, two = workers
    token = await one.devices.create_enrol_token(EnrolTokenRequest(), "anna")
    answer = await two.devices.enrol(EnrolRequest(token.token, SigningKey.generate().public.raw_hex, {}))
    assert two.devices.check_credential(answer.credential) == answer.device_id
    await one.devices.revoke(answer.device_id, "anna")
    await wait_until("the revocation", lambda: two.devices.is_revoked(answer.device_id))
    with pytest.raises(NotAllowed):
        two.devices.check_credential(answer.credential)


async def test_features_that_come_to_one_end_a_long_poll_of_the_other(
    workers: tuple[Control, Control],
) -> None:
    one, two = workers
    device_id = await enrol(one)
    record = Record("demo", "reader", "1.0.0", "r1", "seen", 5, {"n": 7})
    async with trio.open_nursery() as nursery:
        found = []

        async def poll() -> None:
            found.extend((await two.telemetry.features(FeatureQuery(), 0, 10, wait_s=60)).features)

        nursery.start_soon(poll)
        await one.telemetry.record_tunnel(device_id, "inc", [RecordReceived(TunnelClass.BATCH, 1, record)])
    assert [feature.fields for feature in found] == [{"n": 7}]


# Who leads


async def lead(database: Database, name: str, nursery: trio.Nursery) -> Leadership:
    worker = Leadership(database, name)
    nursery.start_soon(worker.run, trio.sleep_forever)
    await trio.lowlevel.checkpoint()
    return worker


async def test_whoever_stops_lets_the_next_one_lead_at_once(
    databases: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "_RENEW_S", 0.01)
    async with trio.open_nursery() as second_nursery:
        async with trio.open_nursery() as first_nursery:
            first = await lead(databases[0], "first", first_nursery)
            await wait_until("the first to lead", lambda: first.leads)
            second = await lead(databases[1], "second", second_nursery)
            await trio.sleep(0.1)
            assert not second.leads
            first_nursery.cancel_scope.cancel()
        with trio.fail_after(leadership.LEASE_S - 1):  # it does not wait for the lease to run out
            await wait_until("the second to lead", lambda: second.leads)
        assert second.fence == 2
        second_nursery.cancel_scope.cancel()


async def test_a_lease_counts_from_when_its_turn_came(databases: tuple[Database, Database]) -> None:
    one, two = databases
    asked, turned = threading.Event(), threading.Event()

    def hold_the_turn(_: object) -> None:
        asked.set()
        turned.wait(60)

    held = two.submit(hold_the_turn)
    await trio.to_thread.run_sync(asked.wait)
    took: list[tuple[int | None, float]] = []
    async with trio.open_nursery() as nursery:

        async def take() -> None:
            took.append(await Leadership(one, "first")._try_to_take())

        nursery.start_soon(take)
        await trio.sleep(0.1)
        turned_s = trio.current_time()
        turned.set()
    held.result()
    ((number, taken_s),) = took
    assert number == 1
    assert turned_s <= taken_s <= trio.current_time()


async def test_a_leader_of_the_past_knows_at_once_whatever_its_work_waits_for(
    databases: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "_RENEW_S", 0.01)
    one, two = databases
    answered = trio.Event()

    async def work() -> None:
        with trio.CancelScope(shield=True):  # as a read does from a database that is cut off
            await answered.wait()

    async with trio.open_nursery() as nursery:
        first = Leadership(one, "first")
        nursery.start_soon(first.run, work)
        await wait_until("the first to lead", lambda: first.leads)
        await two.write(lambda db: db.execute("UPDATE lease SET holder = 'second', fence = 2"))
        await wait_until("the first to know", lambda: not first.leads)
        answered.set()
        nursery.cancel_scope.cancel()


async def test_a_leader_that_stood_still_is_refused_inside_its_transaction(
    databases: tuple[Database, Database],
) -> None:
    one, two = databases
    wrote: list[str] = []
    awake = trio.Event()

    async def work() -> None:
        await awake.wait()  # as a process that was stopped for longer than its lease
        with pytest.raises(LeadershipLost):
            await one.write(lambda db: db.execute("INSERT INTO sink VALUES ('late', 1, 1)").rowcount)
        wrote.append("refused")

    async with trio.open_nursery() as nursery:
        first = Leadership(one, "first")
        nursery.start_soon(first.run, work)
        await wait_until("the first to lead", lambda: first.leads)
        await two.write(lambda db: db.execute("UPDATE lease SET expires_ms = 0"))
        assert await two.write(lambda db: lease.take(db, "second", 60_000)) == 2
        awake.set()
        await wait_until("the late write", lambda: wrote)
        await wait_until("the first to know", lambda: not first.leads)
        nursery.cancel_scope.cancel()
    assert await two.read(lambda db: db.execute("SELECT count(*) FROM sink").fetchone()[0]) == 0
    assert await two.read(lease.leader) == "second"


async def test_two_never_hold_the_lease_at_once(databases: tuple[Database, Database]) -> None:
    one, two = databases
    assert await one.write(lambda db: lease.take(db, "a", 60_000)) == 1
    assert await two.write(lambda db: lease.take(db, "b", 60_000)) is None
    assert await one.write(lambda db: lease.take(db, "a", 60_000)) is None  # it was another life of it
    assert await one.write(lambda db: lease.renew(db, "a", 1, 60_000))
    assert not await two.write(lambda db: lease.renew(db, "b", 1, 60_000))
    await one.write(lambda db: lease.release(db, "a", 1))
    assert await two.write(lambda db: lease.take(db, "b", 60_000)) == 2
    assert not await one.write(lambda db: lease.renew(db, "a", 1, 60_000))
