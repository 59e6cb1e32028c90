"""What every page has in common: who may see it, where forms may come from, its headers, its dress.

1. A page belongs to a session (``features/people/sessions``), and asks for the permission that the admin API
   asks for; it sees the scenarios that its session may see.
2. A post counts only if the browser says that it comes from this site, and it carries its session's word.
3. Nothing on a page is fetched from elsewhere, and no script or style is written into it: the content policy
   forbids both, whatever a task or a device is called. Templates escape all they are given.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from walle_control.console import charts, words
from walle_control.features.people.sessions import Session, SessionsService
from walle_control.web.access import ALL_SCENARIOS, Permission, Principal
from walle_control.web.auth import Door, Endpoint, Place, admit, anywhere, by_path, set_door
from walle_control.web.problems import Unauthenticated, status_of
from walle_control.web.requests import read_body
from walle_shared.clock import Clock
from walle_shared.errors import NotAllowed, NotFound, RemoteProtocolError, TransportError, WalleError

ROOT: Final = "/console"
COOKIE: Final = "walle_console"
#: The header of a page that looks again by itself.
REFRESH: Final = "x-console-refresh"
_FORM_MAX_BYTES: Final = 64 * 1024
_FIELDS_MAX: Final = 64
_NUMBER_MAX: Final = 1e12

_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
}


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, as texts."""

    fields: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """A field without the space around it; ``default`` if it is not there or empty."""
        return self.fields.get(name, "").strip() or default

    def number(self, name: str, default: float) -> float:
        """A field as a number.

        Raises:
            RemoteProtocolError: it is none; names it.
        """
        text = self.text(name)
        try:
            number = float(text) if text else default
        except ValueError:
            number = math.nan
        if not abs(number) <= _NUMBER_MAX:
            raise RemoteProtocolError(f"{name.replace('_', ' ')}: {text[:40]!r} is no number of use")
        return number


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is signed in."""

    request: Request
    session: Session
    form: Form

    @property
    def who(self) -> Principal:
        """Who is signed in."""
        return self.session.principal

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "") -> str:
        """A parameter of the query, without the space around it."""
        return self.request.query_params.get(name, default).strip()

    def place_in_list(self, name: str) -> int:
        """A parameter that says where a page of a list begins; 0 if it says nothing of use."""
        text = self.query(name)
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


@dataclass(frozen=True, slots=True)
class Page:
    """A template and what it shows."""

    template: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


#: What shows a page, or does something and says where to go on.
View = Callable[[Visit], Awaitable[Page | Response]]


@dataclass(frozen=True, slots=True)
class NavItem:
    """A link of the navigation, for whoever has the permission (in all scenarios, if ``everywhere``)."""

    name: str
    path: str
    permission: Permission
    everywhere: bool = False

    def is_for(self, who: Principal) -> bool:
        """Whether somebody may follow it."""
        return (
            who.may(self.permission, ALL_SCENARIOS) if self.everywhere else who.may_somewhere(self.permission)
        )


NAVIGATION: Final = (
    NavItem("Overview", "/", "status:read"),
    NavItem("Releases", "/releases", "releases:read"),
    NavItem("Tasks", "/tasks", "tasks:read"),
    NavItem("Devices", "/devices", "devices:read", everywhere=True),
    NavItem("Ingest", "/ingest", "data:read", everywhere=True),
    NavItem("Repositories", "/repositories", "tasks:read"),
    NavItem("Access", "/access", "status:read"),
    NavItem("Audit", "/audit", "audit:read", everywhere=True),
)


class Frame:
    """Turns views into endpoints."""

    def __init__(self, sessions: SessionsService, clock: Clock, session_s: float) -> None:
        self._sessions = sessions
        self._clock = clock
        self._session_s = session_s
        self._templates = Environment(
            loader=PackageLoader("walle_control.console"),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        shown: dict[str, Any] = {"root": ROOT, "navigation": NAVIGATION, "words": words, **charts.CHARTS}
        self._templates.globals.update(shown)
        self._templates.filters.update(words.FILTERS)

    def page(self, permission: Permission, view: View, place: Place = by_path) -> Endpoint:
        """The endpoint of a page."""
        return self._door(Door(permission, place), partial(self._show, Door(permission, place), view))

    def action(self, permission: Permission, view: View, place: Place = by_path) -> Endpoint:
        """The endpoint of a form."""
        return self._door(Door(permission, place), partial(self._act, Door(permission, place), view))

    def _door(self, door: Door, endpoint: Endpoint) -> Endpoint:
        async def checked(request: Request) -> Response:
            return await endpoint(request)

        return set_door(checked, door)

    async def no_page(self, request: Request) -> Response:
        """Answer a path that has none."""
        session = None
        try:
            session = await self.session_of(request, active=False)
        except Unauthenticated as error:
            return self._to_sign_in(request, error)
        return self.problem(request, NotFound(f"there is no page {request.url.path[:200]!r}"), session)

    async def may_watch(self, request: Request) -> bool:
        """Whether a session goes on, as far as can be told; asked while it watches."""
        try:
            await self.session_of(request, active=False)
        except (Unauthenticated, TransportError):
            return False
        return True

    async def _show(self, door: Door, view: View, request: Request) -> Response:
        session: Session | None = None
        try:
            session = await self.session_of(request, active=REFRESH not in request.headers)
            await admit(request, session.principal, door)
            answer = await view(Visit(request, session, Form()))
        except Unauthenticated as error:
            return self._to_sign_in(request, error)
        except WalleError as error:
            return self._finish(request, self.problem(request, error, session), session)
        return self._finish(request, self._answer(request, answer, session), session)

    async def _act(self, door: Door, view: View, request: Request) -> Response:
        session: Session | None = None
        try:
            check_same_site(request)
            session = await self.session_of(request)
            await admit(request, session.principal, door)
            form = await read_form(request)
            check_word(form, session)
            answer = await view(Visit(request, session, form))
        except WalleError as error:
            return self._finish(request, self.problem(request, error, session), session)
        return self._finish(request, self._answer(request, answer, session), session)

    async def session_of(self, request: Request, *, active: bool = True) -> Session:
        """The session of a request.

        Raises:
            Unauthenticated: there is none.
            TransportError: whether it goes on, only the provider of identities knows, and it is away.
        """
        secret = request.cookies.get(COOKIE)
        if not secret:
            raise Unauthenticated("sign in first")
        return await self._sessions.find(secret, active=active)

    def _answer(self, request: Request, answer: Page | Response, session: Session) -> Response:
        return self.render(request, answer, session) if isinstance(answer, Page) else answer

    def _finish(self, request: Request, response: Response, session: Session | None) -> Response:
        if session is not None and session.secret:
            return self.with_cookie(request, response, session.secret)
        return response

    def _to_sign_in(self, request: Request, error: Unauthenticated) -> Response:
        if request.headers.get("accept", "").startswith("text/event-stream"):
            return Response(status_code=status_of(error), headers=page_headers())
        wanted = request.url.path.removeprefix(ROOT) + (f"?{request.url.query}" if request.url.query else "")
        return go("/signin" + (f"?next={quote(wanted, safe='/')}" if wanted not in ("", "/") else ""))

    def problem(self, request: Request, error: WalleError, session: Session | None) -> Response:
        """The page that says what went wrong."""
        status = status_of(error)
        facts = {"status": status, "title": words.problem_title(status), "problem": error.message}
        return self.render(request, Page("problem.html", facts, status), session)

    def render(self, request: Request, page: Page, session: Session | None = None) -> Response:
        """A page as it is sent."""
        principal = session.principal if session else None
        text = self._templates.get_template(page.template).render(
            {
                "here": request.url.path.removeprefix(ROOT) or "/",
                "who": principal,
                "csrf": session.csrf if session else "",
                "now_ms": self._clock.wall_ms(),
                "live": False,
                "live_of": "",
                **page.facts,
            }
        )
        return Response(text, page.status, page_headers(), media_type="text/html")

    def with_cookie(self, request: Request, response: Response, secret: str) -> Response:
        """An answer that brings a session's cookie."""
        response.set_cookie(
            COOKIE,
            secret,
            max_age=round(self._session_s),
            path=ROOT,
            secure=is_encrypted(request),
            httponly=True,
            samesite="strict",
        )
        return response


