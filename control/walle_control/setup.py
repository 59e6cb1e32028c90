"""Sets up a data folder, and checks one. Blocks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from walle_control.config import CONFIG_FILE, EpochConfig, TrustConfig, default_toml
from walle_control.db.keyring import write_secret
from walle_control.db.store import Store
from walle_control.features.people.service import PeopleService, new_token
from walle_control.features.releases import store as releases_store
from walle_control.features.releases.epochs import EpochBook
from walle_control.features.trust.book import TrustBook
from walle_shared.clock import Clock
from walle_shared.errors import StorageError


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


def init(root: Path, clock: Clock) -> InitResult:
    """Make keys, database, admin token, settings and epoch 1; what is there already is kept.

    Raises:
        StorageError: the folder cannot be written.
    """
    store = Store.create(root)
    try:
        token = _first_token(store, clock)
        config_path = root / CONFIG_FILE
        if not config_path.exists():
            config_path.write_text(default_toml())
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
    store = Store.open(root)
    try:
        checked = list(store.files.check())
    finally:
        store.close()
    return FsckResult(len(checked), tuple(name for name, whole in checked if not whole))


def _first_token(store: Store, clock: Clock) -> str:
    """Make the first admin token, unless its file exists; the stored hash follows the file."""
    made = write_secret(store.home.admin_token, new_token())
    token = store.home.admin_token.read_text().strip()
    PeopleService(store.database, clock).remember_sync("admin", token)
    return token if made else ""
