"""Who may do what: permissions, the roles that hold them, and whoever presents a credential.

A person holds roles, each in one scenario or in all. A token carries its person's rights, or fewer: those of
its scopes, in its scenario. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from walle_shared.errors import ConfigError, NotAllowed

Permission = Literal[
    "status:read",
    "metrics:read",
    "tasks:read",
    "tasks:write",
    "releases:read",
    "releases:write",
    "releases:approve",
    "releases:break_glass",
    "scenarios:write",
    "devices:read",
    "devices:write",
    "learning:read",
    "learning:write",
    "data:read",
    "audit:read",
    "webhooks:read",
    "webhooks:write",
    "people:read",
    "people:write",
    "tokens:write",
]
PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)

Role = Literal["viewer", "author", "operator", "approver", "admin"]
ROLE_NAMES: Final[tuple[Role, ...]] = get_args(Role)

#: The scenario that stands for all of them.
ALL_SCENARIOS: Final = ""


def _permissions(*names: Permission) -> frozenset[Permission]:
    return frozenset(names)


_VIEWER: Final = _permissions(
    "status:read",
    "metrics:read",
    "tasks:read",
    "releases:read",
    "devices:read",
    "learning:read",
    "tokens:write",
)
#: What each role may. Features and the audit log tell about people, so that watching alone opens neither.
ROLES: Final[Mapping[Role, frozenset[Permission]]] = {
    "viewer": _VIEWER,
    "author": _VIEWER | _permissions("tasks:write", "data:read"),
    "operator": _VIEWER
    | _permissions(
        "releases:write", "devices:write", "learning:write", "data:read", "webhooks:read", "webhooks:write"
    ),
    "approver": _VIEWER | _permissions("releases:approve", "audit:read"),
    "admin": frozenset(PERMISSIONS),
}

Grants = Mapping[str, frozenset[Permission]]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: a person's ``name``, and what this credential lets them do in each scenario."""

    name: str
    grants: Grants
    credential: str = ""

    def may(self, permission: Permission, scenario: str) -> bool:
        """Whether it is allowed in a scenario; ``ALL_SCENARIOS`` asks for all of them at once."""
        return permission in self.grants.get(ALL_SCENARIOS, ()) or permission in self.grants.get(scenario, ())

    def may_somewhere(self, permission: Permission) -> bool:
        """Whether it is allowed in any scenario."""
        return any(permission in allowed for allowed in self.grants.values())

    def require(self, permission: Permission, scenario: str) -> None:
        """Refuse what is not allowed in a scenario.

        Raises:
            NotAllowed: says which roles would do.
        """
        if not self.may(permission, scenario):
            raise _refusal(self.name, permission, place_words(scenario))

    def require_somewhere(self, permission: Permission) -> None:
        """Refuse what is not allowed in any scenario.

        Raises:
            NotAllowed: says which roles would do.
        """
        if not self.may_somewhere(permission):
            raise _refusal(self.name, permission, "anywhere")


def grants_of(roles: Iterable[tuple[str, Role]], scopes: Iterable[str] = (), scenario: str = "") -> Grants:
    """What (scenario, role) pairs allow, cut down to scopes and to a scenario where these are given."""
    wanted = permissions_of(scopes)
    held: dict[str, frozenset[Permission]] = {}
    for place, role in roles:
        if scenario and place not in (ALL_SCENARIOS, scenario):
            continue
        place = scenario or place
        held[place] = held.get(place, frozenset()) | (ROLES[role] & wanted)
    return held


def permissions_of(scopes: Iterable[str]) -> frozenset[Permission]:
    """The permissions that scopes name, each a permission or a role; no scopes stand for all.

    Raises:
        ConfigError: a scope is neither.
    """
    scopes = tuple(scopes)
    if not scopes:
        return frozenset(PERMISSIONS)
    return frozenset().union(*(_scope(scope) for scope in scopes))


def place_words(scenario: str) -> str:
    """Where a right is held, in words."""
    return f"in scenario {scenario}" if scenario else "in all scenarios"


def _scope(scope: str) -> frozenset[Permission]:
    for role in ROLE_NAMES:
        if scope == role:
            return ROLES[role]
    for permission in PERMISSIONS:
        if scope == permission:
            return frozenset({permission})
    raise ConfigError(
        f"scope {scope[:40]!r} must be a permission ({', '.join(PERMISSIONS)})"
        f" or a role ({', '.join(ROLE_NAMES)})"
    )


def _refusal(name: str, permission: Permission, where: str) -> NotAllowed:
    roles = " or ".join(role for role in ROLE_NAMES if permission in ROLES[role])
    return NotAllowed(
        f"{name} may not do this {where}: it takes {permission}, which role {roles} has;"
        " an admin grants roles, and a token's scopes may hold less than its person's roles"
    )
