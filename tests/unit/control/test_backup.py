"""Backups of a running control plane, restored into either kind of database."""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from walle_control import backup as archives
from walle_control.app import Control
from walle_control.config import load_config
from walle_control.db import dump
from walle_control.db.connection import Database
from walle_control.db.store import Store
from walle_control.features.releases import store as releases_store
from walle_control.features.releases.types import CreateRelease
from walle_shared.clock import FixedClock
from walle_shared.errors import ConfigError, StorageError
from walle_shared.protocol.messages import EPOCH_KIND, EpochInfo, Report, ReportBatch
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.protocol.tunnel_receiver import RecordReceived
from walle_shared.signing import open_envelope
from walle_shared.trust.roles import POLICY, ROOT, TIMESTAMP_FILE, file_name
from walle_shared.trust.trusted import TrustedSet, follow_metadata, follow_roots
from walle_support.servers import ServerProcess, new_schema
from walle_support.trust import believe, drive_folder

Make = Callable[[], Any]


def rows_of(database: Database) -> dict[str, set[bytes]]:
    """Every row there is, by table."""

    def read(db: Any) -> dict[str, set[bytes]]:
        names = dump.tables(database.backend, db)
        return {name: set(dump.lines(database.backend, db, name)) for name in names}

    return database.read_sync(read)


@pytest.fixture(params=["sqlite", "postgres"])
def target_url(request: pytest.FixtureRequest) -> str:
    """The database to restore into."""
    if request.param == "sqlite":
        return ""
    server: ServerProcess = request.getfixturevalue("postgres_for_all")
    return new_schema(server)


@pytest.fixture
async def busy(control: Control, imported: Any, enrol: Any) -> Control:
    """A control plane that holds something of everything."""
    await imported("1.0.0")
    device = await enrol(group="beta")
    release = await control.releases.create(
        CreateRelease("demo", "greeter", "1.0.0", 'group == "beta"'), "anna"
    )
    report = Report("p1", release.release.id, "greeter", "1.0.0", "install", "success", 1, 5, 1.5)
    await control.telemetry.record_reports(device.id, ReportBatch((report,)))
    record = Record("demo", "greeter", "1.0.0", release.release.id, "seen", 5, {"text": "\U0001f40b '?' 50%"})
    await control.telemetry.record_tunnel(device.id, "inc", [RecordReceived(TunnelClass.BATCH, 1, record)])
    return control


def published(root: Path) -> dict[str, bytes]:
    """The files that never change."""
    files = set((root / "static").glob("*/*")) - {root / "static" / "tuf" / TIMESTAMP_FILE}
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "backup.tar"


def make_backup(busy: Control, archive: Path, database_url: str, clock: FixedClock) -> archives.BackupResult:
    return archives.backup(busy.store.home.root, database_url, archive, clock)


