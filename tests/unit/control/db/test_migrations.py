"""Databases of older programs come up to date with what they hold."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from walle_control.db.migrations import MIGRATIONS, migrate
from walle_control.features.releases import store
from walle_control.features.rollouts.guard import RolloutPlan, RolloutStage


def test_a_release_of_the_first_schema_keeps_its_share_and_guard():
    values = (1, "r1", "s", "t", "1.0", "a == 1", 250_000_000, "salt", 20, 0.0, "live", 7)
    with closing(sqlite3.connect(":memory:")) as db:
        db.row_factory = sqlite3.Row
        db.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
        db.execute("INSERT INTO task_version VALUES ('s', 't', '1.0', 'c', 'm', 1, 1, 1, 5)")
        db.execute(f"INSERT INTO release VALUES ({', '.join('?' * len(values))})", values)
        db.commit()
        assert migrate(db) == len(MIGRATIONS) - 1
        (release,) = store.live_releases(db)
    assert release.plan == RolloutPlan((RolloutStage(250_000_000),))
    assert (release.guard.min_reports, release.guard.max_failure_rate) == (20, 1e-9)
    assert (release.stage, release.staged_ms, release.predicate) == (0, 7, "a == 1")
