"""Rows of the exclusive feature."""

from __future__ import annotations

from walle_control.db.sql import Connection, Row
from walle_control.features.exclusive.types import OwnFile, OwnFileEntry, StoredManifest
from walle_shared.ids import DeviceId, Sha256
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting.policy import TaskKey


def files_of(db: Connection, device_id: DeviceId, key: TaskKey) -> list[OwnFile]:
    """The files of a device for a task, by path."""
    rows = db.execute(
        "SELECT * FROM exclusive_file WHERE device_id = ? AND scenario = ? AND task = ? ORDER BY path",
        (device_id, *key),
    )
    return [_file(row) for row in rows]


def list_files(db: Connection, key: TaskKey, after: str, limit: int) -> list[OwnFileEntry]:
    """Files for a task, by device and path, behind the device ``after``; all of the last device."""
    devices = [
        row["device_id"]
        for row in db.execute(
            "SELECT DISTINCT device_id FROM exclusive_file WHERE scenario = ? AND task = ? AND device_id > ?"
            " ORDER BY device_id LIMIT ?",
            (*key, after, limit),
        )
    ]
    files = (file for device_id in devices for file in files_of(db, device_id, key))
    return [
        OwnFileEntry(f.device_id, f.path, f.counter, f.plain.size_bytes, f.plain.sha256, f.added_ms)
        for f in files
    ]


def put_file(db: Connection, key: TaskKey, file: OwnFile) -> None:
    """Add or replace a file."""
    delete_file(db, file.device_id, key, file.path)
    db.execute(
        "INSERT INTO exclusive_file (device_id, scenario, task, path, counter, sealed_sha256, sealed_bytes,"
        " plain_sha256, plain_bytes, wrapped, sealed_to, added_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (file.device_id, *key, file.path, file.counter, file.sealed.sha256, file.sealed.size_bytes,
         file.plain.sha256, file.plain.size_bytes, file.wrapped, file.sealed_to, file.added_ms),
    )  # fmt: skip


def delete_file(db: Connection, device_id: DeviceId, key: TaskKey, path: str) -> bool:
    """Remove a file; whether there was one."""
    done = db.execute(
        "DELETE FROM exclusive_file WHERE device_id = ? AND scenario = ? AND task = ? AND path = ?",
        (device_id, *key, path),
    )
    return done.rowcount == 1


def sealed_by_path(db: Connection, key: TaskKey, path: str) -> set[Sha256]:
    """The sealed files behind one path of a task, whoever has them."""
    rows = db.execute(
        "SELECT DISTINCT sealed_sha256 FROM exclusive_file WHERE scenario = ? AND task = ? AND path = ?",
        (*key, path),
    )
    return {Sha256(row["sealed_sha256"]) for row in rows}


def is_used(db: Connection, sealed: str) -> bool:
    """Whether any device has this sealed file."""
    row = db.execute("SELECT 1 FROM exclusive_file WHERE sealed_sha256 = ? LIMIT 1", (sealed,)).fetchone()
    return row is not None


def has_file(db: Connection, device_id: DeviceId, sealed: str) -> bool:
    """Whether a device has this sealed file."""
    row = db.execute(
        "SELECT 1 FROM exclusive_file WHERE sealed_sha256 = ? AND device_id = ? LIMIT 1", (sealed, device_id)
    ).fetchone()
    return row is not None


def find_manifest(db: Connection, device_id: DeviceId, key: TaskKey) -> StoredManifest | None:
    """The newest manifest of a device and task."""
    row = db.execute(
        "SELECT counter, envelope, signed_ms FROM exclusive_manifest"
        " WHERE device_id = ? AND scenario = ? AND task = ?",
        (device_id, *key),
    ).fetchone()
    return StoredManifest(row["counter"], row["envelope"], row["signed_ms"]) if row else None


def set_manifest(db: Connection, device_id: DeviceId, key: TaskKey, stored: StoredManifest) -> None:
    """Replace the newest manifest of a device and task."""
    db.execute(
        "INSERT INTO exclusive_manifest (device_id, scenario, task, counter, envelope, signed_ms)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (device_id, scenario, task) DO UPDATE SET"
        " counter = excluded.counter, envelope = excluded.envelope, signed_ms = excluded.signed_ms",
        (device_id, *key, stored.counter, stored.envelope, stored.signed_ms),
    )


def _file(row: Row) -> OwnFile:
    return OwnFile(
        DeviceId(row["device_id"]),
        row["path"],
        row["counter"],
        FileRef(Sha256(row["sealed_sha256"]), row["sealed_bytes"]),
        FileRef(Sha256(row["plain_sha256"]), row["plain_bytes"]),
        row["wrapped"],
        row["sealed_to"],
        row["added_ms"],
    )
