"""The console's table of routes: path, permission, view."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from walle_control.console.access import AccessViews
from walle_control.console.devices import DeviceViews
from walle_control.console.frame import ROOT, Frame, anywhere, static_headers
from walle_control.console.ingest import IngestViews
from walle_control.console.live import LiveRoute
from walle_control.console.overview import OverviewViews
from walle_control.console.policy import PolicyViews
from walle_control.console.releases import ReleaseViews
from walle_control.console.repositories import RepositoryViews
from walle_control.console.signin import SignInViews
from walle_control.console.tasks import TaskViews
from walle_control.features.releases.approvals import DECISIONS
from walle_control.features.releases.types import ACTIONS
from walle_shared.errors import NotFound
from walle_shared.signing import sha256_hex

if TYPE_CHECKING:
    from walle_control.app import Control


def _read(name: str, media_type: str) -> tuple[str, bytes, str]:
    data = (Path(__file__).with_name("static") / name).read_bytes()
    return media_type, data, f'"{sha256_hex(data)}"'


_FILES: Final = {
    name: _read(name, media_type)
    for name, media_type in (
        ("console.css", "text/css"),
        ("console.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    )
}


def console_mount(control: Control) -> list[BaseRoute]:
    """The console below its path; nothing where it is switched off."""
    return [Mount(ROOT, routes=console_routes(control))] if control.config.console.enabled else []


def console_routes(control: Control) -> list[BaseRoute]:
    """All pages and forms. Permissions are those of the admin API's routes that show and do the same."""
    frame = Frame(control.console.sessions, control.console.clock, control.config.console.session_s)
    page, action = frame.page, frame.action
    get, post = ["GET"], ["POST"]
    signin = SignInViews(control, frame)
    overview = OverviewViews(control)
    releases = ReleaseViews(control)
    policy = PolicyViews(control)
    tasks = TaskViews(control)
    devices = DeviceViews(control)
    ingest = IngestViews(control)
    repositories = RepositoryViews(control)
    access = AccessViews(control)
    version = "/tasks/{scenario}/{task}/{version}"
    return [
        Route("/signin", signin.show, methods=get),
        Route("/signin", signin.submit, methods=post),
        Route("/signin/begin", signin.begin, methods=get),
        Route("/signin/back", signin.finish, methods=get),
        Route("/signout", signin.sign_out, methods=post),
        Route("/static/{name}", static_file, methods=get),
        Route("/live", LiveRoute(control.console, frame, control.telemetry.arrivals).watch, methods=get),
        Route("/", page("status:read", overview.show, anywhere), methods=get),
        Route("/releases", page("releases:read", releases.list, anywhere), methods=get),
        Route("/releases/new", page("releases:write", policy.edit, anywhere), methods=get),
        Route("/releases/new", action("releases:write", policy.submit, anywhere), methods=post),
        Route("/releases/{release_id}", page("releases:read", releases.show, releases.scenario), methods=get),
        *(
            Route(
                f"/releases/{{release_id}}/{name}",
                action("releases:write", releases.act(name), releases.scenario),
                methods=post,
            )
            for name in ACTIONS
        ),
        *(
            Route(
                f"/releases/{{release_id}}/{name}",
                action(permission, releases.decide(decision), releases.scenario),
                methods=post,
            )
            for name, permission, decision in DECISIONS
        ),
        Route("/tasks", page("tasks:read", tasks.list, anywhere), methods=get),
        Route("/tasks/{scenario}/{task}", page("tasks:read", tasks.show), methods=get),
        Route(version, page("tasks:read", tasks.version), methods=get),
        Route(f"{version}/simulate", action("tasks:write", tasks.simulate), methods=post),
        Route("/devices", page("devices:read", devices.list), methods=get),
        Route("/devices/{device_id}", page("devices:read", devices.show), methods=get),
        Route("/devices/{device_id}/revoke", action("devices:write", devices.revoke), methods=post),
        Route("/ingest", page("data:read", ingest.show), methods=get),
        Route("/repositories", page("tasks:read", repositories.list, anywhere), methods=get),
        Route("/repositories/{name}/sync", action("tasks:write", repositories.sync, anywhere), methods=post),
        Route("/access", page("status:read", access.show, anywhere), methods=get),
        Route("/access/tokens", action("tokens:write", access.create_token, anywhere), methods=post),
        Route(
            "/access/tokens/{token_id}/revoke",
            action("tokens:write", access.revoke_token, anywhere),
            methods=post,
        ),
        Route("/access/grant", action("people:write", access.grant), methods=post),
        Route("/access/withdraw", action("people:write", access.withdraw), methods=post),
        Route("/audit", page("audit:read", access.audit), methods=get),
        Route("/{path:path}", frame.no_page, methods=get),
    ]


async def static_file(request: Request) -> Response:
    """The style sheet, the script, the icon: the same for all, signed in or not."""
    name = request.path_params["name"]
    if name not in _FILES:
        raise NotFound(f"no file {name[:80]!r}")
    media_type, data, etag = _FILES[name]
    headers = static_headers() | {"ETag": etag}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(data, 200, headers, media_type=media_type)
