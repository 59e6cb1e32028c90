"""What a control plane tells Prometheus: one table of metrics, and what fills each when it is asked.

Requests are counted as they are answered. All else is read off the services when somebody asks, and costs
nothing until then.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from walle_control.db.sql import Connection
from walle_control.features.cloud import read_model as cloud
from walle_control.features.devices import read_model as devices
from walle_control.features.releases import read_model as releases
from walle_control.features.tasks import read_model as tasks
from walle_control.features.trust.types import TrustStatus
from walle_control.features.webhooks import read_model as webhooks
from walle_shared.clock import Clock

if TYPE_CHECKING:
    from walle_control.app import Control

# When a counter began is of no use to anybody, and doubles the page.
disable_created_metrics()  # type: ignore[no-untyped-call]

Labels = tuple[str, ...]
Values = Mapping[Labels, float]

#: Upper ends of the classes of request times, in seconds.
_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: its name ends in its unit, then ``_total`` if it only rises."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    doc: str
    labels: Labels = ()


REQUESTS: Final = Described(
    "walle_requests_total", "counter", "Requests answered.", ("method", "route", "status")
)
REQUEST_TIME: Final = Described(
    "walle_request_seconds", "histogram", "Time to the beginning of the answer.", ("method", "route")
)

#: Everything else, in the order of the page that lists it.
GATHERED: Final = (
    Described("walle_epoch", "gauge", "The epoch that is published."),
    Described(
        "walle_trust_expires_timestamp_seconds", "gauge", "When what a role has signed expires, since 1970.",
        ("role",),
    ),
    Described("walle_leads", "gauge", "1 if this worker leads: over all workers, exactly one."),
    Described("walle_streams", "gauge", "Push streams held."),
    Described("walle_tunnels", "gauge", "Upload tunnels held."),
    Described(
        "walle_tunnel_refusals_total", "counter", "Tunnels refused, or ended for what they sent.", ("code",)
    ),
    Described("walle_devices", "gauge", "Devices enrolled."),
    Described("walle_task_versions", "gauge", "Task versions imported."),
    Described("walle_releases", "gauge", "Releases by state.", ("state",)),
    Described("walle_approvals_waiting", "gauge", "Requests that wait for another person's approval."),
    Described("walle_guard_actions_total", "counter", "What the guard did to releases.", ("action",)),
    Described("walle_reports_total", "counter", "Reports that devices sent: new, or repeated.", ("kind",)),
    Described("walle_journal_head_rows", "gauge", "The journal's newest row: features taken in, ever."),
    Described("walle_journal_bytes_total", "counter", "Fields of features taken in since the start."),
    Described("walle_sink_lag_rows", "gauge", "Rows of the journal that a sink lacks.", ("sink",)),
    Described("walle_sink_rows_total", "counter", "Rows that a sink took since the start.", ("sink",)),
    Described("walle_sink_failures_total", "counter", "Writes that a sink refused or broke.", ("sink",)),
    Described("walle_sink_failing", "gauge", "1 while a sink fails.", ("sink",)),
    Described("walle_database_queue_jobs", "gauge", "Writes that wait for the database's one writer."),
    Described(
        "walle_webhook_deliveries_total", "counter", "Attempts since the start, by what came of them.",
        ("outcome",),
    ),
    Described("walle_webhook_waiting", "gauge", "Deliveries on their way."),
    Described("walle_webhook_dead", "gauge", "Deliveries that were given up."),
    Described("walle_cloud_slots", "gauge", "Answers of cloud halves that are worked out at once, at most."),
    Described("walle_cloud_running", "gauge", "Answers that are worked out now."),
    Described("walle_cloud_waiting", "gauge", "Questions that wait for their turn."),
    Described("walle_cloud_later_waiting", "gauge", "Questions, of all workers, that can wait, and do."),
    Described("walle_cloud_pushes_waiting", "gauge", "Answers that wait for their devices."),
    Described(
        "walle_cloud_answers_total", "counter",
        "Questions by what came of them: answered, withdrawn, or the reason for no answer.", ("outcome",),
    ),
    Described("walle_cloud_queue_seconds_total", "counter", "Time that questions waited for their turn."),
    Described("walle_cloud_busy_seconds_total", "counter", "Time that slots were busy."),
    Described("walle_cloud_cpu_seconds_total", "counter", "Processor time of cloud halves."),
)  # fmt: skip

METRICS: Final = (REQUESTS, REQUEST_TIME, *GATHERED)


class Metrics:
    """Counts requests, and gathers the rest when asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._registry = CollectorRegistry()
        self._requests = Counter(REQUESTS.name, REQUESTS.doc, REQUESTS.labels, registry=self._registry)
        self._times = Histogram(
            REQUEST_TIME.name, REQUEST_TIME.doc, REQUEST_TIME.labels, registry=self._registry,
            buckets=_BUCKETS_S,
        )  # fmt: skip
        ProcessCollector(registry=self._registry)

    def watch(self, routes: Iterable[BaseRoute], below: str = "") -> None:
        """Count the requests of a route table, and of those below its paths."""
        for route in routes:
            if isinstance(route, Mount):
                self.watch(route.routes, below + route.path)
            elif isinstance(route, Route):
                route.app = self._counted(below + route.path, route.app)

    async def text(self, control: Control) -> bytes:
        """Everything in Prometheus' text format."""
        now_ms = self._clock.wall_ms()
        facts = await control.store.database.read(lambda db: _read(db, now_ms))
        once = CollectorRegistry(auto_describe=False)
        expiries = _expiries(await control.trust.status())
        once.register(_Once(_families({**facts, **expiries, **_gather(control)})))
        return generate_latest(self._registry) + generate_latest(once)

    def _counted(self, path: str, app: ASGIApp) -> ASGIApp:
        # Looking a child up by its labels costs more than counting: each is looked up once.
        requests: dict[tuple[str, int], Counter] = {}
        times: dict[str, Histogram] = {}

        def count(method: str, status: int, started_s: float) -> None:
            child = requests.get((method, status))
            if child is None:
                child = requests[method, status] = self._requests.labels(method, path, str(status))
            child.inc()
            timer = times.get(method)
            if timer is None:
                timer = times[method] = self._times.labels(method, path)
            timer.observe(time.perf_counter() - started_s)

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            started_s, method, begun = time.perf_counter(), scope["method"], False

            async def send_on(message: Message) -> None:
                nonlocal begun
                if message["type"] == "http.response.start":
                    begun = True
                    count(method, message["status"], started_s)
                await send(message)

            try:
                await app(scope, receive, send_on)
            except Exception:
                if not begun:
                    count(method, 500, started_s)
                raise

        return counted


