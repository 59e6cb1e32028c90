"""What other features may ask about repositories."""

from __future__ import annotations

from pathlib import Path

from walle_control.db.sql import Connection
from walle_control.features.repositories import store
from walle_control.features.repositories.mirrors import mirror_path
from walle_control.features.repositories.types import Source
from walle_shared.errors import NotFound


def source_of(db: Connection, root: Path, name: str) -> Source:
    """The mirror of a repository, to import from.

    Raises:
        NotFound: no repository has this name, or it was never fetched.
    """
    row = store.find(db, name)
    if row is None:
        raise NotFound(
            f"no repository is called {name[:80]!r}: 'walle-control repo list' shows them;"
            " a path on the server must be absolute"
        )
    if not row.synced_ms:
        raise NotFound(f"repository {name} was not fetched yet: 'walle-control repo sync {name}'")
    what = row.repository
    return Source(mirror_path(root, name), what.url, what.scenario, what.credential)
