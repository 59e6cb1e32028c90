"""Puts the control plane together: services, the whole route table, the loops beside the requests."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, cast

import trio
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from walle_control.config import ControlConfig
from walle_control.console.news import News
from walle_control.console.routes import console_mount
from walle_control.console.state import ConsoleState
from walle_control.db.postgres import PostgresBackend
from walle_control.db.sql import Connection
from walle_control.db.store import Store
from walle_control.features.audiences.routes import AudienceRoutes
from walle_control.features.audiences.service import AudiencesService
from walle_control.features.audiences.types import Whom
from walle_control.features.audit.routes import AuditRoutes
from walle_control.features.audit.service import AuditService
from walle_control.features.cloud import store as cloud_store
from walle_control.features.cloud.later import LaterDesk
from walle_control.features.cloud.service import CloudService, Failure, report_of
from walle_control.features.devices import read_model as devices_read_model
from walle_control.features.devices.routes import DeviceRoutes
from walle_control.features.devices.service import DevicesService
from walle_control.features.exclusive.routes import ExclusiveRoutes
from walle_control.features.exclusive.service import ExclusiveService
from walle_control.features.learning.routes import LearningRoutes
from walle_control.features.learning.service import LearningService
from walle_control.features.learning.types import WholeBackup
from walle_control.features.people.code_flow import CodeFlow
from walle_control.features.people.oidc import Provider
from walle_control.features.people.routes import PeopleRoutes
from walle_control.features.people.service import PeopleService
from walle_control.features.permits.routes import PermitRoutes
from walle_control.features.permits.service import PermitsService
from walle_control.features.releases.approvals import DECISIONS
from walle_control.features.releases.epochs import EpochBook
from walle_control.features.releases.routes import ReleaseRoutes
from walle_control.features.releases.service import ReleasesService
from walle_control.features.releases.types import ACTIONS
from walle_control.features.releases.verdicts import Verdicts
from walle_control.features.repositories.routes import RepositoryRoutes
from walle_control.features.repositories.service import RepositoriesService
from walle_control.features.repositories.types import TaskHistory
from walle_control.features.rollouts.book import TrialBook
from walle_control.features.rollouts.service import RolloutsService
from walle_control.features.tasks import read_model as tasks_read_model
from walle_control.features.tasks.routes import TaskRoutes
from walle_control.features.tasks.service import TasksService, convert_with_engine
from walle_control.features.tasks.simulation import simulate_with_agent
from walle_control.features.tasks.types import ImportRequest, ModelConverter, Simulate
from walle_control.features.telemetry import read_model as telemetry_read_model
from walle_control.features.telemetry.arrivals import Arrivals
from walle_control.features.telemetry.ingest import IngestService, Refusals
from walle_control.features.telemetry.routes import TelemetryRoutes
from walle_control.features.telemetry.service import TelemetryService
from walle_control.features.telemetry.sinks.configured import configured_sinks
from walle_control.features.telemetry.sinks.pump import Sinks
from walle_control.features.trust.book import TrustBook
from walle_control.features.trust.routes import TrustRoutes
from walle_control.features.trust.service import TrustService
from walle_control.features.webhooks.routes import WebhookRoutes
from walle_control.features.webhooks.sender import Sender, parse_networks
from walle_control.features.webhooks.service import WebhooksService
from walle_control.gateway.hub import EpochHub, Seats
from walle_control.gateway.nchan import relays
from walle_control.gateway.stream import StreamRoutes
from walle_control.gateway.tunnel import TunnelRoutes
from walle_control.metrics import Metrics
from walle_control.traces import Budget, Traces
from walle_control.web.auth import Doors, anywhere
from walle_control.web.correlation import Correlated
from walle_control.web.describe import Raw, describe
from walle_control.web.openapi import document
from walle_control.web.problems import on_crash, on_http_error, on_walle_error
from walle_control.web.requests import json_response
from walle_control.web.static import StaticRoutes
from walle_control.workers.changes import Changes, Handler
from walle_control.workers.leadership import Leadership
from walle_shared import __version__
from walle_shared.clock import Clock
from walle_shared.errors import NotFound, WalleError
from walle_shared.exclusive import ExclusiveFile
from walle_shared.learning import BACKUP_FILE, ROUNDS_FILE
from walle_shared.observe import get_logger
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import ReportBatch
from walle_shared.protocol.version import DEVICE_API, STATIC_ROOT
from walle_shared.signing import file_ref

_log = get_logger("control.app")

ADMIN_API = "/api/v1"

#: Of whom operators may say attributes: the part of the path, and what the feature calls them.
SUBJECTS: tuple[tuple[str, Whom], ...] = (("devices", "device"), ("users", "user"))

#: How often it is looked whether something must be signed anew.
_SIGNING_CHECK_S = 60.0


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What a control plane holds."""

    version: str
    epoch: int
    trusted_root: str
    trust_expiring: tuple[str, ...]
    streams: int
    tunnels: int
    leads: bool
    devices: int
    task_versions: int
    reports: int
    features: int
    cloud_slots: int = 0
    cloud_running: int = 0
    cloud_waiting: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """Whether all is well."""

    healthy: bool


