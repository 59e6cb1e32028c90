from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from walle_agent.link.exchange import CredentialRefused, ServerBusy
from walle_agent.link.reporter import Reporter
from walle_agent.link.session import NotEnrolled, Session
from walle_agent.link.signed_clock import SignedClock
from walle_agent.link.transport import Transport
from walle_agent.state.reports import ReportQueue
from walle_agent.state.store import StateStore
from walle_shared.backoff import Backoff
from walle_shared.clock import FixedClock
from walle_shared.errors import ConnectionLost, LocalProtocolError, NotAllowed, StorageError
from walle_shared.ids import ReleaseId, TaskName, TaskVersion
from walle_shared.protocol.messages import Report, ReportBatch, ReportReceipt
from walle_support.control import ISSUED_MS, TOKEN, URL, SimulatedControl, unavailable, unreachable


def _no_corruption(error: StorageError) -> None:
    raise error


def make_session(folder: Path, transport: Transport, token: str = TOKEN) -> Session:
    store = StateStore(folder, on_corrupt=_no_corruption)
    clock = SignedClock(FixedClock(ISSUED_MS))
    return Session(transport, store, clock, profile={"group": "beta"}, enrol_token=token)


def report(name: str) -> Report:
    return Report(
        name, ReleaseId("r1"), TaskName("t"), TaskVersion("1.0"), "run", "success", 1, ISSUED_MS, 1.0
    )


async def settled(queue: ReportQueue) -> None:
    """Wait until nothing is queued; the database has no event to wait for."""
    while queue.statistics().queued:  # noqa: ASYNC110
        await trio.sleep(0.1)


async def test_enrols_once_and_remembers(tmp_path: Path) -> None:
    control = SimulatedControl()
    async with Transport(URL, wire=control.wire()) as transport:
        first = await make_session(tmp_path, transport).credential()
        again = make_session(tmp_path, transport, token="")
        assert (await again.credential(), again.device_id) == (first, "d1")
    assert len(control.devices) == 1


async def test_without_identity_and_token_says_what_to_do(tmp_path: Path) -> None:
    async with Transport(URL, wire=SimulatedControl().wire()) as transport:
        with pytest.raises(NotEnrolled, match="walle-agent enrol --token"):
            await make_session(tmp_path, transport, token="").credential()


async def test_a_wrong_token_is_not_allowed(tmp_path: Path) -> None:
    async with Transport(URL, wire=SimulatedControl().wire()) as transport:
        with pytest.raises(NotAllowed, match="token is not valid"):
            await make_session(tmp_path, transport, token="wrong").credential()


async def test_a_refused_credential_is_renewed_by_proof_of_possession(tmp_path: Path) -> None:
    control = SimulatedControl()
    async with Transport(URL, wire=control.wire()) as transport:
        session = make_session(tmp_path, transport)
        await session.credential()
        for _ in range(2):  # the clock stands still: the nonce must rise by itself
            control.revoke_credentials()
            receipt = await session.post("reports", ReportBatch(()), ReportReceipt)
            assert receipt.accepted == 0
    assert [path for _, path in control.requests].count("/d/v1/renew") == 2


async def test_many_callers_share_one_renewal(tmp_path: Path) -> None:
    control = SimulatedControl()
    async with Transport(URL, wire=control.wire()) as transport:
        session = make_session(tmp_path, transport)
        old = await session.credential()
        control.revoke_credentials()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(lambda: session.credential(refused=old))
    assert [path for _, path in control.requests].count("/d/v1/renew") == 1


async def test_a_revoked_device_gets_a_typed_error(tmp_path: Path) -> None:
    control = SimulatedControl()
    async with Transport(URL, wire=control.wire()) as transport:
        session = make_session(tmp_path, transport)
        await session.credential()
        control.devices.clear()
        with pytest.raises(NotAllowed):
            await session.post("reports", ReportBatch(()), ReportReceipt)


async def test_transport_errors_have_types() -> None:
    control = SimulatedControl()
    async with Transport(URL, wire=control.wire()) as transport:
        control.distort("/s/epoch.json", unreachable)
        with pytest.raises(ConnectionLost, match="the epoch file"):
            await transport.get_epoch()
        control.distort("/s/epoch.json", unavailable)
        with pytest.raises(ServerBusy) as caught:
            await transport.get_epoch()
        assert caught.value.retry_after_s == 7.0
        with pytest.raises(CredentialRefused):
            await transport.post("reports", ReportBatch(()), ReportReceipt, credential="made up")


async def test_the_epoch_is_asked_for_conditionally() -> None:
    control = SimulatedControl()
    async with Transport(URL, wire=control.wire()) as transport:
        answer = await transport.get_epoch()
        assert answer is not None
        assert await transport.get_epoch(answer.etag) is None
        control.publish()
        assert await transport.get_epoch(answer.etag) is not None


async def test_reports_arrive_in_batches_and_once(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    control = SimulatedControl()
    queue = ReportQueue(tmp_path / "reports.db", on_corrupt=_no_corruption)
    reporter = Reporter(queue, FixedClock(ISSUED_MS))
    async with Transport(URL, wire=control.wire()) as transport, trio.open_nursery() as nursery:
        control.distort("/d/v1/reports", unavailable)
        session = make_session(tmp_path, transport)
        nursery.start_soon(reporter.run, session, Backoff())
        await trio.testing.wait_all_tasks_blocked()
        for number in range(5):
            await reporter.put(report(f"n{number}"))
        reports = await control.wait_reports(5)
        assert [item.report_id for item in reports] == [f"n{number}" for number in range(5)]
        await settled(queue)
        nursery.cancel_scope.cancel()
    assert queue.statistics().queued == 0
    queue.close()


async def test_one_report_the_server_refuses_does_not_stop_the_others(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    queue = ReportQueue(tmp_path / "reports.db", on_corrupt=_no_corruption)
    for name in ("a", "bad", "c"):
        queue.put(report(name))
    delivered: list[str] = []

    class Refusing(Session):
        async def post[T](self, path: str, message: object, cls: type[T]) -> T:
            assert isinstance(message, ReportBatch)
            names = [item.report_id for item in message.reports]
            if "bad" in names:
                raise LocalProtocolError("reports was answered 400")
            delivered.extend(names)
            return cls(len(names), 0)  # pyright: ignore[reportCallIssue]  # ReportReceipt

    async with Transport(URL, wire=SimulatedControl().wire()) as transport, trio.open_nursery() as nursery:
        store = StateStore(tmp_path, on_corrupt=_no_corruption)
        session = Refusing(transport, store, FixedClock(), profile={})
        nursery.start_soon(Reporter(queue, FixedClock()).run, session, Backoff())
        await settled(queue)
        nursery.cancel_scope.cancel()
    assert delivered == ["a", "c"]
    queue.close()
