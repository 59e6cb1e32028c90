"""Signing in, by a token or at the provider of identities, and out.

The provider sends the browser back from another site. The cookie of the login under way is of the kind that
such a visit brings (``SameSite=Lax``); the session's is not, so that a page of our own leads on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from walle_control.console.frame import (
    COOKIE,
    ROOT,
    Frame,
    Page,
    check_same_site,
    check_word,
    go,
    is_encrypted,
    local_path,
    page_headers,
    read_form,
)
from walle_control.features.people.code_flow import Attempt, CodeFlow
from walle_control.web.problems import Unauthenticated, status_of
from walle_shared.errors import NotFound, WalleError

if TYPE_CHECKING:
    from walle_control.app import Control

LOGIN_COOKIE: Final = "walle_login"
_LOGIN_S: Final = 600
_BACK: Final = f"{ROOT}/signin/back"
_NEXT_MAX: Final = 1_000


class SignInViews:
    """The pages of who is not signed in yet."""

    def __init__(self, control: Control, frame: Frame) -> None:
        self._sessions = control.console.sessions
        self._flow = control.console.flow
        self._public_url = control.config.server.public_url.rstrip("/")
        self._frame = frame

    async def show(self, request: Request) -> Response:
        """Where people sign in."""
        return self._page(request)

    async def submit(self, request: Request) -> Response:
        """Begin a session by a token, and go on to where somebody wanted to go."""
        try:
            check_same_site(request)
            form = await read_form(request)
            session = await self._sessions.open(form.text("token"))
        except WalleError as error:
            return self._page(request, error)
        await self._close_old(request)
        return self._frame.with_cookie(request, go(local_path(form.text("next"))), session.secret)

    async def begin(self, request: Request) -> Response:
        """Send the browser to the provider of identities."""
        try:
            attempt = Attempt.new(self._site(request) + _BACK)
            where = await self._provider().begin(attempt)
        except WalleError as error:
            return self._page(request, error)
        response = RedirectResponse(where, 303, page_headers())
        wanted = quote(_next(request)[:_NEXT_MAX], safe="")
        response.set_cookie(
            LOGIN_COOKIE, f"{attempt.secret}.{wanted}", max_age=_LOGIN_S, path=_BACK,
            secure=is_encrypted(request), httponly=True, samesite="lax",
        )  # fmt: skip
        return response

    async def finish(self, request: Request) -> Response:
        """Take the provider's answer, once."""
        secret, _, wanted = request.cookies.get(LOGIN_COOKIE, "").partition(".")
        try:
            if not secret:
                raise Unauthenticated(
                    "this login was not begun in this browser, or too long ago: begin again"
                )
            attempt = Attempt(secret, self._site(request) + _BACK)
            login = await self._provider().finish(attempt, request.query_params)
            session = await self._sessions.open_login(login)
        except WalleError as error:
            return self._without_login(self._page(request, error))
        await self._close_old(request)
        page = Page("signed_in.html", {"next": local_path(unquote(wanted))})
        response = self._frame.with_cookie(request, self._frame.render(request, page), session.secret)
        return self._without_login(response)

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        try:
            check_same_site(request)
            session = await self._frame.session_of(request, active=False)
            check_word(await read_form(request), session)
        except Unauthenticated:
            return go("/signin")  # it had ended already
        except WalleError as error:
            return self._frame.problem(request, error, None)
        await self._sessions.close(request.cookies[COOKIE])
        response = go("/signin")
        response.delete_cookie(COOKIE, path=ROOT, httponly=True, samesite="strict")
        return response

    def _page(self, request: Request, error: WalleError | None = None) -> Response:
        wanted = _next(request)
        facts: dict[str, Any] = {"next": wanted, "provider": "", "begin": ""}
        if self._flow is not None:
            # On the site that the provider sends people back to: cookies are of one site.
            facts["provider"] = urlsplit(self._flow.issuer).netloc
            facts["begin"] = f"{self._public_url}{ROOT}/signin/begin?next={quote(wanted, safe='/')}"
        if error is not None:
            facts["problem"] = error.message
        return self._frame.render(request, Page("signin.html", facts, status_of(error) if error else 200))

    def _provider(self) -> CodeFlow:
        if self._flow is None:
            raise NotFound("no provider of identities is set ([oidc] in control.toml): use a token")
        return self._flow

    def _site(self, request: Request) -> str:
        scheme = "https" if is_encrypted(request) else "http"
        return self._public_url or f"{scheme}://{request.url.netloc}"

    async def _close_old(self, request: Request) -> None:
        old = request.cookies.get(COOKIE)
        if old:
            await self._sessions.close(old)

    def _without_login(self, response: Response) -> Response:
        response.delete_cookie(LOGIN_COOKIE, path=_BACK, httponly=True, samesite="lax")
        return response


def _next(request: Request) -> str:
    return local_path(request.query_params.get("next", ""))