@dataclass(frozen=True, slots=True)
class Control:
    """The services of one control plane and what they share."""

    config: ControlConfig
    store: Store
    hub: EpochHub
    streams: Seats
    tunnels: Seats
    people: PeopleService
    devices: DevicesService
    tasks: TasksService
    releases: ReleasesService
    rollouts: RolloutsService
    repositories: RepositoriesService
    exclusive: ExclusiveService
    learning: LearningService
    telemetry: TelemetryService
    ingest: IngestService
    refusals: Refusals
    audiences: AudiencesService
    permits: PermitsService
    audit: AuditService
    #: Which worker leads; ``None`` where there is only this one.
    leadership: Leadership | None
    webhooks: WebhooksService
    cloud: CloudService
    later: LaterDesk
    metrics: Metrics | None
    traces: Traces | None
    trust: TrustService
    console: ConsoleState

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Load what is remembered, then run the loops beside the requests, for ever."""
        await self.devices.load()
        await self.trust.load()  # before the epoch, which names what it approves
        await self.releases.load()
        await self.telemetry.sinks.load()
        async with trio.open_nursery() as nursery:
            if self.leadership is None:
                nursery.start_soon(self.lead)
            else:
                nursery.start_soon(self.leadership.run, self.lead)
            if isinstance(self.store.database.backend, PostgresBackend):
                nursery.start_soon(Changes(self.store.database.backend, self._followers()).run)
            nursery.start_soon(self.cloud.run)
            nursery.start_soon(self.console.fleet.run)
            nursery.start_soon(self.console.soon.run)
            task_status.started()
            await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def lead(self) -> NoReturn:
        """Run the loops that one worker alone may run, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.rollouts.run, self.config.guard.interval_s)
            nursery.start_soon(self._keep_signed)
            nursery.start_soon(self.telemetry.sinks.run)
            nursery.start_soon(self.tasks.deltas.run)
            nursery.start_soon(self.repositories.run)
            nursery.start_soon(self.webhooks.run)
            nursery.start_soon(self.later.run)
            nursery.start_soon(self.learning.run)
            for relay in relays(self.config.stream, self.hub):
                nursery.start_soon(relay.run)
            await trio.sleep_forever()
        raise AssertionError("unreachable")

    def _followers(self) -> dict[str, Handler]:
        """What to look after when another worker changed it, by the topics of the database's triggers."""

        async def poke() -> None:
            self.rollouts.poke()
            self.console.news.ring()

        return {
            "revoked": self.devices.load,
            "epoch": self.releases.follow,
            "feature": self.telemetry.sinks.follow,
            "sink": self.telemetry.sinks.follow,
            "report": poke,
            "trust": self.trust.follow,
            "cloud": self.later.follow,
        }

    async def task_history(self, scenario: str, task: str, version: str, base: str = "") -> TaskHistory:
        """The commits that led to a version from another, by default the one imported before it.

        Raises:
            NotFound: one of them was not imported.
        """
        newest = (await self.tasks.show(scenario, task, version)).version
        name = await self.tasks.base_of(scenario, task, version, base)
        before = (await self.tasks.show(scenario, task, name)).version if name else None
        return await self.repositories.history(
            scenario, task, (version, newest.source), (name, before.source if before else "")
        )

    async def say_goodbye(self) -> None:
        """End the long conversations politely. Blocks: until the last has ended; bound it."""
        self.hub.stop()
        self.telemetry.end_polls()
        await self.streams.wait_empty()
        await self.tunnels.wait_empty()
        await self.console.watched.wait_empty()

    @describe(ServerStatus)
    async def status(self, _request: Request) -> Response:
        """What the server holds."""
        newest = await self.store.database.read(_totals)
        trust = await self.trust.status()
        return json_response(
            ServerStatus(
                version=__version__,
                epoch=self.hub.epoch,
                trusted_root=trust.trusted_root,
                trust_expiring=tuple(role.role for role in await self.trust.expiring()),
                streams=self.streams.taken,
                tunnels=self.tunnels.taken,
                leads=self.leadership is None or self.leadership.leads,
                cloud_slots=self.cloud.slots,
                cloud_running=self.cloud.running,
                cloud_waiting=self.cloud.waiting,
                **newest,
            )
        )

    @describe(Health)
    async def live(self, _request: Request) -> Response:
        """Whether the process answers at all: if not, start it anew."""
        return json_response(Health(True))

    @describe(Health, status=(200, 503))
    async def ready(self, _request: Request) -> Response:
        """Whether requests may come: the database answers, an epoch is published, it is not stopping."""
        await self.store.database.read(devices_read_model.any_enrolled)
        healthy = self.hub.epoch > 0 and not self.hub.stopping
        return json_response(Health(healthy), 200 if healthy else 503)

    @describe(Raw(CONTENT_TYPE_LATEST, {"type": "string"}), errors=(404,))
    async def measured(self, _request: Request) -> Response:
        """What Prometheus asks for."""
        if self.metrics is None:
            raise NotFound("metrics are off: set metrics.enabled")
        return Response(await self.metrics.text(self), media_type=CONTENT_TYPE_LATEST)

    async def _keep_signed(self) -> NoReturn:
        while True:
            await trio.sleep(_SIGNING_CHECK_S)
            try:
                await self.trust.keep_signed()
                await self.releases.keep_signed()
            except WalleError as error:  # e.g. a full disk: tried again in a minute
                _log.error("signing_failed", error=error.message, code=error.code)


