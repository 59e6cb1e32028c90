"""How features come in is counted once and shown minute by minute, with who is late, lossy or refused."""

from __future__ import annotations

import httpx
import pytest
import trio

from walle_control.app import ADMIN_API
from walle_control.cli import show, watch
from walle_control.features.telemetry import ingest
from walle_control.features.telemetry.ingest import Refusals
from walle_shared.errors import RemoteProtocolError
from walle_shared.ids import DeviceId
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.protocol.tunnel_receiver import RecordReceived, TombstoneReceived

D1, D2 = DeviceId("d1"), DeviceId("d2")


@pytest.fixture
def send(control, clock):
    """``await send(D1, 1, 2)``: records of a device, so long on their way."""

    async def sent(device: DeviceId, *seqs: int, way_ms: int = 0, text: str = "x") -> None:
        at_ms = clock.wall_ms() - way_ms
        items = [
            RecordReceived(
                TunnelClass.BATCH, seq, Record("demo", "greeter", "1", "r1", "seen", at_ms, {"t": text})
            )
            for seq in seqs
        ]
        await control.telemetry.record_tunnel(device, "inc", items)

    return sent


async def test_rows_are_counted_minute_by_minute_and_once(control, clock, send):
    clock.advance(-(clock.wall_ms() / 1000) % 60)  # a minute begins
    await send(D1, 1, 2, text="ä")
    clock.advance(60)
    await send(D1, 3)
    for _ in range(2):
        minutes = (await control.ingest.view()).minutes
        assert [(each.rows, each.size_bytes) for each in minutes[-3:]] == [(0, 0), (2, 20), (1, 9)]
        assert len(minutes) == 60
        assert minutes[-1].at_ms == clock.wall_ms()
    await send(D1, 4, 5)
    assert [each.rows for each in (await control.ingest.view()).minutes[-2:]] == [2, 3]
    clock.advance(60 * 58)
    minutes = (await control.ingest.view()).minutes
    assert [each.rows for each in minutes[:3]] == [2, 3, 0]
    clock.advance(60)
    assert sum(each.rows for each in (await control.ingest.view()).minutes) == 3


async def test_a_first_look_counts_no_more_than_it_may(control, send, monkeypatch):
    monkeypatch.setattr(ingest, "_FIRST_ROWS_MAX", 2)
    await send(D1, *range(1, 6))
    assert sum(each.rows for each in (await control.ingest.view()).minutes) == 2
    await send(D1, 6)
    assert sum(each.rows for each in (await control.ingest.view()).minutes) == 3


async def test_who_is_late_or_lossy_is_named(control, clock, send):
    await send(D1, 1, way_ms=60_000)
    await send(D1, 2, 3, way_ms=61_000)
    await send(D1, 4, way_ms=3_600_000)
    await send(D2, 1)
    await control.telemetry.record_tunnel(D2, "inc", [TombstoneReceived(TunnelClass.BATCH, 2, 8)])
    view = await control.ingest.view()
    ((device, rows, longest_ms, last_ms),) = [
        (each.device_id, each.rows, each.longest_ms, each.last_ms) for each in view.late
    ]
    assert (device, rows, longest_ms, last_ms) == (D1, 3, 3_600_000, clock.wall_ms())
    assert [(each.device_id, each.lost) for each in view.lossy] == [(D2, 7)]


def test_refusals_are_counted_and_the_last_are_kept(clock):
    refusals = Refusals(clock)
    for n in range(30):
        refusals.add(f"d{n}", RemoteProtocolError("x" * 1000))
    assert refusals.counts == {"protocol_remote": 30}
    assert [each.device_id for each in refusals.last] == [f"d{n}" for n in range(29, 9, -1)]
    assert len(refusals.last[0].error) == 300


async def test_the_route_and_the_command_tell_all_of_it(admin, control, send):
    await send(D1, 1, way_ms=120_000)
    control.refusals.add("d9", RemoteProtocolError("a text message; frames are binary"))
    answer = (await admin.get(f"{ADMIN_API}/ingest")).json()
    assert answer["head"] == 1
    assert answer["refused"] == {"protocol_remote": 1}
    console = show.console()
    with console.capture() as said:
        console.print(watch.ingest_screen(answer))
    for word in ("1 features in the last hour", "d1", "120", "d9", "frames are binary"):
        assert word in said.get()


async def test_a_tunnel_that_is_refused_counts(app, control):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        await client.get("/d/v1/tunnel")  # no WebSocket: not counted
    sent = []

    async def send(message) -> None:
        sent.append(message)

    scope = {
        "type": "websocket", "path": "/d/v1/tunnel", "raw_path": b"/d/v1/tunnel", "query_string": b"",
        "headers": [(b"authorization", b"Bearer wd1.nonsense")], "subprotocols": [], "scheme": "ws",
        "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    with trio.fail_after(30):
        await app(scope, trio.sleep_forever, send)
    assert sent[0]["status"] == 401
    assert sum(control.refusals.counts.values()) == 1
    assert control.refusals.last[0].device_id == ""
