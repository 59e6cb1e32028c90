"""Puts the control plane together: services, the whole route table, the loops beside the requests."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from walle_control.config import ControlConfig
from walle_control.db.store import Store
from walle_control.features.audit.routes import AuditRoutes
from walle_control.features.audit.service import AuditService
from walle_control.features.devices import read_model as devices_read_model
from walle_control.features.devices.routes import DeviceRoutes
from walle_control.features.devices.service import DevicesService
from walle_control.features.people.service import PeopleService
from walle_control.features.releases.epochs import EpochBook
from walle_control.features.releases.routes import ReleaseRoutes
from walle_control.features.releases.service import ReleasesService
from walle_control.features.releases.types import ACTIONS
from walle_control.features.rollouts.book import TrialBook
from walle_control.features.rollouts.service import RolloutsService
from walle_control.features.tasks import read_model as tasks_read_model
from walle_control.features.tasks.routes import TaskRoutes
from walle_control.features.tasks.service import TasksService, convert_with_engine
from walle_control.features.tasks.types import ModelConverter
from walle_control.features.telemetry import read_model as telemetry_read_model
from walle_control.features.telemetry.arrivals import Arrivals
from walle_control.features.telemetry.routes import TelemetryRoutes
from walle_control.features.telemetry.service import TelemetryService
from walle_control.features.telemetry.sinks.configured import configured_sinks
from walle_control.features.telemetry.sinks.pump import Sinks
from walle_control.features.trust.book import TrustBook
from walle_control.features.trust.routes import TrustRoutes
from walle_control.features.trust.service import TrustService
from walle_control.gateway.hub import EpochHub, Seats
from walle_control.gateway.stream import StreamRoutes
from walle_control.gateway.tunnel import TunnelRoutes
from walle_control.web.auth import Doors
from walle_control.web.problems import on_crash, on_http_error, on_walle_error
from walle_control.web.requests import json_response
from walle_control.web.static import StaticRoutes
from walle_shared import __version__
from walle_shared.clock import Clock
from walle_shared.errors import WalleError
from walle_shared.observe import get_logger
from walle_shared.protocol.version import DEVICE_API, STATIC_ROOT

_log = get_logger("control.app")

ADMIN_API = "/api/v1"

#: How often it is looked whether something must be signed anew.
_SIGNING_CHECK_S = 60.0


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
    telemetry: TelemetryService
    audit: AuditService
    trust: TrustService

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Load what is remembered, then run the loops beside the requests, for ever."""
        await self.devices.load()
        await self.trust.load()  # before the epoch, which names what it approves
        await self.releases.load()
        await self.telemetry.sinks.load()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.rollouts.run, self.config.guard.interval_s)
            nursery.start_soon(self._keep_signed)
            nursery.start_soon(self.telemetry.sinks.run)
            task_status.started()
            await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def say_goodbye(self) -> None:
        """End the long conversations politely. Blocks: until the last has ended; bound it."""
        self.hub.stop()
        self.telemetry.end_polls()
        await self.streams.wait_empty()
        await self.tunnels.wait_empty()

    async def status(self, _request: Request) -> Response:
        """``GET status``."""
        newest = await self.store.database.read(_totals)
        trust = await self.trust.status()
        return json_response(
            {
                "version": __version__,
                "epoch": self.hub.epoch,
                "trusted_root": trust.trusted_root,
                "trust_expiring": [role.role for role in await self.trust.expiring()],
                "streams": self.streams.taken,
                "tunnels": self.tunnels.taken,
                **newest,
            }
        )

    async def healthz(self, _request: Request) -> Response:
        """``GET /healthz``: fails unless the database answers and an epoch is published."""
        await self.store.database.read(_totals)
        healthy = self.hub.epoch > 0
        return json_response({"healthy": healthy}, 200 if healthy else 503)

    async def _keep_signed(self) -> NoReturn:
        while True:
            await trio.sleep(_SIGNING_CHECK_S)
            try:
                await self.trust.keep_signed()
                await self.releases.keep_signed()
            except WalleError as error:  # e.g. a full disk: tried again in a minute
                _log.error("signing_failed", error=error.message, code=error.code)


def _totals(db: sqlite3.Connection) -> dict[str, int]:
    return {
        "devices": devices_read_model.count(db),
        "task_versions": tasks_read_model.count(db),
        **telemetry_read_model.totals(db),
    }


