"""Sets up a data folder, and checks one. Blocks."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from walle_control.config import (
    CONFIG_FILE,
    ControlConfig,
    DatabaseConfig,
    EpochConfig,
    GitConfig,
    TrustConfig,
    default_toml,
)
from walle_control.db.files import FileStore
from walle_control.db.keyring import write_secret
from walle_control.db.sql import Connection
from walle_control.db.store import Home, Store
from walle_control.features.people.service import PeopleService, new_token
from walle_control.features.releases import store as releases_store
from walle_control.features.releases.epochs import EpochBook
from walle_control.features.releases.restore import open_published, restore_epoch
from walle_control.features.repositories import store as repositories_store
from walle_control.features.repositories.mirrors import Mirrors
from walle_control.features.repositories.types import RepositoryRow
from walle_control.features.tasks import read_model as tasks_read_model
from walle_control.features.tasks import store as tasks_store
from walle_control.features.tasks.restore import find_simulations, find_versions
from walle_control.features.trust.book import TrustBook
from walle_control.features.trust.restore import read_published
from walle_control.web.openapi import document
from walle_shared import __version__
from walle_shared.clock import Clock, SystemClock
from walle_shared.errors import ConfigError, Conflict, StorageError


@dataclass(frozen=True, slots=True)
class InitResult:
    """What ``init`` made. ``admin_token`` is empty if there was one before: it is shown once."""

    data_dir: str
    config: str
    trusted_root: str
    epoch: int
    admin_token: str
    token_file: str


@dataclass(frozen=True, slots=True)
class FsckResult:
    """What ``fsck`` found: files checked, and the names of those that are not what their names say."""

    files: int
    damaged: tuple[str, ...]


def init(root: Path, clock: Clock, database_url: str = "") -> InitResult:
    """Make keys, database, admin token, settings and epoch 1; what is there already is kept.

    Raises:
        StorageError: the folder cannot be written.
        ConnectionLost: the PostgreSQL at ``database_url`` does not answer.
    """
    store = Store.create(root, database_url)
    try:
        token = _first_token(store, clock)
        config_path = root / CONFIG_FILE
        if not config_path.exists():
            config_path.write_text(default_toml(ControlConfig(database=DatabaseConfig(database_url))))
        trust = TrustBook(store.files, store.keyring, clock, TrustConfig())
        store.database.write_sync(trust.ensure_first)
        trust.publish(store.database.read_sync(trust.all_files))
        trusted_root = store.database.read_sync(trust.trusted_root)
        book = EpochBook(store.files, trust, clock, EpochConfig().lifetime_s)
        epoch = store.database.write_sync(book.ensure_first)
        book.publish(store.database.read_sync(releases_store.newest_epoch))
    except OSError as error:
        raise StorageError(f"{root}: cannot be written: {error}") from None
    finally:
        store.close()
    return InitResult(str(root), str(config_path), trusted_root, epoch, token, str(store.home.admin_token))


def fsck(root: Path) -> FsckResult:
    """Re-read every published file and compare it with its name.

    Raises:
        ConfigError: there is no control plane in the folder.
    """
    home = Home(root)
    if not home.credential_key.exists():
        raise ConfigError(f"{root}: no control plane is here: run 'walle-control init --data {root}' first")
    checked = [
        *FileStore(home.static).check(),
        *((f"{home.cloud.name}/{name}", whole) for name, whole in FileStore(home.cloud).check()),
    ]
    return FsckResult(len(checked), tuple(name for name, whole in checked if not whole))


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """What ``rebuild`` found, and the manifests it had to leave out, with why."""

    repositories: int
    versions: int
    releases: int
    epoch: int
    left_out: tuple[str, ...]


def rebuild(root: Path, clock: Clock) -> RebuildResult:
    """Make the database anew from what lies beside it: definitions of mirrors, manifests, the newest epoch.

    Epochs go on from the newest one, so devices take no step back. Releases come back as devices have them,
    but paused, with their stages and the guard's settings. Digests stay the same.

    Raises:
        Conflict: there is a database with something in it.
        StorageError: the folder cannot be written.
    """
    store = Store.create(root)
    try:
        if store.database.read_sync(lambda db: tasks_read_model.count(db) or releases_store.newest_epoch(db)):
            raise Conflict(f"{store.home.database} is in use: move it away first, if it is to be made anew")
        repositories = Mirrors(store.home.repositories, GitConfig()).defined()
        versions, left_out = find_versions(store)
        trust = TrustBook(store.files, store.keyring, clock, TrustConfig())
        metadata = read_published(store.files)
        store.database.write_sync(lambda db: trust.take_over(db, metadata))
        published = open_published(store, trust)
        simulations = find_simulations(store, versions, store.database.read_sync(trust.status).approved)

        def job(db: Connection) -> int:
            for what in repositories:
                repositories_store.insert(db, RepositoryRow(what, clock.wall_ms()))
            for row in versions:
                tasks_store.insert_version(db, row)
            for simulation in simulations:
                tasks_store.save_simulation(db, simulation)
            return restore_epoch(db, published, clock.wall_ms()) if published is not None else 0

        releases = store.database.write_sync(job)
        _first_token(store, clock)
        epoch = published.info.epoch if published is not None else 0
        return RebuildResult(len(repositories), len(versions), releases, epoch, left_out)
    finally:
        store.close()


def api_description() -> dict[str, Any]:
    """The OpenAPI document of this program's HTTP API."""
    from walle_control.app import create_app  # the whole server, for this alone

    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        init(Path(folder), clock)
        store = Store.open(Path(folder))
        try:
            app = create_app(ControlConfig(), clock=clock, store=store)
        finally:
            store.close()
    return document(app.routes, __version__)


def _first_token(store: Store, clock: Clock) -> str:
    """Make the first admin token, unless its file exists; the stored hash follows the file."""
    made = write_secret(store.home.admin_token, new_token())
    token = store.home.admin_token.read_text().strip()
    PeopleService(store.database, clock).remember_sync("admin", token)
    return token if made else ""
