"""Databases of older programs come up to date with what they hold; programs of two ages share one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from walle_control.db import migrations, postgres, sqlite
from walle_control.db.connection import Database
from walle_control.db.migrations import MIGRATIONS, Contract, Migration, script_of
from walle_control.db.postgres import PostgresBackend
from walle_control.db.sql import Connection
from walle_control.features.releases import store
from walle_control.features.rollouts.guard import RolloutPlan, RolloutStage
from walle_shared.errors import StorageError

Knows = Callable[[Sequence[Migration]], None]

#: What a program that knows a table may not find changed, outside a ``Contract``.
_TAKES_AWAY = re.compile(r"\b(DROP (TABLE|COLUMN)|RENAME|ALTER COLUMN|SET NOT NULL)\b", re.IGNORECASE)
_TIGHT_COLUMN = re.compile(r"ADD COLUMN (?!.*\bDEFAULT\b).*NOT NULL", re.IGNORECASE)


@pytest.fixture
def program_knows(monkeypatch: pytest.MonkeyPatch) -> Knows:
    """Make the program one that knows these migrations."""

    def set_known(known: Sequence[Migration]) -> None:
        for module in (migrations, postgres, sqlite):
            monkeypatch.setattr(module, "MIGRATIONS", known)

    return set_known


def open_database(database_url: str, tmp_path: Path) -> Database:
    return Database(PostgresBackend(database_url) if database_url else tmp_path / "control.db")


def test_a_release_of_the_first_schema_keeps_its_share_and_guard(
    database_url: str, tmp_path: Path, program_knows: Knows
) -> None:
    values = (1, "r1", "s", "t", "1.0", "a == 1", 250_000_000, "salt", 20, 0.0, "live", 7)

    def fill(db: Connection) -> None:
        db.execute("INSERT INTO task_version VALUES ('s', 't', '1.0', 'c', 'm', 1, 1, 1, 5)")
        db.execute(f"INSERT INTO release VALUES ({', '.join('?' * len(values))})", values)

    program_knows(MIGRATIONS[:1])
    with open_database(database_url, tmp_path) as database:
        database.write_sync(fill)
    program_knows(MIGRATIONS)
    with open_database(database_url, tmp_path) as database:
        (release,) = database.read_sync(store.live_releases)
    assert release.plan == RolloutPlan((RolloutStage(250_000_000),))
    assert (release.guard.min_reports, release.guard.max_failure_rate) == (20, 1e-9)
    assert (release.stage, release.staged_ms, release.predicate) == (0, 7, "a == 1")


def test_what_takes_away_is_declared_a_contract() -> None:
    for number, migration in enumerate(MIGRATIONS):
        if isinstance(migration, Contract):
            continue
        for script in {script_of(migration, "sqlite"), script_of(migration, "postgres")}:
            assert not _TAKES_AWAY.search(script), f"migration {number + 1} must be a Contract"
            assert not _TIGHT_COLUMN.search(script), f"migration {number + 1}: a new column needs a DEFAULT"


NEW_COLUMN = "ALTER TABLE enrol_token ADD COLUMN colour TEXT NOT NULL DEFAULT 'green';"


def test_an_old_worker_goes_on_beside_a_schema_that_only_grew(
    postgres_schema: str, program_knows: Knows
) -> None:
    def insert(db: Connection) -> int:
        row = ("h", "n", 1, 2, 3)
        columns = "hash, note, uses_left, created_ms, expires_ms"
        return db.execute(f"INSERT INTO enrol_token ({columns}) VALUES (?, ?, ?, ?, ?)", row).rowcount

    with Database(PostgresBackend(postgres_schema)) as old:
        program_knows([*MIGRATIONS, NEW_COLUMN])
        with Database(PostgresBackend(postgres_schema)) as new:
            assert old.write_sync(insert) == 1  # it runs already
            found = new.read_sync(lambda db: db.execute("SELECT colour FROM enrol_token").fetchone())
            assert found["colour"] == "green"
    program_knows(MIGRATIONS)
    Database(PostgresBackend(postgres_schema)).close()  # and it may start anew


def test_an_old_program_does_not_start_on_a_contracted_schema(
    postgres_schema: str, program_knows: Knows
) -> None:
    program_knows([*MIGRATIONS, NEW_COLUMN, Contract("ALTER TABLE enrol_token DROP COLUMN note;")])
    Database(PostgresBackend(postgres_schema)).close()
    program_knows([*MIGRATIONS, NEW_COLUMN])
    with pytest.raises(StorageError, match="update walle-control"):
        Database(PostgresBackend(postgres_schema))


def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    postgres_schema: str, program_knows: Knows
) -> None:
    Database(PostgresBackend(postgres_schema)).close()
    program_knows([*MIGRATIONS, f"{NEW_COLUMN} SELECT no_such_thing;"])
    with pytest.raises(StorageError, match="no_such_thing"):
        Database(PostgresBackend(postgres_schema))
    program_knows([*MIGRATIONS, NEW_COLUMN])
    Database(PostgresBackend(postgres_schema)).close()
