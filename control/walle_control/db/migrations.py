"""Numbered, forward-only schema migrations. Append; never edit one that was released.

``PRAGMA user_version`` holds the number of the last one applied. Times are ``_ms`` of the wall clock;
digests, ids and hashes are text; JSON columns hold canonical JSON.
"""

from __future__ import annotations

import sqlite3

from walle_shared.errors import StorageError

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE admin_token (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, hash TEXT NOT NULL, created_ms INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE enrol_token (
        id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, note TEXT NOT NULL, uses_left INTEGER NOT NULL,
        created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE device (
        id TEXT PRIMARY KEY, public_key TEXT NOT NULL UNIQUE, profile TEXT NOT NULL, state TEXT NOT NULL,
        enrol_token INTEGER NOT NULL REFERENCES enrol_token (id),
        created_ms INTEGER NOT NULL, last_seen_ms INTEGER NOT NULL, renewed_at_ms INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE device_task (
        device_id TEXT NOT NULL, scenario TEXT NOT NULL, task TEXT NOT NULL, version TEXT NOT NULL,
        release_id TEXT NOT NULL, stage TEXT NOT NULL, outcome TEXT NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (device_id, scenario, task)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE task_version (
        scenario TEXT NOT NULL, task TEXT NOT NULL, version TEXT NOT NULL, source TEXT NOT NULL,
        manifest_sha256 TEXT NOT NULL, manifest_bytes INTEGER NOT NULL, files INTEGER NOT NULL,
        total_bytes INTEGER NOT NULL, imported_ms INTEGER NOT NULL,
        PRIMARY KEY (scenario, task, version)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE release (
        rank INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, scenario TEXT NOT NULL, task TEXT NOT NULL,
        version TEXT NOT NULL, predicate TEXT NOT NULL, share INTEGER NOT NULL, salt TEXT NOT NULL,
        min_reports INTEGER NOT NULL, max_failure_rate REAL NOT NULL, state TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        FOREIGN KEY (scenario, task, version) REFERENCES task_version (scenario, task, version)
    ) STRICT;

    CREATE TABLE release_event (
        id INTEGER PRIMARY KEY, release_id TEXT NOT NULL REFERENCES release (id), at_ms INTEGER NOT NULL,
        event TEXT NOT NULL, state TEXT NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL,
        evidence TEXT NOT NULL, epoch INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX release_event_by_release ON release_event (release_id, id);

    CREATE TABLE epoch (
        n INTEGER PRIMARY KEY, snapshot BLOB NOT NULL, envelope BLOB NOT NULL, reason TEXT NOT NULL,
        created_ms INTEGER NOT NULL, signed_ms INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE report (
        id INTEGER PRIMARY KEY, device_id TEXT NOT NULL, report_id TEXT NOT NULL, release_id TEXT NOT NULL,
        task TEXT NOT NULL, version TEXT NOT NULL, stage TEXT NOT NULL, outcome TEXT NOT NULL,
        error_class TEXT NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL, attempt INTEGER NOT NULL,
        at_ms INTEGER NOT NULL, duration_ms REAL NOT NULL, received_ms INTEGER NOT NULL,
        UNIQUE (device_id, report_id)
    ) STRICT;
    CREATE INDEX report_by_release ON report (release_id, id);

    CREATE TABLE report_count (
        release_id TEXT NOT NULL, stage TEXT NOT NULL, outcome TEXT NOT NULL, error_class TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (release_id, stage, outcome, error_class)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE feature (
        id INTEGER PRIMARY KEY, device_id TEXT NOT NULL, scenario TEXT NOT NULL, task TEXT NOT NULL,
        version TEXT NOT NULL, release_id TEXT NOT NULL, name TEXT NOT NULL, at_ms INTEGER NOT NULL,
        received_ms INTEGER NOT NULL, fields TEXT NOT NULL
    ) STRICT;
    CREATE INDEX feature_by_name ON feature (scenario, task, name, id);

    CREATE TABLE tunnel_ledger (
        device_id TEXT NOT NULL, incarnation TEXT NOT NULL, ledger TEXT NOT NULL, lost INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL,
        PRIMARY KEY (device_id, incarnation)
    ) STRICT, WITHOUT ROWID;
    """,
    # The key that sinks tell repeated rows by; rows from before it get one that nothing else can have.
    """
    ALTER TABLE feature ADD COLUMN origin TEXT NOT NULL DEFAULT '';
    UPDATE feature SET origin = 'row:' || id;

    CREATE TABLE sink (name TEXT PRIMARY KEY, written_id INTEGER NOT NULL, planned_id INTEGER NOT NULL)
    STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE release ADD COLUMN plan TEXT NOT NULL DEFAULT '';
    ALTER TABLE release ADD COLUMN guard TEXT NOT NULL DEFAULT '';
    ALTER TABLE release ADD COLUMN stage INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE release ADD COLUMN staged_ms INTEGER NOT NULL DEFAULT 0;
    UPDATE release SET
        plan = json_object('stages', json_array(json_object('share', share))),
        guard = json_object('min_reports', min_reports, 'max_failure_rate', max(max_failure_rate, 1e-9)),
        staged_ms = created_ms;
    ALTER TABLE release DROP COLUMN share;
    ALTER TABLE release DROP COLUMN min_reports;
    ALTER TABLE release DROP COLUMN max_failure_rate;

    CREATE TABLE vote (
        id INTEGER PRIMARY KEY, release_id TEXT NOT NULL, device_id TEXT NOT NULL, arm TEXT NOT NULL,
        kind TEXT NOT NULL, at_ms INTEGER NOT NULL, duration_ms REAL NOT NULL,
        UNIQUE (release_id, device_id, arm, kind)
    ) STRICT;
    CREATE INDEX vote_by_release ON vote (release_id, id);
    """,
    """
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, detail TEXT NOT NULL, hash TEXT NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE trust_metadata (
        role TEXT NOT NULL, version INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (role, version)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE trust_staged (role TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT, WITHOUT ROWID;
    """,
)


def migrate(connection: sqlite3.Connection) -> int:
    """Bring the schema up to date; each migration is one transaction.

    Returns:
        How many migrations were applied.

    Raises:
        StorageError: the file was made by a newer program.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StorageError(
            f"the database has schema {version}, this program knows {len(MIGRATIONS)}: update walle-control"
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
    return len(MIGRATIONS) - version