@pytest.fixture
def restored(tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    opened: list[Store] = []

    def open_restored(url: str) -> Store:
        opened.append(Store.open(tmp_path / "restored", url))
        return opened[-1]

    yield open_restored
    for store in opened:
        store.close()


async def test_everything_comes_back_and_the_epoch_only_rises(
    busy: Control,
    archive: Path,
    database_url: str,
    target_url: str,
    clock: FixedClock,
    tmp_path: Path,
    restored: Callable[[str], Store],
) -> None:
    made = make_backup(busy, archive, database_url, clock)
    assert mode(archive) == 0o600
    before, root = rows_of(busy.store.database), tmp_path / "restored"
    result = archives.restore(archive, root, target_url, clock)
    assert (result.rows, result.files) == (made.rows, made.files)
    store = restored(target_url)
    after = rows_of(store.database)
    assert result.epoch == made.epoch + archives.EPOCH_LEAP
    assert len(after["epoch"] - before["epoch"]) == 1
    assert after["epoch"] > before.pop("epoch")
    assert after["epoch_plan"] > before.pop("epoch_plan")
    assert after["trust_metadata"] != before.pop("trust_metadata")  # tried below, by a device
    assert {name: after[name] for name in before} == before
    check = believe(root, clock).signatures_of(POLICY)
    info = open_envelope(EpochInfo, EPOCH_KIND, store.files.epoch_path.read_bytes(), check)
    assert info.epoch == result.epoch
    assert all(whole for _, whole in store.files.check())
    assert published(busy.store.home.root)
    assert published(root).items() >= published(busy.store.home.root).items()
    assert load_config(root / "control.toml").database.url == target_url
    keys = [f"keys/{path.name}" for path in busy.store.home.keys.iterdir()]
    assert len(keys) > 1
    for name in ("admin.token", *keys):
        assert (root / name).read_text() == (busy.store.home.root / name).read_text()
        assert mode(root / name) == 0o600


async def test_a_device_that_saw_more_than_the_backup_goes_on_with_what_was_restored(
    busy: Control, archive: Path, imported: Any, database_url: str, clock: FixedClock, tmp_path: Path
) -> None:
    make_backup(busy, archive, database_url, clock)
    for version in ("1.1.0", "1.2.0", "1.3.0", "1.4.0"):
        await imported(version)
    old, root = busy.store.home.root, tmp_path / "restored"
    held = {role: data for role, _, data in busy.store.database.read_sync(busy.trust._book.current_files)}
    believed = believe(old, clock)
    archives.restore(archive, root, "", clock)
    device = TrustedSet((old / "static" / "tuf" / file_name(ROOT, 1)).read_bytes())
    drive_folder(root, follow_roots(device))
    device.judge_at(clock.wall_ms())
    drive_folder(root, follow_metadata(device, held))
    assert device.version < believed.version


async def test_what_comes_later_gets_ids_of_its_own(
    busy: Control,
    archive: Path,
    database_url: str,
    target_url: str,
    clock: FixedClock,
    tmp_path: Path,
    restored: Callable[[str], Store],
) -> None:
    make_backup(busy, archive, database_url, clock)
    archives.restore(archive, tmp_path / "restored", target_url, clock, last_epoch=10**6)
    database = restored(target_url).database
    insert = (
        "INSERT INTO feature (device_id, origin, scenario, task, version, release_id, name, at_ms,"
        " received_ms, fields) VALUES ('d', 'o', 's', 't', 'v', 'r', 'n', 1, 1, '{}') RETURNING id"
    )
    newest = database.read_sync(lambda db: db.execute("SELECT max(id) FROM feature").fetchone()[0])
    assert database.write_sync(lambda db: db.execute(insert).fetchone()[0]) == newest + 1
    epoch = database.read_sync(releases_store.newest_epoch)
    assert epoch is not None
    assert epoch.n == 10**6 + 1


def rewritten(archive: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """The archive with its members changed, or left out."""
    copy = archive.with_suffix(".changed")
    with tarfile.open(archive) as old, tarfile.open(copy, "w") as new:
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            changed = change(member.name, file.read())
            if changed is not None:
                info = tarfile.TarInfo(changed[0])
                info.size = len(changed[1])
                new.addfile(info, io.BytesIO(changed[1]))
    return copy


def edited(name: str, old: bytes, new: bytes) -> Callable[[str, bytes], tuple[str, bytes]]:
    return lambda found, data: (found, data.replace(old, new, 1) if found == name else data)


def escaping(name: str, data: bytes) -> tuple[str, bytes]:
    if name == "control.toml":
        return "../../control.toml", data
    if name != "backup.json":
        return name, data
    contents = orjson.loads(data)
    contents["files"]["../../control.toml"] = contents["files"].pop("control.toml")
    return name, orjson.dumps(contents)


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edited("tables/device.jsonl", b"beta", b"prod"), "table device is not what was backed up"),
        (edited("tables/device.jsonl", b'{"', b"{"), "row 1 of table device is malformed"),
        (edited("tables/audit.jsonl", b'{"action"', b'{"action; DROP TABLE x"'), "column that is no name"),
        (edited("keys/credential.key", b"a", b"b"), "is not what was backed up"),
        (edited("backup.json", b'"format": 1', b'"format": 2'), "newer program"),
        (edited("backup.json", b"{", b"["), "malformed"),
        (lambda name, data: None if name == "tables/vote.jsonl" else (name, data), "cannot be restored"),
        (lambda name, data: None if name == "backup.json" else (name, data), "cannot be restored"),
        (escaping, "outside of its folder"),
    ],
)
async def test_a_damaged_archive_restores_nothing(
    busy: Control,
    archive: Path,
    database_url: str,
    clock: FixedClock,
    tmp_path: Path,
    change: Any,
    words: str,
) -> None:
    make_backup(busy, archive, database_url, clock)
    with pytest.raises(StorageError, match=words):
        archives.restore(rewritten(archive, change), tmp_path / "restored", "", clock)
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("backend", ["sqlite"])
async def test_nothing_is_overwritten(
    busy: Control, archive: Path, database_url: str, clock: FixedClock, tmp_path: Path
) -> None:
    make_backup(busy, archive, database_url, clock)
    with pytest.raises(ConfigError, match="is there already"):
        make_backup(busy, archive, database_url, clock)
    with pytest.raises(ConfigError, match="not empty"):
        archives.restore(archive, busy.store.home.root, "", clock)
    with pytest.raises(ConfigError, match="no control plane"):
        archives.backup(tmp_path, "", tmp_path / "other.tar", clock)


@pytest.mark.parametrize("backend", ["postgres"])
async def test_a_database_in_use_is_not_restored_into(
    busy: Control, archive: Path, postgres_schema: str, clock: FixedClock, tmp_path: Path
) -> None:
    make_backup(busy, archive, postgres_schema, clock)
    with pytest.raises(ConfigError, match="not empty"):
        archives.restore(archive, tmp_path / "restored", postgres_schema, clock)
    with closing(Store.open(busy.store.home.root, postgres_schema)) as store:
        assert rows_of(store.database)["device"]
