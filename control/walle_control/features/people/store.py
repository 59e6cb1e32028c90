"""Rows of the people feature."""

from __future__ import annotations

from typing import cast

import orjson

from walle_control.db.sql import Connection, Row
from walle_control.features.people.types import Person, RoleGrant, Token
from walle_control.web.access import Role


def ensure_person(db: Connection, name: str, now_ms: int) -> None:
    """Remember a person, unless known."""
    db.execute(
        "INSERT INTO person (name, created_ms) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name, now_ms)
    )


def people(db: Connection) -> list[Person]:
    """Everybody by name."""
    rows = db.execute("SELECT name, created_ms FROM person ORDER BY name").fetchall()
    return [Person(row["name"], roles_of(db, row["name"]), row["created_ms"]) for row in rows]


def find_person(db: Connection, name: str) -> Person | None:
    """One person."""
    row = db.execute("SELECT name, created_ms FROM person WHERE name = ?", (name,)).fetchone()
    return Person(name, roles_of(db, name), row["created_ms"]) if row else None


def roles_of(db: Connection, name: str) -> tuple[RoleGrant, ...]:
    """The roles of a person."""
    rows = db.execute(
        "SELECT role, scenario FROM person_role WHERE person = ? ORDER BY scenario, role", (name,)
    )
    return tuple(RoleGrant(cast(Role, row["role"]), row["scenario"]) for row in rows)


def add_role(db: Connection, name: str, grant: RoleGrant) -> bool:
    """Give a role; whether it is new."""
    added = db.execute(
        "INSERT INTO person_role (person, scenario, role) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (name, grant.scenario, grant.role),
    )
    return added.rowcount > 0


def remove_role(db: Connection, name: str, grant: RoleGrant) -> bool:
    """Take a role; whether it was held."""
    removed = db.execute(
        "DELETE FROM person_role WHERE person = ? AND scenario = ? AND role = ?",
        (name, grant.scenario, grant.role),
    )
    return removed.rowcount > 0


def admins_everywhere(db: Connection) -> int:
    """How many are admin in all scenarios."""
    count: int = db.execute(
        "SELECT count(*) FROM person_role WHERE role = 'admin' AND scenario = ''"
    ).fetchone()[0]
    return count


def insert_token(db: Connection, token: Token, token_hash: str) -> None:
    """Remember a token by its hash."""
    db.execute(
        "INSERT INTO access_token (id, person, hash, note, scopes, scenario, created_ms, expires_ms, used_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (token.id, token.person, token_hash, token.note, orjson.dumps(token.scopes).decode(), token.scenario,
         token.created_ms, token.expires_ms, token.used_ms),
    )  # fmt: skip


def delete_token(db: Connection, token_id: str) -> None:
    """Forget a token."""
    db.execute("DELETE FROM access_token WHERE id = ?", (token_id,))


def touch_token(db: Connection, token_id: str, now_ms: int) -> None:
    """Note that a token was used."""
    db.execute("UPDATE access_token SET used_ms = ? WHERE id = ?", (now_ms, token_id))


def token_by_hash(db: Connection, token_hash: str) -> Token | None:
    """The token with this hash: found by an index, for nobody can aim at a hash of 256 random bits."""
    row = db.execute("SELECT * FROM access_token WHERE hash = ?", (token_hash,)).fetchone()
    return _token(row) if row else None


def find_token(db: Connection, token_id: str) -> Token | None:
    """One token."""
    row = db.execute("SELECT * FROM access_token WHERE id = ?", (token_id,)).fetchone()
    return _token(row) if row else None


def tokens(db: Connection) -> list[Token]:
    """All tokens, oldest first."""
    return [_token(row) for row in db.execute("SELECT * FROM access_token ORDER BY created_ms, id")]


def _token(row: Row) -> Token:
    scopes = tuple(orjson.loads(row["scopes"]))
    return Token(
        row["id"],
        row["person"],
        row["note"],
        scopes,
        row["scenario"],
        row["created_ms"],
        row["expires_ms"],
        row["used_ms"],
    )


