"""People, their roles and their tokens.

Tokens are random, shown once and kept as hashes. What a token may do is worked out whenever it is presented,
so that a role that is taken away is gone from every token at once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.audit import log as audit
from walle_control.features.people import store
from walle_control.features.people.names import check_person
from walle_control.features.people.oidc import Provider
from walle_control.features.people.types import (
    Allowed,
    LoginWays,
    Myself,
    NewToken,
    Person,
    PersonList,
    RoleGrant,
    Token,
    TokenList,
    TokenRequest,
)
from walle_control.web.access import (
    ALL_SCENARIOS,
    Grants,
    Principal,
    Role,
    grants_of,
    permissions_of,
    place_words,
)
from walle_control.web.problems import Unauthenticated
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError, Conflict, NotAllowed, NotFound
from walle_shared.ids import check_name
from walle_shared.units import DAY_S

_PREFIX = "wtok_"
_VALID_MAX_S = 3660 * DAY_S
_NOTE_MAX = 200
_SCOPES_MAX = 32
#: When a token was used is written at most this often.
_USED_EVERY_MS = 60_000

#: The id of the token that ``init`` makes.
FIRST_TOKEN = "first"


def new_token() -> str:
    """A fresh token with 256 bits of randomness."""
    return _PREFIX + secrets.token_hex(32)


def hash_token(token: str) -> str:
    """What is stored of a token. Its randomness makes one plain SHA-256 enough."""
    return hashlib.sha256(token.encode()).hexdigest()


class PeopleService:
    """Knows who may operate."""

    def __init__(self, database: Database, clock: Clock, provider: Provider | None = None) -> None:
        self._database = database
        self._clock = clock
        self._provider = provider
        self._used_ms: dict[str, int] = {}

    def remember_sync(self, name: str, secret: str) -> None:
        """Make ``name`` an admin and ``secret`` the first token, in place of an older first one. Blocks."""
        now_ms = self._clock.wall_ms()
        token = Token(FIRST_TOKEN, name, "made by init", (), ALL_SCENARIOS, now_ms, 0, 0)

        def job(db: Connection) -> None:
            store.ensure_person(db, name, now_ms)
            store.add_role(db, name, RoleGrant("admin"))
            store.delete_token(db, FIRST_TOKEN)
            store.insert_token(db, token, hash_token(secret))

        self._database.write_sync(job)

    async def authenticate(self, secret: str) -> Principal:
        """Who presents this token: one of ours, or one of the provider of identities.

        Raises:
            Unauthenticated: it is unknown, revoked or expired.
            TransportError: the provider's keys cannot be fetched.
        """
        if self._provider is not None and secret.count(".") == 2:  # ours have no dots
            identity = await self._provider.identify(secret)
            held = await self._database.read(lambda db: store.roles_of(db, identity.name))
            roles = [*identity.roles, *pairs(held)]
            return Principal(identity.name, grants_of(roles), "oidc")
        now_ms = self._clock.wall_ms()
        token, principal = await self._database.read(lambda db: present(db, hash_token(secret), now_ms))
        if now_ms - self._used_ms.get(token.id, token.used_ms) >= _USED_EVERY_MS:
            self._used_ms[token.id] = now_ms
            self._database.submit(lambda db: store.touch_token(db, token.id, now_ms))
        return principal

    async def login_ways(self) -> LoginWays:
        """How to log in at the provider of identities.

        Raises:
            NotFound: there is none.
            TransportError: it is away.
        """
        if self._provider is None:
            raise NotFound("no provider of identities is set ([oidc] in control.toml): use a token")
        return await self._provider.login_ways()

    def myself(self, principal: Principal) -> Myself:
        """What a principal may do."""
        allowed = (Allowed(place, tuple(sorted(may))) for place, may in sorted(principal.grants.items()))
        return Myself(principal.name, principal.credential, tuple(allowed))

    async def people(self) -> PersonList:
        """Everybody."""
        return PersonList(tuple(await self._database.read(store.people)))

    async def grant(self, name: str, grant: RoleGrant, actor: str) -> Person:
        """Give a person a role; who was unknown is known from then on.

        Raises:
            ConfigError: a name is none.
        """
        check_person(name)
        _check_scenario(grant.scenario)

        def job(db: Connection) -> None:
            now_ms = self._clock.wall_ms()
            store.ensure_person(db, name, now_ms)
            store.add_role(db, name, grant)
            audit.record(db, now_ms, actor, "person.grant", name, _said(grant))

        await self._database.write(job)
        return await self._person(name)

    async def withdraw(self, name: str, grant: RoleGrant, actor: str) -> Person:
        """Take a role from a person, and with it from all their tokens.

        Raises:
            NotFound: they do not hold it.
            Conflict: nobody would be left who can grant roles.
        """

        def job(db: Connection) -> None:
            if not store.remove_role(db, name, grant):
                raise NotFound(
                    f"{name[:128]!r} has no role {grant.role} {place_words(grant.scenario)};"
                    " see 'walle-control person list'"
                )
            if store.admins_everywhere(db) == 0:
                raise Conflict(f"{name} is the last admin of all scenarios: make somebody else one first")
            audit.record(db, self._clock.wall_ms(), actor, "person.withdraw", name, _said(grant))

        await self._database.write(job)
        return await self._person(name)

    async def create_token(self, wish: TokenRequest, asker: Principal) -> NewToken:
        """Make a token; it never may more than whoever asks, whatever its person may.

        Raises:
            ConfigError: a scope, the scenario or the validity is wrong.
            NotAllowed: it is for another person, and the asker does not manage people; or it would outdo
                the asker's own credential.
            NotFound: no such person.
        """
        _check_scenario(wish.scenario)
        permissions_of(wish.scopes)
        if len(wish.scopes) > _SCOPES_MAX:
            raise ConfigError(f"{len(wish.scopes)} scopes are over the limit of {_SCOPES_MAX}")
        if not 0 <= wish.valid_s <= _VALID_MAX_S:
            raise ConfigError(f"valid_s must be within 0..{_VALID_MAX_S:.0f}; 0: until revoked")
        person = wish.person or asker.name
        if person != asker.name:
            asker.require("people:write", ALL_SCENARIOS)
        secret, now_ms = new_token(), self._clock.wall_ms()
        token = Token(
            "t" + secrets.token_hex(6),
            person,
            wish.note[:_NOTE_MAX],
            tuple(dict.fromkeys(wish.scopes)),
            wish.scenario,
            now_ms,
            now_ms + round(wish.valid_s * 1000) if wish.valid_s else 0,
            0,
        )

        def job(db: Connection) -> None:
            _refuse_more(db, token, asker)
            store.insert_token(db, token, hash_token(secret))
            detail = {
                "person": person,
                "scopes": token.scopes,
                "scenario": token.scenario,
                "expires_ms": token.expires_ms,
                "note": token.note,
            }
            audit.record(db, now_ms, asker.name, "token.create", token.id, detail)

        await self._database.write(job)
        return NewToken(secret, token)

    async def tokens(self, asker: Principal) -> TokenList:
        """The asker's own tokens; everybody's for who may see people."""
        everybody = asker.may("people:read", ALL_SCENARIOS)
        found = await self._database.read(store.tokens)
        return TokenList(tuple(token for token in found if everybody or token.person == asker.name))

    async def revoke_token(self, token_id: str, asker: Principal) -> Token:
        """End a token at once.

        Raises:
            NotFound: no such token of the asker's, or no such token for who manages people.
        """

        def job(db: Connection) -> Token:
            token = store.find_token(db, token_id)
            mine = token is not None and token.person == asker.name
            if token is None or not (mine or asker.may("people:write", ALL_SCENARIOS)):
                raise NotFound(f"no token {token_id[:40]!r} of yours; see 'walle-control token list'")
            store.delete_token(db, token_id)
            detail = {"person": token.person}
            audit.record(db, self._clock.wall_ms(), asker.name, "token.revoke", token_id, detail)
            return token

        return await self._database.write(job)

    async def _person(self, name: str) -> Person:
        person = await self._database.read(lambda db: store.find_person(db, name))
        if person is None:
            raise NotFound(f"nobody is called {name[:128]!r}; see 'walle-control person list'")
        return person


def present(db: Connection, token_hash: str, now_ms: int) -> tuple[Token, Principal]:
    """The token with this hash, and whom it stands for now.

    Raises:
        Unauthenticated: it is unknown, revoked or expired.
    """
    token = store.token_by_hash(db, token_hash)
    if token is None:
        raise Unauthenticated(
            "this token is not known here, or was revoked: the first one is admin.token in the data folder,"
            " 'walle-control token create' makes others"
        )
    if token.expires_ms and token.expires_ms <= now_ms:
        raise Unauthenticated(f"token {token.id} has expired: make a new one", code="token_expired")
    return token, Principal(token.person, _grants(db, token), token.id)


def _grants(db: Connection, token: Token) -> Grants:
    return grants_of(pairs(store.roles_of(db, token.person)), token.scopes, token.scenario)


def _refuse_more(db: Connection, token: Token, asker: Principal) -> None:
    """A token made by a token may not do more than that one: narrow tokens would widen themselves."""
    if store.find_person(db, token.person) is None:
        raise NotFound(
            f"nobody is called {token.person[:128]!r}: give them a role first, by 'walle-control person"
            " grant'"
        )
    for place, permissions in _grants(db, token).items():
        for permission in sorted(permissions):
            if not asker.may(permission, place):
                raise NotAllowed(
                    f"the token would hold {permission} {place_words(place)}, which the credential that asks"
                    " for it does not: name narrower scopes or a scenario"
                )


def pairs(grants: Iterable[RoleGrant]) -> list[tuple[str, Role]]:
    """Roles as (scenario, role)."""
    return [(grant.scenario, grant.role) for grant in grants]


def _check_scenario(scenario: str) -> None:
    if scenario:
        check_name(scenario, "scenario")


def _said(grant: RoleGrant) -> dict[str, str]:
    return {"role": grant.role, "scenario": grant.scenario}