class _Once(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gather(control: Control) -> Mapping[str, Values]:
    """What the services have in memory."""
    sinks = control.telemetry.sink_list().sinks
    hooks = control.webhooks
    return {
        "walle_epoch": _one(control.hub.epoch),
        "walle_leads": _one(float(control.leadership is None or control.leadership.leads)),
        "walle_streams": _one(control.streams.taken),
        "walle_tunnels": _one(control.tunnels.taken),
        "walle_tunnel_refusals_total": {(code,): n for code, n in control.refusals.counts.items()},
        "walle_guard_actions_total": {(action,): n for action, n in control.rollouts.actions.items()},
        "walle_reports_total": {
            ("new",): control.telemetry.reports_new,
            ("repeated",): control.telemetry.reports_repeated,
        },
        "walle_journal_head_rows": _one(control.telemetry.sink_list().head),
        "walle_journal_bytes_total": _one(control.telemetry.journal_bytes),
        "walle_sink_lag_rows": {(sink.name,): sink.lag_rows for sink in sinks},
        "walle_sink_rows_total": {(sink.name,): sink.rows for sink in sinks},
        "walle_sink_failures_total": {(sink.name,): sink.failures for sink in sinks},
        "walle_sink_failing": {(sink.name,): float(bool(sink.error)) for sink in sinks},
        "walle_database_queue_jobs": _one(control.store.database.queued),
        "walle_webhook_deliveries_total": {
            ("delivered",): hooks.delivered,
            ("failed",): hooks.failed,
        },
        "walle_cloud_slots": _one(control.cloud.slots),
        "walle_cloud_running": _one(control.cloud.running),
        "walle_cloud_waiting": _one(control.cloud.waiting),
        "walle_cloud_answers_total": {(outcome,): n for outcome, n in control.cloud.counts.answers.items()},
        "walle_cloud_queue_seconds_total": _one(control.cloud.counts.queue_s),
        "walle_cloud_busy_seconds_total": _one(control.cloud.counts.busy_s),
        "walle_cloud_cpu_seconds_total": _one(control.cloud.counts.cpu_s),
    }


def _expiries(trust: TrustStatus) -> Mapping[str, Values]:
    # 0: the role signs envelopes only, and they say themselves how long they hold.
    ends: Values = {(role.role,): role.expires_ms / 1000 for role in trust.roles if role.expires_ms}
    return {"walle_trust_expires_timestamp_seconds": ends}


def _read(db: Connection, now_ms: int) -> Mapping[str, Values]:
    """What only the database knows."""
    waiting, dead = webhooks.totals(db)
    later, pushes = cloud.count_later(db)
    return {
        "walle_devices": _one(devices.count(db)),
        "walle_task_versions": _one(tasks.count(db)),
        "walle_releases": {(state,): n for state, n in releases.by_state(db).items()},
        "walle_approvals_waiting": _one(releases.open_approvals(db, now_ms)),
        "walle_webhook_waiting": _one(waiting),
        "walle_webhook_dead": _one(dead),
        "walle_cloud_later_waiting": _one(later),
        "walle_cloud_pushes_waiting": _one(pushes),
    }


def _families(values: Mapping[str, Values]) -> Iterator[Metric]:
    for metric in GATHERED:
        family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        filled = family(metric.name, metric.doc, labels=metric.labels)
        for labels, value in values[metric.name].items():
            filled.add_metric(labels, value)
        yield filled


def _one(value: float) -> Values:
    return {(): value}