def _totals(db: Connection) -> dict[str, int]:
    return {
        "devices": devices_read_model.count(db),
        "task_versions": tasks_read_model.count(db),
        **telemetry_read_model.totals(db),
    }


def _worker_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def create_control(
    config: ControlConfig,
    *,
    clock: Clock,
    store: Store,
    convert: ModelConverter = convert_with_engine,
    simulate: Simulate = simulate_with_agent,
) -> Control:
    """Make the services and connect them."""
    hub = EpochHub()
    database = store.database
    trust_book = TrustBook(store.files, store.keyring, clock, config.trust)
    trust = TrustService(database, trust_book, clock, config.trust)
    book = EpochBook(store.files, trust_book, clock, config.epoch.lifetime_s)
    trials = TrialBook()
    releases = ReleasesService(
        database,
        clock,
        book,
        trials,
        config.guard,
        hub.announce,
        require_simulation=config.tasks.require_simulation,
    )
    rollouts = RolloutsService(database, clock, releases, trials)
    news = News(hub)

    def on_reports() -> None:
        rollouts.poke()
        news.ring()

    tasks = TasksService(store, clock, config, trust_book, trust.publish, convert, simulate)
    exclusive = ExclusiveService(store, clock, config.exclusive, trust_book)
    arrivals = Arrivals()
    streams = Seats("push streams", config.stream.max_streams)
    tunnels = Seats("tunnels", config.stream.max_tunnels)
    refusals = Refusals(clock)
    provider = Provider(config.oidc, clock) if config.oidc.issuer else None
    sinks = Sinks(
        configured_sinks(config, tasks.upload_fields),
        database,
        arrivals,
        clock,
        keep_s=config.sinks.journal_keep_s,
    )
    telemetry = TelemetryService(
        database, clock, on_reports, arrivals, sinks, cloud_store.keep_later, lambda: later.poke()
    )

    async def diagnose(failure: Failure) -> None:
        await telemetry.record_reports(failure.device_id, ReportBatch((report_of(failure, clock.wall_ms()),)))

    traces = Traces.open(config.traces, __version__) if config.traces.endpoint else None
    cloud = CloudService(store, config.cloud, clock, diagnose, traces.asked if traces is not None else None)
    later = LaterDesk(database, cloud)
    return Control(
        config=config,
        store=store,
        hub=hub,
        streams=streams,
        tunnels=tunnels,
        people=PeopleService(database, clock, provider),
        devices=DevicesService(
            database, clock, config.devices, store.credential_key, trust_book.trusted_root
        ),
        tasks=tasks,
        releases=releases,
        rollouts=rollouts,
        exclusive=exclusive,
        learning=LearningService(store, clock, trust_book, partial(_keep_backup, exclusive)),
        repositories=RepositoriesService(store, clock, config, partial(_import_tag, tasks)),
        telemetry=telemetry,
        ingest=IngestService(database, clock, telemetry, refusals, lambda: (tunnels.taken, streams.taken)),
        refusals=refusals,
        audiences=AudiencesService(database, store.files, clock, releases),
        permits=PermitsService(database, clock),
        audit=AuditService(database),
        leadership=Leadership(database, _worker_name()) if database.backend.is_shared else None,
        webhooks=WebhooksService(
            database,
            clock,
            config.webhooks,
            store.credential_key,
            Sender(parse_networks(config.webhooks.allow_networks)),
        ),
        cloud=cloud,
        later=later,
        metrics=Metrics(clock) if config.metrics.enabled else None,
        traces=traces,
        trust=trust,
        console=ConsoleState.make(
            database, clock, config.console, news, CodeFlow(config.oidc, provider) if provider else None
        ),
    )


