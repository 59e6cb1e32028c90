"""Imports task versions: read the tag, check, convert, store the blobs, approve the manifest."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import trio

from walle_control.config import ImportConfig
from walle_control.db.store import Store
from walle_control.features.audit import log as audit
from walle_control.features.tasks import bundle, git, store
from walle_control.features.tasks.types import (
    ImportRequest,
    ImportResult,
    ModelConverter,
    TaskSource,
    VersionDetail,
    VersionList,
    VersionRow,
)
from walle_control.features.trust.book import TrustBook
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError, Conflict, LimitExceeded, NotFound
from walle_shared.ids import TaskVersion, check_name, check_version
from walle_shared.limits import MANIFEST_MAX_BYTES
from walle_shared.manifest import ColumnType, Manifest
from walle_shared.protocol.codec import canonical, decode
from walle_shared.schema import EventSchema, parse_schema
from walle_shared.trust.roles import bundle_path

#: Publishes the trust metadata once an approval is in the database.
PublishTrust = Callable[[], Awaitable[None]]


def convert_with_engine(onnx_path: Path, wmodel_path: Path) -> object:
    """Convert by the engine's own converter (loaded on first use: it brings NumPy and ONNX)."""
    from walle_engine.convert import convert  # see above

    return convert(onnx_path, wmodel_path)


class TasksService:
    """Knows the imported task versions."""

    def __init__(
        self,
        data: Store,
        clock: Clock,
        config: ImportConfig,
        trust: TrustBook,
        publish_trust: PublishTrust,
        convert: ModelConverter = convert_with_engine,
    ) -> None:
        self._data = data
        self._trust = trust
        self._publish_trust = publish_trust
        self._clock = clock
        self._config = config
        self._convert = convert
        self._uploads: dict[tuple[str, str, str], Mapping[str, Mapping[str, ColumnType]]] = {}
        self._one_import = trio.Lock()  # an import may hold a whole bundle in memory

    async def import_version(self, request: ImportRequest, actor: str) -> ImportResult:
        """Import a version; doing so again with the same commit changes nothing.

        Raises:
            ConfigError: a name, the repository or ``task.toml`` is wrong.
            NotFound: no such tag or folder.
            TaskError: the task's files are wrong.
            NotAllowed: what it sends may hold what must stay on devices.
            EngineError: a model cannot be converted.
            Conflict: the version exists and was built from another commit: tags must not move.
        """
        check_name(request.task, "task")
        version = TaskVersion(check_version(request.version))
        tag = request.tag or f"{request.task}/{request.version}"
        folder = request.folder or request.task
        if not Path(request.repository).is_absolute():
            raise ConfigError(f"repository {request.repository!r} must be an absolute path on the server")
        async with self._one_import:
            source = await trio.to_thread.run_sync(
                git.read_tag, Path(request.repository), tag, folder, self._config
            )
            return await self._import_source(source, request.task, version, actor)

    async def list(self) -> VersionList:
        """All imported versions."""
        return VersionList(tuple(await self._data.database.read(store.list_versions)))

    async def show(self, scenario: str, task: str, version: str) -> VersionDetail:
        """One version with its definition and files.

        Raises:
            NotFound: it was not imported.
        """
        row = await self._data.database.read(lambda db: store.find_version(db, scenario, task, version))
        if row is None:
            raise NotFound(f"version {version} of task {scenario}/{task} was not imported")
        data = await trio.to_thread.run_sync(self._data.files.read, "manifest", row.manifest)
        manifest = decode(Manifest, data, limit_bytes=MANIFEST_MAX_BYTES)
        return VersionDetail(row, manifest.definition, manifest.files)

    async def upload_fields(
        self, scenario: str, task: str, version: str, name: str
    ) -> Mapping[str, ColumnType] | None:
        """The fields that a version's manifest lets an upload have; None if it knows no such upload."""
        key = (scenario, task, version)
        if key not in self._uploads:
            try:
                detail = await self.show(*key)
            except NotFound:
                return None  # not remembered: it may be imported yet, and devices can make up any name
            self._uploads[key] = detail.definition.uploads
        return self._uploads[key].get(name)

    async def _import_source(
        self, source: TaskSource, task: str, version: TaskVersion, actor: str
    ) -> ImportResult:
        scenario = bundle.definition_of(source, task).task.scenario
        known = await self._data.database.read(lambda db: store.find_version(db, scenario, task, version))
        if known is not None:
            row = _same_commit(known, source)
            approved = await self._data.database.read(lambda db: self._is_approved(db, row))
            return ImportResult(row, created=False, approved=approved)
        row = await trio.to_thread.run_sync(self._build, source, task, version)

        def job(db: sqlite3.Connection) -> bool:
            store.insert_version(db, row)
            detail = {"commit": row.source, "tag": source.tag, "manifest": row.manifest.sha256}
            subject = f"{row.scenario}/{row.task} {row.version}"
            audit.record(db, row.imported_ms, actor, "task.import", subject, detail)
            return self._trust.approve(db, {_path(row): row.manifest})

        approved = await self._data.database.write(job)
        await self._publish_trust()
        return ImportResult(row, created=True, approved=approved)

    def _is_approved(self, db: sqlite3.Connection, row: VersionRow) -> bool:
        return self._trust.is_approved(db, _path(row), row.manifest)

    def _schema(self) -> EventSchema | None:
        """The app's registry as it is now, from the file in the settings."""
        path = self._config.events_schema
        if not path:
            return None
        try:
            return parse_schema(Path(path).read_text(encoding="utf-8"), path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"tasks.events_schema: {path}: cannot be read: {error}") from None

    def _build(self, source: TaskSource, task: str, version: TaskVersion) -> VersionRow:
        manifest, files = bundle.build(source, task, version, self._convert, self._schema())
        encoded = canonical(manifest)
        if len(encoded) > MANIFEST_MAX_BYTES:
            raise LimitExceeded(
                f"the manifest has {len(encoded)} bytes, over the limit of {MANIFEST_MAX_BYTES}"
            )
        for data in files.values():
            self._data.files.put("blob", data)
        ref = self._data.files.put("manifest", encoded)
        head = manifest.definition.task
        total_bytes = sum(file.size_bytes for file in manifest.files)
        return VersionRow(
            head.scenario,
            head.name,
            version,
            source.commit,
            ref,
            len(files),
            total_bytes,
            self._clock.wall_ms(),
        )


def _path(row: VersionRow) -> str:
    return bundle_path(row.scenario, row.task, row.version)


def _same_commit(known: VersionRow, source: TaskSource) -> VersionRow:
    if known.source != source.commit:
        raise Conflict(
            f"{known.scenario}/{known.task} {known.version} was built from commit {known.source[:12]}, but"
            f" tag {source.tag} now names {source.commit[:12]}: tags must not move, make a new version"
        )
    return known
