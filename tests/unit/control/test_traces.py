"""Traces: a sampled request or record becomes spans of the trace that it names, and nobody floods us."""

from __future__ import annotations

import sys
from dataclasses import replace
from unittest.mock import patch

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from walle_control.app import ADMIN_API, create_app
from walle_control.config import ControlConfig, TracesConfig
from walle_control.features.cloud.service import AskTimes
from walle_control.traces import Traces
from walle_shared.errors import ConfigError
from walle_shared.protocol.asks import Ask
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.protocol.tunnel_receiver import RecordReceived, TombstoneReceived
from walle_shared.tracing import RUN_MS, TRACEPARENT, TraceContext, new_trace

SETTINGS = TracesConfig(endpoint="http://127.0.0.1:1/v1/traces", sample=0.0)
MS = 1_000_000


@pytest.fixture
def spans():
    """``spans()``: what was sent."""
    exporter = InMemorySpanExporter()

    def sent():
        assert exporter.traces._provider.force_flush()
        return exporter.get_finished_spans()

    exporter.traces = Traces.open(SETTINGS, "1", exporter)
    sent.traces = exporter.traces
    yield sent
    exporter.traces.close()


@pytest.fixture
async def client(spans, clock, store, converter, admin_token):
    app = create_app(ControlConfig(), clock=clock, store=store, convert=converter)
    spans.traces.watch(app.routes)
    headers = {"Authorization": f"Bearer {admin_token}"}
    wire = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=wire, base_url="http://x", headers=headers) as client:
        yield client


async def test_a_request_that_is_part_of_a_trace_is_followed(client, spans):
    trace = new_trace()
    answer = await client.get(f"{ADMIN_API}/releases/none", headers={TRACEPARENT: str(trace)})
    assert answer.status_code == 404
    (span,) = spans()
    assert f"{span.context.trace_id:032x}" == trace.trace_id
    assert f"{span.parent.span_id:016x}" == trace.span_id
    assert span.name == f"GET {ADMIN_API}/releases/{{release_id}}"
    assert span.attributes["http.response.status_code"] == 404
    assert span.status.is_ok or span.status.status_code.name == "UNSET"


async def test_others_are_not_unless_they_are_sampled(client, spans):
    await client.get("/livez")
    await client.get("/livez", headers={TRACEPARENT: str(replace(new_trace(), sampled=False))})
    await client.get("/livez", headers={TRACEPARENT: "rubbish"})
    assert spans() == ()
    spans.traces._sample = 1.0
    await client.get("/livez")
    (span,) = spans()
    assert span.parent is None


async def test_nobody_makes_us_follow_more_than_so_many(client, spans):
    for _ in range(60):
        await client.get("/livez", headers={TRACEPARENT: str(new_trace())})
    assert SETTINGS.max_per_s <= len(spans()) < 60


async def test_a_crash_ends_its_span_as_an_error(client, spans, store, monkeypatch):
    async def crash(*_):
        raise ValueError("boom")

    monkeypatch.setattr(store.database, "read", crash)
    await client.get("/readyz", headers={TRACEPARENT: str(new_trace())})
    (span,) = spans()
    assert not span.status.is_ok


def received(at_ms: int, seq: int = 1, **extra) -> RecordReceived:
    record = Record("demo", "greeter", "1.0.0", "r1", "digit", at_ms, {"digit": 7}, extra)
    return RecordReceived(TunnelClass.REALTIME, seq, record)


def test_a_records_way_from_run_to_row(spans):
    trace = new_trace()
    at_ms = 1_700_000_000_000
    came_ns, kept_ns, durable_ns = (at_ms + 40) * MS, (at_ms + 45) * MS, (at_ms + 60) * MS
    items = [
        received(at_ms, traceparent=str(trace), **{RUN_MS: 12}),
        received(at_ms, 2),
        TombstoneReceived(TunnelClass.REALTIME, 3, 4),
    ]
    spans.traces.rows_kept("d1", items, came_ns, kept_ns, durable_ns)
    *parts, row = spans()
    assert (row.start_time, row.end_time) == ((at_ms - 12) * MS, durable_ns)
    assert f"{row.context.trace_id:032x}" == trace.trace_id
    assert f"{row.parent.span_id:016x}" == trace.span_id
    assert row.name == "feature demo/greeter digit"
    assert row.attributes["walle.device"] == "d1"
    assert [(part.name, (part.end_time - part.start_time) // MS) for part in parts] == [
        ("run", 12),
        ("way to the cloud", 40),
        ("commit", 5),
        ("sinks", 15),
    ]
    assert {part.parent.span_id for part in parts} == {row.context.span_id}


@pytest.mark.parametrize("at_ms", [0, 2**62, 1_700_000_100_000])
@pytest.mark.parametrize("run_ms", [None, -1, 10**12, "5", True])
def test_a_clock_that_is_wrong_is_not_believed(spans, at_ms, run_ms):
    came_ns = 1_700_000_000_000 * MS
    item = received(at_ms, traceparent=str(new_trace()), **{RUN_MS: run_ms})
    spans.traces.rows_kept("d1", [item], came_ns, came_ns + 1, came_ns + 2)
    assert spans()[-1].start_time == came_ns


@pytest.mark.parametrize("said", ["", None, 5, ["x"], str(TraceContext("0" * 32, "0" * 16))])
def test_a_record_that_names_no_trace_is_not_followed(spans, said):
    spans.traces.rows_kept("d1", [received(1, traceparent=said)], 1, 2, 3)
    assert spans() == ()


def test_what_is_missing_is_named():
    with (
        patch.dict(sys.modules, {"opentelemetry.sdk.trace": None}),
        pytest.raises(ConfigError, match=r"walle\[otel\]"),
    ):
        Traces.open(SETTINGS, "1")


def test_off_imports_nothing(clock, store, converter):
    app = create_app(ControlConfig(), clock=clock, store=store, convert=converter)
    assert app.state.control.traces is None


@pytest.mark.parametrize(("begun_ns", "parts"), [(150 * MS, {"queue", "cloud half"}), (0, {"queue"})])
def test_a_question_is_part_of_the_trace_of_the_run_that_asks(spans, begun_ns, parts):
    trace = new_trace()
    ask = Ask("demo", "greeter", "1.0.0", "r1", {}, 1_000, extra={TRACEPARENT: str(trace)})
    spans.traces.asked(AskTimes("d1", ask, 100 * MS, begun_ns, 300 * MS, "failed"))
    found = {span.name: span for span in spans()}
    assert found.keys() == parts | {"ask demo/greeter"}
    whole = found["ask demo/greeter"]
    assert f"{whole.parent.span_id:016x}" == trace.span_id
    assert not whole.status.is_ok
    assert whole.attributes["walle.outcome"] == "failed"
    assert {span.parent.span_id for name, span in found.items() if name in parts} == {whole.context.span_id}
    assert found["queue"].end_time == (begun_ns or 300 * MS)


@pytest.mark.parametrize("sent", [None, 5, "rubbish", f"00-{'1' * 32}-{'1' * 16}-00"])
def test_a_question_without_a_good_trace_is_not_followed(spans, sent):
    ask = Ask("demo", "greeter", "1.0.0", "r1", {}, 1_000, extra={TRACEPARENT: sent})
    spans.traces.asked(AskTimes("d1", ask, 1, 2, 3, "answered"))
    assert spans() == ()
