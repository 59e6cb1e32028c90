"""OpenTelemetry traces: what a request or a device's record went through, sent to a collector by OTLP/HTTP.

The libraries are an extra (``pip install walle[otel]``) and are imported only where ``[traces] endpoint`` is
set; otherwise there is no ``Traces``, and nothing costs anything.

1. A request whose ``traceparent`` says that it is sampled is followed, and ``sample`` of the others. What is
   logged of it carries its span's ids.
2. Devices cannot make us follow more than ``max_per_s``: what is above is not recorded.
3. A question to a cloud half is part of the trace of the run that asks; its parts are the queue and the run.
4. A record's span begins when its run did, by the device's clock (not before ``_OLD_S``), and ends when every
   sink has the row; its parts are the run, the way here, the commit, and the sinks.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from walle_control.config import TracesConfig
from walle_control.features.cloud.service import AskTimes
from walle_control.web.correlation import sent_trace
from walle_shared.errors import ConfigError
from walle_shared.protocol.tunnel_receiver import RecordReceived, TombstoneReceived
from walle_shared.tracing import RUN_MS, TRACEPARENT, TraceContext, enter_trace, parse_traceparent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

_OLD_S: Final = 3600.0
_NS: Final = 1_000_000_000


class Traces:
    """Makes spans and sends them. ``close`` sends what is left.

    Args:
        tracer: makes the spans.
        provider: whose they are.
        config: how many.
    """

    def __init__(self, tracer: Tracer, provider: Any, config: TracesConfig) -> None:
        from opentelemetry import trace

        self._otel = trace
        self._tracer = tracer
        self._provider = provider
        self._sample = config.sample
        self._budget = Budget(config.max_per_s)

    @classmethod
    def open(cls, config: TracesConfig, version: str, exporter: SpanExporter | None = None) -> Self:
        """Begin to trace; spans go to ``exporter``, by default to the endpoint.

        Raises:
            ConfigError: the libraries are not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        except ImportError as error:
            raise ConfigError(
                f"traces.endpoint is set, but {error.name} is not installed: pip install 'walle[otel]'"
            ) from None
        resource = Resource.create({"service.name": config.service, "service.version": version})
        # What is followed is decided here, by the rules above: the library records all it is given.
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        processor = BatchSpanProcessor(
            exporter or OTLPSpanExporter(config.endpoint), schedule_delay_millis=config.interval_s * 1000
        )
        provider.add_span_processor(processor)
        return cls(provider.get_tracer("walle_control", version), provider, config)

    def close(self) -> None:
        """Send what is left. Blocks: a few seconds at the most."""
        self._provider.shutdown()

    def watch(self, routes: Iterable[BaseRoute]) -> None:
        """Follow the requests of a route table."""
        for route in routes:
            if isinstance(route, Route):
                route.app = self._followed(route.path, route.app)

    def rows_kept(
        self,
        device_id: str,
        items: Sequence[RecordReceived | TombstoneReceived],
        received_ns: int,
        committed_ns: int,
        durable_ns: int,
    ) -> None:
        """Follow those records that carry a trace. Times are of the wall clock."""
        for item in items:
            if isinstance(item, RecordReceived):
                context = item.record.trace
                if context is not None and self._budget.take():
                    self._row_kept(device_id, item, context, (received_ns, committed_ns, durable_ns))

    def _row_kept(
        self, device_id: str, item: RecordReceived, context: TraceContext, times: tuple[int, int, int]
    ) -> None:
        received_ns, committed_ns, durable_ns = times
        record = item.record
        ended_ns = _within(record.at_ms * 1_000_000, received_ns)
        run_ms = record.extra.get(RUN_MS)
        started_ns = ended_ns - (run_ms * 1_000_000 if type(run_ms) is int and 0 <= run_ms < 3_600_000 else 0)
        attributes = {
            "walle.device": device_id, "walle.scenario": record.scenario, "walle.task": record.task,
            "walle.version": record.version, "walle.release": record.release_id, "walle.feature": record.name,
        }  # fmt: skip
        row = self._tracer.start_span(
            f"feature {record.scenario}/{record.task} {record.name}",
            self._parent(context), self._otel.SpanKind.CONSUMER, attributes, start_time=started_ns,
        )  # fmt: skip
        within = self._otel.set_span_in_context(row)
        for name, begin_ns, end_ns in (
            ("run", started_ns, ended_ns),
            ("way to the cloud", ended_ns, received_ns),
            ("commit", received_ns, committed_ns),
            ("sinks", committed_ns, durable_ns),
        ):
            self._tracer.start_span(name, within, start_time=begin_ns).end(max(begin_ns, end_ns))
        row.end(durable_ns)

    def asked(self, times: AskTimes) -> None:
        """Follow a question to a cloud half, if its device follows the run that asks."""
        context = parse_traceparent(times.ask.extra.get(TRACEPARENT))
        if context is None or not context.sampled or not self._budget.take():
            return
        ask = times.ask
        attributes = {
            "walle.device": times.device_id, "walle.scenario": ask.scenario, "walle.task": ask.task,
            "walle.version": ask.version, "walle.release": ask.release_id, "walle.outcome": times.outcome,
        }  # fmt: skip
        span = self._tracer.start_span(
            f"ask {ask.scenario}/{ask.task}", self._parent(context), self._otel.SpanKind.SERVER, attributes,
            start_time=times.received_ns,
        )  # fmt: skip
        within = self._otel.set_span_in_context(span)
        turn_ns = times.begun_ns or times.ended_ns
        self._tracer.start_span("queue", within, start_time=times.received_ns).end(turn_ns)
        if times.begun_ns:
            self._tracer.start_span("cloud half", within, start_time=turn_ns).end(times.ended_ns)
        if times.outcome == "failed":
            span.set_status(self._otel.StatusCode.ERROR)
        span.end(times.ended_ns)

    def _followed(self, path: str, app: ASGIApp) -> ASGIApp:
        async def followed(scope: Scope, receive: Receive, send: Send) -> None:
            context = self._context_of(scope)
            if context is None:
                await app(scope, receive, send)
                return
            method: str = scope["method"]
            span = self._tracer.start_span(
                f"{method} {path}", context.parent, self._otel.SpanKind.SERVER,
                {"http.request.method": method, "http.route": path, "url.path": scope["path"][:500]},
            )  # fmt: skip
            ids = span.get_span_context()
            enter_trace(TraceContext(f"{ids.trace_id:032x}", f"{ids.span_id:016x}"))

            async def send_on(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._answered(span, message["status"])
                await send(message)

            try:
                with self._otel.use_span(span):
                    await app(scope, receive, send_on)
            finally:
                span.end()

        return followed

    def _answered(self, span: Span, status: int) -> None:
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(self._otel.StatusCode.ERROR)

    def _context_of(self, scope: Scope) -> _Followed | None:
        """Whether to follow a request, and what it is a part of."""
        context = sent_trace(scope)
        is_sampled = (context is not None and context.sampled) or random.random() < self._sample
        if not is_sampled or not self._budget.take():
            return None
        return _Followed(self._parent(context) if context is not None else None)

    def _parent(self, context: TraceContext) -> Any:
        remote = self._otel.SpanContext(
            int(context.trace_id, 16), int(context.span_id, 16), True, self._otel.TraceFlags(1)
        )
        return self._otel.set_span_in_context(self._otel.NonRecordingSpan(remote))


@dataclass(frozen=True, slots=True)
class _Followed:
    """A request that is followed, as part of ``parent`` if somebody else began the trace."""

    parent: Any


class Budget:
    """So many a second, and no more."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._at_s = time.monotonic()

    def take(self) -> bool:
        """Whether there is one left."""
        now_s = time.monotonic()
        self._left = min(self._per_s, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def _within(said_ns: int, received_ns: int) -> int:
    """A device's time, if its clock can be believed; else when the record came."""
    return said_ns if received_ns - _OLD_S * _NS <= said_ns <= received_ns else received_ns