async def read_form(request: Request) -> Form:
    """Read the fields of a form.

    Raises:
        RemoteProtocolError: it is not the kind of form that the console's pages send.
        LimitExceeded: it is too long.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RemoteProtocolError("a form must be sent as application/x-www-form-urlencoded")
    body = await read_body(request, _FORM_MAX_BYTES)
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX
        )
    except ValueError as error:
        raise RemoteProtocolError(f"the form cannot be read: {error}") from None
    return Form(dict(pairs))


def check_same_site(request: Request) -> None:
    """Refuse a post that another site's page sent.

    Raises:
        NotAllowed: the browser says that it comes from elsewhere.
    """
    # Browsers send the first over TLS and to this machine; elsewhere the second must do. Neither: no browser,
    # and nobody's cookie but the sender's own.
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
    if not is_ours:
        raise NotAllowed(
            "this form was sent by another site's page, and does nothing: use the console's own",
            code="cross_site",
        )


def check_word(form: Form, session: Session) -> None:
    """Refuse a form that is not of a page of this session.

    Raises:
        NotAllowed: it does not carry the session's word.
    """
    if not hmac.compare_digest(form.fields.get("csrf", "").encode(), session.csrf.encode()):
        raise NotAllowed("this form is of an older session: load the page again", code="csrf")


def go_to(path: str, done: str = "") -> Response:
    """Go on to a page after a form has done its work; ``done`` says what (``words.DONE``)."""
    return go(path + (f"?done={done}" if done else ""))


def go(path: str) -> Response:
    """Go on to a page."""
    return RedirectResponse(ROOT + path, 303, page_headers())


def page_headers() -> dict[str, str]:
    """The headers of a page."""
    return {**_HEADERS, "Cache-Control": "no-store"}


def static_headers() -> dict[str, str]:
    """The headers of a style sheet or script: revalidated each time, since its name stays."""
    return {**_HEADERS, "Cache-Control": "no-cache"}


def is_encrypted(request: Request) -> bool:
    """Whether the browser speaks TLS, to this server or to the proxy before it."""
    proxied = request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    return request.url.scheme == "https" or proxied == "https"


def local_path(path: str) -> str:
    """A path below the console, whatever was asked for: nobody is sent elsewhere."""
    parts = urlsplit(path)
    if parts.scheme or parts.netloc or not path.startswith("/") or path.startswith(("//", "/\\")):
        return "/"
    return path if path.isprintable() and "\\" not in path else "/"


__all__ = [
    "COOKIE",
    "NAVIGATION",
    "ROOT",
    "Form",
    "Frame",
    "Page",
    "View",
    "Visit",
    "anywhere",
    "check_same_site",
    "check_word",
    "go",
    "go_to",
    "is_encrypted",
    "local_path",
    "page_headers",
    "read_form",
    "static_headers",
]
