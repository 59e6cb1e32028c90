"""Types of the people feature."""

from __future__ import annotations

from dataclasses import dataclass

from walle_control.web.access import Permission, Role


@dataclass(frozen=True, slots=True)
class RoleGrant:
    """A role in one scenario; an empty scenario stands for all."""

    role: Role
    scenario: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, or some machine, that operates."""

    name: str
    roles: tuple[RoleGrant, ...]
    created_ms: int


@dataclass(frozen=True, slots=True)
class PersonList:
    """Everybody."""

    people: tuple[Person, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is listed; itself it is not stored. ``expires_ms`` 0: never; ``used_ms`` 0: not yet."""

    id: str
    person: str
    note: str
    scopes: tuple[str, ...]
    scenario: str
    created_ms: int
    expires_ms: int
    used_ms: int


@dataclass(frozen=True, slots=True)
class TokenList:
    """Tokens, oldest first."""

    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A wish for a token that may do what its person may, at the most ``scopes`` in ``scenario``.

    ``scopes`` are permissions or roles, none: all; ``person`` is whose token, empty: the asker's own;
    ``valid_s`` 0: until revoked.
    """

    note: str = ""
    scopes: tuple[str, ...] = ()
    scenario: str = ""
    valid_s: float = 90 * 86_400.0
    person: str = ""


@dataclass(frozen=True, slots=True)
class NewToken:
    """The token, shown this once."""

    secret: str
    token: Token


@dataclass(frozen=True, slots=True)
class LoginWays:
    """What a program needs to log somebody in at the provider of identities; empty: not offered there."""

    issuer: str
    client_id: str
    device_authorization_endpoint: str
    token_endpoint: str
    scope: str
    revocation_endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be done in a scenario; an empty one stands for all."""

    scenario: str
    permissions: tuple[Permission, ...]


@dataclass(frozen=True, slots=True)
class Myself:
    """Who the presented credential stands for, and what it may do."""

    name: str
    credential: str
    allowed: tuple[Allowed, ...]