async def _keep_backup(exclusive: ExclusiveService, whole: WholeBackup) -> None:
    about, ref = whole.about, file_ref(whole.sealed)
    file = ExclusiveFile(BACKUP_FILE, ref, about.plain, about.sealed_to, {"key": about.wrapped})
    key = (whole.scenario, whole.task)
    await exclusive.keep_sealed(whole.device_id, key, whole.sealed, file, about.counter)


async def _import_tag(
    tasks: TasksService, repository: str, tag: str, task: str, version: str, folder: str, actor: str
) -> bool:
    result = await tasks.import_version(ImportRequest(repository, task, version, tag, folder), actor)
    return result.created


def create_app(
    config: ControlConfig,
    *,
    clock: Clock,
    store: Store,
    convert: ModelConverter = convert_with_engine,
    simulate: Simulate = simulate_with_agent,
) -> Starlette:
    """The ASGI application. Its ``state.control`` must ``run`` beside it."""
    control = create_control(config, clock=clock, store=store, convert=convert, simulate=simulate)
    table = routes(control)
    if control.metrics is not None:
        control.metrics.watch(table)
    if control.traces is not None:
        control.traces.watch(table)
    app = Starlette(
        routes=table, exception_handlers=_HANDLERS, middleware=[Middleware(cast(Any, Correlated))]
    )
    app.state.control = control
    app.state.body_timeout_s = config.server.body_timeout_s
    return app


_HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    WalleError: on_walle_error,
    HTTPException: on_http_error,
    Exception: on_crash,
}


class ApiDescription:
    """Serves the description of the very routes it stands among."""

    def __init__(self) -> None:
        self._body = b""

    @describe(Raw("application/json", {"type": "object"}))
    async def show(self, request: Request) -> Response:
        """This API as an OpenAPI 3.1 document."""
        self._body = self._body or encode(document(request.app.routes, __version__))
        return Response(self._body, media_type="application/json")


def create_monitoring_app(control: Control) -> Starlette:
    """What ``metrics.listen`` serves, without tokens: to be reached by one's own monitoring alone."""
    table = [*health_routes(control), Route("/metrics", control.measured, methods=["GET"])]
    return Starlette(routes=table, exception_handlers=_HANDLERS)


def health_routes(control: Control) -> list[BaseRoute]:
    """Whether all is well, for whoever starts and stops processes."""
    return [
        Route("/livez", control.live, methods=["GET"]),
        Route("/readyz", control.ready, methods=["GET"]),
        Route("/healthz", control.ready, methods=["GET"]),
    ]


