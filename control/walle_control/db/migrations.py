"""Numbered, forward-only schema migrations. Append; never edit one that was released.

Times are ``_ms`` of the wall clock; digests, ids and hashes are text; JSON columns hold canonical JSON.

A migration is a script in SQLite's words, which ``postgres`` translates, or ``PerBackend`` where the two
need different ones. It only adds (a table, an index, a column with a default), so that programs that do not
know it go on beside it: workers are replaced one after the other. What takes something away, renames or
tightens it is a ``Contract``, and comes two releases after the last program that needed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

BackendName = Literal["sqlite", "postgres"]


@dataclass(frozen=True, slots=True)
class PerBackend:
    """A migration that each database says in its own words; an empty script does nothing."""

    sqlite: str
    postgres: str


@dataclass(frozen=True, slots=True)
class Contract:
    """A migration after which programs that do not know it cannot go on."""

    script: str | PerBackend


Migration = str | PerBackend | Contract


def script_of(migration: Migration, backend: BackendName) -> str:
    """A migration's statements for one kind of database."""
    if isinstance(migration, Contract):
        migration = migration.script
    if isinstance(migration, str):
        return migration
    return migration.sqlite if backend == "sqlite" else migration.postgres


_CLOUD_LATER = """
    CREATE TABLE cloud_later (
        id INTEGER PRIMARY KEY, device_id TEXT NOT NULL, origin TEXT NOT NULL, scenario TEXT NOT NULL,
        task TEXT NOT NULL, version TEXT NOT NULL, release_id TEXT NOT NULL, fields TEXT NOT NULL,
        trace TEXT NOT NULL, tries INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX cloud_later_by_device ON cloud_later (device_id);

    CREATE TABLE cloud_push (
        id INTEGER PRIMARY KEY, device_id TEXT NOT NULL, body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX cloud_push_by_device ON cloud_push (device_id, id);
"""

#: In the words of either database.
_RELEASE_PLANS = """
    ALTER TABLE release ADD COLUMN plan TEXT NOT NULL DEFAULT '';
    ALTER TABLE release ADD COLUMN guard TEXT NOT NULL DEFAULT '';
    ALTER TABLE release ADD COLUMN stage INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE release ADD COLUMN staged_ms INTEGER NOT NULL DEFAULT 0;
    UPDATE release SET
        plan = {object}('stages', {array}({object}('share', share))),
        guard = {object}('min_reports', min_reports, 'max_failure_rate', {greatest}(max_failure_rate, 1e-9)),
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
"""

