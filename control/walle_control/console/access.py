"""Who may what: people, roles, tokens; and who did what: the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from walle_control.console.frame import Page, Visit, go_to
from walle_control.features.people.types import NewToken, RoleGrant, TokenRequest
from walle_control.web.access import ALL_SCENARIOS, PERMISSIONS, ROLE_NAMES
from walle_shared.errors import ConfigError

if TYPE_CHECKING:
    from walle_control.app import Control

_AUDIT_PAGE: Final = 100
_DAY_S: Final = 86_400


class AccessViews:
    """Pages and forms about people, tokens and the audit log."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def show(self, visit: Visit) -> Page:
        """One's own rights and tokens; everybody's for who may see people."""
        return await self._page(visit)

    async def create_token(self, visit: Visit) -> Page:
        """The form that makes a token; the page that follows is the only one to show it."""
        form = visit.form
        scopes = tuple(form.text("scopes").replace(",", " ").split())
        wish = TokenRequest(
            form.text("note"),
            scopes,
            form.text("scenario"),
            form.number("days", 90.0) * _DAY_S,
            form.text("person"),
        )
        return await self._page(visit, await self._control.people.create_token(wish, visit.who))

    async def revoke_token(self, visit: Visit) -> Response:
        """The form that ends a token."""
        await self._control.people.revoke_token(visit.path("token_id"), visit.who)
        return go_to("/access", "revoked")

    async def grant(self, visit: Visit) -> Response:
        """The form that gives somebody a role."""
        await self._control.people.grant(visit.form.text("person"), _grant_of(visit), visit.who.name)
        return go_to("/access", "granted")

    async def withdraw(self, visit: Visit) -> Response:
        """The form that takes a role from somebody."""
        await self._control.people.withdraw(visit.form.text("person"), _grant_of(visit), visit.who.name)
        return go_to("/access", "withdrawn")

    async def audit(self, visit: Visit) -> Page:
        """Who changed what, the newest first."""
        page = await self._control.audit.newest(visit.place_in_list("before"), _AUDIT_PAGE)
        return Page("audit.html", {"entries": page.entries, "next": page.next})

    async def _page(self, visit: Visit, fresh: NewToken | None = None) -> Page:
        control, who = self._control, visit.who
        may_see = who.may("people:read", ALL_SCENARIOS)
        facts = {
            "allowed": control.people.myself(who).allowed,
            "tokens": (await control.people.tokens(who)).tokens if who.may_somewhere("tokens:write") else (),
            "people": (await control.people.people()).people if may_see else (),
            "may_grant": who.may("people:write", ALL_SCENARIOS),
            "roles": ROLE_NAMES,
            "permissions": PERMISSIONS,
            "fresh": fresh,
            "done": visit.query("done"),
        }
        return Page("access.html", facts)


def _grant_of(visit: Visit) -> RoleGrant:
    role = visit.form.text("role")
    if role not in ROLE_NAMES:
        raise ConfigError(f"role {role[:40]!r} is none: {', '.join(ROLE_NAMES)}")
    return RoleGrant(role, visit.form.text("scenario"))