def routes(control: Control) -> list[BaseRoute]:
    """The whole route table: path, who may pass, endpoint, methods."""
    doors = Doors(control.people.authenticate, control.devices.check_credential)
    admin, device = doors.admin, doors.device
    static = StaticRoutes(control.store.files, control.config.server.accel_prefix)
    devices = DeviceRoutes(control.devices)
    tasks = TaskRoutes(control.tasks, control.task_history)
    releases = ReleaseRoutes(control.releases, Verdicts(control.releases, control.console.soon))
    repositories = RepositoryRoutes(control.repositories)
    audiences = AudienceRoutes(control.audiences)
    exclusive = ExclusiveRoutes(control.exclusive, control.config.exclusive.accel_prefix)
    learning = LearningRoutes(control.learning)
    telemetry = TelemetryRoutes(control.telemetry, control.ingest)
    audit = AuditRoutes(control.audit)
    people = PeopleRoutes(control.people)
    webhooks = WebhookRoutes(control.webhooks)
    trust = TrustRoutes(control.trust)
    stream = StreamRoutes(control.hub, control.streams, control.devices, control.config.stream)
    tunnel = TunnelRoutes(
        control.hub,
        control.tunnels,
        control.devices,
        control.telemetry,
        control.config.stream,
        control.cloud,
        control.later,
        control.traces,
        Budget(control.config.traces.max_per_s),
        control.refusals,
    )
    get, post = ["GET"], ["POST"]
    return [
        *health_routes(control),
        Route("/metrics", admin("metrics:read", control.measured, anywhere), methods=get),
        Route("/openapi.json", ApiDescription().show, methods=get),
        # Static, signed files; open to all, cacheable by anyone.
        Route(f"{STATIC_ROOT}/epoch.json", static.epoch, methods=get),
        Route(f"{STATIC_ROOT}/{ROUNDS_FILE}", static.rounds, methods=get),
        Route(f"{STATIC_ROOT}/tuf/{{name}}", static.metadata, methods=get),
        Route(f"{STATIC_ROOT}/{{kind}}/{{sha256}}", static.immutable, methods=get),
        # Devices.
        Route(f"{DEVICE_API}/enrol", devices.enrol, methods=post),
        Route(f"{DEVICE_API}/renew", devices.renew, methods=post),
        Route(f"{DEVICE_API}/time", trust.time, methods=post),
        Route(f"{DEVICE_API}/stream", device(stream.stream), methods=get),
        Route(f"{DEVICE_API}/allowed", device(stream.allowed), methods=get),
        Route(f"{DEVICE_API}/reports", device(telemetry.post_reports), methods=post),
        Route(f"{DEVICE_API}/permits", device(PermitRoutes(control.permits).ask), methods=post),
        Route(f"{DEVICE_API}/decide", device(releases.tell), methods=post),
        Route(f"{DEVICE_API}/exclusive/{{scenario}}/{{task}}", device(exclusive.offer), methods=get),
        Route(f"{DEVICE_API}/sealed/{{sha256}}", exclusive.sealed, methods=get),
        WebSocketRoute(f"{DEVICE_API}/tunnel", tunnel.tunnel),
        # Operators: the permission each route takes, and where it must be held (``web.auth``).
        Route(f"{ADMIN_API}/status", admin("status:read", control.status, anywhere), methods=get),
        Route(f"{ADMIN_API}/stream", admin("status:read", stream.follow, anywhere), methods=get),
        Route(f"{ADMIN_API}/epoch", admin("releases:read", releases.epoch, anywhere), methods=get),
        Route(f"{ADMIN_API}/tasks", admin("tasks:read", tasks.list, anywhere), methods=get),
        Route(f"{ADMIN_API}/tasks", admin("tasks:write", tasks.import_version, anywhere), methods=post),
        Route(
            f"{ADMIN_API}/tasks/{{scenario}}/{{task}}/{{version}}",
            admin("tasks:read", tasks.show),
            methods=get,
        ),
        *(
            Route(
                f"{ADMIN_API}/tasks/{{scenario}}/{{task}}/{{version}}/{endpoint.__name__}",
                admin("tasks:read", endpoint),
                methods=get,
            )
            for endpoint in (tasks.compare, tasks.history, tasks.approval)
        ),
        Route(
            f"{ADMIN_API}/tasks/{{scenario}}/{{task}}/{{version}}/simulation",
            admin("tasks:read", tasks.simulation),
            methods=get,
        ),
        Route(
            f"{ADMIN_API}/tasks/{{scenario}}/{{task}}/{{version}}/simulation",
            admin("tasks:write", tasks.simulate),
            methods=post,
        ),
        Route(
            f"{ADMIN_API}/exclusive/{{scenario}}/{{task}}",
            admin("releases:read", exclusive.list),
            methods=get,
        ),
        Route(
            f"{ADMIN_API}/exclusive/{{scenario}}/{{task}}/give",
            admin("releases:write", exclusive.give),
            methods=post,
        ),
        Route(
            f"{ADMIN_API}/exclusive/{{scenario}}/{{task}}/take",
            admin("releases:write", exclusive.take),
            methods=post,
        ),
        Route(f"{ADMIN_API}/learning", admin("learning:read", learning.list, anywhere), methods=get),
        Route(
            f"{ADMIN_API}/learning/{{scenario}}/{{task}}/start",
            admin("learning:write", learning.start),
            methods=post,
        ),
        Route(
            f"{ADMIN_API}/learning/{{plan}}",
            admin("learning:read", learning.show, learning.scenario),
            methods=get,
        ),
        Route(
            f"{ADMIN_API}/learning/{{plan}}/stop",
            admin("learning:write", learning.stop, learning.scenario),
            methods=post,
        ),
        Route(
            f"{ADMIN_API}/learning/{{plan}}/rounds",
            admin("learning:read", learning.rounds, learning.scenario),
            methods=get,
        ),
        Route(
            f"{ADMIN_API}/learning/{{plan}}/model",
            admin("learning:read", learning.model, learning.scenario),
            methods=get,
        ),
        Route(f"{ADMIN_API}/repositories", admin("tasks:read", repositories.list, anywhere), methods=get),
        Route(
            f"{ADMIN_API}/repositories", admin("scenarios:write", repositories.add, anywhere), methods=post
        ),
        Route(
            f"{ADMIN_API}/repositories/{{name}}/sync",
            admin("tasks:write", repositories.sync, anywhere),
            methods=post,
        ),
        Route(
            f"{ADMIN_API}/repositories/{{name}}/remove",
            admin("scenarios:write", repositories.remove, anywhere),
            methods=post,
        ),
        Route(f"{ADMIN_API}/releases", admin("releases:read", releases.list, anywhere), methods=get),
        Route(f"{ADMIN_API}/releases", admin("releases:write", releases.create, anywhere), methods=post),
        Route(
            f"{ADMIN_API}/releases/{{release_id}}",
            admin("releases:read", releases.show, releases.scenario),
            methods=get,
        ),
        *(
            Route(
                f"{ADMIN_API}/releases/{{release_id}}/{action}",
                admin("releases:write", releases.act(action), releases.scenario),
                methods=post,
            )
            for action in ACTIONS
        ),
        *(
            Route(
                f"{ADMIN_API}/releases/{{release_id}}/{word}",
                admin(permission, releases.decide(decision), releases.scenario),
                methods=post,
            )
            for word, permission, decision in DECISIONS
        ),
        Route(f"{ADMIN_API}/approvals", admin("releases:read", releases.waiting, anywhere), methods=get),
        Route(
            f"{ADMIN_API}/scenarios/{{scenario}}/approval",
            admin("releases:read", releases.approval_rule),
            methods=get,
        ),
        Route(
            f"{ADMIN_API}/scenarios/{{scenario}}/approval",
            admin("scenarios:write", releases.set_approval_rule),
            methods=post,
        ),
        Route(f"{ADMIN_API}/estimate", admin("devices:read", audiences.estimate), methods=post),
        Route(f"{ADMIN_API}/explain", admin("devices:read", releases.explain), methods=post),
        Route(f"{ADMIN_API}/holdouts", admin("releases:read", audiences.holdouts), methods=get),
        Route(f"{ADMIN_API}/holdouts", admin("releases:write", audiences.set_holdout), methods=post),
        Route(
            f"{ADMIN_API}/holdouts/{{name}}/end", admin("releases:write", audiences.end_holdout), methods=post
        ),
        Route(f"{ADMIN_API}/segments", admin("releases:read", audiences.segments), methods=get),
        Route(f"{ADMIN_API}/segments", admin("releases:write", audiences.set_segment), methods=post),
        Route(f"{ADMIN_API}/sets", admin("releases:read", audiences.sets), methods=get),
        Route(f"{ADMIN_API}/sets/{{name}}", admin("releases:write", audiences.put_set), methods=post),
        Route(f"{ADMIN_API}/attributes", admin("devices:read", audiences.attributes), methods=get),
        Route(f"{ADMIN_API}/attributes", admin("devices:write", audiences.declare), methods=post),
        *(
            Route(
                f"{ADMIN_API}/{kind}/{{subject}}/attributes",
                admin("devices:read", audiences.said_of(whom)),
                methods=get,
            )
            for kind, whom in SUBJECTS
        ),
        *(
            Route(
                f"{ADMIN_API}/{kind}/{{subject}}/attributes",
                admin("devices:write", audiences.say_of(whom)),
                methods=post,
            )
            for kind, whom in SUBJECTS
        ),
        Route(f"{ADMIN_API}/devices", admin("devices:read", devices.list), methods=get),
        Route(f"{ADMIN_API}/devices/{{device_id}}", admin("devices:read", devices.show), methods=get),
        Route(
            f"{ADMIN_API}/devices/{{device_id}}/revoke", admin("devices:write", devices.revoke), methods=post
        ),
        Route(f"{ADMIN_API}/enrol-tokens", admin("devices:write", devices.create_enrol_token), methods=post),
        Route(f"{ADMIN_API}/trust", admin("audit:read", trust.show), methods=get),
        Route(f"{ADMIN_API}/audit", admin("audit:read", audit.page), methods=get),
        Route(f"{ADMIN_API}/features", admin("data:read", telemetry.features, anywhere), methods=get),
        Route(f"{ADMIN_API}/ingest", admin("data:read", telemetry.ingest), methods=get),
        Route(f"{ADMIN_API}/sinks", admin("data:read", telemetry.sinks, anywhere), methods=get),
        Route(f"{ADMIN_API}/reports", admin("releases:read", telemetry.reports, anywhere), methods=get),
        Route(f"{ADMIN_API}/webhooks", admin("webhooks:read", webhooks.list, anywhere), methods=get),
        Route(f"{ADMIN_API}/webhooks", admin("webhooks:write", webhooks.create, anywhere), methods=post),
        Route(
            f"{ADMIN_API}/webhooks/{{webhook_id}}/deliveries",
            admin("webhooks:read", webhooks.deliveries, webhooks.scenario),
            methods=get,
        ),
        *(
            Route(
                f"{ADMIN_API}/webhooks/{{webhook_id}}/{endpoint.__name__}",
                admin("webhooks:write", endpoint, webhooks.scenario),
                methods=post,
            )
            for endpoint in (webhooks.test, webhooks.rotate, webhooks.redeliver, webhooks.delete)
        ),
        *console_mount(control),
        Route(f"{ADMIN_API}/login", people.login_ways, methods=get),
        Route(f"{ADMIN_API}/myself", admin("status:read", people.myself, anywhere), methods=get),
        Route(f"{ADMIN_API}/people", admin("people:read", people.people), methods=get),
        Route(f"{ADMIN_API}/people/{{person}}/grant", admin("people:write", people.grant), methods=post),
        Route(
            f"{ADMIN_API}/people/{{person}}/withdraw", admin("people:write", people.withdraw), methods=post
        ),
        Route(f"{ADMIN_API}/tokens", admin("tokens:write", people.tokens, anywhere), methods=get),
        Route(f"{ADMIN_API}/tokens", admin("tokens:write", people.create_token, anywhere), methods=post),
        Route(
            f"{ADMIN_API}/tokens/{{token_id}}/revoke",
            admin("tokens:write", people.revoke_token, anywhere),
            methods=post,
        ),
    ]
