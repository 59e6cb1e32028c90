"""Backs a control plane up while it runs, and restores it into a new folder. Blocks.

The archive is a tar file::

    backup.json            format, schema, epoch, and the digest of everything below
    tables/<name>.jsonl    every row (``db.dump``), all tables at one moment
    keys/*, admin.token    secrets: keep the archive as you keep them
    control.toml           settings
    static/..., cloud/...  published files and cloud halves; those that the rows name are older than the rows

It restores into SQLite and PostgreSQL alike, whichever it was made from. Restoring jumps ahead in the epochs
and gives the trust metadata's timestamp and snapshot new keys: devices may have seen versions that were made
after the backup, and take nothing older by the same keys.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from walle_control.config import (
    CONFIG_FILE,
    DatabaseConfig,
    default_toml,
    load_config,
)
from walle_control.db import dump
from walle_control.db.dump import TableDigest
from walle_control.db.files import EPOCH_FILE
from walle_control.db.migrations import MIGRATIONS
from walle_control.db.postgres import PostgresBackend
from walle_control.db.sql import Backend, Connection
from walle_control.db.sqlite import SqliteBackend
from walle_control.db.store import Home, Store
from walle_control.features.releases import store as releases_store
from walle_control.features.releases.epochs import EpochBook
from walle_control.features.trust.book import TrustBook
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError, StorageError
from walle_shared.records import RecordError, from_plain, to_plain
from walle_shared.trust.roles import SNAPSHOT, TIMESTAMP

_FORMAT = 1
_MANIFEST = "backup.json"
_CHUNK_BYTES = 1 << 20

#: How far a restored control plane jumps ahead of the backup's epoch: more than were made since.
EPOCH_LEAP = 100_000


@dataclass(frozen=True, slots=True)
class Table:
    """What the archive has of a table."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive says of itself."""

    format: int
    schema: int
    epoch: int
    created_ms: int
    tables: Mapping[str, Table]
    files: Mapping[str, str]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What was backed up, or restored: ``epoch`` is the newest one now."""

    archive: str
    epoch: int
    rows: int
    files: int


def backup(root: Path, database_url: str, archive: Path, clock: Clock) -> BackupResult:
    """Write an archive of the control plane in ``root``; it may be running.

    Raises:
        ConfigError: there is no control plane in the folder, or the archive is there already.
        StorageError: the archive cannot be written.
        ConnectionLost: the database's server does not answer.
    """
    home = Home(root)
    if not home.credential_key.exists():
        raise ConfigError(f"{root}: no control plane is here: name the folder that 'walle-control init' made")
    if archive.exists():
        raise ConfigError(f"{archive} is there already: name another file")
    unfinished = archive.with_name(archive.name + ".unfinished")
    try:
        with _new_file(unfinished) as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                contents = _write(tar, home, _backend(home, database_url), clock)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(archive)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise StorageError(f"{archive}: cannot be written: {error}") from None
    return _result(archive, contents, contents.epoch)


def restore(archive: Path, root: Path, database_url: str, clock: Clock, last_epoch: int = 0) -> BackupResult:
    """Make a control plane of an archive, in a new folder and an empty database, and check all of it.

    Args:
        archive: what ``backup`` wrote.
        root: the new data folder.
        database_url: of an empty PostgreSQL; empty: a file in the folder.
        clock: wall time.
        last_epoch: the newest epoch that a device can have seen, if it is known to be over ``EPOCH_LEAP``
            after the backup's.

    Raises:
        ConfigError: the folder or the database is in use.
        StorageError: the archive is damaged or of a newer program.
        ConnectionLost: the database's server does not answer.
    """
    if root.exists() and any(root.iterdir()):
        raise ConfigError(f"{root} is not empty: restore into a new folder")
    with _removed_on_failure(root):
        contents = _restore_all(archive, root, database_url)
    with closing(Store.open(root, database_url)) as store:
        config = load_config(root / CONFIG_FILE)
        trust = TrustBook(store.files, store.keyring, clock, config.trust)
        book = EpochBook(store.files, trust, clock, config.epoch.lifetime_s)
        at_least = max(contents.epoch + EPOCH_LEAP, last_epoch + 1)

        def go_ahead(db: Connection) -> None:
            for role in (SNAPSHOT, TIMESTAMP):  # devices forget the versions of keys that are no longer used
                trust.rotate(db, role)
            book.compile_next(db, "restored from a backup", at_least)

        store.database.write_sync(go_ahead)
        trust.publish(store.database.read_sync(trust.all_files))
        epoch = book.publish(store.database.read_sync(releases_store.newest_epoch))
    return _result(archive, contents, epoch)


def _restore_all(archive: Path, root: Path, database_url: str) -> Contents:
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tarfile.open(archive) as tar:
            contents = _contents(tar)
            _extract(tar, root, contents)
            _set_database(root / CONFIG_FILE, database_url)
            _load(tar, _backend(Home(root), database_url), contents)
    except (OSError, tarfile.TarError, KeyError) as error:
        raise StorageError(f"{archive}: cannot be restored: {error}") from None
    return contents


@contextmanager
def _removed_on_failure(root: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise


def _set_database(path: Path, database_url: str) -> None:
    """Let the settings name the new folder and database; written anew only if they do not."""
    config = load_config(path)
    if (config.database.url, Path(config.server.data_dir)) != (database_url, path.parent.resolve()):
        server = dataclasses.replace(config.server, data_dir=".")
        database = DatabaseConfig(database_url)
        path.write_text(default_toml(dataclasses.replace(config, server=server, database=database)))


def _write(tar: tarfile.TarFile, home: Home, backend: Backend, clock: Clock) -> Contents:
    schema, epoch, tables = _write_tables(tar, backend)
    files: dict[str, str] = {}
    for path in _files(home):
        name = str(path.relative_to(home.root))
        files[name] = _add_file(tar, name, path)
    contents = Contents(_FORMAT, schema, epoch, clock.wall_ms(), tables, files)
    data = orjson.dumps(to_plain(contents), option=orjson.OPT_INDENT_2)
    _add_bytes(tar, _MANIFEST, len(data), io.BytesIO(data))
    return contents


def _write_tables(tar: tarfile.TarFile, backend: Backend) -> tuple[int, int, dict[str, Table]]:
    found: dict[str, Table] = {}
    with closing(backend.connect(read_only=True)) as connection, backend.errors():
        backend.begin_read(connection)
        schema = backend.schema_version(connection)
        newest = releases_store.newest_epoch(connection)
        for table in dump.tables(backend, connection):
            digest = TableDigest()
            with tempfile.TemporaryFile() as file:
                for line in dump.lines(backend, connection, table):
                    digest.add(line)
                    file.write(line)
                size_bytes = file.tell()
                file.seek(0)
                _add_bytes(tar, f"tables/{table}.jsonl", size_bytes, file)
            found[table] = Table(digest.rows, digest.hex)
        connection.execute("ROLLBACK")
    return schema, newest.n if newest else 0, found


def _files(home: Home) -> Iterator[Path]:
    """What is kept, after the rows that may name it were read."""
    fixed = (home.credential_key, home.admin_token)
    yield from (path for path in (*fixed, home.root / CONFIG_FILE) if path.exists())
    extra_keys = {path for path in home.keys.rglob("*") if path.is_file()}
    yield from sorted(extra_keys - set(fixed))
    for folder in (home.static, home.cloud):
        for path in sorted(folder.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if (
                path.is_file()
                and not hidden
                and path.name != EPOCH_FILE
                and home.unpacked not in path.parents
            ):
                yield path


def _contents(tar: tarfile.TarFile) -> Contents:
    member = tar.extractfile(_MANIFEST)
    if member is None:
        raise StorageError(f"the archive has no {_MANIFEST}")
    try:
        contents = from_plain(Contents, orjson.loads(member.read()))
    except (orjson.JSONDecodeError, RecordError) as error:
        raise StorageError(f"{_MANIFEST} is malformed: {error}") from None
    if contents.format != _FORMAT or contents.schema > len(MIGRATIONS):
        raise StorageError("the backup was made by a newer program: update walle-control")
    return contents


def _load(tar: tarfile.TarFile, backend: Backend, contents: Contents) -> None:
    with closing(backend.connect()) as connection:
        with backend.errors():
            if backend.tables(connection):
                raise ConfigError(f"{backend.name}: the database is not empty: restore into a new one")
        backend.migrate(connection, contents.schema)
        with backend.errors():
            backend.begin(connection)
            known = dump.tables(backend, connection)
            for table in reversed(known):  # one may hold what a migration put there
                connection.execute(f"DELETE FROM {table}")
            for table, promised in contents.tables.items():
                if table not in known:
                    raise StorageError(f"the backup has a table {table} that is not known here")
                member = tar.extractfile(f"tables/{table}.jsonl")
                assert member is not None  # getmember raises otherwise
                dump.load(connection, table, member)
                _check_table(backend, table, dump.lines(backend, connection, table), promised)
            backend.settle(connection)
            connection.execute("COMMIT")
        backend.migrate(connection)


def _check_table(backend: Backend, table: str, lines: Iterator[bytes], promised: Table) -> None:
    digest = TableDigest()
    for line in lines:
        digest.add(line)
    if (digest.rows, digest.hex) != (promised.rows, promised.digest):
        raise StorageError(f"{backend.name}: table {table} is not what was backed up")


def _extract(tar: tarfile.TarFile, root: Path, contents: Contents) -> None:
    """The files, each checked; an archive may name anything, so names are checked too."""
    for name, promised in contents.files.items():
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()):
            raise StorageError(f"the archive names {name!r}, outside of its folder")
        secret = name.split("/")[0] not in ("static", CONFIG_FILE)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if secret else 0o755)
        member = tar.extractfile(name)
        assert member is not None  # getmember raises otherwise
        with _new_file(path, 0o600 if secret else 0o644) as file:
            shutil.copyfileobj(member, file, _CHUNK_BYTES)
            file.flush()
            os.fsync(file.fileno())
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != promised:
                raise StorageError(f"{path} is not what was backed up")


def _add_file(tar: tarfile.TarFile, name: str, path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        _add_bytes(tar, name, os.fstat(file.fileno()).st_size, file)
    return digest


def _add_bytes(tar: tarfile.TarFile, name: str, size_bytes: int, file: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    info.mode = 0o600
    tar.addfile(info, file)


def _backend(home: Home, database_url: str) -> Backend:
    return PostgresBackend(database_url) if database_url else SqliteBackend(home.database)


def _new_file(path: Path, mode: int = 0o600) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")


def _result(archive: Path, contents: Contents, epoch: int) -> BackupResult:
    rows = sum(table.rows for table in contents.tables.values())
    return BackupResult(str(archive), epoch, rows, len(contents.files))
