"""What other features may ask about task versions."""

from __future__ import annotations

from walle_control.db.sql import Connection
from walle_control.features.tasks import store
from walle_shared.errors import Conflict, NotFound
from walle_shared.protocol.messages import FileRef


def manifest_of(db: Connection, scenario: str, task: str, version: str) -> FileRef:
    """The signed manifest of an imported version.

    Raises:
        NotFound: it was not imported.
    """
    row = store.find_version(db, scenario, task, version)
    if row is None:
        raise NotFound(
            f"version {version} of task {scenario}/{task} was not imported: use 'walle-control import'"
        )
    return row.manifest


def is_imported(db: Connection, scenario: str, task: str, version: str) -> bool:
    """Whether there is such a version."""
    return store.find_version(db, scenario, task, version) is not None


def deltas_of(db: Connection, manifest: FileRef) -> FileRef | None:
    """The list of deltas to the files of a manifest, if there is one."""
    return store.find_deltas(db, manifest.sha256)


def require_simulated(db: Connection, scenario: str, task: str, version: str) -> None:
    """Refuse a version that is a draft.

    Raises:
        Conflict: it has not passed its simulations; says how to see why.
    """
    row = store.find_version(db, scenario, task, version)
    if row is not None and row.state == "draft":
        name = f"{scenario}/{task} {version}"
        raise Conflict(
            f"{name} is a draft until it passes its simulations: see 'walle-control simulation show {name}'"
        )


def count(db: Connection) -> int:
    """How many versions were imported."""
    total: int = db.execute("SELECT count(*) FROM task_version").fetchone()[0]
    return total
