"""Rows of the people feature."""

from __future__ import annotations

from walle_control.db.sql import Connection


def insert_token(db: Connection, name: str, token_hash: str, now_ms: int) -> None:
    """Remember a token by its hash; a token of the same name is replaced."""
    db.execute(
        "INSERT INTO admin_token (name, hash, created_ms) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, created_ms = excluded.created_ms",
        (name, token_hash, now_ms),
    )


def token_hashes(db: Connection) -> list[tuple[str, str]]:
    """All tokens as ``(name, hash)``."""
    return [(row["name"], row["hash"]) for row in db.execute("SELECT name, hash FROM admin_token")]