def insert_session(db: Connection, session_hash: str, token_hash: str, csrf: str, now_ms: int) -> None:
    """Remember a session of the console by the hash of its secret."""
    db.execute(
        "INSERT INTO console_session (hash, replaced_hash, token_hash, csrf, created_ms, seen_ms, rotated_ms)"
        " VALUES (?, '', ?, ?, ?, ?, ?)",
        (session_hash, token_hash, csrf, now_ms, now_ms, now_ms),
    )


def insert_login(
    db: Connection,
    session_hash: str,
    csrf: str,
    now_ms: int,
    person: str,
    roles: str,
    expires_ms: int,
    sealed: str,
) -> None:
    """Remember a session that began at the provider of identities, likewise."""
    db.execute(
        "INSERT INTO console_session (hash, replaced_hash, token_hash, csrf, created_ms, seen_ms, rotated_ms,"
        " person, roles, expires_ms, sealed) VALUES (?, '', '', ?, ?, ?, ?, ?, ?, ?, ?)",
        (session_hash, csrf, now_ms, now_ms, now_ms, person, roles, expires_ms, sealed),
    )  # fmt: skip


def claim_renewal(db: Connection, session_hash: str, now_ms: int, lapsed_ms: int) -> bool:
    """Begin to renew a login, unless that was begun after ``lapsed_ms``; whether it may be done now."""
    changed = db.execute(
        "UPDATE console_session SET renewing_ms = ?"
        " WHERE (hash = ? OR replaced_hash = ?) AND renewing_ms <= ?",
        (now_ms, session_hash, session_hash, lapsed_ms),
    )
    return changed.rowcount == 1


def end_renewal(db: Connection, session_hash: str) -> None:
    """Let the next one try to renew a login."""
    db.execute(
        "UPDATE console_session SET renewing_ms = 0 WHERE hash = ? OR replaced_hash = ?",
        (session_hash, session_hash),
    )


def renew_login(db: Connection, session_hash: str, roles: str, expires_ms: int, sealed: str) -> None:
    """Note that a login goes on."""
    db.execute(
        "UPDATE console_session SET roles = ?, expires_ms = ?, sealed = ?, renewing_ms = 0"
        " WHERE hash = ? OR replaced_hash = ?",
        (roles, expires_ms, sealed, session_hash, session_hash),
    )


def find_session(db: Connection, session_hash: str) -> Row | None:
    """The session whose secret, or the one before it, has this hash."""
    row: Row | None = db.execute(
        "SELECT * FROM console_session WHERE hash = ? OR replaced_hash = ?", (session_hash, session_hash)
    ).fetchone()
    return row


def touch_session(db: Connection, session_hash: str, now_ms: int) -> None:
    """Note that a session was used."""
    db.execute(
        "UPDATE console_session SET seen_ms = ? WHERE hash = ? OR replaced_hash = ?",
        (now_ms, session_hash, session_hash),
    )


def rotate_session(db: Connection, session_hash: str, fresh_hash: str, now_ms: int) -> bool:
    """Give a session another secret; whether it still had that one."""
    changed = db.execute(
        "UPDATE console_session SET hash = ?, replaced_hash = ?, rotated_ms = ? WHERE hash = ?",
        (fresh_hash, session_hash, now_ms, session_hash),
    )
    return changed.rowcount == 1


def delete_session(db: Connection, session_hash: str) -> None:
    """Forget a session."""
    db.execute(
        "DELETE FROM console_session WHERE hash = ? OR replaced_hash = ?", (session_hash, session_hash)
    )


def delete_sessions(db: Connection, created_before_ms: int, seen_before_ms: int) -> None:
    """Forget the sessions that are over."""
    db.execute(
        "DELETE FROM console_session WHERE created_ms <= ? OR seen_ms <= ?",
        (created_before_ms, seen_before_ms),
    )