MIGRATIONS: Sequence[Migration] = (
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
    Contract(
        PerBackend(
            _RELEASE_PLANS.format(object="json_object", array="json_array", greatest="max"),
            _RELEASE_PLANS.format(object="json_build_object", array="json_build_array", greatest="greatest"),
        )
    ),
    """
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, detail TEXT NOT NULL, hash TEXT NOT NULL
    ) STRICT;
    """,
    # Which worker leads; and what each tells the others, by topic (``workers/changes.py``).
    PerBackend(
        "",
        """
        CREATE TABLE lease (
            name TEXT PRIMARY KEY, holder TEXT NOT NULL, fence INTEGER NOT NULL, expires_ms INTEGER NOT NULL
        );
        CREATE FUNCTION walle_changed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_notify('walle_' || TG_TABLE_SCHEMA, TG_ARGV[0]);
            RETURN NULL;
        END $$;
        CREATE TRIGGER epoch_changed AFTER INSERT OR UPDATE ON epoch
            FOR EACH STATEMENT EXECUTE FUNCTION walle_changed('epoch');
        CREATE TRIGGER device_changed AFTER UPDATE OF state ON device
            FOR EACH STATEMENT EXECUTE FUNCTION walle_changed('revoked');
        CREATE TRIGGER feature_changed AFTER INSERT ON feature
            FOR EACH STATEMENT EXECUTE FUNCTION walle_changed('feature');
        CREATE TRIGGER report_changed AFTER INSERT ON report
            FOR EACH STATEMENT EXECUTE FUNCTION walle_changed('report');
        CREATE TRIGGER sink_changed AFTER INSERT OR UPDATE ON sink
            FOR EACH STATEMENT EXECUTE FUNCTION walle_changed('sink');
        """,
    ),
    """
    CREATE TABLE delta_list (
        manifest_sha256 TEXT NOT NULL PRIMARY KEY, list_sha256 TEXT NOT NULL, list_bytes INTEGER NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE repository (
        name TEXT NOT NULL PRIMARY KEY, url TEXT NOT NULL, scenario TEXT NOT NULL, folder TEXT NOT NULL,
        credential TEXT NOT NULL, auto_import INTEGER NOT NULL, added_ms INTEGER NOT NULL,
        synced_ms INTEGER NOT NULL, tags INTEGER NOT NULL, error TEXT NOT NULL
    ) STRICT;
    """,
    # When releases begin, and who is kept out of all of them.
    """
    ALTER TABLE release ADD COLUMN terms TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE release ADD COLUMN ramp_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE release ADD COLUMN paused_ms INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE holdout (
        name TEXT PRIMARY KEY, scenario TEXT NOT NULL, share INTEGER NOT NULL, salt TEXT NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE release ADD COLUMN permits_asked INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE permit (
        release_id TEXT NOT NULL, device_id TEXT NOT NULL, claimed INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        PRIMARY KEY (release_id, device_id)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE segment (
        name TEXT NOT NULL, version INTEGER NOT NULL, predicate TEXT NOT NULL, created_ms INTEGER NOT NULL,
        PRIMARY KEY (name, version)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE id_set (
        name TEXT NOT NULL, version INTEGER NOT NULL, count INTEGER NOT NULL, salt TEXT NOT NULL,
        index_sha256 TEXT NOT NULL, index_bytes INTEGER NOT NULL, created_ms INTEGER NOT NULL,
        PRIMARY KEY (name, version)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE attribute (
        name TEXT PRIMARY KEY, kind TEXT NOT NULL, side TEXT NOT NULL, note TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE said_attribute (
        of_whom TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (of_whom, id, name)
    ) STRICT, WITHOUT ROWID;
    """,
    # People with roles, and tokens that may be many. Who had an admin token is an admin; their table stays
    # for programs from before.
    """
    CREATE TABLE person (name TEXT PRIMARY KEY, created_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE person_role (
        person TEXT NOT NULL REFERENCES person (name), scenario TEXT NOT NULL, role TEXT NOT NULL,
        PRIMARY KEY (person, scenario, role)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE access_token (
        id TEXT PRIMARY KEY, person TEXT NOT NULL REFERENCES person (name), hash TEXT NOT NULL UNIQUE,
        note TEXT NOT NULL, scopes TEXT NOT NULL, scenario TEXT NOT NULL,
        created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, used_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    INSERT INTO person (name, created_ms) SELECT name, created_ms FROM admin_token;
    INSERT INTO person_role (person, scenario, role) SELECT name, '', 'admin' FROM admin_token;
    INSERT INTO access_token (id, person, hash, note, scopes, scenario, created_ms, expires_ms, used_ms)
        SELECT CASE name WHEN 'admin' THEN 'first' ELSE 'first-' || name END, name, hash, '', '[]', '',
            created_ms, 0, 0 FROM admin_token;
    """,
    # Four eyes: rules of scenarios, and requests for approval.
    """
    CREATE TABLE approval_rule (scenario TEXT PRIMARY KEY, steps TEXT NOT NULL, valid_s REAL NOT NULL)
    STRICT, WITHOUT ROWID;

    CREATE TABLE approval (
        id INTEGER PRIMARY KEY, release_id TEXT NOT NULL REFERENCES release (id), scenario TEXT NOT NULL,
        step TEXT NOT NULL, state TEXT NOT NULL, asked_by TEXT NOT NULL, asked_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL, decided_by TEXT NOT NULL, decided_ms INTEGER NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
    CREATE INDEX approval_by_release ON approval (release_id, id);
    """,
    # Webhooks and the outbox that feeds them. Secrets are derived, not stored.
    """
    CREATE TABLE webhook (
        id TEXT PRIMARY KEY, url TEXT NOT NULL, events TEXT NOT NULL, scenario TEXT NOT NULL,
        note TEXT NOT NULL, active INTEGER NOT NULL, created_ms INTEGER NOT NULL, created_by TEXT NOT NULL,
        generation INTEGER NOT NULL, rotated_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE webhook_delivery (
        id INTEGER PRIMARY KEY, webhook_id TEXT NOT NULL REFERENCES webhook (id), message_id TEXT NOT NULL,
        kind TEXT NOT NULL, at_ms INTEGER NOT NULL, body TEXT NOT NULL, state TEXT NOT NULL,
        attempts INTEGER NOT NULL, next_ms INTEGER NOT NULL, error TEXT NOT NULL
    ) STRICT;
    CREATE INDEX webhook_delivery_waiting ON webhook_delivery (state, webhook_id, id);
    CREATE INDEX webhook_delivery_by_webhook ON webhook_delivery (webhook_id, id);
    """,
    # What a run needed; how often a device tried, and for how long it will not again.
    """
    ALTER TABLE vote ADD COLUMN peak_bytes INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE device_task ADD COLUMN error_class TEXT NOT NULL DEFAULT 'none';
    ALTER TABLE device_task ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE device_task ADD COLUMN barred_s REAL NOT NULL DEFAULT 0;
    ALTER TABLE device_task ADD COLUMN received_ms INTEGER NOT NULL DEFAULT 0;
    UPDATE device_task SET received_ms = at_ms;
    """,
    # Recordings are kept to be played again; versions from before are drafts until they are.
    """
    CREATE TABLE simulation (
        scenario TEXT NOT NULL, task TEXT NOT NULL, version TEXT NOT NULL, passed INTEGER NOT NULL,
        at_ms INTEGER NOT NULL, seconds REAL NOT NULL, result TEXT NOT NULL, recordings BLOB NOT NULL,
        PRIMARY KEY (scenario, task, version),
        FOREIGN KEY (scenario, task, version) REFERENCES task_version (scenario, task, version)
    ) STRICT;
    """,
    """
    CREATE TABLE exclusive_file (
        device_id TEXT NOT NULL, scenario TEXT NOT NULL, task TEXT NOT NULL, path TEXT NOT NULL,
        counter INTEGER NOT NULL, sealed_sha256 TEXT NOT NULL, sealed_bytes INTEGER NOT NULL,
        plain_sha256 TEXT NOT NULL, plain_bytes INTEGER NOT NULL, wrapped TEXT NOT NULL,
        sealed_to TEXT NOT NULL, added_ms INTEGER NOT NULL,
        PRIMARY KEY (device_id, scenario, task, path)
    ) STRICT;
    CREATE INDEX exclusive_file_by_task ON exclusive_file (scenario, task, device_id, path);
    CREATE INDEX exclusive_file_by_sealed ON exclusive_file (sealed_sha256);

    CREATE TABLE exclusive_manifest (
        device_id TEXT NOT NULL, scenario TEXT NOT NULL, task TEXT NOT NULL, counter INTEGER NOT NULL,
        envelope TEXT NOT NULL, signed_ms INTEGER NOT NULL,
        PRIMARY KEY (device_id, scenario, task)
    ) STRICT;
    """,
    """
    CREATE TABLE trust_metadata (
        role TEXT NOT NULL, version INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (role, version)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE trust_staged (role TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT, WITHOUT ROWID;
    """,
    # Workers sign the time with the keys in force.
    PerBackend(
        "",
        """
        CREATE TRIGGER trust_changed AFTER INSERT ON trust_metadata
            FOR EACH STATEMENT EXECUTE FUNCTION walle_changed('trust');
        """,
    ),
    # Events that recur are told of once in a while.
    """
    CREATE TABLE webhook_notice (
        kind TEXT NOT NULL, subject TEXT NOT NULL, about TEXT NOT NULL, at_ms INTEGER NOT NULL,
        withheld INTEGER NOT NULL, PRIMARY KEY (kind, subject, about)
    ) STRICT, WITHOUT ROWID;
    """,
    # How an epoch's releases are to go on, published for a database that is made anew.
    """
    CREATE TABLE epoch_plan (epoch INTEGER PRIMARY KEY, plans BLOB NOT NULL) STRICT;
    """,
    # Who is signed in to the console; secrets are kept as hashes.
    """
    CREATE TABLE console_session (
        hash TEXT PRIMARY KEY, replaced_hash TEXT NOT NULL, token_hash TEXT NOT NULL, csrf TEXT NOT NULL,
        created_ms INTEGER NOT NULL, seen_ms INTEGER NOT NULL, rotated_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX console_session_by_replaced ON console_session (replaced_hash);
    """,
    # Sessions of the console that began at the provider of identities; ``sealed`` opens with their cookie.
    """
    ALTER TABLE console_session ADD COLUMN person TEXT NOT NULL DEFAULT '';
    ALTER TABLE console_session ADD COLUMN roles TEXT NOT NULL DEFAULT '';
    ALTER TABLE console_session ADD COLUMN expires_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE console_session ADD COLUMN sealed TEXT NOT NULL DEFAULT '';
    ALTER TABLE console_session ADD COLUMN renewing_ms INTEGER NOT NULL DEFAULT 0;
    """,
    # What of an hour's budget has been given out: of a device, asks; of no device, a release's milliseconds.
    """
    CREATE TABLE cloud_budget (
        release_id TEXT NOT NULL, device_id TEXT NOT NULL, hour INTEGER NOT NULL, used INTEGER NOT NULL,
        PRIMARY KEY (release_id, device_id, hour)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX cloud_budget_by_hour ON cloud_budget (hour);
    """,
    # Questions to cloud halves that can wait, and answers that wait for their devices.
    PerBackend(
        _CLOUD_LATER,
        _CLOUD_LATER
        + """
        CREATE TRIGGER cloud_push_changed AFTER INSERT ON cloud_push
            FOR EACH STATEMENT EXECUTE FUNCTION walle_changed('cloud');
        """,
    ),
    # Learning plans with the model they have come to, and their rounds.
    """
    CREATE TABLE learning_plan (
        id TEXT PRIMARY KEY, scenario TEXT NOT NULL, task TEXT NOT NULL, version TEXT NOT NULL,
        model TEXT NOT NULL, base TEXT NOT NULL, loss TEXT NOT NULL, parameters TEXT NOT NULL,
        wish TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, created_ms INTEGER NOT NULL,
        created_by TEXT NOT NULL, ended_ms INTEGER NOT NULL, weights BLOB NOT NULL, first BLOB NOT NULL,
        second BLOB NOT NULL, holdout BLOB NOT NULL
    ) STRICT;

    CREATE TABLE learning_round (
        plan TEXT NOT NULL REFERENCES learning_plan (id), number INTEGER NOT NULL, state TEXT NOT NULL,
        salt TEXT NOT NULL, share INTEGER NOT NULL, opened_ms INTEGER NOT NULL, deadline_ms INTEGER NOT NULL,
        closed_ms INTEGER NOT NULL, updates INTEGER NOT NULL, refused INTEGER NOT NULL, late INTEGER NOT NULL,
        loss REAL, accuracy REAL, reason TEXT NOT NULL, PRIMARY KEY (plan, number)
    ) STRICT, WITHOUT ROWID;
    """,
    # Single updates, from their arrival to the end of their round.
    """
    CREATE TABLE learning_part (
        plan TEXT NOT NULL, round INTEGER NOT NULL, device_id TEXT NOT NULL, part INTEGER NOT NULL,
        parts INTEGER NOT NULL, id TEXT NOT NULL, samples INTEGER NOT NULL, encoding TEXT NOT NULL,
        body BLOB NOT NULL, PRIMARY KEY (plan, round, device_id, part)
    ) STRICT;
    """,
    # The trace of the run that made a feature, if it was followed.
    """
    ALTER TABLE feature ADD COLUMN trace_id TEXT NOT NULL DEFAULT '';
    """,
    # Which devices gave up records, and what was done to one thing, without a look at all of them.
    """
    CREATE INDEX tunnel_ledger_lossy ON tunnel_ledger (lost) WHERE lost > 0;
    CREATE INDEX audit_by_subject ON audit (subject, seq);
    """,
    # Parts of personal models, sealed by devices to themselves, until all have come.
    """
    CREATE TABLE learning_backup (
        device_id TEXT NOT NULL, scenario TEXT NOT NULL, task TEXT NOT NULL, part INTEGER NOT NULL,
        parts INTEGER NOT NULL, id TEXT NOT NULL, about TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (device_id, scenario, task, part)
    ) STRICT;
    """,
)