def create_control(
    config: ControlConfig, *, clock: Clock, store: Store, convert: ModelConverter = convert_with_engine
) -> Control:
    """Make the services and connect them."""
    hub = EpochHub()
    database = store.database
    trust_book = TrustBook(store.files, store.keyring, clock, config.trust)
    trust = TrustService(database, trust_book, clock, config.trust)
    book = EpochBook(store.files, trust_book, clock, config.epoch.lifetime_s)
    trials = TrialBook()
    releases = ReleasesService(database, clock, book, trials, config.guard, hub.announce)
    rollouts = RolloutsService(database, clock, releases, trials)
    tasks = TasksService(store, clock, config.tasks, trust_book, trust.publish, convert)
    arrivals = Arrivals()
    sinks = Sinks(
        configured_sinks(config, tasks.upload_fields),
        database,
        arrivals,
        clock,
        keep_s=config.sinks.journal_keep_s,
    )
    return Control(
        config=config,
        store=store,
        hub=hub,
        streams=Seats("push streams", config.stream.max_streams),
        tunnels=Seats("tunnels", config.stream.max_tunnels),
        people=PeopleService(database, clock),
        devices=DevicesService(
            database, clock, config.devices, store.credential_key, trust_book.trusted_root
        ),
        tasks=tasks,
        releases=releases,
        rollouts=rollouts,
        telemetry=TelemetryService(database, clock, rollouts.poke, arrivals, sinks),
        audit=AuditService(database),
        trust=trust,
    )


def create_app(
    config: ControlConfig, *, clock: Clock, store: Store, convert: ModelConverter = convert_with_engine
) -> Starlette:
    """The ASGI application. Its ``state.control`` must ``run`` beside it."""
    control = create_control(config, clock=clock, store=store, convert=convert)
    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        WalleError: on_walle_error,
        HTTPException: on_http_error,
        Exception: on_crash,
    }
    app = Starlette(routes=routes(control), exception_handlers=handlers)
    app.state.control = control
    app.state.body_timeout_s = config.server.body_timeout_s
    return app


def routes(control: Control) -> list[BaseRoute]:
    """The whole route table: path, who may pass, endpoint, methods."""
    doors = Doors(control.people.check, control.devices.check_credential)
    admin, device = doors.admin, doors.device
    static = StaticRoutes(control.store.files)
    devices = DeviceRoutes(control.devices)
    tasks = TaskRoutes(control.tasks)
    releases = ReleaseRoutes(control.releases)
    telemetry = TelemetryRoutes(control.telemetry)
    trust = TrustRoutes(control.trust)
    stream = StreamRoutes(control.hub, control.streams, control.devices, control.config.stream)
    tunnel = TunnelRoutes(
        control.hub, control.tunnels, control.devices, control.telemetry, control.config.stream
    )
    get, post = ["GET"], ["POST"]
    return [
        Route("/healthz", control.healthz, methods=get),
        # Static, signed files; open to all, cacheable by anyone.
        Route(f"{STATIC_ROOT}/epoch.json", static.epoch, methods=get),
        Route(f"{STATIC_ROOT}/tuf/{{name}}", static.metadata, methods=get),
        Route(f"{STATIC_ROOT}/{{kind}}/{{sha256}}", static.immutable, methods=get),
        # Devices.
        Route(f"{DEVICE_API}/enrol", devices.enrol, methods=post),
        Route(f"{DEVICE_API}/renew", devices.renew, methods=post),
        Route(f"{DEVICE_API}/time", trust.time, methods=post),
        Route(f"{DEVICE_API}/stream", device(stream.stream), methods=get),
        Route(f"{DEVICE_API}/reports", device(telemetry.post_reports), methods=post),
        WebSocketRoute(f"{DEVICE_API}/tunnel", tunnel.tunnel),
        # Operators.
        Route(f"{ADMIN_API}/status", admin(control.status), methods=get),
        Route(f"{ADMIN_API}/epoch", admin(releases.epoch), methods=get),
        Route(f"{ADMIN_API}/tasks", admin(tasks.list), methods=get),
        Route(f"{ADMIN_API}/tasks", admin(tasks.import_version), methods=post),
        Route(f"{ADMIN_API}/tasks/{{scenario}}/{{task}}/{{version}}", admin(tasks.show), methods=get),
        Route(f"{ADMIN_API}/releases", admin(releases.list), methods=get),
        Route(f"{ADMIN_API}/releases", admin(releases.create), methods=post),
        Route(f"{ADMIN_API}/releases/{{release_id}}", admin(releases.show), methods=get),
        *(
            Route(f"{ADMIN_API}/releases/{{release_id}}/{action}", admin(releases.act(action)), methods=post)
            for action in ACTIONS
        ),
        Route(f"{ADMIN_API}/explain", admin(releases.explain), methods=post),
        Route(f"{ADMIN_API}/devices", admin(devices.list), methods=get),
        Route(f"{ADMIN_API}/devices/{{device_id}}", admin(devices.show), methods=get),
        Route(f"{ADMIN_API}/devices/{{device_id}}/revoke", admin(devices.revoke), methods=post),
        Route(f"{ADMIN_API}/enrol-tokens", admin(devices.create_enrol_token), methods=post),
        Route(f"{ADMIN_API}/trust", admin(trust.show), methods=get),
        Route(f"{ADMIN_API}/audit", admin(AuditRoutes(control.audit).page), methods=get),
        Route(f"{ADMIN_API}/features", admin(telemetry.features), methods=get),
        Route(f"{ADMIN_API}/sinks", admin(telemetry.sinks), methods=get),
        Route(f"{ADMIN_API}/reports", admin(telemetry.reports), methods=get),
    ]
