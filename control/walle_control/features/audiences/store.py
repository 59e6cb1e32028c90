"""Rows of the audiences feature."""

from __future__ import annotations

from typing import cast

import orjson

from walle_control.db.sql import Connection
from walle_control.features.audiences.types import Whom
from walle_shared.ids import Sha256
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting import Holdout, IdSet, Segment
from walle_shared.targeting.attributes import Attribute, Side
from walle_shared.targeting.predicate import Kind, Scalar


def holdouts(db: Connection) -> list[Holdout]:
    """All holdouts, by name."""
    rows = db.execute("SELECT name, share, salt, scenario FROM holdout ORDER BY name")
    return [Holdout(row["name"], row["share"], row["salt"], row["scenario"]) for row in rows]


def put_holdout(db: Connection, holdout: Holdout, now_ms: int) -> None:
    """Add a holdout; one that is there keeps its salt, and so its devices."""
    db.execute(
        "INSERT INTO holdout (name, scenario, share, salt, created_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET scenario = excluded.scenario, share = excluded.share",
        (holdout.name, holdout.scenario, holdout.share, holdout.salt, now_ms),
    )


def delete_holdout(db: Connection, name: str) -> bool:
    """Remove a holdout; whether it was there."""
    return db.execute("DELETE FROM holdout WHERE name = ?", (name,)).rowcount == 1


def segments(db: Connection) -> list[Segment]:
    """All versions of all segments, by name, newest first."""
    rows = db.execute("SELECT name, version, predicate FROM segment ORDER BY name, version DESC")
    return [Segment(row["name"], row["version"], row["predicate"]) for row in rows]


def insert_segment(db: Connection, segment: Segment, now_ms: int) -> None:
    """Add a version of a segment."""
    db.execute(
        "INSERT INTO segment (name, version, predicate, created_ms) VALUES (?, ?, ?, ?)",
        (segment.name, segment.version, segment.predicate, now_ms),
    )


def sets(db: Connection) -> list[IdSet]:
    """All versions of all sets of ids, by name, newest first."""
    rows = db.execute("SELECT * FROM id_set ORDER BY name, version DESC")
    return [
        IdSet(row["name"], row["version"], row["count"], row["salt"],
              FileRef(Sha256(row["index_sha256"]), row["index_bytes"]))
        for row in rows
    ]  # fmt: skip


def insert_set(db: Connection, made: IdSet, now_ms: int) -> None:
    """Add a version of a set."""
    db.execute(
        "INSERT INTO id_set (name, version, count, salt, index_sha256, index_bytes, created_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (made.name, made.version, made.count, made.salt, made.index.sha256, made.index.size_bytes, now_ms),
    )


def attributes(db: Connection) -> list[Attribute]:
    """All declared attributes, by name."""
    rows = db.execute("SELECT name, kind, side, note FROM attribute ORDER BY name")
    return [
        Attribute(row["name"], cast(Kind, row["kind"]), cast(Side, row["side"]), row["note"]) for row in rows
    ]


def put_attribute(db: Connection, attribute: Attribute) -> None:
    """Declare an attribute, or declare it anew."""
    db.execute(
        "INSERT INTO attribute (name, kind, side, note) VALUES (?, ?, ?, ?) ON CONFLICT (name)"
        " DO UPDATE SET kind = excluded.kind, side = excluded.side, note = excluded.note",
        (attribute.name, attribute.kind, attribute.side, attribute.note),
    )


def said_of(db: Connection, whom: Whom, subject: str) -> dict[str, Scalar]:
    """What operators say of a device or a user."""
    rows = db.execute("SELECT name, value FROM said_attribute WHERE of_whom = ? AND id = ?", (whom, subject))
    return {row["name"]: orjson.loads(row["value"]) for row in rows}


def say_of(db: Connection, whom: Whom, subject: str, name: str, value: Scalar) -> None:
    """Say something of a device or a user."""
    db.execute(
        "INSERT INTO said_attribute (of_whom, id, name, value) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (of_whom, id, name) DO UPDATE SET value = excluded.value",
        (whom, subject, name, orjson.dumps(value).decode()),
    )
